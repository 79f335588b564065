//! The least and the greatest of each channel, and the file that they are kept in.

use std::collections::BTreeMap;

use half::f16;

use crate::formats::{FormatError, Segment, TensorToWrite, safetensors};
use crate::plan::STATISTICS_VERSION;
use crate::tensor::{Dtype, Shape};

/// The least and greatest of each channel, seen so far.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    low: Vec<f32>,
    high: Vec<f32>,
    /// Whether all values were finite.
    pub(super) finite: bool,
}

impl Channels {
    pub(super) fn new(channels: usize) -> Self {
        Self { low: vec![f32::INFINITY; channels], high: vec![f32::NEG_INFINITY; channels], finite: true }
    }

    /// Rows of as many values as there are channels.
    pub(super) fn see(&mut self, values: &[f32]) {
        for row in values.chunks_exact(self.low.len()) {
            let mut finite = true;
            for ((low, high), value) in self.low.iter_mut().zip(&mut self.high).zip(row) {
                *low = low.min(*value);
                *high = high.max(*value);
                finite &= value.is_finite();
            }
            self.finite &= finite;
        }
    }
}

/// What was seen, by its name in `docs/en/statistics.md`.
#[derive(Debug, Default)]
pub(super) struct Ranges(pub(super) BTreeMap<String, Channels>);

impl Ranges {
    /// The statistics file's bytes, in fp16.
    pub(super) fn file(&self) -> Result<Vec<u8>, FormatError> {
        let ends =
            self.0.iter().flat_map(|(name, c)| [(format!("{name}.max"), &c.high), (format!("{name}.min"), &c.low)]);
        let (mut tensors, mut data) = (Vec::new(), Vec::new());
        for (name, values) in ends {
            tensors.push(TensorToWrite {
                name: name.as_str().into(),
                dtype: Dtype::F16,
                // A vector's length is that of something in memory.
                shape: Shape::new([values.len() as u64]).unwrap_or_default(),
                phase: None,
            });
            data.push(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect::<Vec<u8>>());
        }
        let metadata = [("format", "ckpt-convert.statistics"), ("version", STATISTICS_VERSION)];
        let layout = safetensors::layout(&tensors, &metadata.map(|(key, value)| (key.to_owned(), value.to_owned())))?;
        let mut bytes = Vec::new();
        for segment in &layout.segments {
            match segment {
                Segment::Literal(literal) => bytes.extend_from_slice(literal),
                Segment::Data { tensor, range } => bytes.extend(range.of(&data[*tensor]).unwrap_or_default()),
                // A safetensors file has none.
                Segment::Late(_) => {}
            }
        }
        Ok(bytes)
    }
}
