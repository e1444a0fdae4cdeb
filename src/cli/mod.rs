//! The command line: `dmfs`, and `dmsetup` or `dmstats` (which is `dmsetup stats`) when called by that name.
//!
//! One process runs one verb: [`arguments`] takes the line apart by the lists in [`definitions`], a
//! [`session::Session`] connects to the mount's daemon, and [`verbs`] do on the wire what libdm does.
//! What they print, and where, is dmsetup's; `dmfs` adds the reason of a failure before dmsetup's line.
//! Verbs speak [`crate::control::protocol`] only; [`report`], [`tree`] and [`names`] are pure.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use arguments::{Arguments, Style};
use definitions::{Run, VerbDef, verb};
use report::{Report, ReportKind, ReportOptions, check_units};
use session::{Failure, Session};

use crate::control::protocol::crash::{CrashOptions, LogOptions};
use crate::control::protocol::mount::MountOptions;
use crate::control::protocol::run::RunOptions;
use crate::terminal::{Look, Paint};

pub mod arguments;
mod columns;
mod cryptsetup;
pub mod definitions;
mod doctor;
pub mod examples;
mod graph;
pub mod help;
pub mod names;
pub mod paths;
pub mod report;
pub mod session;
pub mod task;
mod top;
pub mod tree;
pub mod verbs;

#[cfg(test)]
mod tests;

/// What the program can do beside talking to a daemon: be one.
#[derive(Clone, Copy)]
pub struct Daemon {
    /// Serves a mount until it ends; with `background`, returns once it stands.
    pub mount: fn(MountOptions) -> Result<(), String>,
    /// Runs a command over a mount, and gives its exit status.
    pub run: fn(RunOptions) -> u8,
    /// Checks a mount file: what to print, or every error on a line of its own.
    pub check: fn(&Path) -> Result<String, String>,
    /// Lists or replays a log of log-writes.
    pub log_writes: fn(LogOptions, &mut dyn Write) -> Result<(), String>,
    /// Shows or checks the states that a power cut could have left; a bad one is an error.
    pub crash_states: fn(CrashOptions, &mut dyn Write) -> Result<(), String>,
}

/// Runs the program with its arguments, the name it was called by first. Answers the exit code.
pub fn run(args: Vec<OsString>, daemon: Daemon, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    if let Some((called, args)) = cryptsetup::Called::of(&args) {
        let mut session = cryptsetup::session(daemon, out, err);
        return cryptsetup::run(called, args, &mut session);
    }
    let style = style(args.first());
    let stats = is_called(args.first(), "dmstats").then(|| OsString::from("stats"));
    let words = stats.into_iter().chain(args.into_iter().skip(1)).collect();
    let arguments = match arguments::parse(style, words) {
        Ok(arguments) => arguments,
        Err(mut lines) => {
            lines.push("Couldn't process command line.".to_string());
            print_lines(err, &lines);
            return 1;
        }
    };
    let folder = std::env::var("DM_DEV_DIR").unwrap_or_default();
    if style == Style::Dmsetup && !folder.is_empty() && !folder.starts_with('/') {
        print_lines(
            err,
            &["Invalid DM_DEV_DIR environment variable value.".to_string()],
        );
        return 1;
    }
    let mut session = Session::new(style, arguments.options.clone(), daemon, out, err);
    if style == Style::Dmfs {
        session.look = Look::of(std::io::stdout());
        session.err_look = Look::of(std::io::stderr());
        session.task_label = task_label(&arguments);
    }
    session.command = arguments.command.clone();
    let done = dispatch(&mut session, &arguments);
    session.flush();
    session.status.unwrap_or(u8::from(!done))
}

/// What those who wait for a verb are told is going on; empty for a verb that waits on purpose, or tells by itself.
fn task_label(arguments: &Arguments) -> String {
    let options = &arguments.options;
    let waits = options.interval.is_some() || options.count.is_some();
    match arguments.verb.as_deref() {
        None | Some("mount" | "run" | "wait" | "top") => String::new(),
        Some(_) if waits => String::new(),
        Some(verb) => match arguments.words.as_slice() {
            [word] => format!("{verb} {word}"),
            _ => verb.to_owned(),
        },
    }
}

