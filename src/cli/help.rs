//! `help`, usage texts, man pages and completions: all made from [`super::definitions`].

use std::fs;
use std::path::Path;

use clap::{Arg, Command};
use clap_complete::{Shell, generate as complete};
use clap_mangen::Man;

use super::arguments::{Style, to_arg};
use super::definitions::{OPTIONS, OptionDef, VERBS, VerbDef, verb};
use super::examples::example;
use super::report::{Report, ReportKind, ReportOptions};
use super::session::{Failure, Outcome, Session};
use crate::control::protocol::mount::STATE_FORMAT;

/// What the whole program is for.
const ABOUT: &str =
    "The device mapper without the kernel: mapped block devices as files in a FUSE mount";

/// Columns of a help text at most, and where there is no terminal.
const HELP_WIDTH: usize = 100;

/// Verbs that `style` knows.
fn verbs(style: Style) -> impl Iterator<Item = &'static VerbDef> {
    VERBS
        .iter()
        .filter(move |verb| style == Style::Dmfs || !verb.dmfs_only)
}

fn options(style: Style) -> impl Iterator<Item = &'static OptionDef> {
    OPTIONS
        .iter()
        .filter(move |option| style == Style::Dmfs || !option.dmfs_only)
}

/// The usage text: every verb and every option.
pub fn usage(style: Style) -> String {
    let name = style.name();
    let mut text = format!("Usage:\n\n{name} [OPTIONS] COMMAND [ARGUMENTS]\n\n");
    for verb in verbs(style) {
        for name in std::iter::once(&verb.name).chain(verb.aliases) {
            text += &match style {
                Style::Dmsetup => format!("\t{name} {}", verb.usage).trim_end().to_string(),
                Style::Dmfs => format!("\t{name:<18} {}", verb.about),
            };
            text.push('\n');
        }
    }
    if style == Style::Dmfs {
        text += "\n'dmfs help COMMAND' tells its arguments and the options that matter to it.\n";
    }
    text += "\nOptions, which may stand anywhere and be cut to a unique prefix:\n\n";
    for option in options(style) {
        text += &option_line(option);
    }
    text += "\nDEVICE is a name, a path of the device's file, or -u UUID or -j MAJOR -m MINOR.\n\
             FIELDS have commas between them; 'help -c' lists them.\n\
             Tree specific options of 'ls --tree -o': ascii, utf, vt100, compact, inverted, notrunc,\n\
             blkdevname, [no]device, active, open, rw, uuid.\n\n";
    text
}

fn option_line(option: &OptionDef) -> String {
    let mut names: Vec<String> = option
        .short
        .iter()
        .map(|letter| format!("-{letter}"))
        .collect();
    names.push(format!("--{}", option.long));
    let mut names = names.join("|");
    if let Some(value) = option.value {
        names += &format!(" {value}");
    }
    format!("\t{names:<32} {}\n", option.help)
}

/// What to say to a command line whose verb, or number of words, is wrong.
pub fn correction(style: Style, line: &str, verb: Option<&VerbDef>) -> String {
    match (style, verb) {
        (Style::Dmsetup, _) => format!("{line}\n{}", usage(style)),
        (Style::Dmfs, None) => format!("{line}\n'dmfs help' lists the commands."),
        (Style::Dmfs, Some(verb)) => format!("{line}\nUsage: dmfs {} {}", verb.name, verb.usage)
            .trim_end()
            .to_string(),
    }
}

/// `help [VERB]`
pub fn run(session: &mut Session<'_>, words: &[String]) -> Outcome {
    if session.options.columns {
        if !session.is_dmfs() {
            session.tell_text(&usage(session.style))?;
        }
        let fields = ReportOptions {
            fields: Some("help".to_string()),
            ..ReportOptions::default()
        };
        let report = Report::new(ReportKind::Devices, &fields).map_err(Failure::new)?;
        return session.tell_text(report.help().unwrap_or_default());
    }
    match words.first() {
        None if session.is_dmfs() => session.print(&usage(session.style)),
        None => session.tell_text(&usage(session.style)),
        Some(word) => match verb(word, session.style == Style::Dmsetup) {
            Some(verb) => {
                let width = session.look.width.unwrap_or(HELP_WIDTH).min(HELP_WIDTH);
                let help = verb_command(verb).term_width(width).render_long_help();
                let help = match session.look.colour {
                    true => help.ansi().to_string(),
                    false => help.to_string(),
                };
                session.print(&help)
            }
            None => Err(Failure::new(format!(
                "{}: no command '{word}'",
                session.style.name()
            ))),
        },
    }
}

