//! The calls of the pickle machine: what the functions on the list make of their arguments.

use super::dtype::Element;
use super::globals::Global;
use super::machine::Machine;
use super::value::{Id, Storage, Tensor, Value};
use crate::formats::{FormatError, limits};

/// Attributes that change what the bytes of a tensor mean (`torch._utils.get_tensor_metadata`).
const LAZY: [&str; 2] = ["conj", "neg"];

impl<'a> Machine<'a, '_, '_> {
    /// Calls a function with a tuple of arguments, and returns the value that it makes or hands on.
    pub(super) fn call(&mut self, function: Id, arguments: Id) -> Result<Id, FormatError> {
        let Value::Global(global) = *self.get(function) else {
            return Err(self.malformed("pickle: a call of what is no function"));
        };
        let Value::Tuple(list) = self.get(arguments) else {
            return Err(self.malformed("pickle: arguments that are no tuple"));
        };
        // Enough for every function but the opaque ones, which look at none: a copy of a long list is spared.
        let mut few = [None; 8];
        for (to, from) in few.iter_mut().zip(list) {
            *to = Some(*from);
        }
        self.apply(global, &few)
    }

    fn apply(&mut self, global: Global, arguments: &[Option<Id>; 8]) -> Result<Id, FormatError> {
        let first = arguments[0];
        match global {
            Global::OrderedDict | Global::OtherDict => self.dict(first.filter(|_| global == Global::OrderedDict)),
            Global::RebuildTensor => {
                let metadata = arguments[6];
                self.tensor(arguments, None, metadata)
            }
            Global::RebuildTensorV3 => {
                let Some(Value::Global(Global::Dtype(element))) = arguments[6].map(|id| self.get(id)) else {
                    return Err(self.malformed("pickle: a tensor without a dtype"));
                };
                let element = *element;
                self.tensor(arguments, Some(element), arguments[7])
            }
            Global::FirstArgument => self.same_tensor(first),
            Global::FromCpuTensor => self.device_tensor(first, arguments[1]),
            Global::FromType => self.subclass(arguments),
            Global::TensorClass => match first.map(|id| self.get(id)) {
                Some(value) if value.is_tensor() => self.same_tensor(first),
                _ => self.make(Value::Refused("tensor in the form of PyTorch 0.1")),
            },
            Global::Size => match first.filter(|&id| matches!(self.get(id), Value::Tuple(_))) {
                Some(id) => Ok(id),
                None => Err(self.malformed("pickle: a size that is no tuple")),
            },
            Global::Refusing(kind) => self.make(Value::Refused(kind)),
            Global::Opaque(name) => self.make(Value::Object(name)),
            Global::Storage(_) | Global::UntypedStorage | Global::Dtype(_) => {
                Err(self.malformed("pickle: a call of a storage class or dtype"))
            }
        }
    }

    /// A mapping, of pairs as Python 2 pickles an `OrderedDict`.
    fn dict(&mut self, pairs: Option<Id>) -> Result<Id, FormatError> {
        let Some(list) = pairs else { return self.make(Value::Dict(Vec::new())) };
        let Value::List(list) = self.get(list) else {
            return Err(self.malformed("pickle: an OrderedDict of what is no list of pairs"));
        };
        // Before the copy: one long list could be handed over again and again.
        let count = list.len();
        self.charge(count.saturating_mul(2))?;
        let mut items = Vec::with_capacity(count);
        if let Some(Value::List(list)) = pairs.map(|id| self.get(id)) {
            for &pair in list {
                match self.get(pair) {
                    Value::List(pair) if pair.len() == 2 => items.push((pair[0], pair[1])),
                    Value::Tuple(pair) if pair.len() == 2 => items.push((pair[0], pair[1])),
                    _ => return Err(self.malformed("pickle: an OrderedDict of what are no pairs")),
                }
            }
        }
        self.make(Value::Dict(items))
    }

    fn same_tensor(&self, id: Option<Id>) -> Result<Id, FormatError> {
        id.filter(|&id| self.get(id).is_tensor()).ok_or_else(|| self.malformed("pickle: a parameter of no tensor"))
    }

    fn device_tensor(&mut self, tensor: Option<Id>, dtype: Option<Id>) -> Result<Id, FormatError> {
        let id = self.same_tensor(tensor)?;
        match (self.get(id), dtype.map(|id| self.get(id))) {
            (Value::Tensor(tensor), Some(&Value::Global(Global::Dtype(to)))) if tensor.element == to => Ok(id),
            (Value::Refused(_), _) => Ok(id),
            _ => self.make(Value::Refused("device tensor of another dtype than its data")),
        }
    }

