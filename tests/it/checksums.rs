//! MindSpore's checksums (`crc_check=True`) in `.ckpt` and in safetensors files: damage is found before it is converted.

use crate::support::{Llama, Tensor, TestEnv, crc32, data, write_safetensors};

/// Files that the real MindSpore wrote with `crc_check=True`, each with one bit of a tensor changed.
#[test]
fn a_damaged_file_with_a_crc_is_found_in_both_formats() {
    for (file, name) in [
        ("mini_multichunk_bytes3k_crc.ckpt", "checkpoint_0.ckpt"),
        ("mini_crc.safetensors", "checkpoint_0.safetensors"),
    ] {
        let env = TestEnv::new();
        let mut bytes = std::fs::read(data(&format!("formats/{file}"))).unwrap();
        env.write(&format!("good/rank_0/{name}"), &bytes);
        // Within a tensor in both.
        let inside = bytes.len() / 2 + 500;
        bytes[inside] ^= 0x40;
        env.write(&format!("bad/rank_0/{name}"), &bytes);
        assert!(!env.line("doctor good").stdout.contains("CRC"), "{file}");
        let listing = env.line("inspect good --json").ok().json();
        assert_eq!((&listing["ranks"][0]["crc"], &listing["ranks"][0]["damaged"]), (&true.into(), &false.into()));

        let found = env.line("doctor bad");
        assert_eq!(found.status, Some(1), "{found:#?}");
        assert!(found.stdout.contains("the file is damaged") && found.stdout.contains("copy it again"), "{found:#?}");
        let listing = env.line("inspect bad");
        assert_eq!(listing.status, Some(1), "{listing:#?}");
        assert!(listing.stdout.contains("DAMAGED (CRC)"), "{listing:#?}");
        assert!(!env.line("doctor bad --no-crc-check").stdout.contains("damaged"), "{file}");
        env.line("inspect bad --no-crc-check").ok();
    }
}

/// A safetensors file with the checksum that MindSpore puts into it: over the sorted names, each with its tensor's bytes.
fn with_crc(tensors: &[Tensor]) -> Vec<u8> {
    let mut sorted: Vec<&Tensor> = tensors.iter().collect();
    sorted.sort_by_key(|t| &t.name);
    let summed: Vec<u8> = sorted.iter().flat_map(|t| [t.name.as_bytes(), &t.bytes].concat()).collect();
    let file = write_safetensors(tensors);
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into().expect("eight bytes"))).expect("a length");
    let metadata = format!("{{\"__metadata__\":{{\"crc_num\":\"{}\",\"format\":\"ms\"}},", crc32(&summed));
    let header = [metadata.as_bytes(), &file[9..8 + length]].concat();
    [&(header.len() as u64).to_le_bytes()[..], &header, &file[8 + length..]].concat()
}

#[test]
fn a_damaged_safetensors_file_is_refused_by_the_crc_that_mindspore_put_into_it() {
    let env = TestEnv::new();
    let good = with_crc(&Llama::small().full());
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x40;
    env.write("good/rank_0/checkpoint_0.safetensors", &good);
    env.write("bad/rank_0/checkpoint_0.safetensors", &bad);
    let before = env.tree();
    let line = "-f distributed_weight_transfer -p keep -w 2 --heads 16 --qkv_concat false --no-sync";
    let said = ["the file is damaged", "`crc_num` in its metadata", "hint: ", "--no-crc-check"];
    env.line(&format!("{line} -sc bad -dc out -is st")).failed(1, &said);
    assert_eq!(env.tree(), before);
    env.line(&format!("{line} -sc bad -dc skipped -is st.skipped --no-crc-check")).ok();
    env.line(&format!("{line} -sc good -dc out -is st")).ok();
    for rank in 0..2 {
        // The source's checksum is not that of what was written.
        let made = std::fs::read(env.path(&format!("out/keep_2p/rank_{rank}/checkpoint_{rank}.safetensors"))).unwrap();
        assert!(!String::from_utf8_lossy(&made[..200]).contains("crc_num"));
    }
    env.line(&format!("{line} --crc -sc good -dc crc -is st.crc")).failed(1, &["--crc goes with --format ckpt"]);
}
