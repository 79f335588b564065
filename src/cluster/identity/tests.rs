//! The environments as the launchers make them, and what must not be believed.

use super::*;
use crate::cluster::rank_table::Server;

fn env(pairs: &str) -> Environment {
    let pair = |text: &str| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
    pairs.split_whitespace().map(pair).collect()
}

fn who(asked: &Asked<'_>, pairs: &str) -> Result<Role, String> {
    identify(asked, &env(pairs)).map_err(|e| e.to_string())
}

#[track_caller]
fn part(asked: &Asked<'_>, pairs: &str) -> (u32, u32, String) {
    match who(asked, pairs) {
        Ok(Role::Part(me)) => (me.index, me.count, me.source),
        other => panic!("{pairs}: {other:?}"),
    }
}

fn per_node() -> Asked<'static> {
    Asked { per_node: true, ..Asked::default() }
}

const SRUN: &str =
    "SLURM_STEP_ID=0 SLURM_PROCID=5 SLURM_STEP_NUM_TASKS=8 SLURM_NODEID=1 SLURM_STEP_NUM_NODES=2 SLURM_LOCALID=1";
const TORCHRUN: &str = "RANK=9 WORLD_SIZE=16 GROUP_RANK=1 GROUP_WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=8";
const MPI: &str =
    "OMPI_COMM_WORLD_RANK=4 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=4";
const MSRUN: &str = "MS_ROLE=MS_WORKER MS_WORKER_NUM=16 RANK_ID=9 MS_NODE_ID=9 DEVICE_ID=1";
const ARRAY: &str = "SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_COUNT=4 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=10 SLURM_ARRAY_TASK_STEP=3";

#[test]
fn each_launcher_by_its_own_variables() {
    let nodes = Asked { nodes: Some(4), ..Asked::default() };
    for (asked, pairs, index, count, source) in [
        (Asked::default(), ARRAY, 2, 4, "Slurm array"),
        (Asked::default(), SRUN, 5, 8, "srun"),
        (Asked::default(), TORCHRUN, 9, 16, "torchrun"),
        (Asked::default(), MPI, 4, 8, "Open MPI"),
        (Asked::default(), "PMI_RANK=1 PMI_SIZE=2", 1, 2, "PMI"),
        (Asked::default(), "VC_TASK_INDEX=1 VK_TASK_INDEX=1 MA_NUM_HOSTS=2", 1, 2, "Volcano"),
        (Asked::default(), "VC_TASK_INDEX=2 VC_WORKER_HOSTS=a,b,c", 2, 3, "Volcano"),
        (nodes.clone(), "VK_TASK_INDEX=3", 3, 4, "Volcano"),
        (nodes, "JOB_COMPLETION_INDEX=2", 2, 4, "Kubernetes"),
        (Asked::default(), MSRUN, 9, 16, "msrun"),
        (Asked::default(), "MS_ROLE=MS_WORKER MS_WORKER_NUM=2 MS_NODE_ID=1", 1, 2, "msrun"),
        (Asked { node_rank: Some(1), nodes: Some(2), ..Asked::default() }, "HOME=/", 1, 2, "--node-rank"),
    ] {
        let (found, of, says) = part(&asked, pairs);
        assert_eq!((found, of), (index, count), "{pairs}");
        assert!(says.contains(source), "{pairs}: {says}");
    }
}

#[test]
fn what_says_nothing_is_not_believed() {
    for pairs in [
        "",
        // PAI and AIHC count hosts by them, torchrun processes.
        "RANK=1 WORLD_SIZE=2",
        // A batch script, in which one process runs whatever these say; and a shell that srun started alone.
        "SLURM_JOB_ID=1 SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_NNODES=2 SLURM_NODEID=0",
        "SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1",
        // Its scheduler's host alone makes no worker.
        "MS_SCHED_HOST=10.0.0.1 MS_SCHED_PORT=8334 MS_NODE_ID=3",
        "RANK_ID=3 RANK_SIZE=8 DEVICE_ID=3",
        "PMIX_RANK=1",
    ] {
        assert_eq!(who(&Asked::default(), pairs), Ok(Role::Alone(None)), "{pairs}");
    }
    let alone = Asked { nodes: Some(1), ..Asked::default() };
    assert!(matches!(who(&alone, SRUN), Ok(Role::Alone(Some(_)))));
}

#[test]
fn the_scheduler_of_msrun_has_nothing_to_do() {
    let role = who(&Asked::default(), "MS_ROLE=MS_SCHED MS_WORKER_NUM=16 RANK_ID=0").unwrap();
    assert!(matches!(role, Role::Idle(_)), "{role:?}");
}

#[test]
fn one_process_of_each_host() {
    assert!(matches!(who(&per_node(), SRUN), Ok(Role::Idle(_))));
    let first = SRUN.replace("PROCID=5", "PROCID=4").replace("LOCALID=1", "LOCALID=0");
    let (index, count, _) = part(&per_node(), &first);
    assert_eq!((index, count), (1, 2));
    let (index, count, _) = part(&per_node(), MPI);
    assert_eq!((index, count), (1, 2));
    assert!(matches!(who(&per_node(), TORCHRUN), Ok(Role::Idle(_))));
    // msrun does not say how many hosts there are.
    assert!(who(&per_node(), MSRUN).unwrap_err().contains("give --nodes"));
    let nodes = Asked { nodes: Some(2), ..per_node() };
    assert!(matches!(who(&nodes, MSRUN), Ok(Role::Idle(_))));
    let (index, count, _) = part(&nodes, "MS_ROLE=MS_WORKER MS_WORKER_NUM=16 RANK_ID=8 DEVICE_ID=0");
    assert_eq!((index, count), (1, 2));
}

