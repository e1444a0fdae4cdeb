//! Paths that fail and come back under load, and what happens where there is none.

use crate::fio::job;
use crate::support::mount::Mount;
use crate::support::tools::{command, missing, text};
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const PATHS: usize = 3;

/// `mp`: two groups of paths `p0`, `p1` and `p2` to one file of 16 MiB, all of them well.
struct Multipath {
    mount: Mount,
    file: String,
}

impl Multipath {
    fn start(features: &str) -> Multipath {
        let mount = Mount::start();
        let file = mount.backing("a", 16 * MIB).display().to_string();
        let multipath = Multipath { mount, file };
        for path in 0..PATHS {
            let name = format!("p{path}");
            multipath.mount.create(&name, &multipath.table(true));
        }
        let [p0, p1, p2] = [0, 1, 2].map(|path| format!("/dev/mapper/p{path} 1"));
        multipath.mount.create(
            "mp",
            &format!(
                "0 32768 multipath {features} 0 2 1 round-robin 0 2 1 {p0} {p1} queue-length 0 1 1 {p2}"
            ),
        );
        multipath
    }

    /// The table of a path.
    fn table(&self, is_well: bool) -> String {
        match is_well {
            true => format!("0 32768 linear {} 0", self.file),
            false => "0 32768 error".to_owned(),
        }
    }

    /// From now on every request of `path` fails, or none does.
    fn set_well(&self, path: usize, is_well: bool) {
        let name = format!("p{path}");
        let mount = &self.mount;
        mount
            .dmfs_fed(&["load", &name], &self.table(is_well))
            .must();
        mount.dmfs(&["resume", &name]).must();
    }

    fn say(&self, message: &str) {
        self.mount.dmfs(&["message", "mp", "0", message]).must();
    }

    fn status(&self) -> String {
        self.mount.dmfs(&["status", "mp"]).must()
    }
}

/// Random numbers below `below`, the same in each run.
fn dice(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Runs for as many seconds as `DMFS_TEST_SECONDS` says, else for a few.
#[test]
fn paths_that_fail_under_fio_are_not_noticed() {
    let seconds = std::env::var("DMFS_TEST_SECONDS").unwrap_or("4".into());
    let multipath = Multipath::start("3 queue_mode bio queue_if_no_path");
    let device = multipath.mount.device("mp");
    let rest = [
        "--direct=1",
        "--verify_backlog=64",
        "--time_based",
        &format!("--runtime={seconds}"),
    ];
    let mut fio = command("fio")
        .args(job(&device, "libaio", 16 * MIB, &rest))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}", missing("fio", &error)));
    let (mut rounds, mut state) = (0, 7);
    while fio.try_wait().unwrap().is_none() {
        let path = dice(&mut state, PATHS as u64) as usize;
        match dice(&mut state, 6) {
            0..=1 => multipath.set_well(path, false),
            2..=3 => {
                multipath.set_well(path, true);
                multipath.say(&format!("reinstate_path /dev/mapper/p{path}"));
            }
            4 => multipath.say(&format!("fail_path /dev/mapper/p{path}")),
            _ => multipath.say(&format!("switch_group {}", 1 + path / 2)),
        }
        if multipath.status().matches(" F ").count() == PATHS {
            // Requests wait now; nobody who has failed is well for sure.
            multipath.set_well(path, true);
            multipath.say(&format!("reinstate_path /dev/mapper/p{path}"));
        }
        rounds += 1;
    }
    let said = fio.wait_with_output().unwrap();
    let told = format!("{}{}", text(&said.stdout), text(&said.stderr));
    assert!(said.status.success(), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["jobs"][0]["error"], 0, "{report}");
    assert!(rounds > 10, "only {rounds} rounds");
    let failures = multipath.mount.log().matches("failing path").count();
    println!(
        "{rounds} rounds, {failures} failures: {}",
        multipath.status()
    );
    assert!(failures > 3, "only {failures} failures");
    multipath.mount.stop();
}

