//! The one list of options and verbs: parsing, usage, help, man pages and completions come from it.
//!
//! The grammar is dmsetup's: options stand anywhere, long ones may be cut to a unique prefix, and every
//! option is accepted with every verb. What a verb lists as its options is what its help tells.

mod options;

pub use options::{OPTIONS, OptionDef};

use super::cryptsetup;
use super::doctor::doctor;
use super::session::{Each, Once};
use super::top;
use super::verbs::{
    crash, create, explain, info, ls, mount, names, remove, rows, serve, slots, stats, versions,
};

/// What runs a verb.
pub enum Run {
    /// Called once with all words.
    Once(Once),
    /// Called for each device given; once without one if there is none.
    Each(Each),
}

/// One verb.
pub struct VerbDef {
    /// Its name.
    pub name: &'static str,
    /// Its other names.
    pub aliases: &'static [&'static str],
    /// What follows it, for usage lines.
    pub usage: &'static str,
    /// How many words must follow.
    pub min: usize,
    /// How many words may follow; any number if none.
    pub max: Option<usize>,
    /// Options that matter to it.
    pub options: &'static [&'static str],
    /// One line of help.
    pub about: &'static str,
    /// Whether only `dmfs` knows it.
    pub dmfs_only: bool,
    /// What it does.
    pub run: Run,
}

impl VerbDef {
    /// Whether `--select` chooses the devices that it works on, one after the other.
    pub fn takes_selection(&self) -> bool {
        matches!(self.run, Run::Each(_)) && self.name != "info" && self.options.contains(&"select")
    }
}

const fn once(
    name: &'static str,
    usage: &'static str,
    words: (usize, usize),
    options: &'static [&'static str],
    about: &'static str,
    run: Once,
) -> VerbDef {
    VerbDef {
        name,
        aliases: &[],
        usage,
        min: words.0,
        max: Some(words.1),
        options,
        about,
        dmfs_only: false,
        run: Run::Once(run),
    }
}

const fn each(
    name: &'static str,
    usage: &'static str,
    min: usize,
    options: &'static [&'static str],
    about: &'static str,
    run: Each,
) -> VerbDef {
    VerbDef {
        name,
        aliases: &[],
        usage,
        min,
        max: None,
        options,
        about,
        dmfs_only: false,
        run: Run::Each(run),
    }
}

const fn ours(verb: VerbDef) -> VerbDef {
    VerbDef {
        dmfs_only: true,
        ..verb
    }
}

/// Actions on encrypted volumes, which have a grammar of their own.
const fn volumes(name: &'static str, about: &'static str) -> VerbDef {
    let usage = "ACTION [ARGUMENTS] [OPTIONS]";
    let run = cryptsetup::misplaced;
    ours(VerbDef {
        max: None,
        ..once(name, usage, (0, 0), &["mount"], about, run)
    })
}

const REPORT: &[&str] = &[
    "columns",
    "options",
    "sort",
    "select",
    "nameprefixes",
    "noheadings",
    "headings",
    "rows",
    "separator",
    "units",
    "unquoted",
    "unbuffered",
    "count",
    "interval",
    "noopencount",
    "inactive",
    "uuid",
    "major",
    "minor",
    "json",
];

