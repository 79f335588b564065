//! The pickle machine: a stack, marks and a memo. Calls are in `rebuild`.
//!
//! Every opcode makes at most one value, and values refer to each other by number, so memory grows no faster than the
//! pickle is long; the few calls that copy a list are charged for it. No opcode recurses.

use std::collections::HashMap;

use super::globals;
use super::opcodes::{Op, Opcodes};
use super::value::{Id, Pickle, Storage, Value};
use crate::formats::budget::Loan;
use crate::formats::{Budget, FormatError, FormatFault, limits};

/// Runs the pickle at the beginning of `bytes`, which begin at the offset `at` of the file.
///
/// Errors: a damaged pickle; a name that is not on the list; more values than [`limits::MAX_PICKLE_VALUES`].
///
/// `lent`: what the pickles of the file have taken until now.
pub(super) fn run<'a>(bytes: &'a [u8], at: u64, lent: &mut Lent<'_>) -> Result<Pickle<'a>, FormatError> {
    let mut machine = Machine {
        values: Vec::new(),
        storages: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        lent,
        at,
    };
    let mut opcodes = Opcodes::new(bytes, at);
    loop {
        machine.at = opcodes.at();
        let op = opcodes.next_op()?;
        if op == Op::Stop {
            let root = machine.pop()?;
            return Ok(Pickle { values: machine.values, storages: machine.storages, root, end: opcodes.at() });
        }
        machine.step(op)?;
    }
}

/// The memory of the pickles of one file.
#[derive(Debug)]
pub(super) struct Lent<'b> {
    loan: Loan<'b>,
    /// How many values, references and marks were made so far.
    used: usize,
}

