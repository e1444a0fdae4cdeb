//! The command line as values: dmsetup's grammar through clap, and its words for what is wrong.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::definitions::{OPTIONS, OptionDef};
use super::names::{Mangling, NameError};

#[cfg(test)]
mod tests;

/// The one flag that counts how often it is given.
const VERBOSE: &str = "verbose";

/// As which program we are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As `dmfs`: errors tell the reason and the place, tables show paths.
    Dmfs,
    /// As `dmsetup`: its output alone.
    Dmsetup,
}

/// Every option's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct Options {
    pub alias: Option<String>,
    pub alldevices: bool,
    pub allprograms: bool,
    pub allregions: bool,
    pub area: bool,
    pub areas: Option<u32>,
    pub areasize: Option<String>,
    pub bounds: Option<String>,
    pub cache: Option<String>,
    pub clear: bool,
    pub columns: bool,
    pub concise: bool,
    /// Which of the verb's words follows `--concise`.
    pub concise_word: Option<usize>,
    pub count: Option<u32>,
    pub deferred: bool,
    pub exec: Option<String>,
    pub force: bool,
    pub group: bool,
    pub filemap: bool,
    pub groupid: Option<u32>,
    pub histogram: bool,
    pub help: bool,
    pub inactive: bool,
    pub interval: Option<u32>,
    pub json: bool,
    pub length: Option<String>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub mangling: Mangling,
    pub nameprefixes: bool,
    pub noflush: bool,
    pub nogroup: bool,
    pub nomonitor: bool,
    pub noheadings: bool,
    pub headings: Option<String>,
    pub nolockfs: bool,
    pub noopencount: bool,
    pub notable: bool,
    pub options: Option<String>,
    pub precise: bool,
    pub programid: Option<String>,
    pub readonly: bool,
    pub region: bool,
    pub regionid: Option<u32>,
    pub regions: Option<String>,
    pub relative: bool,
    pub retry: bool,
    pub rows: bool,
    pub segments: bool,
    pub select: Option<String>,
    pub separator: Option<String>,
    pub setuuid: bool,
    pub showkeys: bool,
    pub sort: Option<String>,
    pub start: Option<String>,
    pub table: Option<String>,
    pub target: Option<String>,
    pub tree: bool,
    pub units: Option<String>,
    pub unquoted: bool,
    pub userdata: Option<String>,
    pub uuid: Option<String>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<u32>,
    pub verbose: u8,
    pub version: bool,
    pub atomic: Option<u32>,
    pub check: Option<String>,
    pub end_mark: Option<String>,
    pub end_sector: Option<u32>,
    pub every: Option<String>,
    pub ignore_flushes: bool,
    pub jobs: Option<u32>,
    pub keep_going: bool,
    pub limit: Option<u32>,
    pub next_flush: bool,
    pub next_fua: bool,
    pub no_discard: bool,
    pub samples: Option<u32>,
    pub seed: Option<u32>,
    pub start_entry: Option<u32>,
    pub start_mark: Option<String>,
    pub start_sector: Option<u32>,
    pub state: Option<String>,
    pub states: Option<u32>,
    pub allow_other: bool,
    pub harden: bool,
    pub background: bool,
    pub block_devices: bool,
    pub lazy: bool,
    pub link: bool,
    pub metrics: Option<String>,
    pub mount: Option<String>,
    pub program: Option<String>,
    pub supervised: bool,
    pub root: bool,
    pub svg: bool,
    pub target_versions: Option<String>,
    pub user: bool,
    pub transport: Option<String>,
}

/// A command line, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// As which program we are called.
    pub style: Style,
    /// The options.
    pub options: Options,
    /// The verb, if there is one.
    pub verb: Option<String>,
    /// What follows the verb.
    pub words: Vec<String>,
    /// What follows `--` behind `run`.
    pub command: Vec<OsString>,
}

impl Style {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dmfs => "dmfs",
            Self::Dmsetup => "dmsetup",
        }
    }

    fn knows(self, option: &OptionDef) -> bool {
        self == Self::Dmfs || !option.dmfs_only
    }
}

/// The clap argument of `option`.
pub fn to_arg(option: &OptionDef) -> Arg {
    let mut arg = Arg::new(option.long).long(option.long).help(option.help);
    if let Some((&first, others)) = option.short.split_first() {
        arg = arg.short(first).visible_short_aliases(others.to_vec());
    }
    match option.value {
        // The word after such an option is its value, whatever it looks like.
        Some(name) => arg.value_name(name).allow_hyphen_values(true),
        None if option.long == VERBOSE => arg.action(ArgAction::Count),
        None => arg.action(ArgAction::SetTrue),
    }
}

