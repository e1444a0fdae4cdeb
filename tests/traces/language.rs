//! The language of traces, read completely: text in, steps out.
//!
//! `tests/fixtures/traces/README.md` holds the language. A line that is not in it is an error that
//! names the line, so that no step is ever passed over.

use super::told;

/// A trace: what happened, in order.
#[derive(Debug)]
pub struct Trace {
    pub steps: Vec<Step>,
}

/// One step and the line (from 1) that it starts on.
#[derive(Debug)]
pub struct Step {
    pub line: usize,
    pub what: What,
}

/// A run of sectors on a device or image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub of: String,
    pub at: u64,
    pub len: u64,
}

/// What a command that failed left behind: its standard error and the kernel's log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub stderr: Vec<String>,
    pub kernel: Vec<String>,
}

/// What dmsetup prints about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Table,
    Status,
    Info,
    Deps,
    Targets,
    Version,
}

impl Verb {
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Status => "status",
            Self::Info => "info",
            Self::Deps => "deps",
            Self::Targets => "targets",
            Self::Version => "version",
        }
    }
}

/// A step.
#[derive(Debug)]
pub enum What {
    Remark(String),
    Image {
        name: String,
        sectors: u64,
        losetup: Vec<String>,
    },
    Fill {
        on: Range,
        pattern: u64,
    },
    Zero(Range),
    Damage {
        image: String,
        byte: u64,
        to: Vec<u8>,
    },
    /// `create` or `reload`.
    Load {
        create: bool,
        name: String,
        options: Vec<String>,
        rows: Vec<String>,
        refusal: Option<Refusal>,
    },
    Write {
        on: Range,
        pattern: u64,
        error: Option<String>,
    },
    Wipe(Range),
    Read {
        on: Range,
        sha256: String,
    },
    ReadError {
        on: Range,
        why: String,
    },
    Discard {
        on: Range,
        error: Option<String>,
    },
    /// What one call of dmsetup printed; of all devices where no device is named.
    Said {
        verb: Verb,
        device: Option<String>,
        lines: Vec<String>,
    },
    Message {
        device: String,
        sector: u64,
        text: String,
        replies: Vec<String>,
        refusal: Option<Refusal>,
    },
    Suspend(String),
    Resume(String),
    Remove(String),
    Command {
        line: String,
        out: Vec<String>,
        exit: i32,
    },
    /// A fact that the command before it established.
    Fact(String),
    /// `size DEV SECTORS`: the device's length.
    Size(String, u64),
    Loop(Vec<told::Told>),
    Messages(Vec<String>),
    Save {
        image: String,
        file: String,
        sha256: String,
    },
    NoDevice(String),
    ImageSha256 {
        image: String,
        sha256: String,
    },
}

/// Why a trace cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub line: usize,
    pub text: String,
}

/// Reads a trace.
pub fn parse(text: &str) -> Result<Trace, Unreadable> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let unreadable = || Unreadable {
            line: index + 1,
            text: line.to_owned(),
        };
        let joined = match steps.last_mut() {
            Some(last) => join(&mut last.what, line),
            None => false,
        };
        if !joined {
            let what = step(line).ok_or_else(unreadable)?;
            steps.push(Step {
                line: index + 1,
                what,
            });
        }
    }
    Ok(Trace { steps })
}

/// Takes a line that belongs to the step before it.
fn join(last: &mut What, line: &str) -> bool {
    if let Some(inside) = line.strip_prefix("  ") {
        return join_indented(last, inside);
    }
    match last {
        What::Load { refusal, .. } | What::Message { refusal, .. } => {
            if let Some(said) = line.strip_prefix("create-error: ") {
                refusal.get_or_insert_default().stderr.push(said.to_owned());
                return true;
            }
            if let Some(logged) = line.strip_prefix("kernel: ") {
                refusal
                    .get_or_insert_default()
                    .kernel
                    .push(logged.to_owned());
                return true;
            }
            false
        }
        What::Said {
            verb,
            device,
            lines,
        } => match said(line) {
            Some((next, of, text))
                if next == *verb && of == *device && continues(*verb, device, lines, &text) =>
            {
                lines.push(text);
                true
            }
            _ => false,
        },
        // blkdiscard says two things where it fails; the second is the reason.
        What::Discard {
            error: Some(error), ..
        } if !line.is_empty() && word(line).is_some_and(|first| !is_step(first)) => {
            *error = line.to_owned();
            true
        }
        _ => false,
    }
}