impl<'b> Lent<'b> {
    pub(super) fn of(budget: &'b Budget) -> Self {
        Self { loan: budget.loan(), used: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Machine<'a, 'l, 'b> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) storages: Vec<Storage<'a>>,
    stack: Vec<Id>,
    /// The heights of the stack at which marks are.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    lent: &'l mut Lent<'b>,
    /// Where in the file the opcode is that is being run.
    pub(super) at: u64,
}

impl<'a> Machine<'a, '_, '_> {
    fn step(&mut self, op: Op<'a>) -> Result<(), FormatError> {
        match op {
            Op::Stop | Op::Nothing => Ok(()),
            Op::Mark => self.mark(),
            Op::Pop => self.drop_top(),
            Op::PopMark => self.items().map(|_| ()),
            Op::Dup => {
                let top = self.top()?;
                self.push_id(top)
            }
            Op::None => self.push(Value::None),
            Op::Bool(value) => self.push(Value::Bool(value)),
            Op::Int(value) => self.push(Value::Int(value)),
            Op::Long(bytes) => self.push(Value::Long(bytes)),
            Op::Float => self.push(Value::Float),
            Op::Text(text) => self.push(Value::Text(text)),
            Op::Bytes => self.push(Value::Bytes),
            Op::EmptyList => self.push(Value::List(Vec::new())),
            Op::EmptyDict => self.push(Value::Dict(Vec::new())),
            Op::EmptySet => self.push(Value::Set),
            Op::List => {
                let items = self.items()?;
                self.push(Value::List(items))
            }
            Op::Tuple => {
                let items = self.items()?;
                self.push_tuple(items)
            }
            Op::TupleOf(count) => self.tuple(count),
            Op::Dict => {
                let items = self.items()?;
                let pairs = self.pairs(&items)?;
                self.push(Value::Dict(pairs))
            }
            Op::FrozenSet => {
                self.items()?;
                self.push(Value::Set)
            }
            Op::Append => {
                let item = self.pop()?;
                self.append(&[item])
            }
            Op::Appends => {
                let items = self.items()?;
                self.append(&items)
            }
            Op::SetItem => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])
            }
            Op::SetItems => {
                let items = self.items()?;
                self.set(&items)
            }
            Op::AddItems => self.add_items(),
            Op::Global(module, name) => self.global(module, name),
            Op::StackGlobal => self.stack_global(),
            Op::Reduce | Op::NewObject => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                let result = self.call(function, arguments)?;
                self.push_id(result)
            }
            Op::Build => self.build(),
            Op::Persistent => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage)
            }
            Op::Get(number) => {
                let id = self.memo.get(&number).copied();
                let id = id.ok_or_else(|| self.malformed("pickle: a value that the memo does not hold"))?;
                self.push_id(id)
            }
            Op::Put(number) => self.memoize(number),
            Op::Memoize => self.memoize(self.memo.len() as u64),
        }
    }

    pub(super) fn malformed(&self, what: &'static str) -> FormatError {
        FormatError::new(self.at, FormatFault::Malformed(what))
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    /// Stores a value.
    pub(super) fn make(&mut self, value: Value<'a>) -> Result<Id, FormatError> {
        self.charge(1)?;
        let number = u32::try_from(self.values.len()).map_err(|_| self.malformed("pickle: too many values"))?;
        self.values.push(value);
        Ok(Id(number))
    }

    /// Counts values that are about to be made, referred to or copied, before memory is taken for them.
    pub(super) fn charge(&mut self, count: usize) -> Result<(), FormatError> {
        let (used, limit) = (self.lent.used.saturating_add(count), limits::MAX_PICKLE_VALUES);
        if used > limit {
            let (field, asked, limit) = ("values of the pickle", used as u64, limit as u64);
            return Err(FormatError::new(self.at, FormatFault::LimitExceeded { field, asked, limit }));
        }
        self.lent.loan.take_at(self.at, count as u64 * limits::PICKLE_VALUE_BYTES)?;
        self.lent.used = used;
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), FormatError> {
        let id = self.make(value)?;
        self.stack.push(id);
        Ok(())
    }

    fn push_id(&mut self, id: Id) -> Result<(), FormatError> {
        self.charge(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn memoize(&mut self, number: u64) -> Result<(), FormatError> {
        self.charge(1)?;
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn mark(&mut self) -> Result<(), FormatError> {
        self.charge(1)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn underflow(&self) -> FormatError {
        self.malformed("pickle: an opcode finds too little on the stack")
    }

    /// The top of the stack above the last mark.
    fn top(&self) -> Result<Id, FormatError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[Id]>::last).copied().ok_or_else(|| self.underflow())
    }

    fn pop(&mut self) -> Result<Id, FormatError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// `POP` takes a mark away where one is on top.
    fn drop_top(&mut self) -> Result<(), FormatError> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(|_| ())
    }

    /// What is above the last mark, which goes too.
    fn items(&mut self) -> Result<Vec<Id>, FormatError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("pickle: an opcode finds no mark"))?;
        // Nothing is popped below a mark while it is there.
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn tuple(&mut self, count: usize) -> Result<(), FormatError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count).filter(|&from| from >= floor);
        let from = from.ok_or_else(|| self.underflow())?;
        let items = self.stack.split_off(from);
        self.push_tuple(items)
    }

    /// Its list is an allocation of its own, which counts as a value.
    fn push_tuple(&mut self, items: Vec<Id>) -> Result<(), FormatError> {
        self.charge(1)?;
        self.push(Value::Tuple(items.into()))
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>, FormatError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("pickle: a key without a value"));
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn append(&mut self, items: &[Id]) -> Result<(), FormatError> {
        let list = self.top()?;
        match self.values.get_mut(list.0 as usize) {
            Some(Value::List(list)) => list.extend_from_slice(items),
            Some(Value::Object(_)) => {}
            _ => return Err(self.malformed("pickle: an item appended to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), FormatError> {
        let pairs = self.pairs(items)?;
        let dict = self.top()?;
        match self.values.get_mut(dict.0 as usize) {
            Some(Value::Dict(dict)) => dict.extend(pairs),
            Some(Value::Object(_)) => {}
            _ => return Err(self.malformed("pickle: an item set in what is no dict")),
        }
        Ok(())
    }

    fn add_items(&mut self) -> Result<(), FormatError> {
        self.items()?;
        let set = self.top()?;
        match self.get(set) {
            Value::Set | Value::Object(_) => Ok(()),
            _ => Err(self.malformed("pickle: an item added to what is no set")),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), FormatError> {
        let Some(global) = globals::find(module, name) else {
            let shown: String = format!("{module}.{name}").chars().take(200).collect();
            return Err(FormatError::new(self.at, FormatFault::RefusedGlobal(shown)));
        };
        self.push(Value::Global(global))
    }

    fn stack_global(&mut self) -> Result<(), FormatError> {
        let name = self.pop()?;
        let module = self.pop()?;
        match (self.get(module), self.get(name)) {
            (&Value::Text(module), &Value::Text(name)) => self.global(module, name),
            _ => Err(self.malformed("pickle: a class whose name is no text")),
        }
    }

    /// Gives an object its state: attributes of a dict (`_metadata`), the content of an opaque object. Neither matters
    /// here. The state of a tensor could be other data (`Tensor.__setstate__`), so that is refused.
    fn build(&mut self) -> Result<(), FormatError> {
        self.pop()?;
        let object = self.top()?;
        match self.get(object) {
            Value::Dict(_) | Value::Object(_) | Value::Set | Value::Refused(_) => Ok(()),
            _ => Err(self.malformed("pickle: a state for what has none")),
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
