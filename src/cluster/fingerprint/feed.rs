//! Values, and routes with the tensors that they bring, on their way into a hash.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::plan::{OutputTensor, Quantised, Route, Transform};
use crate::source::Extents;

/// Values on their way into a hash, each with its length, so that no two lists run into one another.
pub(super) struct Feed(Sha256);

impl Feed {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    pub(super) fn numbers(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.number(number);
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    pub(super) fn extents(&mut self, extents: &Extents) {
        self.number(extents.parts().len() as u64);
        for (_, range) in extents.parts() {
            self.number(range.start());
            self.number(range.len());
        }
    }

    pub(super) fn optional(&mut self, number: Option<u64>) {
        self.number(u64::from(number.is_some()));
        self.number(number.unwrap_or(0));
    }

    /// The first 128 bits as hexadecimal digits.
    pub(super) fn finish(self) -> String {
        self.0.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Routes on their way into a hash.
#[derive(Default)]
pub(super) struct Routes {
    /// The text of a transform is made once for each, not for each of a million routes.
    last: Option<Transform>,
    text: String,
}

impl Routes {
    fn feed(&mut self, routes: &[Route], feed: &mut Feed) {
        feed.number(routes.len() as u64);
        for Route { source, transform, moves } in routes {
            if self.last != Some(*transform) {
                self.text = format!("{transform:?}");
                self.last = Some(*transform);
            }
            feed.bytes(self.text.as_bytes());
            let ends = [*source as u64, moves.src, moves.dst, moves.run, moves.dims.len() as u64];
            let dims = moves.dims.iter().flat_map(|d| [d.count, d.src_stride, d.dst_stride]);
            feed.numbers(ends.into_iter().chain(dims));
        }
    }

    pub(super) fn tensor(&mut self, tensor: &OutputTensor, feed: &mut Feed) {
        feed.bytes(tensor.name.as_bytes());
        feed.bytes(tensor.dtype.name().as_bytes());
        self.feed(&tensor.routes, feed);
        feed.number(u64::from(tensor.quantised.is_some()));
        let Some(quantised) = &tensor.quantised else { return };
        // In full, so that what is added there is not forgotten here.
        let Quantised { columns, group, width, arithmetic, operand, scales, multiply, divide } = &**quantised;
        feed.numbers([*columns, *group]);
        feed.bytes(format!("{width:?} {arithmetic:?}").as_bytes());
        for routes in [Some(operand), Some(scales), multiply.as_ref(), divide.as_ref()] {
            feed.number(u64::from(routes.is_some()));
            self.feed(routes.map_or(&[], Vec::as_slice), feed);
        }
    }
}
