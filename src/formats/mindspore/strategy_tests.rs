//! Real files of MindSpore, and hand-made ones. What the real files say was read with MindSpore's own schema
//! (`node_strategy_pb2`).

use super::*;
use crate::formats::mindspore::read_strategy;
use crate::layout::OptimizerShard;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/data/formats/strategies/", $name))
    };
}

fn param<'a>(file: &'a StrategyFile, stage: u32, name: &str) -> &'a TensorLayout {
    &file.stages[&stage][name].layout
}

fn layout(matrix: &[u64], map: &[&[usize]], shard: OptimizerShard, step: i32) -> TensorLayout {
    TensorLayout {
        device_matrix: matrix.to_vec(),
        tensor_map: map.iter().map(|axes| axes.to_vec()).collect(),
        optimizer_shard: shard,
        optimizer_shard_step: step,
    }
}

#[test]
fn real_files_are_read() {
    let mp4 = read_strategy(golden!("mp4.ckpt")).unwrap();
    assert!(!mp4.merged);
    assert_eq!((mp4.stages.len(), mp4.stages[&0].len()), (1, 21));
    let none = OptimizerShard::None;
    assert_eq!(*param(&mp4, 0, "lm_head.weight"), layout(&[4], &[&[0], &[]], none, 0));
    assert_eq!(*param(&mp4, 0, "model.layers.0.attention.wo.weight"), layout(&[4], &[&[], &[0]], none, 0));
    assert_eq!(*param(&mp4, 0, "model.norm_out.weight"), layout(&[4], &[&[]], none, 0));

    let opt = read_strategy(golden!("dp2mp2_opt_train.ckpt")).unwrap();
    assert_eq!(opt.stages[&0].len(), 63);
    let all = OptimizerShard::All;
    assert_eq!(*param(&opt, 0, "adam_m.lm_head.weight"), layout(&[2, 2], &[&[0], &[]], all, 2));
    assert_eq!(*param(&opt, 0, "model.norm_out.weight"), layout(&[2, 2], &[&[]], all, 1));

    let groups = read_strategy(golden!("dp4mp2_opt2_train.ckpt")).unwrap();
    let two = OptimizerShard::Groups(2);
    assert_eq!(*param(&groups, 0, "lm_head.weight"), layout(&[4, 2], &[&[0], &[]], two, 2));
}

#[test]
fn merged_files_have_stages() {
    let file = read_strategy(golden!("pp2dp2mp2_opt_merged.ckpt")).unwrap();
    assert!(file.merged);
    assert_eq!(file.stages.keys().collect::<Vec<_>>(), [&0, &1]);
    assert_eq!(file.stages.values().map(BTreeMap::len).sum::<usize>(), 84);
    let all = OptimizerShard::All;
    assert_eq!(*param(&file, 1, "lm_head.weight"), layout(&[2, 2], &[&[0], &[]], all, 2));
    let wo = "model.layers.0.attention.wo.weight";
    assert_eq!(*param(&file, 0, wo), layout(&[2, 2], &[&[], &[0]], all, 2));
    assert!(!file.stages[&1].contains_key(wo));
}

#[test]
fn nested_layouts_are_lists_of_device_axes() {
    let file = read_strategy(golden!("nested_layout8.ckpt")).unwrap();
    let none = OptimizerShard::None;
    assert_eq!(*param(&file, 0, "w"), layout(&[2, 2, 2], &[&[], &[1, 0]], none, 0));
    assert_eq!(*param(&file, 0, "v"), layout(&[2, 2, 2], &[&[1, 0], &[]], none, 0));
    // JSON has them with the axis already divided.
    let json = read_strategy(golden!("nested_layout8.json")).unwrap();
    assert_eq!(*param(&json, 0, "v"), layout(&[2, 2, 2], &[&[1], &[0], &[]], none, 0));
    assert_eq!(json.stages[&0]["v"].full_shape.as_ref().unwrap().dims(), [2, 48, 64]);
}

#[test]
fn json_and_protobuf_of_one_run_agree() {
    let json = read_strategy(golden!("mp4.json")).unwrap();
    let proto = read_strategy(golden!("mp4.ckpt")).unwrap();
    assert_eq!(json.stages[&0]["lm_head.weight"].full_shape.as_ref().unwrap().dims(), [96, 64]);
    for (name, param) in &proto.stages[&0] {
        assert_eq!(param.layout, json.stages[&0][name].layout, "{name}");
        assert_eq!(param.full_shape, None);
    }
    assert_eq!(json.stages[&0].len(), proto.stages[&0].len());
}

