//! A program runs as a job: to its end and then no more, for as long as it takes, or
//! when its schedule says. It has the arguments, the environment and the directories
//! that it was granted, and nothing else.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use ron_kernel::supervisor::{Prepared, RestartPolicy, SwapOptions, Verdict};
use ron_kernel::{CrashReason, ServiceSpec};
use ron_runtime::{Directory, Grants, JobService, Kind, Limits, Schedule};

use crate::harness::ctl::{ctl, fails, json};
use crate::harness::deployment::{deployment, start, write};
use crate::harness::{Program, Rig, id, scratch, spec, within};

/// What makes incarnations of `job` that do what `words` say.
fn job(rig: &Rig, words: &str, grants: Grants) -> impl FnMut() -> JobService + Send + 'static {
    program(rig, "job", words, grants)
}

fn program(
    rig: &Rig,
    component: &str,
    words: &str,
    grants: Grants,
) -> impl FnMut() -> JobService + Send + 'static {
    let component = rig.load(component);
    assert_eq!(component.kind(), Kind::Job);
    let args = words.split(' ').map(str::to_owned).collect();
    let grants = Arc::new(Grants { args, ..grants });
    // A run is held to no handler's deadline.
    let limits = Limits { handler_deadline: Duration::from_millis(20), ..Limits::default() };
    move || JobService::new(component.clone(), limits.clone(), Arc::clone(&grants))
}

impl Rig {
    fn add_job(&self, spec: ServiceSpec, words: &str) {
        let make = job(self, words, Grants::default());
        self.supervisor.add_on(self.runtime.handle(), spec, make).expect("a new service");
    }

    /// A job that is due each second.
    fn add_scheduled(&self, name: &str, words: &str) {
        let mut make = job(self, words, Grants::default());
        let schedule: Schedule = "* * * * * *".parse().expect("a schedule");
        let make = move || make().scheduled(Some(schedule.clone()));
        self.supervisor.add_on(self.runtime.handle(), spec(name), make).expect("a new service");
    }

    fn runs(&self, name: &str, outcome: &str) -> f64 {
        let series = format!("ron_job_runs_total{{service=\"{name}\",outcome=\"{outcome}\"}}");
        self.metrics().find(&series).unwrap_or(0.0)
    }

    async fn prepare_job(
        &self,
        name: &str,
        version: &str,
        words: &str,
        grants: Grants,
    ) -> Prepared {
        let make = job(self, words, grants);
        let id = id(name);
        let prepared = self.supervisor.prepare(&id, version.into(), make, SwapOptions::default());
        within(prepared).await.expect("it starts")
    }
}

fn writable(host: &Path, guest: &str) -> Directory {
    Directory { host: host.to_owned(), guest: guest.to_owned(), writable: true }
}

