#![allow(clippy::unwrap_used)]

use super::{KINDS, Selector, find};
use crate::io::{Errno, OpenDevice};
use crate::sync::Arc;
use crate::target::{Access, BuildArgs, DeviceOpener, EventSink, OpenError, split_words};
use crate::unit::{Bytes, Sector, Sectors};

struct Nothing;

impl EventSink for Nothing {
    fn raise(&self) {}
}

impl DeviceOpener for Nothing {
    fn open(&self, _spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Err(OpenError {
            errno: Errno::NODEV,
            reason: "there is none".into(),
        })
    }
}

/// A selector called `name` with the arguments `of_selector`, and one path for each of `of_paths`.
fn selector(name: &str, of_selector: &str, of_paths: &[&str]) -> Box<dyn Selector> {
    let words = split_words(&format!("{of_selector} {}", of_paths.join(" ")));
    let range = (Sector(0), Sectors(8));
    let mut args = BuildArgs::new(range, &words, Access::ReadOnly, &Nothing, Arc::new(Nothing));
    let count = |text: &str| split_words(text).len();
    let mut selector = (find(name).unwrap().create)(&mut args, count(of_selector)).unwrap();
    for of_path in of_paths {
        selector.add_path(&mut args, count(of_path)).unwrap();
    }
    selector
}

const LEN: Bytes = Bytes(4096);

fn chosen<const COUNT: usize>(selector: &dyn Selector) -> [usize; COUNT] {
    std::array::from_fn(|_| selector.select(LEN).unwrap())
}

#[test]
fn words_shown_are_as_many_as_said() {
    for kind in KINDS {
        let of_path = if kind.name == "io-affinity" { "1" } else { "" };
        let selector = selector(kind.name, "", &[of_path]);
        let count = |text: String| split_words(&text).len();
        assert_eq!(count(selector.path_arguments(0)), kind.path_arguments);
        assert_eq!(count(selector.path_status(0)), kind.path_status);
        let arguments = selector.arguments();
        let (first, rest) = arguments.split_once(' ').unwrap_or((&arguments, ""));
        assert_eq!(first.parse(), Ok(split_words(rest).len()), "{}", kind.name);
    }
}

#[test]
fn no_selector_gives_a_path_that_has_failed() {
    for kind in KINDS.iter().filter(|kind| kind.name != "io-affinity") {
        let selector = selector(kind.name, "", &["", "", ""]);
        selector.fail(1);
        for _ in 0..10 {
            assert_ne!(selector.select(LEN), Some(1), "{}", kind.name);
        }
        selector.fail(0);
        selector.fail(2);
        assert_eq!(selector.select(LEN), None, "{}", kind.name);
        selector.reinstate(1);
        assert_eq!(selector.select(LEN), Some(1), "{}", kind.name);
    }
}

#[test]
fn idle_paths_are_used_alike() {
    for name in ["round-robin", "queue-length", "service-time"] {
        let selector = selector(name, "", &["1", "1", "1"]);
        assert_eq!(chosen(&*selector), [0, 1, 2, 0, 1, 2], "{name}");
    }
}

#[test]
fn the_shortest_queue_is_used() {
    let selector = selector("queue-length", "", &["", "", ""]);
    for path in [0, 0, 1] {
        selector.begin(path, LEN);
    }
    assert_eq!(chosen(&*selector), [2; 4]);
    for _ in 0..2 {
        selector.begin(2, LEN);
    }
    assert_eq!(chosen(&*selector), [1; 4]);
    assert_eq!(selector.path_status(0), "2");
    selector.end(0, LEN, 0);
    selector.end(0, LEN, 0);
    assert_eq!(chosen(&*selector), [0; 4]);
}

#[test]
fn fast_paths_get_more_bytes() {
    let selector = selector("service-time", "", &["1 3", "1 1", "1 0"]);
    let mut counts = [0; 3];
    for _ in 0..40 {
        let path = selector.select(LEN).unwrap();
        selector.begin(path, LEN);
        counts[path] += 1;
    }
    assert_eq!(counts, [30, 10, 0]);
    assert_eq!(selector.path_status(0), format!("{} 3", 30 * LEN.0));
}

#[test]
fn a_slow_path_is_left_alone_while_a_fast_one_answers() {
    let selector = selector("historical-service-time", "0", &["", ""]);
    let took = |path: usize, milliseconds: u64| {
        let begun = selector.begin(path, LEN);
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        selector.end(path, LEN, begun);
    };
    took(0, 60);
    took(1, 1);
    // Both have something to do, so that none is tried for being idle; the fast one is expected to answer first.
    let begun = [0, 1].map(|path| selector.begin(path, LEN));
    let average = |path: usize| -> u64 {
        let status = selector.path_status(path);
        status.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(average(0) > average(1), "{} {}", average(0), average(1));
    selector.end(0, LEN, begun[0]);
    selector.end(1, LEN, begun[1]);
    assert!(selector.path_status(0).split(' ').nth(1) == Some("0"));
}

#[test]
fn a_processor_without_a_path_uses_another() {
    let selector = selector("io-affinity", "", &["1"]);
    assert_eq!(chosen(&*selector), [0; 8]);
    selector.fail(0);
    assert_eq!(selector.select(LEN), None);
    selector.reinstate(0);
    assert_eq!(selector.select(LEN), Some(0));
}
