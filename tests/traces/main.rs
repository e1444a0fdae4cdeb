//! Plays traces of the real kernel against dmfs and compares everything the kernel answered.
//!
//! `DMFS_FIXTURES=DIR cargo test --test traces` plays any folder of the shape that
//! `tests/fixtures/traces/README.md` tells.
#![allow(clippy::unwrap_used, reason = "a player that fails fails its test")]

mod deliberate;
mod language;
mod player;
#[path = "../support/mod.rs"]
mod support;
mod told;

use deliberate::DELIBERATE;
use language::{What, name_of, parse};
use player::{Outcome, is_list_of_tables, play, targets_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Write, stderr};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use support::fixtures;
use support::mount::Mount;

/// The text of every trace, by name.
fn texts() -> Vec<(String, String)> {
    fixtures::all(&fixtures::traces())
        .into_iter()
        .map(|(name, folder)| (name, fs::read_to_string(folder.join("trace")).unwrap()))
        .collect()
}

#[test]
fn every_trace_is_read_to_its_last_line() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (name, text) in texts() {
        let trace = parse(&text).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(!trace.steps.is_empty(), "{name} is empty");
        for step in &trace.steps {
            let word = name_of(&step.what);
            let kind = word.split(' ').next().unwrap().trim_end_matches(':');
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
        assert_eq!(lines_of(&trace), text.lines().count(), "{name}");
    }
    for kind in [
        "create",
        "write",
        "read",
        "table",
        "status",
        "info",
        "image-sha256",
    ] {
        assert!(kinds.contains_key(kind), "no step {kind} in any trace");
    }
}

/// How many lines the steps of a trace stand for.
fn lines_of(trace: &language::Trace) -> usize {
    trace
        .steps
        .iter()
        .map(|step| match &step.what {
            What::Load { rows, refusal, .. } => 1 + rows.len() + refused(refusal),
            What::Message {
                replies, refusal, ..
            } => 1 + replies.len() + refused(refusal),
            What::Said { lines, .. } => lines.len(),
            What::Command { out, exit, .. } => 1 + out.len() + usize::from(*exit != 0),
            What::Discard {
                error: Some(error), ..
            } => {
                // The reason came on a line of its own.
                1 + usize::from(error == "Operation not supported")
            }
            _ => 1,
        })
        .sum()
}

fn refused(refusal: &Option<language::Refusal>) -> usize {
    refusal
        .as_ref()
        .map_or(0, |refusal| refusal.stderr.len() + refusal.kernel.len())
}

#[test]
fn lines_outside_the_language_are_named() {
    for (text, line) in [
        ("# a\nimage a 8 \nfrobnicate a\n", 3),
        ("image a\n", 1),
        ("create a \n  0 8 zero\nread a 0 8 md5 00\n", 3),
        ("  0 8 zero\n", 1),
        ("create a \ncreate-error: no\n  0 8 zero\n", 3),
    ] {
        assert_eq!(parse(text).unwrap_err().line, line, "{text}");
    }
}

/// Traces played at once: each has a daemon and commands of its own.
const PLAYERS: usize = 4;

#[test]
fn every_trace_plays_as_in_the_kernel() {
    let registered = registered();
    let waiting = Mutex::new(fixtures::all(&fixtures::traces()));
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                loop {
                    let Some((name, folder)) = waiting.lock().unwrap().pop() else {
                        return;
                    };
                    let outcome = play_fixture(&folder, &registered);
                    outcomes.lock().unwrap().insert(name, outcome);
                }
            });
        }
    });
    report(&outcomes.into_inner().unwrap());
}

/// The target types of this dmfs.
fn registered() -> BTreeSet<String> {
    let mount = Mount::start();
    let listed = mount.dmsetup(&["targets"]).must();
    mount.stop();
    let types: BTreeSet<String> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert!(types.contains("linear"), "dmsetup targets: {listed}");
    types
}

/// Plays a trace; `None` where targets of it are missing.
fn play_fixture(folder: &Path, registered: &BTreeSet<String>) -> Option<Outcome> {
    let trace = parse(&fs::read_to_string(folder.join("trace")).unwrap()).unwrap();
    let missing = targets_of(&trace).difference(registered).next().is_some();
    (!missing || is_list_of_tables(&trace)).then(|| play(&trace, folder, registered))
}

