#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::{KIND, is_path_error};
use crate::backing::{Crashing, Fault, Faulty};
use crate::io::{
    DeviceNumber, Errno, Flags, IoError, IoResult, OpKind, OpenDevice, ReadBuf, Request, WriteBuf,
};
use crate::sync::{Arc, AtomicU32, Ordering};
use crate::target::{
    Access, BuildArgs, BuildError, DeviceOpener, EventSink, MessageError, Naming, OpenError,
    Target, split_words,
};
use crate::unit::{Sector, Sectors};

const LEN: Sectors = Sectors(2048);

#[derive(Default)]
struct Events(AtomicU32);

impl EventSink for Events {
    fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Four ways, `{0}` to `{3}`, to one disk, each of which can fail.
struct Ways {
    ways: Vec<Arc<Faulty>>,
    opened: HashMap<String, Arc<OpenDevice>>,
    events: Arc<Events>,
}

impl Ways {
    fn new() -> Ways {
        let disk = Arc::new(Crashing::new(vec![0; 1 << 20]));
        let ways: Vec<_> = (0..4)
            .map(|_| Arc::new(Faulty::new(disk.clone())))
            .collect();
        let mut opened = HashMap::new();
        for (minor, way) in ways.iter().enumerate() {
            let name = format!("{{{minor}}}");
            let device = Arc::new(OpenDevice {
                number: DeviceNumber {
                    major: 254,
                    minor: minor as u32,
                },
                path: name.clone().into(),
                name: format!("dm-{minor}"),
                dev: way.clone(),
                direct: false,
                mapped: None,
                part: None,
            });
            opened.insert(name, device);
        }
        for (alias, name) in [
            ("/dev/mapper/p0", "{0}"),
            ("/dev/dm-0", "{0}"),
            ("/dev/vda", "{3}"),
        ] {
            let device = opened[name].clone();
            opened.insert(alias.to_owned(), device);
        }
        Ways {
            ways,
            opened,
            events: Arc::default(),
        }
    }

    fn build(&self, text: &str) -> Result<Box<dyn Target>, BuildError> {
        let words = split_words(text);
        let events = self.events.clone();
        let whole = (Sector(0), LEN);
        (KIND.build)(&mut BuildArgs::new(
            whole,
            &words,
            Access::ReadWrite,
            self,
            events,
        ))
    }

    fn events(&self) -> u32 {
        self.events.0.load(Ordering::Relaxed)
    }
}

impl DeviceOpener for Ways {
    fn open(&self, spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        let found = self.opened.get(spec).cloned();
        found.ok_or_else(|| OpenError {
            errno: match spec.starts_with("999:") {
                true => Errno::NXIO,
                false => Errno::NODEV,
            },
            reason: "not there".into(),
        })
    }
}

fn errno(word: &str) -> Errno {
    match word {
        "EINVAL" => Errno::INVAL,
        "ENODEV" => Errno::NODEV,
        "ENXIO" => Errno::NXIO,
        other => panic!("{other}"),
    }
}

/// The steps of a transcript: what was said, and the lines of the answer.
fn steps(transcript: &str) -> Vec<(&str, Vec<&str>)> {
    let mut steps: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in transcript.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('>') {
            Some(said) => steps.push((said.trim_start(), Vec::new())),
            None if line.is_empty() => {}
            None => steps.last_mut().unwrap().1.push(line),
        }
    }
    steps
}

fn status(target: &dyn Target) -> String {
    target.status(Naming::Paths).trim_end().to_owned()
}

fn say(target: &dyn Target, ways: &Ways, message: &str) -> Result<String, MessageError> {
    target.message(&message.split(' ').collect::<Vec<_>>(), ways)
}

fn read(target: &dyn Target) -> IoResult {
    target.submit(Request::read(Sector(8), ReadBuf::new(&mut [0; 512])))
}

