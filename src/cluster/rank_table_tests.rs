//! Tables of every shape, and what is wrong with those that are refused.

use serde_json::{Value, json};

use super::*;

fn v1(version: &str, numbers: bool) -> Value {
    let number = |n: u32| if numbers { json!(n) } else { json!(n.to_string()) };
    let server = |index: u32| {
        let device = |local: u32| {
            let rank = index * 2 + local;
            json!({"device_id": number(local), "device_ip": format!("192.1.{index}.{local}"), "rank_id": number(rank)})
        };
        json!({
            "server_id": format!("10.0.0.{index}"), "container_ip": format!("172.17.0.{index}"),
            "device": [device(1), device(0)], "host_nic_ip": "reserve"
        })
    };
    // The second machine first: the order means nothing.
    json!({"version": version, "server_count": number(2), "server_list": [server(1), server(0)], "status": "completed"})
}

fn parse(table: &Value) -> Result<RankTable, String> {
    RankTable::parse(table.to_string().as_bytes()).map_err(|e| e.to_string())
}

fn expected() -> RankTable {
    let server = |index: u32| Server {
        names: vec![format!("10.0.0.{index}"), format!("172.17.0.{index}")],
        ranks: vec![index * 2, index * 2 + 1],
    };
    RankTable { servers: vec![server(0), server(1)] }
}

#[test]
fn one_and_one_point_two_with_strings_or_numbers() {
    for version in ["1.0", "1.2"] {
        for numbers in [false, true] {
            let table = parse(&v1(version, numbers)).unwrap();
            assert_eq!(table, expected(), "{version}");
            assert_eq!((table.ranks(), table.server_of(3), table.server_of(4)), (4, Some(1), None));
        }
    }
}

#[test]
fn groups_of_servers() {
    let whole = v1("1.2", false);
    let list = whole["server_list"].as_array().unwrap();
    let group =
        |index: usize| json!({"group_id": index.to_string(), "server_count": "1", "server_list": [list[index]]});
    let table = json!({"version": "1.2", "status": "completed", "server_group_list": [group(0), group(1)]});
    assert_eq!(parse(&table).unwrap(), expected());
}

/// As in the test stubs of cann/ge.
#[test]
fn the_old_one_without_a_version() {
    let instance = |rank: u32| {
        json!({
            "rank_id": rank.to_string(), "server_id": format!("10.0.0.{}", rank / 2),
            "devices": [{"device_id": (rank % 2).to_string(), "device_ip": format!("192.1.0.{rank}")}]
        })
    };
    let table = json!({
        "status": "completed", "deploy_mode": "lab", "group_count": "1", "chip_info": "910", "board_id": "0x0000",
        "para_plane_nic_location": "device", "para_plane_nic_num": "2", "para_plane_nic_name": ["eth0", "eth1"],
        "group_list": [{
            "group_name": "hccl_world_group", "device_num": "4", "server_num": "2", "instance_count": "4",
            "instance_list": [instance(3), instance(0), instance(1), instance(2)]
        }]
    });
    let server = |index: u32| Server { names: vec![format!("10.0.0.{index}")], ranks: vec![index * 2, index * 2 + 1] };
    assert_eq!(parse(&table).unwrap(), RankTable { servers: vec![server(0), server(1)] });
}

#[test]
fn tables_that_are_not_whole_are_refused() {
    let change = |pointer: &str, value: Value| {
        let mut table = v1("1.0", false);
        *table.pointer_mut(pointer).unwrap() = value;
        parse(&table).unwrap_err()
    };
    let device = "/server_list/0/device/0";
    for (pointer, value, said) in [
        ("/status", json!("initializing"), "initializing, not completed"),
        ("/version", json!("3.0"), "`version` 3.0"),
        ("/server_count", json!("3"), "`server_count` is 3, but 2 servers"),
        ("/server_list/1/server_id", json!("10.0.0.1"), "two servers have the `server_id` 10.0.0.1"),
        (&format!("{device}/rank_id"), json!("1"), "two cards have the rank 1"),
        (&format!("{device}/rank_id"), json!("7"), "no card has the rank 3"),
        (&format!("{device}/rank_id"), json!("x"), "without a `rank_id`"),
        (&format!("{device}/rank_id"), json!(-1), "without a `rank_id`"),
        (&format!("{device}/device_ip"), json!("192.1.0.0"), "`device_ip` 192.1.0.0"),
        ("/server_list", json!([]), "`server_count` is 2, but 0"),
        ("/server_list", json!(5), "`server_list` is not there"),
    ] {
        let error = change(pointer, value);
        assert!(error.contains(said), "{pointer}: {error}");
    }
    for (text, said) in
        [("", "no JSON"), ("[]", "status"), ("{\"status\":\"completed\"}", "neither"), ("nul", "no JSON")]
    {
        let error = RankTable::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}