/// Every verb.
pub const VERBS: &[VerbDef] = &[
    once(
        "help",
        "[VERB] [-c]",
        (0, 1),
        &["columns"],
        "Print help, with -c the fields of reports",
        super::help::run,
    ),
    once(
        "create",
        "NAME [TABLE_FILE] [--table TABLE | --notable] | --concise [DEVICES]",
        (0, 2),
        &[
            "table",
            "notable",
            "uuid",
            "major",
            "minor",
            "readonly",
            "readahead",
            "uid",
            "gid",
            "mode",
            "cache",
            "concise",
        ],
        "Create a device; the table comes from --table, a file or standard input",
        create::create,
    ),
    each(
        "remove",
        "DEVICE...",
        0,
        &[
            "force", "retry", "deferred", "uuid", "major", "minor", "select",
        ],
        "Remove devices",
        remove::remove,
    ),
    once(
        "remove_all",
        "",
        (0, 0),
        &["force", "deferred"],
        "Remove every device that is not open",
        remove::remove_all,
    ),
    each(
        "suspend",
        "DEVICE...",
        0,
        &["noflush", "nolockfs", "uuid", "major", "minor", "select"],
        "Hold back I/O, waiting for what is in flight",
        slots::suspend,
    ),
    each(
        "resume",
        "DEVICE...",
        0,
        &[
            "noflush",
            "nolockfs",
            "readahead",
            "uuid",
            "major",
            "minor",
            "select",
        ],
        "Put the inactive table in place, if any, and let I/O go on",
        slots::resume,
    ),
    VerbDef {
        aliases: &["reload"],
        ..once(
            "load",
            "DEVICE [TABLE_FILE]",
            (0, 2),
            &["table", "readonly", "uuid", "major", "minor"],
            "Load a table into the inactive slot",
            slots::load,
        )
    },
    each(
        "clear",
        "DEVICE...",
        0,
        &["uuid", "major", "minor", "select"],
        "Empty the inactive slot",
        slots::clear,
    ),
    each(
        "wipe_table",
        "DEVICE...",
        0,
        &[
            "force", "noflush", "nolockfs", "uuid", "major", "minor", "select",
        ],
        "Replace the table by one where all I/O fails",
        slots::wipe_table,
    ),
    once(
        "rename",
        "DEVICE NEW_NAME | DEVICE --setuuid UUID",
        (1, 2),
        &["setuuid", "uuid", "major", "minor"],
        "Give a device another name, or its uuid",
        names::rename,
    ),
    each(
        "measure",
        "[DEVICE...]",
        0,
        &["uuid", "major", "minor", "select"],
        "Print what an integrity measurement would record",
        rows::measure,
    ),
    VerbDef {
        max: None,
        ..once(
            "message",
            "DEVICE SECTOR WORDS...",
            (2, 0),
            &["uuid", "major", "minor"],
            "Send a message to the target at a sector",
            rows::message,
        )
    },
    VerbDef {
        max: None,
        ..once(
            "stats",
            "VERB [DEVICE...]",
            (0, 0),
            &[
                "alias",
                "alldevices",
                "allprograms",
                "allregions",
                "area",
                "areas",
                "areasize",
                "bounds",
                "clear",
                "count",
                "filemap",
                "group",
                "groupid",
                "histogram",
                "interval",
                "json",
                "length",
                "nogroup",
                "nomonitor",
                "options",
                "precise",
                "programid",
                "region",
                "regionid",
                "regions",
                "relative",
                "segments",
                "select",
                "sort",
                "start",
                "svg",
                "units",
                "userdata",
            ],
            "Statistics of stretches of devices: create, list, print, report, clear, delete, group, ungroup",
            stats::run,
        )
    },
    once(
        "ls",
        "",
        (0, 0),
        &["target", "exec", "options", "tree", "json"],
        "List devices, also as a tree",
        ls::ls,
    ),
    each(
        "info",
        "[DEVICE...]",
        0,
        REPORT,
        "Tell devices' state, with -c as a report",
        info::info,
    ),
    each(
        "deps",
        "[DEVICE...]",
        0,
        &[
            "options", "inactive", "uuid", "major", "minor", "json", "select",
        ],
        "List the devices that devices use",
        ls::deps,
    ),
    each(
        "status",
        "[DEVICE...]",
        0,
        &[
            "target", "noflush", "inactive", "exec", "uuid", "major", "minor", "json", "select",
        ],
        "Print devices' status lines",
        rows::status,
    ),
    each(
        "table",
        "[DEVICE...]",
        0,
        &[
            "target", "concise", "showkeys", "inactive", "exec", "uuid", "major", "minor", "json",
            "select",
        ],
        "Print devices' tables",
        rows::table,
    ),
    once(
        "wait",
        "DEVICE [EVENT_NR]",
        (0, 2),
        &["noflush", "uuid", "major", "minor"],
        "Wait until a device's event number differs from EVENT_NR",
        rows::wait,
    ),
    each(
        "mknodes",
        "[DEVICE...]",
        0,
        &[],
        "Accepted; device files are always there",
        names::mknodes,
    ),
    each(
        "mangle",
        "[DEVICE...]",
        0,
        &["manglename", "uuid", "major", "minor"],
        "Rename devices to the mangled form of their names",
        names::mangle,
    ),
    once(
        "udevcreatecookie",
        "",
        (0, 0),
        &[],
        "Accepted; there is no udev here",
        versions::udev,
    ),
    once(
        "udevreleasecookie",
        "[COOKIE]",
        (0, 1),
        &[],
        "Accepted; there is no udev here",
        versions::udev,
    ),
    once(
        "udevflags",
        "COOKIE",
        (1, 1),
        &[],
        "Print the flags in a udev cookie",
        versions::udevflags,
    ),
    once(
        "udevcomplete",
        "COOKIE",
        (1, 1),
        &[],
        "Accepted; there is no udev here",
        versions::udev,
    ),
    once(
        "udevcomplete_all",
        "[AGE]",
        (0, 1),
        &[],
        "Accepted; there is no udev here",
        versions::udev,
    ),
    once(
        "udevcookies",
        "",
        (0, 0),
        &[],
        "List udev cookies; there are none here",
        versions::udevcookies,
    ),
    each(
        "target-version",
        "TARGET...",
        1,
        &["json"],
        "Print target types' versions",
        versions::target_version,
    ),
    once(
        "targets",
        "",
        (0, 0),
        &["json"],
        "List target types and their versions",
        versions::targets,
    ),
    once(
        "version",
        "",
        (0, 0),
        &["json"],
        "Print versions",
        versions::version,
    ),
    once(
        "setgeometry",
        "DEVICE CYLINDERS HEADS SECTORS START",
        (5, 5),
        &["uuid", "major", "minor"],
        "Set a device's drive geometry",
        rows::setgeometry,
    ),
    once(
        "splitname",
        "NAME [SUBSYSTEM]",
        (1, 2),
        REPORT,
        "Take a volume's name apart",
        names::splitname,
    ),
    ours(once(
        "mount",
        "[FILE] MOUNTPOINT [--concise DEVICES]",
        (1, 3),
        &[
            "background",
            "block-devices",
            "cache",
            "concise",
            "allow-other",
            "harden",
            "metrics",
            "supervised",
            "transport",
        ],
        "Serve a mount, with the devices of a TOML file if one is given",
        serve::mount,
    )),
    ours(VerbDef {
        max: None,
        ..once(
            "run",
            "[--root | --user] -- COMMAND...",
            (0, 0),
            &["root", "user", "target-versions", "mount"],
            "Run a program that drives the kernel's device mapper over a mount",
            serve::run,
        )
    }),
    ours(once(
        "umount",
        "[MOUNTPOINT]",
        (0, 1),
        &["force", "lazy", "mount"],
        "End a mount",
        mount::umount,
    )),
    ours(once(
        "upgrade",
        "[MOUNTPOINT]",
        (0, 1),
        &["program", "mount"],
        "Put another dmfs in the place of a supervised mount's daemon",
        mount::upgrade,
    )),
    ours(once(
        "mounts",
        "",
        (0, 0),
        &["json"],
        "List the running mounts",
        mount::mounts,
    )),
    ours(once(
        "check",
        "FILE",
        (1, 1),
        &[],
        "Check a TOML mount file without mounting",
        serve::check,
    )),
    ours(once(
        "doctor",
        "",
        (0, 0),
        &["json"],
        "Tell what this machine lets dmfs do, and what to do where it does not",
        doctor,
    )),
    ours(once(
        "dump",
        "",
        (0, 0),
        &["showkeys", "mount"],
        "Print the present devices as a TOML mount file",
        mount::dump,
    )),
    ours(once(
        "counters",
        "[NAME]",
        (0, 1),
        &["json", "mount"],
        "Print what devices have read, written and failed",
        mount::counters,
    )),
    ours(VerbDef {
        max: None,
        ..once(
            "top",
            "[DEVICE...]",
            (0, 0),
            &["interval", "count", "sort", "json", "mount"],
            "Show what devices do: requests, bytes, latency, queue, second by second",
            top::top,
        )
    }),
    ours(once(
        "cache",
        "[NAME [POLICY]]",
        (0, 2),
        &["json", "mount"],
        "Tell or set who caches a device's data: none, keep, writeback or passthrough",
        mount::cache,
    )),
    ours(once(
        "limits",
        "NAME",
        (1, 1),
        &["json", "mount"],
        "Print a device's block sizes and what it can do",
        mount::limits,
    )),
    ours(once(
        "explain",
        "DEVICE SECTOR [SECTORS]",
        (2, 3),
        &["inactive", "json", "mount"],
        "Tell where a request goes: rows, targets, devices, sectors, bytes",
        explain::explain,
    )),
    ours(VerbDef {
        max: None,
        ..once(
            "graph",
            "[DEVICE...]",
            (0, 0),
            &["svg", "json", "mount"],
            "Print how devices lie on one another as a picture, in DOT or SVG",
            explain::graph,
        )
    }),
    volumes(
        "luks",
        "Open, make and manage LUKS volumes; 'dmfs luks help' lists the actions",
    ),
    volumes(
        "plain",
        "Open volumes without a header, as cryptsetup's plain mode; 'dmfs plain help' lists the actions",
    ),
    volumes(
        "tcrypt",
        "Open TrueCrypt and VeraCrypt volumes; 'dmfs tcrypt help' lists the actions",
    ),
    ours(once(
        "attach",
        "NAME",
        (1, 1),
        &["link", "readonly", "json", "mount"],
        "Attach a loop device (root)",
        mount::attach,
    )),
    ours(once(
        "detach",
        "NAME",
        (1, 1),
        &["mount"],
        "Detach the loop device (root)",
        mount::detach,
    )),
    ours(once(
        "log-writes",
        "list LOG | find LOG | replay LOG DEVICE",
        (2, 3),
        &[
            "start-entry",
            "start-mark",
            "limit",
            "end-mark",
            "next-flush",
            "next-fua",
            "no-discard",
            "start-sector",
            "end-sector",
            "check",
            "every",
        ],
        "List a log of log-writes, find a place in it, or write what it wrote to a device",
        crash::log_writes,
    )),
    ours(once(
        "crash-states",
        "BASE LOG [MOUNTPOINT]",
        (2, 3),
        &[
            "check",
            "jobs",
            "keep-going",
            "states",
            "samples",
            "seed",
            "state",
            "start-entry",
            "start-mark",
            "limit",
            "end-mark",
            "next-flush",
            "next-fua",
            "ignore-flushes",
            "atomic",
            "readonly",
        ],
        "Show every state that a power cut could have left of a logged device, or check each",
        crash::crash_states,
    )),
    ours(once(
        "generate",
        "man DIR | completions SHELL | state-format",
        (1, 2),
        &[],
        "Write man pages, or print a shell's completions, or which daemons this one can take over from",
        super::help::generate,
    )),
];

/// The verb called `name`.
pub fn verb(name: &str, dmsetup: bool) -> Option<&'static VerbDef> {
    VERBS
        .iter()
        .filter(|verb| !(dmsetup && verb.dmfs_only))
        .find(|verb| verb.name == name || verb.aliases.contains(&name))
}