fn read_nowait(target: &dyn Target) -> IoResult {
    let flags = Flags {
        nowait: true,
        ..Flags::default()
    };
    let mut data = [0; 512];
    let request = Request::read(Sector(8), ReadBuf::new(&mut data));
    target.submit(request.with_flags(flags))
}

#[test]
fn tables_are_read_as_in_the_kernel() {
    let steps = steps(include_str!("tests/tables.transcript"));
    assert!(steps.len() > 90, "only {}", steps.len());
    for (said, answer) in steps {
        let ways = Ways::new();
        match (ways.build(said), answer[0].strip_prefix("refused ")) {
            (Ok(target), None) => {
                let table = format!("table {}", target.args(Naming::Paths));
                assert_eq!(table.trim_end(), answer[0], "{said}");
                let status = format!("status {}", status(&*target));
                assert_eq!(status, answer[1], "{said}");
                let again = ways.build(&target.args(Naming::Paths)).unwrap();
                assert_eq!(again.args(Naming::Paths), target.args(Naming::Paths));
            }
            (Err(error), Some(refused)) => {
                let (name, text) = refused.split_once(' ').unwrap();
                assert_eq!((error.errno, &*error.text), (errno(name), text), "{said}");
                assert!(error.expected.is_some(), "{said}");
            }
            (Ok(_), Some(refused)) => panic!("{said}: accepted, not {refused}"),
            (Err(error), None) => panic!("{said}: {error:?}"),
        }
    }
}

#[test]
fn messages_are_answered_as_in_the_kernel() {
    let ways = Ways::new();
    let table = "2 queue_mode bio 0 2 1 round-robin 0 2 1 {0} 1 {1} 1 round-robin 0 1 1 {2} 1";
    let target = ways.build(table).unwrap();
    let steps = steps(include_str!("tests/messages.transcript"));
    assert!(steps.len() > 20, "only {}", steps.len());
    for (said, answer) in steps {
        let mut seen = Vec::new();
        if let Err(error) = say(&*target, &ways, said) {
            assert!(error.expected.is_some(), "{said}");
            let line = error.line.unwrap_or_default();
            let refused = format!("refused {} {line}", named(error.errno));
            seen.push(refused.trim_end().to_owned());
        }
        seen.push(format!("status {}", status(&*target)));
        seen.push(format!("events {}", ways.events()));
        assert_eq!(seen, answer, "{said}");
    }
}

