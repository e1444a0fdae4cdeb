//! Encrypted volumes: `dmfs luks`, `dmfs plain`, `dmfs tcrypt`, and cryptsetup when called by that name.
//!
//! Actions, options, texts and exit codes are cryptsetup's. Headers are read and keys derived here, in the user's own
//! process; the daemon gets a table over its socket, which only its owner can open. Keys and passphrases come from
//! prompts and files, never from the command line.

mod actions;
mod arguments;
mod close;
mod config;
mod device;
mod dump;
mod format;
mod header;
mod help;
mod open;
mod options;
mod passphrase;
mod plain;
mod reencrypt;
mod slots;
mod tcrypt;
mod tokens;
mod volume;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use actions::{ACTIONS, ALIASES, ActionDef, goes_with};
use arguments::Arguments;

use super::Daemon;
use super::arguments::{Options, Style};
use super::session::{Failure, Session};
use crate::encrypted::{Kind, Refused};

/// What an action ends with.
type Done<T = ()> = Result<T, Refused>;

/// What does an action.
type Action = fn(&mut Context<'_, '_>) -> Done;

/// As what the program is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// As `cryptsetup`.
    Cryptsetup,
    /// As `dmfs luks`, `dmfs plain` or `dmfs tcrypt`.
    Dmfs(&'static str),
}

/// The verbs of `dmfs` that are ours.
pub const VERBS: [&str; 3] = ["luks", "plain", "tcrypt"];

impl Called {
    /// Whether the command line is ours, and what of it follows.
    pub fn of(args: &[OsString]) -> Option<(Called, Vec<OsString>)> {
        let (program, rest) = args.split_first()?;
        if Path::new(program).file_name()? == "cryptsetup" {
            return Some((Called::Cryptsetup, rest.to_vec()));
        }
        // The mount may be named before the verb, as before any other.
        let mut rest = rest.to_vec();
        let at = match rest.first()?.to_str()? {
            "--mount" => 2,
            word if word.starts_with("--mount=") => 1,
            _ => 0,
        };
        let verb = rest.get(at)?.to_str()?;
        let verb = VERBS.into_iter().find(|known| *known == verb)?;
        rest.remove(at);
        Some((Called::Dmfs(verb), rest))
    }

    fn name(self) -> String {
        match self {
            Called::Cryptsetup => "cryptsetup".to_owned(),
            Called::Dmfs(verb) => format!("dmfs {verb}"),
        }
    }

    /// The action of this name, and the type that it is for.
    fn action(self, name: &str) -> Option<(&'static ActionDef, Option<&'static str>)> {
        let (name, kind) = match ALIASES.iter().find(|(alias, ..)| *alias == name) {
            Some((_, action, kind)) if self == Called::Cryptsetup => (*action, *kind),
            _ => (name, None),
        };
        let found = ACTIONS.iter().find(|action| match self {
            Called::Cryptsetup => action.name == name,
            Called::Dmfs(verb) => {
                help::belongs(verb, action) && [action.verb, action.name].contains(&name)
            }
        })?;
        match self {
            Called::Cryptsetup => Some((found, kind)),
            Called::Dmfs(verb) => Some((found, Some(verb))),
        }
    }
}

/// Runs the action of a command line. Answers the exit code.
pub fn run(called: Called, args: Vec<OsString>, session: &mut Session<'_>) -> u8 {
    let mut verbose = false;
    let done = Arguments::parse(args).and_then(|arguments| {
        verbose = arguments.flag("verbose");
        session.options.mount = arguments.text("mount").map(str::to_owned);
        act(called, arguments, session)
    });
    let code = match &done {
        Ok(()) => 0,
        Err(refused) => {
            session.tell(&Failure::new(&refused.message));
            refused.kind.exit_code()
        }
    };
    if verbose {
        let line = match &done {
            Ok(()) => "Command successful.".to_owned(),
            Err(refused) => format!(
                "Command failed with code -{code} ({}).",
                meaning(refused.kind)
            ),
        };
        // Nobody can be told that the output is closed.
        let _ = match done {
            Ok(()) => session.print(&(line + "\n")),
            Err(_) => session.tell_text(&(line + "\n")),
        };
    }
    session.flush();
    code
}

fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "wrong or missing parameters",
        Kind::Passphrase => "no permission or bad passphrase",
        Kind::Memory => "out of memory",
        Kind::Device => "wrong device or file specified",
        Kind::Busy => "device already exists or device is busy",
    }
}

fn act(called: Called, mut arguments: Arguments, session: &mut Session<'_>) -> Done {
    let program = called.name();
    if arguments.flag("version") {
        return told(session.print(&format!("{program} (dmfs {})\n", env!("CARGO_PKG_VERSION"))));
    }
    let name = match arguments.words.is_empty() {
        true => None,
        false => Some(arguments.words.remove(0)),
    };
    let found = name.as_deref().and_then(|name| called.action(name));
    if arguments.flag("help") || (called != Called::Cryptsetup && name.as_deref() == Some("help")) {
        let action = found.map(|(action, _)| action);
        return told(session.print(&help::text(called, action)));
    }
    let Some((action, kind)) = found else {
        let what = match &name {
            Some(name) => format!("unknown action '{name}'"),
            None => "no action named".to_owned(),
        };
        return Err(Refused::invalid(format!(
            "{program}: {what}: expected {}",
            help::names(called)
        )));
    };
    if let Some(option) = arguments.given().find(|option| !goes_with(option, action)) {
        return Err(Refused::invalid(format!(
            "{program}: Option --{option} is not allowed with {} action.",
            help::name(called, action)
        )));
    }
    let n = arguments.words.len();
    if n < action.words.0 || n > action.words.1 {
        return Err(Refused::invalid(format!(
            "{program}: {} requires {} as arguments",
            help::name(called, action),
            action.usage
        )));
    }
    let kind = arguments.text("type").or(kind).map(str::to_owned);
    if arguments.texts("key-file").count() > 1 && kind.as_deref() != Some("tcrypt") {
        return Err(Refused::invalid("Only one --key-file argument is allowed."));
    }
    let mut context = Context {
        session,
        arguments,
        kind,
    };
    (action.run)(&mut context)
}

/// A failure of the session's.
fn refused(failure: Failure) -> Refused {
    Refused::invalid(failure.lines.join("\n"))
}

fn told(outcome: super::session::Outcome) -> Done {
    outcome.map_err(refused)
}

/// What an action works with.
struct Context<'c, 's> {
    session: &'c mut Session<'s>,
    arguments: Arguments,
    /// The type that was asked for.
    kind: Option<String>,
}

impl Context<'_, '_> {
    /// A word of the command line.
    fn word(&self, index: usize) -> String {
        self.arguments.words.get(index).cloned().unwrap_or_default()
    }

    fn print(&mut self, text: &str) -> Done {
        told(self.session.print(text))
    }

    /// Prints to standard error.
    fn warn(&mut self, text: &str) {
        self.session.tell(&Failure::new(text));
    }

    /// Prints where more is to be told.
    fn verbose(&mut self, text: &str) -> Done {
        match self.arguments.flag("verbose") {
            true => self.print(text),
            false => Ok(()),
        }
    }

    /// Where a device's bytes can be read: devices of the mount lie in it, whatever `/dev/mapper` holds.
    fn path_of(&mut self, word: &str) -> PathBuf {
        match word.strip_prefix("/dev/mapper/") {
            Some(name) if !Path::new(word).exists() => match self.session.mount() {
                Ok(mount) => Path::new(&mount.mountpoint).join(name),
                Err(_) => PathBuf::from(word),
            },
            _ => PathBuf::from(word),
        }
    }
}

/// A verb of ours behind options of others.
///
/// # Errors
/// Always: such a command line is not ours.
pub fn misplaced(_session: &mut Session<'_>, _words: &[String]) -> super::session::Outcome {
    Err(Failure::new(
        "dmfs: expected the verb first, then its options: dmfs luks ACTION --OPTION",
    ))
}

/// The session of a command line that is ours.
pub fn session<'s>(
    daemon: Daemon,
    out: &'s mut dyn std::io::Write,
    err: &'s mut dyn std::io::Write,
) -> Session<'s> {
    Session::new(Style::Dmfs, Options::default(), daemon, out, err)
}
