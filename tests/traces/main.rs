//! Plays traces of the real kernel against dmfs and compares everything the kernel answered.
//!
//! `DMFS_FIXTURES=DIR cargo test --test traces` plays any folder of the shape that
//! `tests/fixtures/traces/README.md` tells.
#![allow(clippy::unwrap_used, reason = "a player that fails fails its test")]

mod language;
#[path = "../support/mod.rs"]
mod support;
mod told;

use language::{What, name_of, parse};
use std::collections::BTreeMap;
use std::fs;
use support::fixtures;

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