/// For what no change of a service's health tells of.
async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_once_and_is_not_missed() {
    for words in ["say:hello", "exit:0", "spin:100", "sleep:100 complain:loudly"] {
        let rig = Rig::new();
        let own = ServiceSpec { critical: true, ..spec("job") };
        rig.add_job(own, words);
        rig.until("job", "finished").await;
        assert!(rig.crashes("job").await.is_empty(), "{words}");
        assert!(rig.kernel.health().readiness().ready, "{words}");
        assert_eq!((rig.generation("job"), rig.runs("job", "finished")), (1, 1.0), "{words}");
        let metrics = rig.metrics();
        assert_eq!(metrics.value("service_restarts_total{service=\"job\"}"), 0.0);
        assert_eq!(metrics.value("ron_service_state{service=\"job\",state=\"finished\"}"), 1.0);
        assert_eq!(metrics.find("ron_service_memory_bytes{service=\"job\"}"), None);
        // Whoever wants it to, has it run once more.
        assert!(rig.supervisor.start(&id("job")));
        until(|| rig.runs("job", "finished") == 2.0).await;
        rig.until("job", "finished").await;
        assert_eq!(rig.generation("job"), 2, "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_has_crashed() {
    for (words, label) in [("say:x exit:3", "exit"), ("fail", "exit"), ("panic", "panic")] {
        let rig = Rig::new();
        let mut own = spec("job");
        own.restart.policy = RestartPolicy::Never;
        rig.add_job(own, words);
        rig.until("job", "stopped").await;
        let crashes = rig.crashes("job").await;
        let [crash] = crashes.as_slice() else { panic!("{words}: {crashes:?}") };
        assert_eq!(crash.reason.label(), label, "{words}");
        match &crash.reason {
            // WASI 0.2 tells good from bad and no more.
            CrashReason::Exit { code } => assert_eq!(*code, 1, "{words}"),
            reason => assert!(reason.to_string().contains("told to panic"), "{reason}"),
        }
        assert_eq!(crash.detail.digest, Some(rig.load("job").digest().to_string()));
        assert_eq!(rig.runs("job", "failed"), 1.0);
    }
    let rig = Rig::new();
    let mut own = spec("job");
    own.restart.budget = 2;
    rig.add_job(own, "fail");
    rig.until("job", "quarantined").await;
    assert_eq!(rig.generation("job"), 3, "it was restarted as others are");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_wasi_0_3_is_one_as_others_are() {
    for (words, ended, outcome) in [("a b", "finished", "finished"), ("fail", "stopped", "failed")]
    {
        let rig = Rig::new();
        let mut own = spec("job");
        own.restart.policy = RestartPolicy::Never;
        let make = program(&rig, "wasip3-job", words, Grants::default());
        rig.supervisor.add_on(rig.runtime.handle(), own, make).expect("a new service");
        rig.until("job", ended).await;
        assert_eq!(rig.runs("job", outcome), 1.0, "{words}");
        let crashes = rig.crashes("job").await;
        if let [crash] = crashes.as_slice() {
            assert_eq!(crash.detail.last_log, ["told [\"fail\"]"], "what it printed");
        }
        let codes: Vec<_> = crashes.iter().map(|crash| crash.reason.label()).collect();
        assert_eq!(codes, if outcome == "failed" { vec!["exit"] } else { vec![] });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_run_wherever_it_is() {
    for words in ["spin", "sleep"] {
        let rig = Rig::new();
        rig.add_job(spec("job"), words);
        rig.until("job", "running").await;
        assert!(rig.supervisor.restart(&id("job")));
        until(|| rig.generation("job") == 2).await;
        rig.until("job", "running").await;
        rig.supervisor.stop(&id("job"));
        rig.until("job", "stopped").await;
        assert!(rig.crashes("job").await.is_empty(), "{words}");
        assert_eq!((rig.runs("job", "finished"), rig.runs("job", "failed")), (0.0, 0.0));
    }
}

/// What computed and then sleeps has no place in the lane of those that compute.
#[tokio::test(flavor = "multi_thread")]
async fn who_sleeps_holds_nobody_up() {
    let rig = Rig::new();
    let threads = available_parallelism().map_or(2, usize::from).max(2);
    for n in 0..threads {
        rig.add_job(spec(&format!("sleeper-{n}")), "spin:50 say:tired sleep");
    }
    rig.add_job(spec("job"), "spin:200");
    rig.until("job", "finished").await;
    assert_eq!(rig.state("sleeper-0"), "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_runs_when_it_has_its_turn() {
    let rig = Rig::new();
    let directory = scratch("jobs-turn");
    rig.add_job(spec("job"), "sleep");
    rig.until("job", "running").await;
    let grants = || Grants { dirs: vec![writable(&directory, "/out")], ..Grants::default() };
    let file = directory.join("file");
    drop(rig.prepare_job("job", "unwanted", "write:/out/file", grants()).await);
    let next = rig.prepare_job("job", "2", "write:/out/file", grants()).await;
    assert!(!file.exists(), "it has done nothing");
    let cut = within(next.cut()).await.expect("cut");
    // It is good when it has come to its end, before its probation is over.
    assert_eq!(within(cut.verdict()).await, Verdict::Committed);
    rig.until("job", "finished").await;
    assert!(file.exists());

    // One that fails is no reason to do again what is done.
    let next = rig.prepare_job("job", "3", "panic", grants()).await;
    let cut = within(next.cut()).await.expect("cut");
    let verdict = within(cut.verdict()).await;
    assert!(matches!(&verdict, Verdict::PutBack { why } if why.contains("told to panic")));
    rig.until("job", "finished").await;
    assert_eq!(rig.runs("job", "finished"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_where_it_was_when_it_is_put_back() {
    // One that waits for its permit when it is paused must not take it along.
    for pause in ["sleep:1000", "spin:1000"] {
        let rig = Rig::new();
        let directory = scratch("jobs-put-back");
        let grants = Grants { dirs: vec![writable(&directory, "/out")], ..Grants::default() };
        let make = job(&rig, &format!("write:/out/began {pause}"), grants);
        rig.supervisor.add_on(rig.runtime.handle(), spec("job"), make).expect("a new service");
        let began = directory.join("began");
        until(|| began.exists()).await;
        fs::remove_file(&began).expect("removed");
        let next = rig.prepare_job("job", "bad", "spin:100 fail", Grants::default()).await;
        let verdict = within(within(next.cut()).await.expect("cut").verdict()).await;
        assert!(matches!(verdict, Verdict::PutBack { .. }), "{verdict:?}");
        rig.until("job", "finished").await;
        assert_eq!((rig.runs("job", "finished"), rig.runs("job", "failed")), (1.0, 1.0));
        assert!(!began.exists(), "it did not begin anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_has_a_fresh_instance_run_each_time() {
    let rig = Rig::new();
    rig.add_scheduled("job", "say:x");
    rig.until("job", "running").await;
    let detail = rig.kernel.health().get("job").expect("a service").detail;
    assert!(detail.as_ref().is_some_and(|text| text.contains(" run")), "{detail:?}");
    until(|| rig.runs("job", "finished") >= 2.0).await;
    assert_eq!((rig.generation("job"), rig.state("job")), (1, "running"));
    assert!(rig.crashes("job").await.is_empty());
    rig.supervisor.stop(&id("job"));
    rig.until("job", "stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_waits_for_the_next_that_is_due() {
    let rig = Rig::new();
    rig.add_scheduled("job", "fail");
    until(|| rig.runs("job", "failed") >= 2.0).await;
    rig.until_health(|| {
        let health = rig.kernel.health().get("job").expect("a service");
        let detail = health.detail.unwrap_or_default();
        health.ok
            && detail.contains("the last run failed: exit: ")
            && detail.contains("next run at")
    })
    .await;
    assert_eq!(rig.generation("job"), 1, "nothing was restarted");
    let metrics = rig.metrics();
    assert!(metrics.value("service_crashes_total{service=\"job\",reason=\"exit\"}") >= 2.0);
    assert_eq!(metrics.value("service_restarts_total{service=\"job\"}"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_due_while_another_goes_on_is_skipped() {
    let rig = Rig::new();
    rig.add_scheduled("job", "sleep");
    until(|| rig.runs("job", "skipped") >= 2.0).await;
    assert_eq!(rig.runs("job", "finished"), 0.0);
    let detail = rig.kernel.health().get("job").expect("a service").detail;
    assert!(detail.is_some_and(|text| text.starts_with("running since ")));
    rig.supervisor.stop(&id("job"));
    rig.until("job", "stopped").await;
    assert!(rig.crashes("job").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_version_that_fails_on_probation_is_put_back() {
    let rig = Rig::new();
    rig.add_scheduled("job", "say:x");
    rig.until("job", "running").await;
    let schedule: Schedule = "* * * * * *".parse().expect("a schedule");
    let mut make = job(&rig, "fail", Grants::default());
    let make = move || make().scheduled(Some(schedule.clone()));
    let id = id("job");
    let swapped = rig.supervisor.swap(&id, "bad".into(), make, SwapOptions::default());
    let verdict = within(within(swapped).await.expect("swapped").verdict()).await;
    assert!(matches!(&verdict, Verdict::PutBack { why } if why.contains("exit")), "{verdict:?}");
    until(|| rig.runs("job", "finished") >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_no_job() {
    let rig = Rig::new();
    let component = rig.load("echo");
    let make = move || JobService::new(component.clone(), Limits::default(), Arc::default());
    rig.supervisor.add_on(rig.runtime.handle(), spec("job"), make).expect("a new service");
    rig.until("job", "quarantined").await;
    let crashes = rig.crashes("job").await;
    assert!(matches!(&crashes[0].reason, CrashReason::Link { .. }), "{crashes:?}");
}

/// The lines of a job, in its order.
fn said(host: &Program, lines: &[&str]) {
    for line in lines {
        host.says("job", line);
    }
}

#[cfg(unix)]
#[test]
fn a_job_has_what_it_was_granted_and_no_more() {
    let text = r#"
log.format = "json"
[service.job]
component = "components/job.wasm"
args = ["name", "count", "env:TOKEN", "env:NAME", "env:HOME", "environment",
    "read:assets/hello", "write:assets/new", "write:/data/new", "read:/data/new",
    "read:assets/../secret", "read:assets/link", "read:/etc/passwd", "read:secret", "fail:"]
grants.env = ["TOKEN", "NAME=of the file"]
grants.dirs = ["assets", "state::/data:rw"]
restart.policy = "never"
critical = false
"#;
    let directory = deployment("jobs-granted", &["job"], text);
    for name in ["assets", "state"] {
        fs::create_dir(directory.join(name)).expect("made");
    }
    write(&directory, "assets/hello", "hi");
    write(&directory, "secret", "not for it");
    std::os::unix::fs::symlink("../secret", directory.join("assets/link")).expect("linked");
    let host = start(&directory, "", &[("TOKEN", "hunter2")]);
    said(
        &host,
        &[
            "called job",
            "count 1",
            "env TOKEN: hunter2",
            "env NAME: of the file",
            "env HOME: refused, environment variable not found",
            "environment : 2",
            "read assets/hello: hi",
            "write /data/new: done",
            "read /data/new: written",
        ],
    );
    for refused in [
        "write assets/new",
        "read assets/../secret",
        "read assets/link",
        "read /etc/passwd",
        "read secret",
    ] {
        let start = format!("{refused}: refused, ");
        host.log(|record| record["message"].as_str().is_some_and(|own| own.starts_with(&start)));
    }
    let crash = host.log(|record| record["reason"] == "exit");
    assert_eq!(crash["service"], "job");
    assert_eq!(fs::read_to_string(directory.join("state/new")).expect("it is there"), "written");
    assert!(!directory.join("assets/new").exists());
    let shown = start(&directory, "config show", &[("TOKEN", "hunter2")]).ended();
    let shown = shown.stdout.join("\n");
    assert!(shown.contains(r#"grants.env = ["TOKEN", "NAME=***"]"#), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("of the file"), "{shown}");
}

/// As a user has it: with one flag, and a look at it.
#[test]
fn a_finished_job_is_shown_and_run_again() {
    let text = "log.format = 'json'\n[service.job]\ncomponent = 'components/job.wasm'\n\
                args = ['say:done']";
    let directory = deployment("jobs-shown", &["job"], text);
    let host = start(&directory, "", &[]).ready();
    host.says("job", "done");
    let state = |state: &str, generation: u64| {
        crate::harness::until(state, || {
            let own = &json(&host, "ps")["services"][0];
            own["state"] == state && own["generation"] == generation && own["ok"] == true
        });
    };
    state("finished", 1);
    let verbose = host.get("/readyz?verbose");
    assert!(verbose.status == 200 && verbose.body.contains("finished"), "{verbose:?}");
    assert_eq!(host.get("/readyz/job").status, 200);
    let again = ctl(&host, "restart job");
    assert!(again.contains("generation 2"), "{again}");
    state("finished", 2);
    let refused = fails(&host, "swap job components/none.wasm");
    assert!(refused.contains("none.wasm"), "{refused}");
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn what_cannot_be_granted_or_scheduled_is_told_before_anything_runs() {
    #[track_caller]
    fn check(directory: &Path, line: &str, told: &[&str]) {
        let text = format!("[service.a]\ncomponent = 'components/echo.wasm'\n{line}");
        write(directory, "ron.toml", &text);
        let ended = start(directory, "check", &[]).ended();
        assert_eq!(ended.code, Some(78), "{ended:?}");
        let stderr = ended.stderr.join("\n");
        for text in told {
            assert!(stderr.contains(text), "{text} in {stderr}");
        }
    }
    let directory = deployment("jobs-refused", &["echo"], "");
    check(
        &directory,
        "grants.dirs = ['assets']",
        &["ron.toml:3:16", "assets: cannot be used: No such file", "expected a directory"],
    );
    check(&directory, "grants.env = ['NO_SUCH']", &["ron.toml:3:15", "$NO_SUCH is not set"]);
    check(
        &directory,
        "schedule = '* * * * * * *'",
        &["ron.toml:3:12", "it has 7 fields", "in UTC"],
    );
    check(
        &directory,
        "schedule = '* * * * *'",
        &["service.a.schedule: its component is no job", "wasi:cli/run"],
    );
}