/// A JSON file of one parameter `w`.
fn json(item: &str) -> String {
    format!(r#"{{"current_stage":0,"parallel_layout_item":{{"w":{item}}},"parallel_strategy_item":{{}}}}"#)
}

fn item(matrix: &str, map: &str, size: i64, rest: &str) -> String {
    format!(
        r#"{{"dev_matrix":{matrix},"tensor_map":{map},"field":0,"opt_weight_shard_step":1,"opt_weight_shard_size":{size}{rest}}}"#
    )
}

#[test]
fn layouts_that_contradict_themselves_are_refused() {
    let good = read_strategy(json(&item("[2,1,2]", "[0,1,1,-1]", -1, "")).as_bytes()).unwrap();
    assert_eq!(good.stages[&0]["w"].layout.optimizer_shard, OptimizerShard::All);
    for (bad, why) in [
        (item("[]", "[-1]", 0, ""), "0 axes"),
        (item("[0]", "[-1]", 0, ""), "`dev_matrix` is [0]"),
        (item("[-2]", "[-1]", 0, ""), "`dev_matrix` is [-2]"),
        (item("[65536,65536]", "[-1]", 0, ""), "more than 2^32"),
        (item("[4294967296,4294967296]", "[-1]", 0, ""), "more than 2^32"),
        (item("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[-1]", 0, ""), "17 axes"),
        (item("[2,2]", "[2]", 0, ""), "the device axis 2"),
        (item("[2,2]", "[-2]", 0, ""), "the device axis -2"),
        (item("[2,2]", "[0,0]", 0, ""), "twice"),
        (item("[2,2]", "[[0]]", 0, ""), "no flat list"),
        (item("[2,2]", "[0.5]", 0, ""), "no flat list"),
        (item("{}", "[0]", 0, ""), "`dev_matrix` is no list"),
        (item("[2]", "[0]", -2, ""), "`opt_weight_shard_size` is -2"),
        (item("[2]", "[0]", 0, r#","tensor_shape":[4,4]"#), "has not the 1 axes"),
        (item("[2]", "[0]", 0, r#","tensor_shape":[-1]"#), "negative"),
        (item("[2]", "[0]", 0, r#","indices_offset":[1]"#), "not supported"),
        (item("[2]", "[0]", 0, "").replace("\"field\":0", "\"field\":3"), "not supported"),
        (item("[2]", "[0]", 0, "").replace("\"field\":0,", ""), "`field` is no integer"),
        ("[]".into(), "no integer"),
    ] {
        let error = read_strategy(json(&bad).as_bytes()).expect_err(why);
        assert!(matches!(error.what, FormatFault::BadLayout { .. }), "{bad}: {error}");
        assert!(error.to_string().contains(why), "{bad}: {error}");
    }
    let empty = item("[2]", "[0]", 0, r#","indices_offset":[[]],"param_split_shape":[4]"#);
    assert!(read_strategy(json(&empty).as_bytes()).is_ok());
}

#[test]
fn layouts_of_one_stage_have_one_number_of_devices() {
    let (two, four) = (item("[2]", "[0]", 0, ""), item("[4]", "[0]", 0, ""));
    let unlike = json(&format!(r#"{two},"v":{four}"#));
    let error = read_strategy(unlike.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("`v`: laid out over 4 devices, `w`"), "{error}");
    // In different stages they may differ.
    let staged = unlike.replace("\"w\"", "\"0-w\"").replace("\"v\"", "\"11-v-x\"");
    let file = read_strategy(staged.as_bytes()).unwrap();
    assert!(file.merged && file.stages[&11].contains_key("v-x"));
    // Unless every name has a stage, the dash is part of a name.
    let plain = read_strategy(unlike.replace("\"w\"", "\"0-w\"").replace("[4]", "[2]").as_bytes()).unwrap();
    assert!(!plain.merged && plain.stages[&0].contains_key("0-w"));
    let huge = staged.replace("11-", "99999999999-");
    assert!(matches!(read_strategy(huge.as_bytes()).unwrap_err().what, FormatFault::BadLayout { .. }));
}

#[test]
fn the_stage_is_the_first_strategy_items() {
    let text = json(&item("[2]", "[0]", 0, "")).replace(
        r#""parallel_strategy_item":{}"#,
        r#""parallel_strategy_item":{"z":{"parallel_strategy":[[2]],"stage":3},"a":{"stage":1}}"#,
    );
    assert_eq!(read_strategy(text.as_bytes()).unwrap().stages.keys().collect::<Vec<_>>(), [&3]);
}

#[test]
fn duplicates_and_other_files_are_refused() {
    let one = item("[2]", "[0]", 0, "");
    let twice = json(&format!(r#"{one},"w":{one}"#));
    assert_eq!(read_strategy(twice.as_bytes()).unwrap_err().what, FormatFault::Duplicate("w".into()));
    let params = [("w".to_owned(), layout(&[2], &[&[0]], OptimizerShard::None, 0))];
    let bytes = write(&params, 0);
    let layouts = bytes.windows(1).enumerate().find(|(_, b)| *b == [0x1a]).map(|(at, _)| at).unwrap();
    let doubled = [&bytes[..], &bytes[layouts..]].concat();
    assert_eq!(read_strategy(&doubled).unwrap_err().what, FormatFault::Duplicate("w".into()));
    assert_eq!(read_strategy(b"").unwrap_err().what, FormatFault::Empty);
    for other in [
        &include_bytes!("../../../tests/data/formats/mini_plain.ckpt")[..],
        include_bytes!("../../../tests/data/formats/mini_plain.safetensors"),
        include_bytes!("../../../tests/data/formats/mini_aes_gcm_key16.ckpt"),
    ] {
        assert!(matches!(read_strategy(other).unwrap_err().what, FormatFault::NotThisFormat(_)));
    }
}

#[test]
fn damaged_files_never_panic() {
    for golden in [&golden!("nested_layout8.ckpt")[..], golden!("nested_layout8.json"), golden!("mp4.ckpt")] {
        let mut file = golden.to_vec();
        for at in 0..golden.len() {
            let _ = read_strategy(&golden[..at]);
            for bit in 0..8 {
                file[at] ^= 1 << bit;
                let _ = read_strategy(&file);
                file[at] ^= 1 << bit;
            }
        }
    }
    for bad in [
        &b"\x12\x00"[..], // no stage in the first strategy item
        b"\x08\x00\x12\x00",
        b"\x08\x00\x1a\x00",                  // no parameter name
        b"\x08\x00\x1a\x03\x0a\x01w",         // no layouts
        b"\x08\x00\x1a\x05\x0a\x01w\x12\x00", // no device matrix and no numbers
        b"\x08\x00\x1a\x7fw",                 // cut short
        b"\x08\x00\x18\x01",                  // a layout that is a number
        b"\x1a\x00",                          // no current stage
        b"{}",
        b"{",
    ] {
        assert!(read_strategy(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn what_is_written_has_the_bytes_of_the_schema() {
    let params = [("w".to_owned(), layout(&[2, 4], &[&[0], &[]], OptimizerShard::Groups(2), 4))];
    let expected: &[u8] = b"\x08\x00\
        \x12\x0d\x0a\x01w\x12\x08\x08\x05\x12\x04\x08\x04\x08\x01\
        \x1a\x24\x0a\x01w\x12\x1f\x0a\x04\x08\x02\x08\x04\x12\x0d\x08\x00\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\
        \x1a\x00\x22\x00\x28\x00\x30\x04\x38\x02";
    assert_eq!(write(&params, 5), expected);
}

#[test]
fn what_is_written_is_read_back() {
    let params = [
        ("a".to_owned(), layout(&[2, 2, 2], &[&[1, 0], &[]], OptimizerShard::None, 0)),
        ("b".to_owned(), layout(&[2, 2, 2], &[&[1, 0]], OptimizerShard::All, 4)), // one axis, nested
        ("c".to_owned(), layout(&[8], &[], OptimizerShard::None, 0)),             // a scalar
        ("d".to_owned(), layout(&[2, 4], &[&[0]], OptimizerShard::Groups(2), 4)),
    ];
    let file = read_strategy(&write(&params, 7)).unwrap();
    assert_eq!(file.stages.keys().collect::<Vec<_>>(), [&7]);
    for (name, layout) in &params {
        assert_eq!(param(&file, 7, name), layout);
    }
    // A sharded parameter without a step gets the one that MindSpore expects.
    let unstated = [("e".to_owned(), layout(&[2, 4], &[&[0]], OptimizerShard::All, 0))];
    assert_eq!(param(&read_strategy(&write(&unstated, 0)).unwrap(), 0, "e").optimizer_shard_step, 4);
}