/// Whether `text` belongs to the same call of dmsetup as `lines`.
fn continues(verb: Verb, device: &Option<String>, lines: &[String], text: &str) -> bool {
    match verb {
        Verb::Info => lines.last().is_some_and(|last| !last.is_empty()),
        Verb::Deps => false,
        Verb::Table | Verb::Status => device.is_none() || !text.starts_with("0 "),
        Verb::Targets | Verb::Version => true,
    }
}

fn join_indented(last: &mut What, inside: &str) -> bool {
    match last {
        What::Load { rows, refusal, .. } if refusal.is_none() => {
            rows.push(inside.to_owned());
            true
        }
        What::Message { replies, .. } => match inside.strip_prefix("reply: ") {
            Some(reply) => {
                replies.push(reply.to_owned());
                true
            }
            None => false,
        },
        What::Command { out, exit, .. } => {
            if let Some(said) = inside.strip_prefix("out: ") {
                out.push(said.to_owned());
                return true;
            }
            match inside.strip_prefix("exit: ").map(str::parse) {
                Some(Ok(status)) => {
                    *exit = status;
                    true
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// The words that start a step.
const STEPS: [&str; 36] = [
    "#",
    "image",
    "fill",
    "zero",
    "damage",
    "create",
    "reload",
    "write",
    "write-error",
    "wipe",
    "read",
    "read-error",
    "discard",
    "discard-error",
    "table",
    "status",
    "info",
    "deps",
    "table:",
    "status:",
    "targets:",
    "version:",
    "message",
    "message-error",
    "suspend",
    "resume",
    "remove",
    "cmd",
    "size",
    "root",
    "key",
    "volume-key",
    "loop",
    "messages:",
    "save",
    "no-device",
];

fn is_step(first: &str) -> bool {
    STEPS.contains(&first) || first == "image-sha256"
}

fn word(line: &str) -> Option<&str> {
    line.split(' ').next()
}

/// A line that starts a step.
fn step(line: &str) -> Option<What> {
    if let Some((verb, device, text)) = said(line) {
        return Some(What::Said {
            verb,
            device,
            lines: vec![text],
        });
    }
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    Some(match (first, words.as_slice()) {
        ("#", _) => What::Remark(rest.to_owned()),
        ("image", [name, sectors, losetup @ ..]) => What::Image {
            name: (*name).to_owned(),
            sectors: sectors.parse().ok()?,
            losetup: owned(losetup),
        },
        ("fill", [of, at, len, pattern]) => What::Fill {
            on: range(of, at, len)?,
            pattern: pattern.parse().ok()?,
        },
        ("zero", [of, at, len]) => What::Zero(range(of, at, len)?),
        ("damage", [image, "byte", byte, "set", "to", to]) => What::Damage {
            image: (*image).to_owned(),
            byte: byte.parse().ok()?,
            to: to.as_bytes().to_vec(),
        },
        ("create" | "reload", [name, options @ ..]) => What::Load {
            create: first == "create",
            name: (*name).to_owned(),
            options: owned(options),
            rows: Vec::new(),
            refusal: None,
        },
        ("write", [of, at, len, pattern]) => What::Write {
            on: range(of, at, len)?,
            pattern: pattern.parse().ok()?,
            error: None,
        },
        ("write-error", [of, at, len, pattern, why @ ..]) => What::Write {
            on: range(of, at, len)?,
            pattern: pattern.parse().ok()?,
            error: Some(why.join(" ")),
        },
        ("wipe", [of, len]) => What::Wipe(range(of, "0", len)?),
        ("read", [of, at, len, "sha256", hash]) => What::Read {
            on: range(of, at, len)?,
            sha256: (*hash).to_owned(),
        },
        ("read-error", [of, at, len, why @ ..]) => What::ReadError {
            on: range(of, at, len)?,
            why: why.join(" "),
        },
        ("discard", [of, at, len]) => What::Discard {
            on: range(of, at, len)?,
            error: None,
        },
        ("discard-error", [of, at, len, why @ ..]) => What::Discard {
            on: range(of, at, len)?,
            error: Some(why.join(" ")),
        },
        ("message" | "message-error", [device, sector, _, ..]) => {
            let text = rest.splitn(3, ' ').nth(2)?;
            What::Message {
                device: (*device).to_owned(),
                sector: sector.parse().ok()?,
                text: text.to_owned(),
                replies: Vec::new(),
                refusal: (first == "message-error").then(Refusal::default),
            }
        }
        ("suspend", [name]) => What::Suspend((*name).to_owned()),
        ("resume", [name]) => What::Resume((*name).to_owned()),
        ("remove", [name]) => What::Remove((*name).to_owned()),
        ("cmd", [_, ..]) => What::Command {
            line: rest.trim_end().to_owned(),
            out: Vec::new(),
            exit: 0,
        },
        ("size", [device, sectors]) => What::Size((*device).to_owned(), sectors.parse().ok()?),
        ("root" | "key" | "volume-key", _) => What::Fact(line.to_owned()),
        ("loop", _) => What::Loop(told::writes(rest)?),
        ("messages:", _) => What::Messages(told::messages(rest)?),
        ("save", [image, "as", file, "sha256", hash]) => What::Save {
            image: (*image).to_owned(),
            file: (*file).to_owned(),
            sha256: (*hash).to_owned(),
        },
        ("no-device", [name]) => What::NoDevice((*name).to_owned()),
        ("image-sha256", [image, hash]) => What::ImageSha256 {
            image: (*image).to_owned(),
            sha256: (*hash).to_owned(),
        },
        _ => return None,
    })
}

/// A line of dmsetup's output: the verb, the device, the text.
fn said(line: &str) -> Option<(Verb, Option<String>, String)> {
    const VERBS: [Verb; 6] = [
        Verb::Table,
        Verb::Status,
        Verb::Info,
        Verb::Deps,
        Verb::Targets,
        Verb::Version,
    ];
    VERBS.into_iter().find_map(|verb| {
        let rest = line.strip_prefix(verb.word())?;
        if let Some(text) = rest.strip_prefix(": ") {
            return Some((verb, None, text.to_owned()));
        }
        let (device, text) = rest.strip_prefix(' ')?.split_once(": ")?;
        Some((verb, Some(device.to_owned()), text.to_owned()))
    })
}

fn range(of: &str, at: &str, len: &str) -> Option<Range> {
    Some(Range {
        of: of.to_owned(),
        at: at.parse().ok()?,
        len: len.parse().ok()?,
    })
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A line in our own words, for reports.
pub fn name_of(what: &What) -> String {
    let at = |range: &Range| format!("{} {} {}", range.of, range.at, range.len);
    match what {
        What::Remark(text) => format!("# {text}"),
        What::Image { name, .. } => format!("image {name}"),
        What::Fill { on, .. } => format!("fill {}", at(on)),
        What::Zero(on) => format!("zero {}", at(on)),
        What::Damage { image, byte, .. } => format!("damage {image} byte {byte}"),
        What::Load {
            create, name, rows, ..
        } => format!(
            "{} {name}: {}",
            if *create { "create" } else { "reload" },
            rows.join(" / ")
        ),
        What::Write { on, .. } => format!("write {}", at(on)),
        What::Wipe(on) => format!("wipe {}", at(on)),
        What::Read { on, .. } | What::ReadError { on, .. } => format!("read {}", at(on)),
        What::Discard { on, .. } => format!("discard {}", at(on)),
        What::Said { verb, device, .. } => match device {
            Some(device) => format!("{} {device}", verb.word()),
            None => verb.word().to_owned(),
        },
        What::Message {
            device,
            sector,
            text,
            ..
        } => format!("message {device} {sector} {text}"),
        What::Suspend(name) => format!("suspend {name}"),
        What::Resume(name) => format!("resume {name}"),
        What::Remove(name) => format!("remove {name}"),
        What::Command { line, .. } => format!("cmd {line}"),
        What::Fact(what) => what.split(' ').next().unwrap_or_default().to_owned(),
        What::Size(device, _) => format!("size {device}"),
        What::Loop(_) => "loop".to_owned(),
        What::Messages(_) => "messages".to_owned(),
        What::Save { image, file, .. } => format!("save {image} as {file}"),
        What::NoDevice(name) => format!("no-device {name}"),
        What::ImageSha256 { image, .. } => format!("image-sha256 {image}"),
    }
}