/// More requests than there are workers.
const WRITERS: u64 = 12;

/// `WRITERS` writes to `mp`, each on a thread, begun while there is no path; `meanwhile`, and how they ended.
fn write_without_paths(multipath: &Multipath, meanwhile: impl FnOnce()) -> Vec<bool> {
    (0..PATHS).for_each(|path| multipath.set_well(path, false));
    let device = multipath.mount.open("mp");
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let device = &device;
                let block = [number as u8 + 1; 4096];
                scope.spawn(move || device.write_all_at(&block, number * 4096).is_ok())
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        while multipath.status().matches(" F ").count() < PATHS {
            assert!(Instant::now() < deadline, "{}", multipath.status());
        }
        meanwhile();
        let ended = writers.into_iter().map(|writer| writer.join().unwrap());
        ended.collect()
    })
}

fn bring_back(multipath: &Multipath, path: usize) {
    multipath.set_well(path, true);
    multipath.say(&format!("reinstate_path /dev/mapper/p{path}"));
}

#[test]
fn without_a_path_requests_wait_and_no_other_device_does() {
    let multipath = Multipath::start("1 queue_if_no_path");
    let mount = &multipath.mount;
    let other = mount.backing("b", MIB);
    mount.create("other", &format!("0 2048 linear {} 0", other.display()));
    let ended = write_without_paths(&multipath, || {
        let other = mount.open("other");
        for round in 0..100 {
            other
                .write_all_at(&[round; 4096], u64::from(round) * 4096)
                .unwrap();
        }
        // What waits is given back, and waits on with the device.
        mount.dmfs(&["suspend", "--noflush", "mp"]).must();
        let refused = mount.dmfs(&["message", "mp", "0", "fail_if_no_path"]);
        assert!(refused.must_fail().contains("Device or resource busy"));
        mount.dmfs(&["resume", "mp"]).must();
        bring_back(&multipath, 2);
    });
    assert_eq!(ended, [true; WRITERS as usize]);
    let device = mount.open("mp");
    for number in 0..WRITERS {
        let mut block = [0; 4096];
        device.read_exact_at(&mut block, number * 4096).unwrap();
        assert_eq!(block, [number as u8 + 1; 4096]);
    }
    drop(device);
    multipath.mount.stop();
}

#[test]
fn what_waits_for_a_path_ends_with_fail_if_no_path_and_with_a_suspend() {
    let multipath = Multipath::start("1 queue_if_no_path");
    let ended = write_without_paths(&multipath, || multipath.say("fail_if_no_path"));
    assert_eq!(ended, [false; WRITERS as usize]);
    multipath.say("queue_if_no_path");
    let ended = write_without_paths(&multipath, || {
        multipath.mount.dmfs(&["suspend", "mp"]).must();
        multipath.mount.dmfs(&["resume", "mp"]).must();
    });
    // Those that came while it was suspended wait; there are none.
    assert_eq!(ended, [false; WRITERS as usize]);
    assert!(
        multipath
            .mount
            .dmfs(&["table", "mp"])
            .must()
            .contains("queue_if_no_path")
    );
    multipath.mount.stop();
}

#[test]
fn an_event_is_raised_when_a_path_fails() {
    let multipath = Multipath::start("0");
    let mount = &multipath.mount;
    let events = || {
        mount
            .dmfs(&["info", "-c", "--noheadings", "-o", "events", "mp"])
            .must()
    };
    assert_eq!(events().trim(), "0");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| mount.dmfs(&["wait", "mp", "0"]).must());
        multipath.set_well(0, false);
        let mut block = [0; 4096];
        for _ in 0..2 {
            mount.open("mp").read_exact_at(&mut block, 0).unwrap();
        }
        waiter.join().unwrap();
    });
    assert_eq!(events().trim(), "1");
    multipath.mount.stop();
}
