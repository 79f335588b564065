//! The fixed list of functions and classes that a pickle may name. What is not on it is refused.
//!
//! It follows what `torch.load(weights_only=True)` allows, and adds classes that training scripts store beside the
//! weights. Those are taken for opaque objects: nothing is imported or called, so being on the list costs nothing but
//! the chance that a misnamed file goes unnoticed.

use super::dtype::{self, Element};

/// What a name on the list means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`: called with nothing or with pairs.
    OrderedDict,
    /// A mapping that is called with something else than its items.
    OtherDict,
    /// `_rebuild_tensor(storage, offset, size, stride)`; version 2 appends arguments.
    RebuildTensor,
    /// `_rebuild_tensor_v3`: an untyped storage, and the dtype as seventh argument.
    RebuildTensorV3,
    /// A function whose first argument is a tensor, which it returns: parameters.
    FirstArgument,
    /// `_rebuild_device_tensor_from_cpu_tensor(tensor, dtype, device, requires_grad)`.
    FromCpuTensor,
    /// `_rebuild_from_type_v2(function, type, arguments, state)`.
    FromType,
    /// `torch.Tensor` or `torch.nn.Parameter` as a type.
    TensorClass,
    /// `torch.FloatStorage` and its like.
    Storage(Element),
    /// `torch.storage.UntypedStorage`.
    UntypedStorage,
    /// A dtype.
    Dtype(Element),
    /// `torch.Size`: called with a tuple, which it returns.
    Size,
    /// A function that makes a kind of tensor that is not read: the name of the kind.
    Refusing(&'static str),
    /// A harmless class or function: its name.
    Opaque(&'static str),
}

/// (module, name, what it is).
const LIST: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("collections", "defaultdict", Global::OtherDict),
    ("collections", "Counter", Global::OtherDict),
    ("torch._utils", "_rebuild_tensor", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v3", Global::RebuildTensorV3),
    // Tensors saved from an Ascend device: the data are a plain CPU copy, the seventh argument is the device's format.
    ("torch_npu.utils.storage", "_rebuild_npu_tensor", Global::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Global::FirstArgument),
    ("torch._utils", "_rebuild_parameter_with_state", Global::FirstArgument),
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor", Global::FromCpuTensor),
    ("torch._tensor", "_rebuild_from_type_v2", Global::FromType),
    ("torch", "Tensor", Global::TensorClass),
    ("torch.nn.parameter", "Parameter", Global::TensorClass),
    ("torch.storage", "UntypedStorage", Global::UntypedStorage),
    ("torch", "UntypedStorage", Global::UntypedStorage),
    ("torch", "Size", Global::Size),
    ("torch._utils", "_rebuild_sparse_tensor", Global::Refusing("sparse tensor")),
    ("torch._utils", "_rebuild_sparse_csr_tensor", Global::Refusing("sparse tensor")),
    ("torch._utils", "_rebuild_nested_tensor", Global::Refusing("nested tensor")),
    ("torch._utils", "_rebuild_qtensor", Global::Refusing("quantised tensor")),
    ("torch._utils", "_rebuild_meta_tensor_no_storage", Global::Refusing("meta tensor without data")),
    ("torch._utils", "_rebuild_wrapper_subclass", Global::Refusing("tensor subclass without data")),
    ("torch._utils", "_rebuild_device_tensor_from_numpy", Global::Refusing("device tensor stored as a numpy array")),
    ("torch", "device", Global::Opaque("torch.device")),
    ("torch", "per_tensor_affine", Global::Opaque("torch.qscheme")),
    ("torch", "per_tensor_symmetric", Global::Opaque("torch.qscheme")),
    ("torch", "per_channel_affine", Global::Opaque("torch.qscheme")),
    ("torch", "per_channel_symmetric", Global::Opaque("torch.qscheme")),
    ("torch", "per_channel_affine_float_qparams", Global::Opaque("torch.qscheme")),
    ("torch.serialization", "_get_layout", Global::Opaque("torch.layout")),
    ("torch_npu.npu._format", "Format", Global::Opaque("torch_npu.npu.Format")),
    ("argparse", "Namespace", Global::Opaque("argparse.Namespace")),
    ("_codecs", "encode", Global::Opaque("bytes")),
    ("numpy", "dtype", Global::Opaque("numpy.dtype")),
    ("numpy", "ndarray", Global::Opaque("numpy.ndarray")),
    ("numpy.core.multiarray", "scalar", Global::Opaque("numpy scalar")),
    ("numpy._core.multiarray", "scalar", Global::Opaque("numpy scalar")),
    ("numpy.core.multiarray", "_reconstruct", Global::Opaque("numpy.ndarray")),
    ("numpy._core.multiarray", "_reconstruct", Global::Opaque("numpy.ndarray")),
];

/// Builtin classes, under the module's names in Python 3 and 2.
const BUILTINS: [&str; 11] =
    ["set", "frozenset", "bytearray", "bytes", "complex", "list", "dict", "tuple", "int", "float", "str"];

/// What `module.name` means, or `None` where it is not on the list.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    if let Some(&(.., global)) = LIST.iter().find(|(m, n, _)| *m == module && *n == name) {
        return Some(global);
    }
    match module {
        "torch" | "torch.cuda" | "torch.npu" => {
            let dtype = || dtype::from_dtype(name).filter(|_| module == "torch").map(Global::Dtype);
            dtype::from_storage(name).map(Global::Storage).or_else(dtype)
        }
        "builtins" | "__builtin__" => BUILTINS.iter().find(|n| **n == name).map(|n| Global::Opaque(n)),
        _ => None,
    }
}