fn named(errno: Errno) -> &'static str {
    match errno {
        Errno::INVAL => "EINVAL",
        Errno::NODEV => "ENODEV",
        Errno::NXIO => "ENXIO",
        Errno::BUSY => "EBUSY",
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_path_that_fails_is_not_noticed() {
    let ways = Ways::new();
    let table = "0 0 2 1 round-robin 0 2 1 {0} 1 {1} 1 round-robin 0 1 1 {2} 1";
    let target = ways.build(table).unwrap();
    let data = [7; 4096];
    ways.ways[0].fail(Fault::from(1));
    target
        .submit(Request::write(Sector(16), WriteBuf::new(&data)))
        .unwrap();
    assert_eq!(
        status(&*target),
        "2 0 0 0 2 1 A 0 2 0 {0} F 1 {1} A 0 E 0 1 0 {2} A 0"
    );
    ways.ways[1].fail(Fault::from(1).with_errno(Errno::TIMEDOUT));
    let mut seen = [0; 4096];
    target
        .submit(Request::read(Sector(16), ReadBuf::new(&mut seen)))
        .unwrap();
    assert_eq!(seen, data);
    assert_eq!(
        status(&*target),
        "2 0 0 0 2 2 E 0 2 0 {0} F 1 {1} F 1 A 0 1 0 {2} A 0"
    );
    assert_eq!(ways.events(), 2);
    // Nothing goes to a path that has failed.
    assert_eq!((ways.ways[0].total(), ways.ways[1].total()), (1, 2));
    ways.ways[0].heal();
    say(&*target, &ways, "reinstate_path {0}").unwrap();
    assert_eq!(
        status(&*target),
        "2 0 0 0 2 2 E 0 2 0 {0} A 1 {1} F 1 A 0 1 0 {2} A 0"
    );
}

#[test]
fn what_the_device_itself_refuses_fails_no_path() {
    let ways = Ways::new();
    let target = ways.build("0 0 1 1 round-robin 0 2 1 {0} 1 {1} 1").unwrap();
    for errno in [
        Errno::OPNOTSUPP,
        Errno::NOSPC,
        Errno::REMOTEIO,
        Errno::BADE,
        Errno::NODATA,
        Errno::ILSEQ,
    ] {
        ways.ways.iter().for_each(|way| {
            way.heal();
            way.fail(Fault::from(1).with_errno(errno));
        });
        assert_eq!(read(&*target), Err(errno.into()));
    }
    assert_eq!(ways.events(), 0);
    for errno in [
        Errno::IO,
        Errno::TIMEDOUT,
        Errno::NOLINK,
        Errno::NOMEM,
        Errno::PERM,
    ] {
        assert!(is_path_error(errno.into()), "{errno}");
    }
    assert!(!is_path_error(IoError::WOULD_WAIT) && !is_path_error(IoError::REQUEUE));
}

#[test]
fn without_a_path_requests_fail() {
    for (mode, seen) in [("bio", Errno::IO), ("rq", Errno::TIMEDOUT)] {
        let ways = Ways::new();
        let table = format!("2 queue_mode {mode} 0 1 1 queue-length 0 2 1 {{0}} 1 {{1}} 1");
        let target = ways.build(&table).unwrap();
        for way in &ways.ways {
            way.fail(Fault::from(1).with_errno(Errno::TIMEDOUT));
        }
        assert_eq!(read(&*target), Err(seen.into()), "{mode}");
        assert_eq!(read(&*target), Err(IoError::IO), "{mode}");
        assert_eq!(status(&*target), "2 0 0 0 1 1 E 0 2 1 {0} F 1 0 {1} F 1 0");
        assert_eq!(target.submit(Request::flush()), Err(IoError::IO));
    }
}

#[test]
fn a_flush_goes_to_one_path() {
    let ways = Ways::new();
    let target = ways.build("0 0 1 1 round-robin 0 2 1 {0} 1 {1} 1").unwrap();
    assert!(target.flushes_itself());
    ways.ways[0].fail(Fault::from(1));
    target.submit(Request::flush()).unwrap();
    let flushes = |way: usize| ways.ways[way].count(OpKind::Flush);
    assert_eq!((flushes(0), flushes(1)), (1, 1));
    target.submit(Request::flush()).unwrap();
    assert_eq!((flushes(0), flushes(1)), (1, 2));
}

/// A read that finds no path, on a thread of its own, and what `then` did to it.
fn waiting(then: impl FnOnce(&dyn Target, &Ways)) -> IoResult {
    let ways = Ways::new();
    let target = ways
        .build("3 queue_if_no_path queue_mode bio 0 1 1 service-time 0 2 0 {0} {1}")
        .unwrap();
    ways.ways.iter().for_each(|way| way.fail(Fault::from(1)));
    assert_eq!(read_nowait(&*target), Err(IoError::WOULD_WAIT));
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(&*target));
        thread::sleep(Duration::from_millis(30));
        assert!(!reader.is_finished());
        then(&*target, &ways);
        reader.join().unwrap()
    })
}

#[test]
fn requests_without_a_path_wait_for_one() {
    let result = waiting(|target, ways| {
        ways.ways[1].heal();
        say(target, ways, "reinstate_path {1}").unwrap();
    });
    assert_eq!(result, Ok(()));
    let result = waiting(|target, ways| {
        // Still broken: it fails again, and the request waits on.
        say(target, ways, "reinstate_path {1}").unwrap();
        thread::sleep(Duration::from_millis(30));
        ways.ways[0].heal();
        say(target, ways, "reinstate_path {0}").unwrap();
    });
    assert_eq!(result, Ok(()));
    let result = waiting(|target, ways| {
        say(target, ways, "fail_if_no_path").unwrap();
    });
    assert_eq!(result, Err(IoError::IO));
}