fn style(program: Option<&OsString>) -> Style {
    match is_called(program, "dmsetup") || is_called(program, "dmstats") {
        true => Style::Dmsetup,
        false => Style::Dmfs,
    }
}

fn is_called(program: Option<&OsString>, name: &str) -> bool {
    let called = program.and_then(|path| Path::new(path).file_name());
    called.is_some_and(|called| called == name)
}

fn print_lines(err: &mut dyn Write, lines: &[String]) {
    for line in lines {
        // Nobody can be told that standard error is closed.
        let _ = writeln!(err, "{line}");
    }
}

/// Finds the verb, checks its words, and runs it; whether it succeeded.
fn dispatch(session: &mut Session<'_>, arguments: &Arguments) -> bool {
    let refuse = |session: &mut Session<'_>, text: String| {
        session.tell(&Failure::new(text));
        false
    };
    let dmsetup = session.style == Style::Dmsetup;
    let (name, words) = match (&arguments.verb, arguments.words.as_slice()) {
        (Some(word), _) if arguments.options.help && !dmsetup => ("help", vec![word.clone()]),
        _ if arguments.options.help => ("help", Vec::new()),
        _ if arguments.options.version => ("version", Vec::new()),
        (Some(name), words) => (name.as_str(), words.to_vec()),
        (None, _) => return refuse(session, help::usage(session.style)),
    };
    let Some(verb) = verb(name, dmsetup) else {
        let text = help::correction(session.style, "Unknown command.", None);
        return refuse(session, text);
    };
    let max = if dmsetup && verb.name == "help" {
        Some(0)
    } else {
        verb.max
    };
    if words.len() < verb.min || max.is_some_and(|max| words.len() > max) {
        let line = "Incorrect number of arguments.";
        return refuse(session, help::correction(session.style, line, Some(verb)));
    }
    if let Err(error) = arguments
        .options
        .units
        .as_deref()
        .map_or(Ok(()), check_units)
    {
        session.tell(&Failure::new(error));
        return false;
    }
    if arguments.options.version && session.style == Style::Dmfs {
        return print_own_version(session);
    }
    let outcome = match reports(session, verb) {
        None if verb.takes_selection() && session.options.select.is_some() => {
            run_selected(session, verb, &words)
        }
        Some(kind) => run_report(session, verb, &words, kind),
        None => run_verb(session, verb, &words).and_then(|()| session.finish_lists()),
    };
    match outcome {
        Ok(()) => true,
        Err(failure) => {
            session.tell(&failure);
            if !failure.is_final {
                session.tell(&Failure::new("Command failed."));
            }
            false
        }
    }
}

/// `dmfs --version` needs no mount.
fn print_own_version(session: &mut Session<'_>) -> bool {
    let line = format!("dmfs {}\n", env!("CARGO_PKG_VERSION"));
    session.print(&line).is_ok()
}

fn run_verb(session: &mut Session<'_>, verb: &VerbDef, words: &[String]) -> session::Outcome {
    // What `stats` reports, it plans by itself.
    if !session.options.columns && reports(session, verb).is_none() && verb.name != "stats" {
        verbs::ls::check_options(session)?;
    }
    match verb.run {
        Run::Once(run) => run(session, words),
        Run::Each(run) if words.is_empty() => {
            let several = session.means_all(None);
            run(session, None, several)
        }
        Run::Each(run) => {
            if session.options.json && words.len() > 1 {
                session.begin_list();
            }
            if words.len() > 1 {
                session.expect(words.len());
            }
            words.iter().try_for_each(|word| {
                run(session, Some(word), words.len() > 1)?;
                session.step();
                Ok(())
            })
        }
    }
}

