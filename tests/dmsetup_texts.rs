//! Plays what the kernel's dmsetup printed against ours, line by line.
//!
//! `tests/fixtures/dmsetup/NAME.transcript` is a script with answers, made by `record` beside it on a
//! machine with the device mapper (dmsetup 1.02.185, Linux 6.1). Its lines:
//!
//! ```text
//! # text               says something to the reader
//! image a 2048         a backing device of 2048 sectors; {a} is its path. The first is 7:0, loop0
//! file NAME            a file in the current folder, of the `< ` lines that follow
//! hold NAME            opens a device; it stays open
//! release NAME         closes it
//! $ COMMAND            a shell command; lines up to the next mark belong to it. {dm} is the devices' folder
//! < TEXT               a line of the command's standard input
//! > TEXT               a line of its standard output
//! ! TEXT               a line of its standard error (`>\` or `!\`: without a newline at its end)
//! ? CODE               its exit code
//! ```
//!
//! The recorder writes the device mapper's major number as 253, a usage text as `{usage}`, and of a help
//! only the names it lists. Here the same is done to our answers, and what differs because a file stands
//! for a loop device is brought to one form ([`Play::in_their_words`]). Every other difference is either
//! in `tests/fixtures/dmsetup/choices`, with its reason and our exact answer, or fails. That file has the
//! same marks, and before each command:
//!
//! ```text
//! in NAME              the transcript, for all commands up to the next such line
//! because TEXT         why we answer otherwise; for all commands up to the next such line
//! nth N                only the Nth time (from 1) that the next command stands there
//! ```
//!
//! `DMFS_CHOICES=FOLDER cargo test --test dmsetup_texts` writes what differs there in this form, to be
//! judged and given a reason.
#![allow(clippy::unwrap_used, reason = "a player that fails fails its test")]

mod support;

use dmfs::targets::KINDS;
use regex::Regex;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::mount::Mount;
use support::tools;

/// What a command printed, and its exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    out: String,
    err: String,
    code: i32,
}

/// One line of a transcript, with those that belong to it.
#[derive(Debug)]
enum Step {
    Image {
        name: char,
        sectors: u64,
    },
    File {
        name: String,
        text: String,
    },
    Hold(String),
    Release(String),
    Command {
        line: String,
        input: String,
        answer: Answer,
    },
}

/// The file of a transcript.
fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/dmsetup/{name}.transcript"))
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        let (mark, rest) = line.split_at(line.find(' ').map_or(line.len(), |at| at + 1));
        match (mark, steps.last_mut()) {
            ("image ", _) => {
                let (name, sectors) = rest.split_once(' ').unwrap();
                let (name, sectors) = (name.parse().unwrap(), sectors.parse().unwrap());
                steps.push(Step::Image { name, sectors });
            }
            ("file ", _) => steps.push(Step::File {
                name: rest.into(),
                text: String::new(),
            }),
            ("hold ", _) => steps.push(Step::Hold(rest.into())),
            ("release ", _) => steps.push(Step::Release(rest.into())),
            ("$ ", _) => {
                let (line, input) = (rest.into(), String::new());
                steps.push(Step::Command {
                    line,
                    input,
                    answer: Answer::default(),
                });
            }
            ("# " | "#" | "", _) => {}
            ("< " | "<", Some(Step::File { text, .. })) => writeln!(text, "{rest}").unwrap(),
            ("< " | "<", Some(Step::Command { input, .. })) => writeln!(input, "{rest}").unwrap(),
            ("> ", Some(Step::Command { answer, .. })) => writeln!(answer.out, "{rest}").unwrap(),
            ("! ", Some(Step::Command { answer, .. })) => writeln!(answer.err, "{rest}").unwrap(),
            (">\\ ", Some(Step::Command { answer, .. })) => answer.out.push_str(rest),
            ("!\\ ", Some(Step::Command { answer, .. })) => answer.err.push_str(rest),
            ("? ", Some(Step::Command { answer, .. })) => answer.code = rest.parse().unwrap(),
            (_, Some(Step::Command { line: command, .. })) => write!(command, "\n{line}").unwrap(),
            _ => panic!("no such step: {line}"),
        }
    }
    steps
}