#[test]
fn a_suspend_ends_or_gives_back_what_waits() {
    let end = |noflush| waiting(move |target, _| target.lifecycle().unwrap().presuspend(noflush));
    assert_eq!(end(false), Err(IoError::IO));
    assert_eq!(end(true), Err(IoError::REQUEUE));
}

#[test]
fn a_suspended_device_takes_no_message_and_keeps_its_setting() {
    let ways = Ways::new();
    let target = ways
        .build("1 queue_if_no_path 0 1 1 round-robin 0 1 1 {0} 1")
        .unwrap();
    let lifecycle = target.lifecycle().unwrap();
    let shown = target.args(Naming::Paths);
    lifecycle.presuspend(false);
    lifecycle.postsuspend();
    for message in ["queue_if_no_path", "fail_path {0}", "a b c", "bogus"] {
        let error = say(&*target, &ways, message).unwrap_err();
        assert_eq!((error.errno, error.line), (Errno::BUSY, None), "{message}");
    }
    assert_eq!(target.args(Naming::Paths), shown);
    lifecycle.preresume().unwrap();
    lifecycle.resume();
    say(&*target, &ways, "fail_path {0}").unwrap();
    assert_eq!(read_nowait(&*target), Err(IoError::WOULD_WAIT));
    // A suspend that is given up leaves everything as it was.
    lifecycle.presuspend(true);
    assert_eq!(read_nowait(&*target), Err(IoError::REQUEUE));
    lifecycle.presuspend_undo();
    assert_eq!(read_nowait(&*target), Err(IoError::WOULD_WAIT));
}

/// Waits until `done`, and says what is not where it takes too long.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_checker_brings_back_what_answers() {
    let ways = Ways::new();
    let table = "dmfs:check=1 1 queue_if_no_path 0 1 1 round-robin 0 2 1 {0} 1 {1} 1";
    let target = ways.build(table).unwrap();
    assert!(
        target
            .args(Naming::Paths)
            .starts_with("dmfs:check=1 1 queue_if_no_path 0 1 1 ")
    );
    ways.ways.iter().for_each(|way| way.fail(Fault::from(1)));
    assert_eq!(read_nowait(&*target), Err(IoError::WOULD_WAIT));
    let before = ways.ways[0].total();
    wait_until("nobody looks at the path", || ways.ways[0].total() > before);
    assert_eq!(status(&*target), "2 0 0 0 1 1 E 0 2 0 {0} F 1 {1} F 1");
    ways.ways[1].heal();
    // Who waits for a path is served.
    assert_eq!(read(&*target), Ok(()));
    assert_eq!(status(&*target), "2 0 0 0 1 1 A 0 2 0 {0} F 1 {1} A 1");
    // An answer of the device itself is one, too.
    ways.ways[0].heal();
    ways.ways[0].fail(Fault::from(1).with_errno(Errno::NODATA));
    wait_until("the path stays away", || !status(&*target).contains('F'));
    drop(target);
    let opened = &ways.opened["{0}"];
    wait_until("the checker holds on to its paths", || {
        Arc::strong_count(opened) == 3
    });
}

#[test]
fn other_words_of_ours_are_refused() {
    let ways = Ways::new();
    for word in [
        "dmfs:",
        "dmfs:check=0",
        "dmfs:check=x",
        "dmfs:check=86401",
        "dmfs:seed=1",
        "dmfs:check=1,check=1",
    ] {
        let error = ways.build(&format!("{word} 0 0 0 0")).err().unwrap();
        assert_eq!(
            (error.errno, &*error.text),
            (Errno::INVAL, "Invalid dmfs argument"),
            "{word}"
        );
        assert_eq!((error.word, error.found.as_deref()), (Some(4), Some(word)));
    }
}