fn grammar(style: Style) -> Command {
    let known = OPTIONS.iter().filter(|option| style.knows(option));
    Command::new(style.name())
        .no_binary_name(true)
        .infer_long_args(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .args(known.map(to_arg))
        .arg(Arg::new("words").num_args(0..))
}

/// Takes apart what follows the program's name.
///
/// # Errors
/// The lines to print, `getopt`'s and dmsetup's.
pub fn parse(style: Style, args: Vec<OsString>) -> Result<Arguments, Vec<String>> {
    let end = args.iter().position(|word| word == "--");
    if let Some(end) = end.filter(|_| style == Style::Dmfs) {
        let own = args.get(..end).unwrap_or_default();
        if let Ok(arguments) = parse_own(style, own.to_vec())
            && arguments.verb.as_deref() == Some("run")
        {
            return Ok(Arguments {
                command: args.get(end + 1..).unwrap_or_default().to_vec(),
                ..arguments
            });
        }
    }
    parse_own(style, args)
}

fn parse_own(style: Style, args: Vec<OsString>) -> Result<Arguments, Vec<String>> {
    let last = args.last().map(|word| word.to_string_lossy().into_owned());
    let matches = grammar(style).try_get_matches_from(args).map_err(|error| {
        let text = getopt_text(style, &error, last.as_deref().unwrap_or_default());
        vec![format!("{}: {text}", style.name())]
    })?;
    let mut words = matches
        .get_many::<String>("words")
        .unwrap_or_default()
        .cloned();
    Ok(Arguments {
        style,
        verb: words.next(),
        words: words.collect(),
        command: Vec::new(),
        options: options(style, &matches)?,
    })
}

fn options(style: Style, matches: &ArgMatches) -> Result<Options, Vec<String>> {
    let known = |id: &str| matches.try_contains_id(id).is_ok();
    let on = |id: &str| known(id) && matches.get_flag(id);
    let text = |id: &str| {
        known(id)
            .then(|| matches.get_one::<String>(id).cloned())
            .flatten()
    };
    let number = |id: &str| text(id).map(|word| number(style, id, &word)).transpose();
    let options = Options {
        alias: text("alias"),
        alldevices: on("alldevices"),
        allprograms: on("allprograms"),
        allregions: on("allregions"),
        area: on("area"),
        areas: number("areas")?,
        areasize: text("areasize"),
        bounds: text("bounds"),
        cache: text("cache"),
        clear: on("clear"),
        columns: on("columns"),
        concise: on("concise"),
        concise_word: on("concise")
            .then(|| word_after(matches, "concise"))
            .flatten(),
        count: number("count")?,
        deferred: on("deferred"),
        exec: text("exec"),
        force: on("force"),
        group: on("group"),
        filemap: on("filemap"),
        groupid: number("groupid")?,
        histogram: on("histogram"),
        help: on("help"),
        inactive: on("inactive"),
        interval: number("interval")?,
        json: on("json"),
        length: text("length"),
        major: number("major")?,
        minor: number("minor")?,
        mangling: mangling(text("manglename"))?,
        nameprefixes: on("nameprefixes"),
        noflush: on("noflush"),
        nogroup: on("nogroup"),
        nomonitor: on("nomonitor"),
        noheadings: on("noheadings"),
        headings: text("headings"),
        nolockfs: on("nolockfs"),
        noopencount: on("noopencount"),
        notable: on("notable"),
        options: text("options"),
        precise: on("precise"),
        programid: text("programid"),
        readonly: on("readonly"),
        region: on("region"),
        regionid: number("regionid")?,
        regions: text("regions"),
        relative: on("relative"),
        retry: on("retry"),
        rows: on("rows"),
        segments: on("segments"),
        select: text("select"),
        separator: text("separator"),
        setuuid: on("setuuid"),
        showkeys: on("showkeys"),
        sort: text("sort"),
        start: text("start"),
        table: text("table"),
        target: text("target"),
        tree: on("tree"),
        units: text("units"),
        unquoted: on("unquoted"),
        userdata: text("userdata"),
        uuid: text("uuid"),
        uid: number("uid")?,
        gid: number("gid")?,
        mode: text("mode").and_then(|word| u32::from_str_radix(&word, 8).ok()),
        verbose: matches.get_count(VERBOSE),
        version: on("version"),
        atomic: number("atomic")?,
        check: text("check"),
        end_mark: text("end-mark"),
        end_sector: number("end-sector")?,
        every: text("every"),
        ignore_flushes: on("ignore-flushes"),
        jobs: number("jobs")?,
        keep_going: on("keep-going"),
        limit: number("limit")?,
        next_flush: on("next-flush"),
        next_fua: on("next-fua"),
        no_discard: on("no-discard"),
        samples: number("samples")?,
        seed: number("seed")?,
        start_entry: number("start-entry")?,
        start_mark: text("start-mark"),
        start_sector: number("start-sector")?,
        state: text("state"),
        states: number("states")?,
        allow_other: on("allow-other"),
        harden: on("harden"),
        background: on("background"),
        block_devices: on("block-devices"),
        lazy: on("lazy"),
        link: on("link"),
        metrics: text("metrics"),
        mount: text("mount"),
        program: text("program"),
        supervised: on("supervised"),
        root: on("root"),
        svg: on("svg"),
        target_versions: text("target-versions"),
        user: on("user"),
        transport: text("transport"),
    };
    let refused = |line: &str| Err(vec![line.to_string()]);
    if options.major.is_some() != options.minor.is_some() {
        return refused("Please specify both major number and minor number.");
    }
    if options.table.is_some() && options.notable {
        return refused("--table and --notable are incompatible.");
    }
    if on("addnodeoncreate") && on("addnodeonresume") {
        return refused("--addnodeonresume and --addnodeoncreate are incompatible.");
    }
    let dmfs = style == Style::Dmfs;
    if let Some(word) = text("readahead").filter(|word| dmfs && !is_read_ahead(word)) {
        return Err(vec![format!(
            "dmfs: option --readahead: expected [+]SECTORS, auto or none, found '{word}'"
        )]);
    }
    if let Some(word) = text("mode").filter(|word| !is_mode(word)) {
        return Err(vec![format!("Invalid argument for --mode: {word}. ")]);
    }
    if options
        .interval
        .is_some_and(|seconds| seconds == 0 || seconds > i32::MAX as u32)
    {
        return refused("Interval must be a positive integer.");
    }
    if options.count.is_some_and(|count| count > i32::MAX as u32) {
        return refused("Count must be zero or greater.");
    }
    Ok(options)
}

/// Which of the verb's words is the first that follows the flag.
fn word_after(matches: &ArgMatches, flag: &str) -> Option<usize> {
    let at = matches.index_of(flag)?;
    let mut words = matches.indices_of("words")?.skip(1);
    words.position(|word| word > at)
}

/// A number option. dmsetup reads it as C's `atoi` does and takes what is no number for 0; `dmfs` says so.
fn number(style: Style, option: &str, word: &str) -> Result<u32, Vec<String>> {
    match word.trim().parse() {
        Ok(number) => Ok(number),
        Err(_) if style == Style::Dmsetup => Ok(atoi(word)),
        Err(_) => Err(vec![format!(
            "dmfs: option --{option}: expected a number, found '{word}'"
        )]),
    }
}

/// C's `atoi`, as the unsigned number that it is stored in.
pub fn atoi(word: &str) -> u32 {
    let word = word.trim_start();
    let (negative, digits) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let value = digits.fold(0_u32, |value, digit| {
        value.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'))
    });
    if negative {
        value.wrapping_neg()
    } else {
        value
    }
}

fn is_mode(word: &str) -> bool {
    u32::from_str_radix(word, 8).is_ok_and(|mode| mode <= 0o7777)
}

fn is_read_ahead(word: &str) -> bool {
    let digits = word.strip_prefix('+').unwrap_or(word);
    word == "auto" || word == "none" || digits.parse::<u32>().is_ok()
}

fn mangling(option: Option<String>) -> Result<Mangling, Vec<String>> {
    let from_environment = || std::env::var("DM_DEFAULT_NAME_MANGLING_MODE").ok();
    match option {
        Some(word) => word.parse().map_err(|error: NameError| vec![error.0]),
        None => Ok(from_environment()
            .and_then(|word| word.parse().ok())
            .unwrap_or_default()),
    }
}

/// What `getopt_long` would have said; `last` is the line's last word, where a missing value is missed.
fn getopt_text(style: Style, error: &clap::Error, last: &str) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let found = context(ContextKind::InvalidArg);
    let (option, _) = found.split_once([' ', '=']).unwrap_or((&found, ""));
    let option = option.trim_end_matches('.');
    match error.kind() {
        ErrorKind::UnknownArgument if option.starts_with("--") => unknown_long(style, option),
        ErrorKind::UnknownArgument => {
            format!("invalid option -- '{}'", option.trim_start_matches('-'))
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals | ErrorKind::WrongNumberOfValues
            if !last.starts_with("--") =>
        {
            let letter = last.chars().last().unwrap_or_default();
            format!("option requires an argument -- '{letter}'")
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals | ErrorKind::WrongNumberOfValues => {
            format!("option '{option}' requires an argument")
        }
        ErrorKind::TooManyValues => format!("option '{option}' doesn't allow an argument"),
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_string(),
        _ => error
            .to_string()
            .trim_start_matches("error: ")
            .trim_end()
            .to_string(),
    }
}

fn unknown_long(style: Style, option: &str) -> String {
    let start = option.trim_start_matches('-');
    let known = OPTIONS.iter().filter(|known| style.knows(known));
    let possible: Vec<_> = known
        .filter(|known| known.long.starts_with(start))
        .map(|known| format!(" '--{}'", known.long))
        .collect();
    match possible.is_empty() {
        true => format!("unrecognized option '{option}'"),
        false => format!(
            "option '{option}' is ambiguous; possibilities:{}",
            possible.concat()
        ),
    }
}