/// A transcript being played.
struct Play {
    mount: Mount,
    folder: PathBuf,
    images: HashMap<char, Image>,
    held: HashMap<String, File>,
    major: String,
}

/// A backing file.
struct Image {
    path: PathBuf,
    /// Its number with us, and in the transcript.
    ours: String,
    theirs: String,
}

impl Play {
    fn new() -> Play {
        let mount = Mount::start();
        let folder = mount.folder().join("here");
        fs::create_dir(&folder).unwrap();
        let probed = mount.dmsetup(&["create", "probe", "-n"]);
        assert!(probed.status.success(), "{}", probed.err);
        let major = mount
            .dmsetup(&["info", "-c", "--noheadings", "-o", "major", "probe"])
            .must();
        mount.dmsetup(&["remove", "probe"]).must();
        let (images, held) = (HashMap::new(), HashMap::new());
        Play {
            mount,
            folder,
            images,
            held,
            major: major.trim().into(),
        }
    }

    /// Makes a backing file, and asks what number it has by making a device over it.
    fn image(&mut self, name: char, sectors: u64) {
        let theirs = self.images.len();
        let path = self.mount.backing(&format!("loop{theirs}"), sectors * 512);
        let table = format!("0 8 linear {} 0", path.display());
        self.mount
            .dmsetup(&["create", "probe", "--table", &table])
            .must();
        let ours = self.mount.dmsetup(&["table", "probe"]).must();
        self.mount.dmsetup(&["remove", "probe"]).must();
        let ours = ours.split(' ').nth(3).unwrap().to_owned();
        self.images.insert(
            name,
            Image {
                path,
                ours,
                theirs: format!("7:{theirs}"),
            },
        );
    }

    /// A text of the transcript with our names in it.
    fn in_our_words(&self, text: &str) -> String {
        let mut text = text.replace("{dm}", tools::word(self.mount.at()));
        for (name, image) in &self.images {
            text = text.replace(&format!("{{{name}}}"), tools::word(&image.path));
        }
        Regex::new(r"\b253\b")
            .unwrap()
            .replace_all(&text, &self.major)
            .into_owned()
    }

