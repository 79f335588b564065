//! Writes the pickle of a state dict: protocol 2, as `torch.save` does, of nothing but what `weights_only` allows.

use std::collections::{HashMap, HashSet};

use super::dtype::{Spelling, spelling};
use crate::formats::{FormatError, FormatFault, TensorToWrite, limits};

/// The pickle of a dict of contiguous tensors, each with a storage of its own: `data/0`, `data/1`, in their order.
///
/// Errors (at offset 0): a name twice or too long; a dtype that PyTorch does not have.
pub(super) fn state_dict(tensors: &[TensorToWrite]) -> Result<Vec<u8>, FormatError> {
    let mut pickle = Writer { bytes: b"\x80\x02}(".to_vec(), memo: HashMap::new() };
    let mut names = HashSet::with_capacity(tensors.len());
    for (key, tensor) in tensors.iter().enumerate() {
        let name = tensor.name.as_str();
        let fault = |what| FormatError::new(0, what);
        if !names.insert(name) {
            return Err(fault(FormatFault::Duplicate(name.into())));
        }
        if name.len() as u64 > limits::MAX_NAME_BYTES {
            return Err(fault(FormatFault::CannotExpress { tensor: name.into(), why: "its name is too long" }));
        }
        let Some(spelling) = spelling(tensor.dtype) else {
            let (dtype, format) = (tensor.dtype.name(), "a PyTorch checkpoint");
            return Err(fault(FormatFault::CannotWrite { tensor: name.into(), dtype, format }));
        };
        pickle.text(name);
        pickle.tensor(key, tensor, spelling);
    }
    pickle.bytes.extend(b"u.");
    Ok(pickle.bytes)
}

struct Writer {
    bytes: Vec<u8>,
    /// Classes and functions that were named before, and their numbers in the memo.
    memo: HashMap<(&'static str, &'static str), u8>,
}

impl Writer {
    /// A call of the function that makes a tensor of a storage.
    fn tensor(&mut self, key: usize, tensor: &TensorToWrite, spelling: Spelling) {
        let (elements, bytes) = (tensor.shape.elements(), tensor.shape.bytes(tensor.dtype));
        let (function, class, count) = match spelling {
            Spelling::Storage(class) => ("_rebuild_tensor_v2", ("torch", class), elements),
            Spelling::Dtype(_) => ("_rebuild_tensor_v3", ("torch.storage", "UntypedStorage"), bytes),
        };
        self.global("torch._utils", function);
        self.bytes.extend(b"((");
        self.text("storage");
        self.global(class.0, class.1);
        self.text(&key.to_string());
        self.text("cpu");
        self.int(count);
        self.bytes.extend(b"tQ");
        self.int(0); // the offset in the storage
        self.ints(tensor.shape.dims());
        self.ints(&tensor.shape.strides());
        self.bytes.push(0x89); // requires_grad
        self.global("collections", "OrderedDict"); // hooks
        self.bytes.extend(b")R");
        if let Spelling::Dtype(name) = spelling {
            self.global("torch", name);
        }
        self.bytes.extend(b"tR");
    }

    fn text(&mut self, text: &str) {
        // Names are bounded by `limits::MAX_NAME_BYTES`, which is far below 32 bits.
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.bytes.push(b'X');
        self.bytes.extend(len.to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    /// There are fewer classes and functions than a byte counts.
    fn global(&mut self, module: &'static str, name: &'static str) {
        if let Some(&number) = self.memo.get(&(module, name)) {
            self.bytes.extend([b'h', number]);
            return;
        }
        let number = u8::try_from(self.memo.len()).unwrap_or(u8::MAX);
        self.memo.insert((module, name), number);
        self.bytes.extend(format!("c{module}\n{name}\n").as_bytes());
        self.bytes.extend([b'q', number]);
    }

    fn int(&mut self, n: u64) {
        match (u8::try_from(n), u16::try_from(n), i32::try_from(n)) {
            (Ok(n), ..) => self.bytes.extend([b'K', n]),
            (_, Ok(n), _) => {
                self.bytes.push(b'M');
                self.bytes.extend(n.to_le_bytes());
            }
            (.., Ok(n)) => {
                self.bytes.push(b'J');
                self.bytes.extend(n.to_le_bytes());
            }
            _ => {
                // Nine bytes, so that the last one says that the number is not negative.
                self.bytes.extend([0x8a, 9]);
                self.bytes.extend(n.to_le_bytes());
                self.bytes.push(0);
            }
        }
    }

    fn ints(&mut self, list: &[u64]) {
        self.bytes.push(b'(');
        for &n in list {
            self.int(n);
        }
        self.bytes.push(b't');
    }
}
