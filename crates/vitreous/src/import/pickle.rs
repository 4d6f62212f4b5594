//! Pickles that can only build tensors: of Python's opcodes those that PyTorch writes, and of all functions in the world the
//! few that put tensors together. Nothing is called; a pickle that asks for anything else is rejected by name.
//!
//! Source: Python's `pickletools`, and `torch/_weights_only_unpickler.py` for what a file of PyTorch needs. All objects lie
//! in one list and refer to each other by number, so that nesting takes no stack and sharing no memory.

use std::collections::HashMap;

use super::tensor::Dtype;

/// Most objects in a pickle, and most items on its stack; a state with its optimizer has some twenty per tensor.
const OBJECTS_MAX: usize = 1_000_000;

/// PyTorch's functions for tensors that are rejected although they run no code of the file.
const OTHER_TENSORS: [&str; 6] = [
    "_rebuild_tensor",
    "_rebuild_tensor_v3",
    "_rebuild_qtensor",
    "_rebuild_sparse_tensor",
    "_rebuild_nested_tensor",
    "_rebuild_meta_tensor_no_storage",
];

/// The number of an object.
pub(super) type Id = u32;

/// What a pickle builds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object<'a> {
    /// A constant of no interest, such as `None` or a number with a fraction.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Function(Function),
    Storage(Storage<'a>),
    Tensor(Box<View<'a>>),
}

/// The functions and types that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageOf(Dtype),
}

/// Numbers that lie elsewhere in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    pub len: usize,
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View<'a> {
    pub storage: Storage<'a>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// Why a pickle is rejected.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rejected {
    /// It is truncated or makes no sense.
    Damaged(String),
    /// It asks for this function or type.
    Code(String),
    /// It has tensors that this program does not read.
    Unsupported(String),
}

/// What a pickle has built.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Id,
    /// Its length in bytes: another may follow.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle at the start of `bytes`.
    pub fn read(bytes: &'a [u8]) -> Result<Pickle<'a>, Rejected> {
        let mut machine =
            Machine { bytes, at: 0, objects: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        let root = machine.run()?;
        Ok(Pickle { objects: machine.objects, root, len: machine.at })
    }

    pub fn root(&self) -> &Object<'a> {
        self.get(self.root)
    }

    pub fn get(&self, id: Id) -> &Object<'a> {
        &self.objects[id as usize]
    }

    /// All storages that it names.
    pub fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.objects
            .iter()
            .filter_map(|object| if let Object::Storage(storage) = object { Some(storage) } else { None })
    }

    /// The value of a key of a dictionary: of several the last, as in Python.
    pub fn value(&self, object: &Object<'a>, key: &str) -> Option<&Object<'a>> {
        self.items(object).filter(|(name, _)| *name == key).last().map(|(_, value)| value)
    }

    /// The items of a dictionary whose keys are texts.
    pub fn items(&self, object: &Object<'a>) -> impl Iterator<Item = (&'a str, &Object<'a>)> {
        let items = if let Object::Dict(items) = object { items.as_slice() } else { &[] };
        items.iter().filter_map(|&(key, value)| match self.get(key) {
            Object::Text(text) => Some((*text, self.get(value))),
            _ => None,
        })
    }
}

/// The stack machine of pickles.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

fn damaged<T>(reason: impl Into<String>) -> Result<T, Rejected> {
    Err(Rejected::Damaged(reason.into()))
}

fn unsupported<T>(reason: impl Into<String>) -> Result<T, Rejected> {
    Err(Rejected::Unsupported(reason.into()))
}