#[test]
fn what_messages_did_can_be_said_again() {
    let ways = Ways::new();
    let table = "0 0 2 1 round-robin 0 2 1 {0} 1 {1} 1 round-robin 0 1 1 {2} 1";
    let target = ways.build(table).unwrap();
    assert!(target.recall().is_empty());
    for message in ["fail_path {1}", "disable_group 2"] {
        say(&*target, &ways, message).unwrap();
    }
    assert_eq!(target.recall(), ["fail_path 254:1", "disable_group 2"]);
}

#[test]
fn all_threads_at_once_find_paths_that_come_and_go() {
    let ways = Ways::new();
    let selectors = [
        "round-robin",
        "queue-length",
        "service-time",
        "historical-service-time",
    ];
    for selector in selectors {
        let table = format!("0 0 2 1 {selector} 0 3 0 {{0}} {{1}} {{2}} round-robin 0 1 0 {{3}}");
        let target = ways.build(&table).unwrap();
        let target = &*target;
        thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|_| scope.spawn(move || (0..3000).all(|_| read(target).is_ok())))
                .collect();
            let ways = &ways;
            while readers.iter().any(|reader| !reader.is_finished()) {
                for path in 0..3 {
                    say(target, ways, &format!("fail_path {{{path}}}")).unwrap();
                    say(
                        target,
                        ways,
                        &format!("reinstate_path {{{}}}", (path + 2) % 3),
                    )
                    .unwrap();
                }
            }
            assert!(
                readers.into_iter().all(|reader| reader.join().unwrap()),
                "{selector}"
            );
        });
        (0..3).for_each(|path| {
            say(target, &ways, &format!("reinstate_path {{{path}}}"))
                .unwrap()
                .clear()
        });
        assert!(!status(target).contains('F'), "{}", status(target));
    }
}

// A model -------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Request,
    Break(usize),
    Heal(usize),
    Fail(usize),
    Reinstate(usize),
    Switch(usize),
    Bypass(usize, bool),
    Queue(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::strategy::Just(Step::Request),
        2 => (0..4usize).prop_map(Step::Break),
        2 => (0..4usize).prop_map(Step::Heal),
        1 => (0..4usize).prop_map(Step::Fail),
        3 => (0..4usize).prop_map(Step::Reinstate),
        1 => (0..3usize).prop_map(Step::Switch),
        1 => (0..3usize, any::<bool>()).prop_map(|(group, on)| Step::Bypass(group, on)),
        1 => any::<bool>().prop_map(Step::Queue),
    ]
}

/// The kernel's way, with lists and without threads.
struct Model {
    /// Of each group, the valid paths, the next one first.
    valid: Vec<Vec<usize>>,
    bypassed: Vec<bool>,
    failed: [bool; 4],
    fail_counts: [u32; 4],
    broken: [bool; 4],
    current: Option<usize>,
    next: Option<usize>,
    queue_io: bool,
    queue: bool,
    events: u32,
    asked: [u64; 4],
}

const GROUPS: [&[usize]; 3] = [&[0, 1], &[2], &[3]];

impl Model {
    fn new() -> Model {
        Model {
            valid: GROUPS.iter().map(|group| group.to_vec()).collect(),
            bypassed: vec![false; 3],
            failed: [false; 4],
            fail_counts: [0; 4],
            broken: [false; 4],
            current: None,
            next: Some(1),
            queue_io: true,
            queue: false,
            events: 0,
            asked: [0; 4],
        }
    }

    fn group_of(path: usize) -> usize {
        GROUPS
            .iter()
            .position(|group| group.contains(&path))
            .unwrap()
    }

