//! The library as its users have it: a job, its plan, and what comes of it.

use std::sync::Mutex;

use ckpt_convert::job::{Choice, PlanReport};
use ckpt_convert::{
    CancelToken, Error, ErrorKind, Event, Function, Job, Listing, Observer, Outcome, Precision, Silent, inspect, verify,
};

use crate::support::{Llama, Sharding, TestEnv};

const ONE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };

fn env() -> TestEnv {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), ONE, "ckpt");
    env.write("model.yaml", Llama::small().yaml(false, false));
    env
}

fn job(env: &TestEnv, target: &str) -> Job {
    let mut job = Job::transfer(env.path("src"), env.path(target)).precision(Precision::Fp16).ranks(4);
    job.model.yaml = Some(env.path("model.yaml").display().to_string());
    job
}

/// Everything that is said, in order.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn add(&self, text: String) {
        self.0.lock().expect("nobody panics").push(text);
    }

    fn all(self) -> Vec<String> {
        self.0.into_inner().expect("nobody panics")
    }
}

impl Observer for Told {
    fn note(&self, text: &str) {
        self.add(format!("note: {text}"));
    }

    fn begins(&self, what: &'static str, _: Option<u64>) {
        self.add(format!("begins {what}"));
    }

    fn event(&self, event: Event) {
        if event == Event::Flushing {
            self.add("flushing".to_owned());
        }
    }

    fn ends(&self, complete: bool) {
        self.add(format!("ends {complete}"));
    }

    fn before_writing(&self) -> Result<(), Error> {
        self.add("writes".to_owned());
        Ok(())
    }
}

#[test]
fn a_job_is_planned_and_run_and_makes_what_the_program_makes() {
    let env = env();
    let planned = job(&env, "out").plan().unwrap();
    assert!(env.tree().keys().all(|path| !path.starts_with("out")), "a plan writes nothing");
    let report: PlanReport = planned.report().unwrap();
    assert_eq!((report.target_ranks, report.fits, report.outputs.len()), (4, true, 4));
    assert!(report.text().contains("rank_3/checkpoint_3.ckpt"), "{}", report.text());
    let target = planned.target().to_owned();
    assert_eq!(target, env.path("out/fp16_4p"));
    let told = Told::default();
    let Outcome::Published(summary) = planned.run(&told, &CancelToken::default()).unwrap() else { panic!("published") };
    assert_eq!((summary.files, summary.bytes_written), (4, report.bytes_written));
    let told = told.all();
    let writes = told.iter().position(|t| t == "writes").unwrap();
    let converting = told.iter().position(|t| t == "begins converting").unwrap();
    assert!(writes < converting && told.ends_with(&["flushing".to_owned(), "ends true".to_owned()]), "{told:?}");
    let line = "-f distributed_weight_transfer -p fp16 -w 4 -y model.yaml -sc src -dc by_program -is st";
    env.line(line).ok();
    for rank in 0..4 {
        let file =
            |dir: &str| std::fs::read(env.path(&format!("{dir}/fp16_4p/rank_{rank}/checkpoint_{rank}.ckpt"))).unwrap();
        assert!(file("out") == file("by_program"), "rank {rank}");
    }
    assert!(verify(env.path("src"), &target).unwrap().same);
    let Listing::Checkpoint(listing) = inspect(&target).unwrap() else { panic!("a checkpoint") };
    assert_eq!(listing.ranks.len(), 4);
    // A second time: the target is there.
    let error = job(&env, "out").plan().unwrap().run(&Silent, &CancelToken::default()).unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("exists already")), (ErrorKind::Input, true), "{error}");
    let again = job(&env, "out").overwrite().run(&Silent, &CancelToken::default());
    assert!(matches!(again, Ok(Outcome::Published(_))), "{again:?}");
}

#[test]
fn a_job_that_is_cancelled_leaves_nothing() {
    let env = env();
    let before = env.tree();
    let cancel = CancelToken::default();
    cancel.cancel();
    let error = job(&env, "out").run(&Silent, &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert_eq!(env.tree(), before);
}

/// Whoever observes a run may stop it before its first byte.
#[test]
fn an_observer_may_refuse_that_anything_is_written() {
    struct Never;
    impl Observer for Never {
        fn before_writing(&self) -> Result<(), Error> {
            Err(Error::Usage("not today".to_owned()))
        }
    }
    let env = env();
    let before = env.tree();
    let error = job(&env, "out").run(&Never, &CancelToken::default()).unwrap_err();
    assert_eq!(error.to_string(), "not today");
    assert_eq!(env.tree(), before);
}

#[test]
fn notes_go_to_the_observer_or_stay_with_the_plan() {
    let env = env();
    // Without a model the shapes are all that is known, which is said.
    let mut job = job(&env, "out").ranks(1);
    job.model.yaml = None;
    job.model.tied = Some(false);
    let told = Told::default();
    let planned = job.plan_with(&told).unwrap();
    let kept: Vec<String> = planned.notes().iter().map(|note| format!("note: {note}")).collect();
    assert_eq!(told.all(), kept);
    assert!(kept.iter().any(|note| note.contains("inferred from the checkpoint")), "{kept:?}");
    assert!(planned.choices().iter().all(|choice: &Choice| !choice.why.is_empty()));
}

#[test]
fn a_plan_is_written_down_with_the_job_that_it_is_of() {
    let env = env();
    let planned = job(&env, "out").plan().unwrap();
    let written = serde_json::to_value(&planned).unwrap();
    assert_eq!(written["plan"], planned.id());
    assert_eq!(written["files"].as_array().map(Vec::len), Some(4));
    let read: Job = serde_json::from_value(written["job"].clone()).unwrap();
    assert_eq!(read.deciding(), {
        // What was left open is settled in it.
        let mut settled = planned.job().clone();
        (settled.source.fusion, settled.target.fusion) = (read.source.fusion, read.target.fusion);
        settled.deciding()
    });
    assert!(read.source.fusion.is_some());
    assert_eq!(read.plan().unwrap().id(), planned.id(), "the same job plans the same");
}

#[test]
fn what_does_not_go_together_is_refused_without_a_command_line() {
    let mut job = Job::new(Function::PtToMs, Precision::Fp16, "nowhere");
    job.quantise.stats = Some("s".into());
    let error = job.check().unwrap_err().to_string();
    assert_eq!(error, "--stats goes with -f quant_weight or train_to_infer");
    assert_eq!(job.plan().unwrap_err().to_string(), error);
    job.quantise.stats = None;
    job.run.reading.chunk = Some(100_000);
    assert!(job.check().unwrap_err().to_string().starts_with("--chunk 100000: "));
    job.run.reading.chunk = Some(1 << 20);
    job.check().unwrap();
}