/// Checks that there may be one more.
fn limited(count: usize, what: &str) -> Result<(), Rejected> {
    if count < OBJECTS_MAX { Ok(()) } else { damaged(format!("its pickle has more than {OBJECTS_MAX} {what}")) }
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, Rejected> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                // PROTO and FRAME say nothing that matters here.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => {
                    limited(self.marks.len(), "marks")?;
                    self.marks.push(self.stack.len());
                }
                b'0' => drop(self.pop()?),
                b'1' => {
                    let mark = self.mark()?;
                    self.stack.truncate(mark);
                }
                b'2' => {
                    let top = self.top()?;
                    self.push_again(top)?;
                }
                b'N' => self.push(Object::Other)?,
                b'G' => {
                    self.take(8)?;
                    self.push(Object::Other)?;
                }
                0x88 | 0x89 => self.push(Object::Bool(opcode == 0x88))?,
                b'J' => {
                    let bytes = self.array()?;
                    self.push(Object::Int(i64::from(i32::from_le_bytes(bytes))))?;
                }
                b'K' => {
                    let value = self.take(1)?[0];
                    self.push(Object::Int(value.into()))?;
                }
                b'M' => {
                    let bytes = self.array()?;
                    self.push(Object::Int(u16::from_le_bytes(bytes).into()))?;
                }
                0x8A => {
                    let len = self.take(1)?[0].into();
                    let bytes = self.take(len)?;
                    self.push(long(bytes))?;
                }
                b'X' => self.text(4)?,
                0x8C => self.text(1)?,
                0x8D => self.text(8)?,
                // Python 2's texts.
                b'T' => self.text(4)?,
                b'U' => self.text(1)?,
                b'C' | b'B' | 0x8E => {
                    let len = self.length(if opcode == b'C' {
                        1
                    } else if opcode == b'B' {
                        4
                    } else {
                        8
                    })?;
                    self.take(len)?;
                    self.push(Object::Other)?;
                }
                b')' => self.push(Object::Tuple(Vec::new()))?,
                b']' => self.push(Object::List(Vec::new()))?,
                b'}' => self.push(Object::Dict(Vec::new()))?,
                b't' => {
                    let parts = self.down_to_mark()?;
                    self.push(Object::Tuple(parts))?;
                }
                b'l' => {
                    let parts = self.down_to_mark()?;
                    self.push(Object::List(parts))?;
                }
                b'd' => {
                    let parts = self.down_to_mark()?;
                    self.push(Object::Dict(pairs(&parts)?))?;
                }
                0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84);
                    let Some(start) = self.stack.len().checked_sub(count) else { return damaged("the stack is empty") };
                    let parts = self.stack.split_off(start);
                    self.push(Object::Tuple(parts))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' => {
                    let items = self.down_to_mark()?;
                    self.append(&items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.insert(&[key, value])?;
                }
                b'u' => {
                    let items = self.down_to_mark()?;
                    self.insert(&items)?;
                }
                b'q' => {
                    let key = self.take(1)?[0].into();
                    self.remember(key)?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.remember(key)?;
                }
                0x94 => {
                    let key = self.memo.len() as u32;
                    self.remember(key)?;
                }
                b'h' => {
                    let key = self.take(1)?[0].into();
                    self.recall(key)?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(key)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Object::Function(function(module, name)?))?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Object::Text(module), Object::Text(name)) = (self.object(module), self.object(name)) else {
                        return damaged("a function without a name");
                    };
                    let function = function(module, name)?;
                    self.push(Object::Function(function))?;
                }
                b'R' => self.call()?,
                b'b' => {
                    // The state of an OrderedDict is `_metadata`, which says nothing of the tensors.
                    self.pop()?;
                    let top = self.top()?;
                    if !matches!(self.object(top), Object::Dict(_)) {
                        return Err(Rejected::Code("__setstate__".to_string()));
                    }
                }
                b'Q' => self.storage()?,
                b'i' => {
                    let (module, name) = (self.line()?, self.line()?);
                    return Err(Rejected::Code(named(module, name)));
                }
                b'o' | 0x81 | 0x92 => return Err(Rejected::Code("__new__".to_string())),
                0x82..=0x84 => return Err(Rejected::Code("copyreg".to_string())),
                _ => return damaged(format!("unknown opcode {opcode:#04x} in its pickle")),
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Rejected> {
        let taken = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else { return damaged("its pickle is truncated") };
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Rejected> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Rejected> {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes)?);
        usize::try_from(u64::from_le_bytes(wide)).or_else(|_| damaged("its pickle is truncated"))
    }

    fn line(&mut self) -> Result<&'a str, Rejected> {
        let rest = &self.bytes[self.at..];
        let Some(len) = rest.iter().position(|&byte| byte == b'\n') else { return damaged("its pickle is truncated") };
        let line = self.take(len + 1)?;
        std::str::from_utf8(&line[..len]).or_else(|_| damaged("a name is not valid UTF-8"))
    }

    fn text(&mut self, length_bytes: usize) -> Result<(), Rejected> {
        let len = self.length(length_bytes)?;
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Object::Text(text)),
            Err(_) => self.push(Object::Other),
        }
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), Rejected> {
        limited(self.objects.len(), "objects")?;
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
        Ok(())
    }

    fn push_again(&mut self, id: Id) -> Result<(), Rejected> {
        limited(self.stack.len(), "items on its stack")?;
        self.stack.push(id);
        Ok(())
    }

    fn object(&self, id: Id) -> &Object<'a> {
        &self.objects[id as usize]
    }

    fn pop(&mut self) -> Result<Id, Rejected> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn top(&self) -> Result<Id, Rejected> {
        let is_above_mark = self.marks.last().is_none_or(|&mark| self.stack.len() > mark);
        self.stack.last().copied().filter(|_| is_above_mark).ok_or(()).or_else(|()| damaged("the stack is empty"))
    }

    fn mark(&mut self) -> Result<usize, Rejected> {
        self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or(()).or_else(|()| damaged("a mark is missing"))
    }

    fn down_to_mark(&mut self) -> Result<Vec<Id>, Rejected> {
        let mark = self.mark()?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, key: u32) -> Result<(), Rejected> {
        let top = self.top()?;
        limited(self.memo.len(), "items to remember")?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), Rejected> {
        let Some(&id) = self.memo.get(&key) else { return damaged("its pickle refers to nothing") };
        self.push_again(id)
    }

    fn append(&mut self, items: &[Id]) -> Result<(), Rejected> {
        let top = self.top()?;
        match &mut self.objects[top as usize] {
            Object::List(list) => list.extend_from_slice(items),
            _ => return damaged("items without a list"),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<(), Rejected> {
        let (top, items) = (self.top()?, pairs(items)?);
        match &mut self.objects[top as usize] {
            Object::Dict(dict) => dict.extend(items),
            _ => return damaged("items without a dictionary"),
        }
        Ok(())
    }

    /// The number that an object is.
    fn whole(&self, id: Option<&Id>) -> Result<usize, Rejected> {
        match id.map(|&id| self.object(id)) {
            Some(Object::Int(value)) => usize::try_from(*value).or_else(|_| damaged(format!("{value} is negative"))),
            _ => damaged("a number is missing"),
        }
    }

    fn sizes(&self, id: Option<&Id>) -> Result<Vec<usize>, Rejected> {
        match id.map(|&id| self.object(id)) {
            Some(Object::Tuple(parts) | Object::List(parts)) if parts.len() <= 8 => {
                parts.iter().map(|part| self.whole(Some(part))).collect()
            }
            _ => damaged("a shape is missing"),
        }
    }

    /// REDUCE: builds what a function would return.
    fn call(&mut self) -> Result<(), Rejected> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Object::Tuple(arguments) = self.object(arguments) else { return damaged("arguments are missing") };
        let Object::Function(function) = self.object(function) else { return damaged("a function is missing") };
        let made = match function {
            Function::OrderedDict if arguments.is_empty() => Object::Dict(Vec::new()),
            Function::RebuildTensor => {
                let Some(Object::Storage(storage)) = arguments.first().map(|&id| self.object(id)) else {
                    return damaged("a tensor without a storage");
                };
                let (shape, strides) = (self.sizes(arguments.get(2))?, self.sizes(arguments.get(3))?);
                if shape.len() != strides.len() {
                    return damaged("a tensor has other axes than strides");
                }
                let offset = self.whole(arguments.get(1))?;
                Object::Tensor(Box::new(View { storage: *storage, offset, shape, strides }))
            }
            Function::RebuildParameter => match arguments.first().map(|&id| self.object(id)) {
                Some(Object::Tensor(view)) => Object::Tensor(view.clone()),
                _ => return damaged("a parameter without a tensor"),
            },
            Function::OrderedDict | Function::StorageOf(_) => return damaged("wrong arguments"),
        };
        self.push(made)
    }

    /// BINPERSID: `('storage', type, key, device, numbers)`, in the older form with `None` or a view after that.
    fn storage(&mut self) -> Result<(), Rejected> {
        let id = self.pop()?;
        let Object::Tuple(parts) = self.object(id) else { return damaged("a storage is missing") };
        let part = |index: usize| parts.get(index).map(|&id| self.object(id));
        let (
            Some(Object::Text("storage")),
            Some(Object::Function(Function::StorageOf(dtype))),
            Some(Object::Text(key)),
        ) = (part(0), part(1), part(2))
        else {
            return damaged("a storage of an unknown form");
        };
        if !matches!(part(5), None | Some(Object::Other)) {
            return unsupported("it has views of storages, as in files of PyTorch before 0.4");
        }
        let storage = Storage { key, dtype: *dtype, len: self.whole(parts.get(4))? };
        self.push(Object::Storage(storage))
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Rejected> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        damaged("a key without a value")
    }
}