/// A verb as clap sees it, for texts.
fn verb_command(verb: &VerbDef) -> Command {
    let known = |name: &str| OPTIONS.iter().find(|option| option.long == name);
    let name = format!("dmfs {}", verb.name);
    Command::new(verb.name)
        .bin_name(name.clone())
        .display_name(name.replace(' ', "-"))
        .about(verb.about)
        .override_usage(
            format!("{name} [OPTIONS] {}", verb.usage)
                .trim_end()
                .to_string(),
        )
        .visible_aliases(verb.aliases.to_vec())
        .disable_help_flag(true)
        .after_help(
            example(verb)
                .map(|line| format!("Example: {line}"))
                .unwrap_or_default(),
        )
        .args(
            verb.options
                .iter()
                .filter_map(|name| known(name))
                .map(to_arg),
        )
        .arg(
            Arg::new("words")
                .num_args(0..)
                .value_name("ARGUMENTS")
                // The usage line names them.
                .hide(true),
        )
}

/// The whole program as clap sees it, for man pages and completions.
fn program() -> Command {
    Command::new("dmfs")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .override_usage("dmfs [OPTIONS] COMMAND [ARGUMENTS]")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(OPTIONS.iter().map(|option| to_arg(option).global(true)))
        .subcommands(VERBS.iter().map(|verb| {
            Command::new(verb.name)
                .about(verb.about)
                .visible_aliases(verb.aliases.to_vec())
                .disable_help_flag(true)
                .arg(Arg::new("words").num_args(0..))
        }))
}

/// `generate man DIR`, `generate completions SHELL`
pub fn generate(session: &mut Session<'_>, words: &[String]) -> Outcome {
    match words {
        [what, folder] if what == "man" => write_man_pages(Path::new(folder)),
        [what, shell] if what == "completions" => {
            let shell: Shell = shell.parse().map_err(|_| {
                Failure::new(format!(
                    "dmfs: expected bash, elvish, fish, powershell or zsh, found '{shell}'"
                ))
            })?;
            let mut text = Vec::new();
            complete(shell, &mut program(), "dmfs", &mut text);
            session.print(&String::from_utf8_lossy(&text))
        }
        [what] if what == "state-format" => session.print(&format!("{STATE_FORMAT}\n")),
        _ => Err(Failure::new(
            "dmfs: generate: expected man DIR, completions SHELL or state-format",
        )),
    }
}

/// One page for the program and one for each verb.
fn write_man_pages(folder: &Path) -> Outcome {
    let problem =
        |error: std::io::Error| Failure::new(format!("dmfs: {}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(problem)?;
    let overview =
        program().after_help("dmfs-VERB(8) for each command, dmfs-doctor(8), dmsetup(8)");
    let pages = VERBS.iter().map(|verb| {
        (
            format!("dmfs-{}", verb.name),
            "EXAMPLES",
            verb_command(verb),
        )
    });
    for (name, last, command) in pages.chain([("dmfs".to_string(), "SEE ALSO", overview)]) {
        let mut page = Vec::new();
        Man::new(command)
            .section("8")
            .render(&mut page)
            .map_err(problem)?;
        // What follows a help text has no heading of its own there.
        let page = String::from_utf8_lossy(&page)
            .replacen(".SH EXTRA\nExample: ", ".SH EXTRA\n", 1)
            .replacen(".SH EXTRA", &format!(".SH {last}"), 1);
        fs::write(folder.join(format!("{name}.8")), page).map_err(problem)?;
    }
    Ok(())
}
