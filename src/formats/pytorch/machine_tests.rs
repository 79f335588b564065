//! Pickles by hand: each opcode's checks, and programs that try to blow up. Pickles of PyTorch are in `tests/it/pytorch.rs`.

use super::super::value::Value;
use super::*;

fn run(pickle: &[u8], at: u64) -> Result<Pickle<'_>, FormatError> {
    super::run(pickle, at, &mut Lent::of(&Budget::unlimited()))
}

fn fault(pickle: &[u8]) -> FormatFault {
    run(pickle, 0).expect_err("refused").what
}

fn root(pickle: &[u8]) -> String {
    let pickle = run(pickle, 0).expect("a pickle");
    format!("{:?}", pickle.root())
}

#[test]
fn a_name_outside_the_list_is_refused_by_name_before_anything_is_done_with_it() {
    assert_eq!(fault(b"cos\nsystem\n"), FormatFault::RefusedGlobal("os.system".into()));
    assert_eq!(fault(b"\x8c\x08builtins\x8c\x04eval\x93"), FormatFault::RefusedGlobal("builtins.eval".into()));
    assert_eq!(fault(b"ctorch.hub\nload\n"), FormatFault::RefusedGlobal("torch.hub.load".into()));
    // Dots in a name are attributes of attributes for Python: still one name here.
    assert_eq!(
        fault(b"\x80\x04\x8c\x05torch\x8c\x0bTensor.data\x93."),
        FormatFault::RefusedGlobal("torch.Tensor.data".into())
    );
    for (code, name) in [(b'i', "INST"), (b'o', "OBJ"), (b'P', "PERSID"), (0x82, "EXT"), (0x97, "NEXT_BUFFER")] {
        assert_eq!(fault(&[code]), FormatFault::RefusedOpcode { code, name });
    }
}

#[test]
fn what_the_stack_does_not_hold_is_no_value() {
    let underflow = FormatFault::Malformed("pickle: an opcode finds too little on the stack");
    for pickle in [&b"."[..], b"0", b"2", b"R", b"N\x86.", b"N(\x85", b"(.", b"}(s", b"N(b"] {
        let fault = fault(pickle);
        assert!(fault == underflow || matches!(fault, FormatFault::Truncated { .. }), "{pickle:?}: {fault:?}");
    }
    assert_eq!(fault(b"N(\x85"), underflow);
    assert_eq!(fault(b"Nt"), FormatFault::Malformed("pickle: an opcode finds no mark"));
    assert_eq!(fault(b"h\x07"), FormatFault::Malformed("pickle: a value that the memo does not hold"));
    assert_eq!(fault(b"}(Nu"), FormatFault::Malformed("pickle: a key without a value"));
    assert_eq!(fault(b"}Na"), FormatFault::Malformed("pickle: an item appended to what is no list"));
    assert_eq!(fault(b")NNs"), FormatFault::Malformed("pickle: an item set in what is no dict"));
    assert_eq!(fault(b"N)R"), FormatFault::Malformed("pickle: a call of what is no function"));
}

#[test]
fn lengths_are_held_against_what_remains() {
    for pickle in [
        &b""[..],
        b"\x80",
        b"X\xff\xff\xff\xffab",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
        b"cos",
    ] {
        assert!(matches!(fault(pickle), FormatFault::Truncated { .. }), "{pickle:?}");
    }
    assert_eq!(fault(b"X\x01\0\0\0\xff"), FormatFault::Malformed("pickle: a text that is not UTF-8"));
    assert_eq!(run(b"NX\xff\xff\xff\xffab", 100).unwrap_err().at, 106, "offsets are those of the file");
}

#[test]
fn integers_of_every_spelling() {
    for (pickle, value) in [
        (&b"K\xff."[..], "Int(255)"),
        (b"M\x01\x02.", "Int(513)"),
        (b"J\xff\xff\xff\xff.", "Int(-1)"),
        (b"\x8a\x00.", "Int(0)"),
        (b"\x8a\x01\x80.", "Int(-128)"),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", "Int(9223372036854775807)"),
        (b"\x8b\x02\x00\x00\x00\x00\x01.", "Int(256)"),
        (b"I-7\n.", "Int(-7)"),
        (b"I01\n.", "Bool(true)"),
        (b"L12L\n.", "Int(12)"),
    ] {
        assert_eq!(root(pickle), value);
    }
    // `LONG1` of 255 bytes, at which shifting readers fail.
    let long = [&b"\x8a\xff"[..], &[7; 255], b"."].concat();
    assert!(matches!(run(&long, 0).unwrap().root(), Value::Long(bytes) if bytes.len() == 255));
}

/// Ten values a level, forty levels deep: 10^40 when written out.
#[test]
fn shared_values_are_stored_once() {
    let mut pickle = b"]q\0".to_vec();
    for level in 0..40u8 {
        pickle.push(b'(');
        pickle.extend([b'h', level].repeat(10));
        pickle.extend([b'l', b'q', level + 1]);
    }
    pickle.push(b'.');
    assert_eq!(run(&pickle, 0).unwrap().values.len(), 41);
}

/// One long list handed to a constructor again and again is a copy each time.
#[test]
fn copies_are_counted() {
    let pair = b"(NNl".repeat(100_000);
    let once = b"h\x02h\x01R0";
    let mut pickle = [&b"ccollections\nOrderedDict\nq\x02("[..], &pair, b"l\x85q\x01"].concat();
    pickle.extend(once.repeat(1000));
    pickle.push(b'.');
    let FormatFault::LimitExceeded { limit, .. } = fault(&pickle) else { panic!("no limit") };
    assert_eq!(limit, limits::MAX_PICKLE_VALUES as u64);
}

#[test]
fn depth_and_cycles_take_no_stack() {
    let mut deep = b")".to_vec();
    deep.extend([0x85].repeat(300_000));
    deep.push(b'.');
    run(&deep, 0).unwrap();
    run(b"]q\0h\0a.", 0).unwrap();
    run(b"}q\0h\0h\0s.", 0).unwrap();
}

/// `Tensor.__setstate__` could put other data in a tensor's place.
#[test]
fn a_tensor_takes_no_state() {
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0)){tR";
    let tensor: Vec<u8> = tensor.iter().map(|&b| if b == b'{' { 0x89 } else { b }).collect();
    let made = [&tensor[..], b"."].concat();
    assert!(matches!(run(&made, 0).unwrap().root(), Value::Tensor(_)));
    let changed = [&tensor[..], b"}b."].concat();
    assert_eq!(fault(&changed), FormatFault::Malformed("pickle: a state for what has none"));
}