#[test]
fn sources_that_disagree() {
    let flags = Asked { node_rank: Some(0), nodes: Some(2), ..Asked::default() };
    // More tasks than a count can say.
    let whole = ARRAY.replace("MIN=1", "MIN=0").replace("MAX=10", "MAX=4294967295").replace("STEP=3", "STEP=1");
    for (asked, pairs, said) in [
        (flags.clone(), "PMI_RANK=1 PMI_SIZE=2", "--node-rank says 0 of 2, but PMI (PMI_RANK) says 1 of 2"),
        (flags.clone(), "PMI_RANK=0 PMI_SIZE=3", "says 0 of 3"),
        (
            Asked { nodes: Some(3), ..Asked::default() },
            "PMI_RANK=0 PMI_SIZE=4",
            "--nodes says 3, but PMI (PMI_RANK) says 0 of 4",
        ),
        (Asked::default(), "VC_TASK_INDEX=1 VK_TASK_INDEX=0", "VK_TASK_INDEX is 0"),
        (Asked::default(), "MS_ROLE=MS_WORKER MS_WORKER_NUM=2 MS_NODE_ID=1 RANK_ID=0", "MS_NODE_ID is 1"),
        (Asked::default(), "JOB_COMPLETION_INDEX=0", "give --nodes"),
        (Asked::default(), "PMI_RANK=2 PMI_SIZE=2", "PMI_RANK: 2, but PMI_SIZE is 2"),
        (Asked::default(), "PMI_RANK=x PMI_SIZE=2", "`x` is not a number"),
        (Asked { node_rank: Some(2), nodes: Some(2), ..Asked::default() }, "A=b", "the hosts are 0 to 1"),
        (Asked { node_rank: Some(0), ..Asked::default() }, "A=b", "goes with --nodes"),
        (Asked { nodes: Some(2), ..Asked::default() }, "A=b", "nothing says which"),
        (Asked::default(), &ARRAY.replace("COUNT=4", "COUNT=3"), "a list with gaps"),
        (Asked::default(), &whole, "a list with gaps"),
    ] {
        let error = who(&asked, pairs).unwrap_err();
        assert!(error.contains(said), "{pairs}: {error}");
    }
    // One inside the other: a host number and a process number that fit.
    let (index, count, _) = part(&Asked { node_rank: Some(1), nodes: Some(2), ..Asked::default() }, TORCHRUN);
    assert_eq!((index, count), (9, 16));
}

fn table() -> RankTable {
    let server =
        |name: &str, ranks: std::ops::Range<u32>| Server { names: vec![name.to_owned()], ranks: ranks.collect() };
    RankTable { servers: vec![server("10.0.0.1", 0..8), server("fe80::1:2", 8..16)] }
}

fn with_table<'a>(table: &'a RankTable, addresses: &[&str]) -> Asked<'a> {
    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    Asked { table: Some(("t.json", table)), addresses, host_name: "here".to_owned(), ..Asked::default() }
}

#[test]
fn a_host_finds_itself_in_the_rank_table() {
    let table = table();
    let asked = with_table(&table, &["192.168.0.5", "fe80:0:0::1:2"]);
    let Ok(Role::Part(me)) = who(&asked, "") else { panic!("not found") };
    assert_eq!((me.index, me.count, me.hosts), (1, 2, Some(vec![0, 1])));
    assert!(me.source.contains("fe80::1:2 is this machine"), "{}", me.source);
    // By the rank where the addresses are of no use; by the flags where that is not there either.
    let asked = with_table(&table, &["172.17.0.2"]);
    assert_eq!(part(&asked, "RANK_ID=8").0, 1);
    assert_eq!(part(&Asked { node_rank: Some(1), ..asked.clone() }, "").0, 1);
    let error = who(&asked, "").unwrap_err();
    assert!(error.contains("172.17.0.2, here") && error.contains("10.0.0.1, fe80::1:2"), "{error}");
    assert!(who(&with_table(&table, &["10.0.0.1", "fe80::1:2"]), "").unwrap_err().contains("more than one server"));
    assert!(who(&with_table(&table, &["10.0.0.1"]), "PMI_RANK=1 PMI_SIZE=2").unwrap_err().contains("but PMI"));
    // Sixteen workers on the two machines of the table.
    let Ok(Role::Part(me)) = who(&with_table(&table, &["fe80::1:2"]), MSRUN) else { panic!("not found") };
    assert_eq!((me.index, me.count), (9, 16));
    assert_eq!(me.hosts.unwrap()[7..9], [0, 1]);
    let one = RankTable { servers: table.servers[..1].to_vec() };
    assert_eq!(who(&with_table(&one, &[]), ""), Ok(Role::Alone(None)));
}