    /// What we printed, in the transcript's words. Each step says why there is a difference at all.
    fn in_their_words(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // The recorder's own: what the machine chose, and texts that are each program's own.
        text = text.replace(tools::word(&self.folder), "{dir}");
        text = text.replace(&format!("{}/", self.mount.at().display()), "{dm}/");
        text = fold(
            r"(?ms)^Usage:\n.*?^Tree specific options.*?\n.*?\n",
            "{usage}\n",
            &text,
        );
        text = fold(
            r"(?ms)^Selection operands\n.*\) +- [^\n]*\n",
            "{selection help}\n",
            &text,
        );
        if text.contains("\nSpecial Fields\n") {
            text = fold(
                r"(?m)^  (\S+)\s+- [A-Z(].*?( \[\w+(?: \w+)?\])?$",
                "  $1$2",
                &text,
            );
        }
        for (name, image) in &self.images {
            // A file has a number of our own major; the loop device that it stands for has 7:N. Where
            // the number stands in a padded column the blanks behind it make up for its length.
            let (major, minor) = image.ours.split_once(':').unwrap();
            let (_, their_minor) = image.theirs.split_once(':').unwrap();
            let missing = " ".repeat(image.ours.len() - image.theirs.len());
            let padded = format!(r"\b{major}:{minor}\b((?:,[0-9:]+)*)(  | ?$)");
            let padded = Regex::new(&format!("(?m){padded}")).unwrap();
            text = padded
                .replace_all(&text, |found: &regex::Captures<'_>| {
                    let fill = if found[2].is_empty() { "" } else { &missing };
                    format!("{}{}{fill}{}", image.theirs, &found[1], &found[2])
                })
                .into_owned();
            text = fold(&format!(r"\b{major}:{minor}\b"), &image.theirs, &text);
            text = fold(
                &format!(r"\({major}, {minor}\)"),
                &format!("(7, {their_minor})"),
                &text,
            );
            text = text.replace(tools::word(&image.path), &format!("{{{name}}}"));
        }
        fold(&format!(r"\b{}\b", self.major), "253", &text)
    }

    /// Closes a held device. A FUSE server hears of it a little later than close() returns, unlike the
    /// driver of a block device.
    fn release(&mut self, name: &str) {
        let openers = |play: &Play| {
            let words = ["info", "-c", "--noheadings", "-o", "open", name];
            play.mount.dmsetup(&words).out
        };
        let before = openers(self);
        drop(self.held.remove(name).unwrap());
        let begun = Instant::now();
        while openers(self) == before {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{name} is not released"
            );
        }
    }

    fn command(&self, line: &str, input: &str) -> Answer {
        fs::write(self.folder.join(".in"), self.in_our_words(input)).unwrap();
        let mut command = Command::new("timeout");
        command
            .args(["20", "sh", "-c", &self.in_our_words(line)])
            .current_dir(&self.folder);
        command.stdin(File::open(self.folder.join(".in")).unwrap());
        let output = self.mount.environment(&mut command).output().unwrap();
        Answer {
            out: self.in_their_words(&tools::text(&output.stdout)),
            err: self.in_their_words(&tools::text(&output.stderr)),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

fn fold(pattern: &str, by: &str, text: &str) -> String {
    Regex::new(pattern)
        .unwrap()
        .replace_all(text, by)
        .into_owned()
}

/// What dmsetup's help lists of statistics is left out: there are no reports about them yet.
fn without_statistics(err: &str) -> String {
    fold(r"(?ms)^Mapped Device Statistics .*?\n \n", "", err)
}

/// A command that we answer otherwise.
struct Choice {
    transcript: String,
    reason: String,
    nth: Option<usize>,
    line: String,
    answer: Answer,
}

/// What `dmsetup targets` prints of those that there are.
fn targets() -> String {
    let lines = KINDS.iter().map(|kind| {
        let [major, minor, patch] = kind.version;
        format!("> {:<16} v{major}.{minor}.{patch}", kind.name)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn choices() -> Vec<Choice> {
    let text = fs::read_to_string(path_of("").with_file_name("choices")).unwrap();
    let text = text.replace("{targets}", &targets());
    let (mut transcript, mut reason, mut nth) = (String::new(), String::new(), None);
    let mut choices = Vec::new();
    let mut command = String::new();
    let mut finish =
        |command: &mut String, transcript: &str, reason: &str, nth: &mut Option<usize>| {
            if let Some(Step::Command { line, answer, .. }) = parse(command).pop() {
                let (transcript, reason) = (transcript.to_owned(), reason.to_owned());
                choices.push(Choice {
                    transcript,
                    reason,
                    nth: nth.take(),
                    line,
                    answer,
                });
            }
            command.clear();
        };
    for line in text.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("in", name) => transcript = name.to_owned(),
            ("because", text) => reason = text.to_owned(),
            ("nth", number) => nth = Some(number.parse().unwrap()),
            ("#" | "", _) => {}
            (mark, _) => {
                writeln!(command, "{line}").unwrap();
                if mark == "?" {
                    finish(&mut command, &transcript, &reason, &mut nth);
                }
            }
        }
    }
    assert!(
        command.is_empty(),
        "a choice ends with its exit code: {command}"
    );
    choices
}

/// The answer that is asked of us: dmsetup's, or the chosen one with its reason.
fn wanted<'c>(choice: Option<&'c Choice>, theirs: &Answer) -> (Answer, Option<&'c str>) {
    match choice {
        Some(choice) => (choice.answer.clone(), Some(&choice.reason)),
        None => (
            Answer {
                err: without_statistics(&theirs.err),
                ..theirs.clone()
            },
            None,
        ),
    }
}

/// Plays a transcript and fails with all differences.
fn play(name: &str) {
    let text = fs::read_to_string(path_of(name)).unwrap();
    let mut choices = choices();
    choices.retain(|choice| choice.transcript == name);
    let mut play = Play::new();
    let (mut played, mut differing) = (0, String::new());
    let mut asked: HashMap<String, usize> = HashMap::new();
    let mut used = vec![false; choices.len()];
    for step in parse(&text) {
        match step {
            Step::Image { name, sectors } => play.image(name, sectors),
            Step::File { name, text } => {
                fs::write(play.folder.join(name), play.in_our_words(&text)).unwrap()
            }
            Step::Hold(name) => {
                let file = File::open(play.mount.device(&name)).unwrap();
                play.held.insert(name, file);
            }
            Step::Release(name) => play.release(&name),
            Step::Command {
                line,
                input,
                answer,
            } => {
                played += 1;
                let ours = play.command(&line, &input);
                let nth = asked.entry(line.clone()).or_default();
                *nth += 1;
                let choice = choices
                    .iter()
                    .position(|c| c.line == line && c.nth.is_none_or(|n| n == *nth));
                let (wanted, reason) = wanted(choice.and_then(|at| choices.get(at)), &answer);
                if ours != wanted {
                    tell(&mut differing, &line, *nth, reason, &wanted, &ours);
                    propose(name, &line, *nth, &ours);
                }
                if let Some(used) = choice.and_then(|at| used.get_mut(at)) {
                    *used |= wanted.err != answer.err
                        || wanted.out != answer.out
                        || wanted.code != answer.code;
                }
            }
        }
    }
    for (choice, _) in choices.iter().zip(used).filter(|(_, used)| !used) {
        writeln!(
            differing,
            "\n$ {}\n  is a choice without a difference",
            choice.line
        )
        .unwrap();
    }
    let count = differing.matches("\n$ ").count();
    assert!(
        differing.is_empty(),
        "{name}: played {played}, differing {count}\n{differing}"
    );
    assert!(played > 20, "{name}: only {played} commands");
}

/// Adds what we answered to the choices in the folder of `DMFS_CHOICES`, if that is set.
fn propose(name: &str, line: &str, nth: usize, ours: &Answer) {
    let Some(folder) = std::env::var_os("DMFS_CHOICES") else {
        return;
    };
    let mut text = format!("in {name}\nnth {nth}\n$ {line}\n");
    for (mark, lines) in [('>', &ours.out), ('!', &ours.err)] {
        for line in lines.lines() {
            writeln!(text, "{mark} {line}").unwrap();
        }
    }
    writeln!(text, "? {}", ours.code).unwrap();
    let file = Path::new(&folder).join(name);
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(file)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn tell(
    text: &mut String,
    line: &str,
    nth: usize,
    reason: Option<&str>,
    wanted: &Answer,
    ours: &Answer,
) {
    writeln!(text, "\n$ {line}").unwrap();
    if nth > 1 {
        writeln!(text, "  (nth {nth})").unwrap();
    }
    if let Some(reason) = reason {
        writeln!(text, "  (chosen: {reason})").unwrap();
    }
    for (mark, wanted, ours) in [('>', &wanted.out, &ours.out), ('!', &wanted.err, &ours.err)] {
        let (mut wanted, mut ours): (Vec<_>, Vec<_>) =
            (wanted.lines().collect(), ours.lines().collect());
        let same = wanted.iter().zip(&ours).take_while(|(a, b)| a == b).count();
        (wanted, ours) = (wanted.split_off(same), ours.split_off(same));
        while wanted.last().is_some_and(|line| ours.last() == Some(line)) {
            wanted.pop();
            ours.pop();
        }
        for (sign, lines) in [('-', wanted), ('+', ours)] {
            for line in lines.iter().take(20) {
                writeln!(text, "  {sign} {mark} {line}").unwrap();
            }
            if lines.len() > 20 {
                writeln!(text, "  {sign} {mark} ... {} lines", lines.len()).unwrap();
            }
        }
    }
    if wanted.code != ours.code {
        writeln!(text, "  - ? {}\n  + ? {}", wanted.code, ours.code).unwrap();
    }
}

macro_rules! transcripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { play(stringify!($name)); })*
    };
}

transcripts! {
    concise create info ls message more names remove rename report select slots splitname stats status tree usage
}

#[test]
fn every_transcript_is_played() {
    let mut found: Vec<String> = fs::read_dir(path_of("").parent().unwrap())
        .unwrap()
        .filter_map(|entry| {
            Some(
                entry
                    .unwrap()
                    .file_name()
                    .to_str()?
                    .strip_suffix(".transcript")?
                    .to_owned(),
            )
        })
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
    for choice in choices() {
        assert!(
            NAMES.contains(&&*choice.transcript),
            "no transcript {}",
            choice.transcript
        );
        assert!(!choice.reason.is_empty(), "{}: why?", choice.line);
    }
}