    fn fail(&mut self, path: usize) {
        if !self.failed[path] {
            self.failed[path] = true;
            self.fail_counts[path] += 1;
            self.valid[Model::group_of(path)].retain(|&valid| valid != path);
            self.events += 1;
        }
    }

    fn reinstate(&mut self, path: usize) {
        if self.failed[path] {
            self.failed[path] = false;
            self.valid[Model::group_of(path)].insert(0, path);
            self.events += 1;
        }
    }

    fn choose(&mut self) -> Option<usize> {
        let mut order: Vec<usize> = Vec::new();
        if self.valid.iter().any(|group| !group.is_empty()) {
            order.extend(self.next.take());
            order.extend(self.current);
            order.extend((0..3).filter(|&group| !self.bypassed[group]));
            order.extend((0..3).filter(|&group| self.bypassed[group]));
        } else {
            self.queue_io = false;
        }
        let found = order
            .into_iter()
            .find(|&group| !self.valid[group].is_empty());
        self.current = found;
        let group = found?;
        self.queue_io = false;
        self.valid[group].rotate_left(1);
        self.valid[group].last().copied()
    }

    fn request(&mut self) -> IoResult {
        while let Some(path) = self.choose() {
            self.asked[path] += 1;
            if !self.broken[path] {
                return Ok(());
            }
            self.fail(path);
        }
        Err(if self.queue {
            IoError::WOULD_WAIT
        } else {
            IoError::IO
        })
    }

    fn status(&self) -> String {
        let number = self.current.or(self.next).map_or(1, |group| group + 1);
        let mut status = format!("2 {} 0 0 3 {number}", u8::from(self.queue_io));
        for (group, paths) in GROUPS.iter().enumerate() {
            let letter = match self.bypassed[group] {
                true => 'D',
                false if self.current == Some(group) => 'A',
                false => 'E',
            };
            status += &format!(" {letter} 0 {} 0", paths.len());
            for &path in *paths {
                let letter = if self.failed[path] { 'F' } else { 'A' };
                status += &format!(" {{{path}}} {letter} {}", self.fail_counts[path]);
            }
        }
        status
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn paths_do_what_the_model_does(steps in proptest::collection::vec(step(), 1..80)) {
        let ways = Ways::new();
        let table = "2 queue_mode bio 0 3 2 round-robin 0 2 1 {0} 1 {1} 1 \
                     round-robin 0 1 1 {2} 1 round-robin 0 1 1 {3} 1";
        let target = ways.build(table).unwrap();
        let said = |message: String| { say(&*target, &ways, &message).unwrap(); };
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Request => assert_eq!(read_nowait(&*target), model.request()),
                Step::Break(path) => {
                    ways.ways[path].fail(Fault::from(1));
                    model.broken[path] = true;
                }
                Step::Heal(path) => {
                    ways.ways[path].heal();
                    model.broken[path] = false;
                }
                Step::Fail(path) => {
                    said(format!("fail_path {{{path}}}"));
                    model.fail(path);
                }
                Step::Reinstate(path) => {
                    said(format!("reinstate_path {{{path}}}"));
                    model.reinstate(path);
                }
                Step::Switch(group) => {
                    said(format!("switch_group {}", group + 1));
                    model.bypassed.fill(false);
                    (model.current, model.next) = (None, Some(group));
                    model.events += 1;
                }
                Step::Bypass(group, on) => {
                    let verb = if on { "disable_group" } else { "enable_group" };
                    said(format!("{verb} {}", group + 1));
                    model.bypassed[group] = on;
                    model.current = None;
                    model.events += 1;
                }
                Step::Queue(on) => {
                    said(if on { "queue_if_no_path" } else { "fail_if_no_path" }.to_owned());
                    model.queue = on;
                }
            }
            assert_eq!(status(&*target), model.status());
            assert_eq!(ways.events(), model.events);
            let asked: Vec<u64> = ways.ways.iter().map(|way| way.total()).collect();
            assert_eq!(asked, model.asked);
        }
    }
}