/// Runs a verb for the devices that `--select` holds for, among those named or all.
fn run_selected(session: &mut Session<'_>, verb: &VerbDef, words: &[String]) -> session::Outcome {
    let options = ReportOptions {
        select: session.options.select.clone(),
        mangling: session.options.mangling,
        ..ReportOptions::default()
    };
    let report = Report::new(ReportKind::Devices, &options)
        .map_err(|error| Failure::new(error).final_word())?;
    if let Some(text) = report.help() {
        return session.tell_text(text);
    }
    let Some(info) = definitions::verb("info", true) else {
        return Ok(());
    };
    session.report_needs_deps = report.needs_deps();
    session.options.columns = true;
    run_verb(session, info, words)?;
    session.options.columns = false;
    let rows = std::mem::take(&mut session.report_rows);
    let all = match report.needs_deps() {
        true => verbs::ls::all_rows(session)?,
        false => Vec::new(),
    };
    let mut names = Vec::new();
    for row in report.selected(&rows, &all).map_err(Failure::new)? {
        names.push(session.shown(&row.name)?);
    }
    let Run::Each(run) = verb.run else {
        return Ok(());
    };
    if session.options.json {
        session.begin_list();
    }
    let mut outcome = Ok(());
    session.expect(names.len());
    for name in names {
        if let Err(failure) = run(session, Some(&name), true) {
            session.tell(&failure);
            outcome = Err(Failure::told());
        }
        session.step();
    }
    outcome.and(session.finish_lists())
}

/// Which report the verb makes, if it makes one.
fn reports(session: &Session<'_>, verb: &VerbDef) -> Option<ReportKind> {
    match verb.name {
        "info" if session.options.columns => Some(ReportKind::Devices),
        "splitname" => Some(ReportKind::SplitName),
        _ => None,
    }
}

fn report_options(session: &Session<'_>) -> ReportOptions {
    let options = &session.options;
    let no_headings = options
        .headings
        .as_deref()
        .is_some_and(|style| matches!(style, "none" | "0"));
    ReportOptions {
        fields: options.options.clone(),
        sort: options.sort.clone(),
        select: options.select.clone(),
        separator: options.separator.clone(),
        noheadings: options.noheadings || no_headings,
        nameprefixes: options.nameprefixes,
        unquoted: options.unquoted,
        rows: options.rows,
        json: options.json,
        mangling: options.mangling,
    }
}

/// Collects what the verb reports and prints it, as often as `--count` asks.
fn run_report(
    session: &mut Session<'_>,
    verb: &VerbDef,
    words: &[String],
    kind: ReportKind,
) -> session::Outcome {
    let report = Report::new(kind, &report_options(session))
        .map_err(|error| Failure::new(error).final_word())?;
    if let Some(text) = report.help() {
        session.tell_text(text)?;
        return run_verb(session, verb, words);
    }
    for warning in report.warnings() {
        session.tell(&Failure::new(warning));
    }
    session.report_needs_deps = report.needs_deps();
    let mut left = match session.options.count {
        Some(count) => Some(count).filter(|&count| count > 0),
        None if session.options.interval.is_some() => None,
        None => Some(1),
    };
    loop {
        session.report_rows.clear();
        let outcome = run_verb(session, verb, words);
        print_report(session, &report)?;
        outcome?;
        left = left.map(|left| left - 1);
        if left == Some(0) {
            return Ok(());
        }
        session.print("\n")?;
        session.flush();
        sleep(Duration::from_secs(
            session.options.interval.unwrap_or(1).into(),
        ));
    }
}

fn print_report(session: &mut Session<'_>, report: &Report) -> session::Outcome {
    if let Some(split) = session.split_name.clone() {
        let text = report.split_name(&split).map_err(Failure::new)?;
        return session.print(&text);
    }
    let rows = std::mem::take(&mut session.report_rows);
    let all = match report.needs_deps() {
        true => verbs::ls::all_rows(session)?,
        false => Vec::new(),
    };
    if rows.is_empty() && !session.options.json {
        return Ok(());
    }
    let text = report.devices(&rows, &all).map_err(Failure::new)?;
    let options = report_options(session);
    let has_head = !(options.json || options.nameprefixes || options.rows || options.noheadings);
    match text.split_once('\n') {
        Some((head, rest)) if has_head => {
            let head = session.paint(Paint::Head, head);
            session.print(&format!("{head}\n{rest}"))
        }
        _ => session.print(&text),
    }
}
