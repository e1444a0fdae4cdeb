//! The tree keeps its shape: uses point down, lock types come from one file, every target is
//! documented and has a mount to try.
#![allow(clippy::unwrap_used, reason = "a tree that cannot be read fails")]

use dmfs::targets::KINDS;
use regex::Regex;
use std::fs;
use std::path::{Path, PathBuf};

/// Top-level modules from the bottom up; a module may use those below it. Modules of one row are
/// strangers to each other.
const LAYERS: &[&[&str]] = &[
    &["unit", "sync", "crypto"],
    &["format", "terminal"],
    &["io"],
    &["backing", "meta"],
    &["target"],
    &["targets", "table", "encrypted"],
    &["device"],
    &["fs"],
    &["control"],
    &["daemon", "crash"],
];

/// All that the command line, and what runs other programs, may use: they never touch a device.
const CLIENTS: [&str; 2] = ["cli", "run"];
const CLIENTS_USE: [&str; 5] = ["unit", "sync", "terminal", "control::protocol", "encrypted"];

/// A Rust file of ours: its path below `src` and its text without comments and tests.
struct Source {
    path: String,
    code: String,
}

impl Source {
    /// The top-level module that the file belongs to; none for the roots.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next().unwrap();
        let module = first.trim_end_matches(".rs");
        (!matches!(module, "main" | "lib")).then_some(module)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 10, "{} looks empty", root.display());
    files
        .iter()
        .map(|file| Source {
            path: file.strip_prefix(&root).unwrap().to_str().unwrap().into(),
            code: without_comments_and_tests(&fs::read_to_string(file).unwrap()),
        })
        .collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs")
            && stem != "tests"
            && stem != "schedules"
        {
            files.push(path);
        }
    }
}

fn without_comments_and_tests(text: &str) -> String {
    let code = match text.find("#[cfg(test)]\nmod tests {") {
        Some(tests) => &text[..tests],
        None => text,
    };
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Every path of this crate that `code` names: the first two words after `crate::`.
fn uses(code: &str) -> Vec<String> {
    let place = Regex::new(r"\bcrate::").unwrap();
    place
        .find_iter(code)
        .flat_map(|found| expand(&code[found.end()..]))
        .collect()
}

/// `a::b::c` as `a::b`, `{a::b, c}` as both.
fn expand(rest: &str) -> Vec<String> {
    let word = Regex::new(r"^[a-z_A-Z0-9]+(::[a-z_A-Z0-9]+)?").unwrap();
    let first = |text: &str| word.find(text).map(|found| found.as_str().to_owned());
    let Some(group) = rest.strip_prefix('{') else {
        return first(rest).into_iter().collect();
    };
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(letter);
    }
    parts.iter().filter_map(|part| first(part.trim())).collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

#[test]
fn uses_point_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else {
            continue;
        };
        for used in uses(&source.code) {
            let target = used.split("::").next().unwrap();
            if target == module {
                continue;
            }
            let allowed = match module {
                client if CLIENTS.contains(&client) => CLIENTS_USE
                    .iter()
                    .any(|fine| used == *fine || used.starts_with(&format!("{fine}::"))),
                _ => match (layer(module), layer(target)) {
                    (Some(from), Some(to)) => to < from,
                    (None, _) => {
                        wrong.push(format!("{}: module {module} has no layer", source.path));
                        continue;
                    }
                    (_, None) => false,
                },
            };
            if !allowed {
                wrong.push(format!("{}: {module} uses crate::{used}", source.path));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that point up:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn lock_types_are_named_in_one_file() {
    let foreign = Regex::new(
        r"\b(parking_lot|loom)::|std::sync::(\{[^}]*\b)?(Mutex|RwLock|Condvar|Barrier)\b",
    )
    .unwrap();
    for source in sources() {
        if source.module() != Some("sync")
            && let Some(found) = foreign.find(&source.code)
        {
            panic!(
                "{} names {:?}: take lock types from crate::sync",
                source.path,
                found.as_str()
            );
        }
    }
}

#[test]
fn sources_are_ascii_and_of_readable_size() {
    for source in sources() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src")
            .join(&source.path);
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().position(|line| !line.is_ascii());
        assert_eq!(line, None, "{} is not ASCII", source.path);
        let lines = text.lines().count();
        assert!(lines <= 800, "{} has {lines} lines", source.path);
    }
}

/// The heads of a target's page, in order.
const HEADS: [&str; 7] = [
    "What it does",
    "Table line",
    "Status",
    "Messages",
    "On disk",
    "Example",
    "Differences from the kernel",
];

#[test]
fn every_target_has_its_page() {
    for kind in KINDS {
        let page = format!("docs/targets/{}.md", kind.name);
        let text = read(&page, &format!("target {} is not documented", kind.name));
        let found: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .collect();
        let found: Vec<&str> = found
            .into_iter()
            .filter(|head| HEADS.contains(head))
            .collect();
        assert_eq!(found, HEADS, "{page}: its heads");
    }
}

#[test]
fn every_target_has_a_mount_to_try() {
    for kind in KINDS {
        let file = format!("mounts/{}.toml", kind.name);
        let text = read(&file, &format!("target {} has no mount to try", kind.name));
        assert!(text.starts_with('#'), "{file} does not say what it shows");
        assert!(text.lines().count() <= 40, "{file} is longer than 40 lines");
        assert!(
            text.contains(&format!(" {}", kind.name)),
            "{file} has no row of its target"
        );
    }
}

fn read(path: &str, otherwise: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&full).unwrap_or_else(|error| panic!("{otherwise}: {path}: {error}"))
}

#[test]
fn groups_and_paths_are_taken_apart() {
    let code = "use crate::io::{BlockDev, Errno};\nuse crate::{\n    unit::Sector,\n    table::{self, Row},\n};\nlet x = crate::sync::Arc::new(1);";
    assert_eq!(
        uses(code),
        ["io", "unit::Sector", "table", "sync::Arc"].map(str::to_owned)
    );
}