fn long(bytes: &[u8]) -> Object<'static> {
    if bytes.len() > 8 {
        return Object::Other;
    }
    let fill = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xFF } else { 0 };
    let mut wide = [fill; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Object::Int(i64::from_le_bytes(wide))
}

fn named(module: &str, name: &str) -> String {
    format!("{module}.{name}")
}

/// Finds a function among those that are allowed.
fn function(module: &str, name: &str) -> Result<Function, Rejected> {
    let integer = |bytes, signed| Function::StorageOf(Dtype::Integer { bytes, signed });
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Function::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Function::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Function::RebuildParameter,
        ("torch", "FloatStorage") => Function::StorageOf(Dtype::Float32),
        ("torch", "DoubleStorage") => Function::StorageOf(Dtype::Float64),
        ("torch", "HalfStorage") => Function::StorageOf(Dtype::Float16),
        ("torch", "BFloat16Storage") => Function::StorageOf(Dtype::Bfloat16),
        ("torch", "LongStorage") => integer(8, true),
        ("torch", "IntStorage") => integer(4, true),
        ("torch", "ShortStorage") => integer(2, true),
        ("torch", "CharStorage") => integer(1, true),
        ("torch", "ByteStorage" | "BoolStorage") => integer(1, false),
        ("torch._utils", name) if OTHER_TENSORS.contains(&name) => {
            let name = named("torch._utils", name);
            return unsupported(format!("it has tensors of a kind that this program does not read, {name}"));
        }
        _ => return Err(Rejected::Code(named(module, name))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(bytes: &[u8]) -> Rejected {
        Pickle::read(bytes).expect_err("it must be rejected")
    }

    fn code(name: &str) -> Rejected {
        Rejected::Code(name.to_string())
    }

    #[test]
    fn every_way_to_call_a_function_is_rejected_by_name() {
        assert_eq!(rejected(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."), code("os.system"));
        assert_eq!(rejected(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R."), code("os.system"));
        assert_eq!(
            rejected(b"(S'ls'\nios\nsystem\n."),
            Rejected::Damaged("unknown opcode 0x53 in its pickle".to_string())
        );
        assert_eq!(rejected(b"(ios\nsystem\n."), code("os.system"));
        assert_eq!(rejected(b"c__builtin__\neval\n."), code("__builtin__.eval"));
        // Names that start like those that are allowed.
        assert_eq!(
            rejected(b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n."),
            code("torch._utils._rebuild_tensor_v2.__globals__")
        );
        assert_eq!(rejected(b"ctorch\nload\n."), code("torch.load"));
        assert_eq!(rejected(b"ccollections\nOrderedDict\n)\x81."), code("__new__"));
        assert_eq!(rejected(b"(ccollections\nOrderedDict\no."), code("__new__"));
        assert_eq!(rejected(b"ccollections\nOrderedDict\n}b."), code("__setstate__"));
        assert_eq!(rejected(b"\x82\x01."), code("copyreg"));
    }

    #[test]
    fn nonsense_is_damaged_and_takes_no_stack() {
        for bytes in
            [&b""[..], b".", b"0.", b"(.", b"t.", b"u.", b"h\x01.", b"X\xFF\xFF\xFF\xFFab", b"}K\x01u.", b"K\x01a."]
        {
            assert!(matches!(rejected(bytes), Rejected::Damaged(_)), "{bytes:?}");
        }
        let deep = [&b"N"[..], &[0x85; 200_000], b"."].concat();
        assert!(matches!(Pickle::read(&deep).unwrap().root(), Object::Tuple(parts) if parts.len() == 1));
    }

    #[test]
    fn what_a_pickle_repeats_is_limited() {
        for (start, repeated, what) in
            [("N", b'2', "items on its stack"), ("", b'(', "marks"), ("N", 0x94, "items to remember")]
        {
            let bytes = [start.as_bytes(), &vec![repeated; OBJECTS_MAX + 1], b"N."].concat();
            assert_eq!(rejected(&bytes), Rejected::Damaged(format!("its pickle has more than {OBJECTS_MAX} {what}")));
        }
    }

    #[test]
    fn a_key_that_comes_twice_has_the_last_value_as_in_python() {
        let pickle = Pickle::read(b"}(X\x01\0\0\0aK\x03X\x01\0\0\0aK\x05u.").unwrap();
        assert_eq!(pickle.value(pickle.root(), "a"), Some(&Object::Int(5)));
    }

    #[test]
    fn tensors_of_other_kinds_are_not_called_code() {
        let unsupported = |bytes: &[u8], expected: &str| {
            let found = format!("{:?}", rejected(bytes));
            assert_eq!(found, format!("Unsupported({expected:?})"));
        };
        unsupported(
            b"ctorch._utils\n_rebuild_tensor_v3\n.",
            "it has tensors of a kind that this program does not read, torch._utils._rebuild_tensor_v3",
        );
        let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06";
        assert!(Pickle::read(&[&storage[..], b"NtQ."].concat()).is_ok());
        assert!(Pickle::read(&[&storage[..], b"tQ."].concat()).is_ok());
        unsupported(
            &[&storage[..], b"K\x01K\x02\x86tQ."].concat(),
            "it has views of storages, as in files of PyTorch before 0.4",
        );
    }

    #[test]
    fn an_item_below_a_mark_cannot_be_taken() {
        assert_eq!(rejected(b"K\x01(0K\x02."), Rejected::Damaged("the stack is empty".to_string()));
    }
}