/// Prints what came of all, and fails if anything differs that is not said to.
fn report(outcomes: &BTreeMap<String, Option<Outcome>>) {
    let mut unused: Vec<_> = DELIBERATE.iter().collect();
    let mut lines = Vec::new();
    let (mut played, mut differing, mut not_yet, mut steps, mut steps_not_yet) = (0, 0, 0, 0, 0);
    let mut own_images = 0;
    for (name, outcome) in outcomes {
        let Some(outcome) = outcome else {
            not_yet += 1;
            continue;
        };
        played += 1;
        steps += outcome.steps;
        steps_not_yet += outcome.steps_not_yet;
        own_images += outcome.own_images;
        let before = lines.len();
        for difference in &outcome.differences {
            match unused.iter().position(|known| known.is(name, difference)) {
                Some(at) => {
                    unused.remove(at);
                }
                None => lines.push(format!(
                    "{name} line {}: {}\n  kernel: {}\n  dmfs:   {}",
                    difference.line,
                    difference.step,
                    difference.kernel.trim_end().replace('\n', "\n          "),
                    difference.ours.trim_end().replace('\n', "\n          "),
                )),
            }
        }
        differing += usize::from(lines.len() > before);
    }
    let has = |trace: &str| outcomes.contains_key(trace);
    lines.extend(unused.iter().filter(|known| has(known.trace)).map(|known| {
        format!(
            "{}: {}: no longer differs as the list of deliberate differences says ({})",
            known.trace, known.step, known.reason
        )
    }));
    let summary = format!(
        "played {played}, differing {differing}, not yet (target missing) {not_yet}\n\
         steps played {steps}, steps not yet (target missing, in lists of tables) {steps_not_yet}, \
         deliberate differences {}, encrypted images of our own making {own_images}\n",
        DELIBERATE.len() - unused.len()
    );
    // Written past the test harness, which would show it only on failure.
    let _ = write!(stderr(), "\n{summary}");
    assert!(lines.is_empty(), "\n{}\n{summary}", lines.join("\n"));
    assert!(played > 0, "no trace could be played");
}

/// Words that start a line with an answer of the kernel's.
const ANSWERS: [&str; 10] = [
    "table",
    "status",
    "info",
    "deps",
    "read",
    "read-error",
    "write-error",
    "image-sha256",
    "create-error:",
    "kernel:",
];

/// `text` with another last letter in one answer, for every answer in it.
fn with_one_answer_changed(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut changed = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let is_answer = ANSWERS.contains(&line.split(' ').next().unwrap());
        let last = line.rfind(|letter: char| letter.is_ascii_alphanumeric());
        let (true, Some(last), false) = (is_answer, last, line.trim_end().ends_with(':')) else {
            continue;
        };
        let other = if line[last..].starts_with('7') {
            "8"
        } else {
            "7"
        };
        let line = format!("{}{other}{}", &line[..last], &line[last + 1..]);
        let mut lines = lines.clone();
        lines[index] = &line;
        changed.push((line.clone(), lines.join("\n") + "\n"));
    }
    changed
}

#[test]
fn every_changed_answer_is_noticed() {
    let types = BTreeSet::from(["linear", "striped", "zero", "error"].map(str::to_owned));
    let traces = fixtures::traces();
    let mut tried = 0;
    for name in ["linear", "linear-readonly", "striped-3-7", "zero-error"] {
        let folder = traces.join("simple").join(name);
        if !folder.is_dir() {
            continue;
        }
        let text = fs::read_to_string(folder.join("trace")).unwrap();
        for (line, changed) in with_one_answer_changed(&text) {
            let outcome = play(&parse(&changed).unwrap(), &folder, &types);
            assert!(
                !outcome.differences.is_empty(),
                "{name}: not noticed: {line}"
            );
            tried += 1;
        }
    }
    let refused = "image a 16 \ncreate d \n  0 8 linear {a} 9\n\
        create-error: device-mapper: reload ioctl on d (254:0) failed: Invalid argument\n\
        create-error: Command failed.\n\
        kernel: device-mapper: table: 254:0: loop0 too small for target: start=9, len=8, dev_size=16\n\
        kernel: device-mapper: core: Cannot calculate initial queue limits\n\
        kernel: device-mapper: ioctl: unable to set up device queue for new table.\n";
    let nowhere = Path::new("/nowhere");
    let outcome = play(&parse(refused).unwrap(), nowhere, &types);
    assert!(outcome.differences.is_empty(), "{:?}", outcome.differences);
    for (line, changed) in with_one_answer_changed(refused) {
        let outcome = play(&parse(&changed).unwrap(), nowhere, &types);
        assert!(!outcome.differences.is_empty(), "not noticed: {line}");
        tried += 1;
    }
    assert!(tried >= 5, "only {tried} changes tried");
}