    /// `_rebuild_from_type_v2(function, type, arguments, state)`: a parameter or tensor with Python attributes. One
    /// level is all that PyTorch writes.
    fn subclass(&mut self, arguments: &[Option<Id>; 8]) -> Result<Id, FormatError> {
        let [Some(function), Some(class), Some(inner), ..] = *arguments else {
            return Err(self.malformed("pickle: a tensor subclass without arguments"));
        };
        match (self.get(function), self.get(class)) {
            (Value::Global(Global::FromType), _) => Err(self.malformed("pickle: a tensor subclass of a subclass")),
            (_, Value::Global(Global::TensorClass)) => self.call(function, inner),
            _ => self.make(Value::Refused("tensor subclass")),
        }
    }

    /// A tensor of a storage: `(storage, offset, size, stride, ..)`. `element`: its dtype where the storage has none.
    fn tensor(
        &mut self,
        arguments: &[Option<Id>; 8],
        element: Option<Element>,
        metadata: Option<Id>,
    ) -> Result<Id, FormatError> {
        let [Some(storage), Some(offset), Some(size), Some(stride), ..] = *arguments else {
            return Err(self.malformed("pickle: a tensor with too few arguments"));
        };
        let &Value::Storage(storage) = self.get(storage) else {
            return Err(self.malformed("pickle: a tensor of what is no storage"));
        };
        let typed = self.storages.get(storage as usize).and_then(|s| s.element);
        let Some(element) = element.or(typed) else {
            return Err(self.malformed("pickle: a tensor of an untyped storage"));
        };
        if self.is_lazy(metadata)? {
            return self.make(Value::Refused("tensor with a pending negation or conjugation"));
        }
        let (offset, dims, strides) = (self.natural(offset)?, self.naturals(size)?, self.naturals(stride)?);
        // A tensor is larger than other values, and the same arguments can be handed over again and again.
        self.charge(4 + dims.len() + strides.len())?;
        let tensor = Tensor { at: self.at, storage, element, offset, dims, strides };
        self.make(Value::Tensor(Box::new(tensor)))
    }

    /// Whether the metadata of a tensor say that its bytes are not its values.
    fn is_lazy(&self, metadata: Option<Id>) -> Result<bool, FormatError> {
        match metadata.map(|id| self.get(id)) {
            Some(Value::Dict(items)) => Ok(items.iter().any(|&(key, value)| {
                matches!(self.get(key), Value::Text(key) if LAZY.contains(key))
                    && !matches!(self.get(value), Value::Bool(false))
            })),
            // Of an Ascend device: its format, as a number, an enumeration or a boolean.
            None | Some(Value::None | Value::Int(_) | Value::Bool(_) | Value::Object(_)) => Ok(false),
            Some(_) => Err(self.malformed("pickle: metadata of a tensor that are no dict")),
        }
    }

    fn natural(&self, id: Id) -> Result<u64, FormatError> {
        match *self.get(id) {
            Value::Int(n) => u64::try_from(n).map_err(|_| self.malformed("pickle: a negative size, stride or offset")),
            _ => Err(self.malformed("pickle: a size, stride or offset that is no 64-bit integer")),
        }
    }

    fn naturals(&self, id: Id) -> Result<Vec<u64>, FormatError> {
        match self.get(id) {
            Value::Tuple(list) if list.len() <= limits::MAX_RANK => list.iter().map(|&id| self.natural(id)).collect(),
            Value::Tuple(_) => Err(self.malformed("pickle: a tensor with too many dimensions")),
            _ => Err(self.malformed("pickle: a size or stride that is no tuple")),
        }
    }

    /// What a persistent id means: `("storage", class, key, location, numel)`, in the legacy form with a sixth
    /// item for views of storages, which ended with PyTorch 0.4.
    pub(super) fn storage(&mut self, id: Id) -> Result<Value<'a>, FormatError> {
        let Value::Tuple(list) = self.get(id) else {
            return Err(self.malformed("pickle: a persistent id that is no tuple"));
        };
        let (fields, view) = match &**list {
            [a, b, c, _, e] => ([*a, *b, *c, *e], None),
            [a, b, c, _, e, view] => ([*a, *b, *c, *e], Some(*view)),
            _ => return Err(self.malformed("pickle: a persistent id of another length than 5")),
        };
        let [kind, class, key, numel] = fields;
        if !matches!(self.get(kind), Value::Text("storage")) {
            return Err(self.malformed("pickle: a persistent id that is no storage"));
        }
        if view.is_some_and(|id| !matches!(self.get(id), Value::None)) {
            return Err(self.malformed("pickle: a view of a storage (PyTorch before 0.4 wrote those)"));
        }
        let element = match *self.get(class) {
            Value::Global(Global::Storage(element)) => Some(element),
            Value::Global(Global::UntypedStorage) => None,
            _ => return Err(self.malformed("pickle: a storage of no storage class")),
        };
        let &Value::Text(key) = self.get(key) else {
            return Err(self.malformed("pickle: a storage whose key is no text"));
        };
        let numel = self.natural(numel)?;
        let number = u32::try_from(self.storages.len()).map_err(|_| self.malformed("pickle: too many storages"))?;
        self.storages.push(Storage { element, key, numel });
        Ok(Value::Storage(number))
    }
}
