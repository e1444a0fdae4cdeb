//! Every option of every verb.

/// One option.
pub struct OptionDef {
    /// Long name; also the key to its value.
    pub long: &'static str,
    /// One-letter names.
    pub short: &'static [char],
    /// What its value is called; none for a flag.
    pub value: Option<&'static str>,
    /// Whether only `dmfs` knows it, not `dmsetup`.
    pub dmfs_only: bool,
    /// One line of help.
    pub help: &'static str,
}

const fn flag(long: &'static str, short: &'static [char], help: &'static str) -> OptionDef {
    OptionDef {
        long,
        short,
        value: None,
        dmfs_only: false,
        help,
    }
}

const fn value(
    long: &'static str,
    short: &'static [char],
    value: &'static str,
    help: &'static str,
) -> OptionDef {
    OptionDef {
        long,
        short,
        value: Some(value),
        dmfs_only: false,
        help,
    }
}

const fn own(option: OptionDef) -> OptionDef {
    OptionDef {
        dmfs_only: true,
        ..option
    }
}

/// Every option.
pub const OPTIONS: &[OptionDef] = &[
    flag(
        "addnodeoncreate",
        &[],
        "accepted; device files appear at creation",
    ),
    flag(
        "addnodeonresume",
        &[],
        "accepted; device files appear at creation",
    ),
    value("alias", &[], "NAME", "name of a group of regions"),
    flag("alldevices", &[], "every device there is"),
    flag("allprograms", &[], "regions of every program"),
    flag("allregions", &[], "every region of a device"),
    flag("area", &[], "report areas"),
    value("areas", &[], "N", "how many areas a region is cut into"),
    value("areasize", &[], "SIZE", "size of the areas of a region"),
    value(
        "bounds",
        &[],
        "TIMES",
        "where the bins of a histogram end, as 1ms,10ms",
    ),
    own(value(
        "cache",
        &[],
        "POLICY",
        "who caches the data: none, keep, writeback or passthrough",
    )),
    flag("checks", &[], "accepted; every check is always made"),
    flag("clear", &[], "start again from 0 what was printed"),
    flag(
        "columns",
        &['c', 'C'],
        "print a report with one line per device",
    ),
    flag(
        "concise",
        &[],
        "give or print tables as NAME,UUID,MINOR,FLAGS,TABLE[,TABLE...][;...]",
    ),
    value("count", &[], "N", "print the report N times; 0 without end"),
    flag("deferred", &[], "remove an open device when it is closed"),
    value(
        "exec",
        &[],
        "COMMAND",
        "run COMMAND with the path of each device",
    ),
    flag(
        "force",
        &['f'],
        "also what is in use: its I/O fails from then on",
    ),
    value("gid", &['G'], "GID", "group of the device file"),
    flag("group", &[], "report groups"),
    flag("filemap", &[], "regions where the data of files lies"),
    value("groupid", &[], "ID", "number of a group of regions"),
    value(
        "headings",
        &[],
        "STYLE",
        "headings of a report: none, abbrev or full",
    ),
    flag("help", &['h'], "print help"),
    flag("histogram", &[], "report histograms"),
    flag("inactive", &[], "use the inactive table"),
    value("interval", &[], "SECONDS", "time between two reports"),
    value("length", &[], "LENGTH", "length of a region"),
    value("major", &['j'], "MAJOR", "major number of the device"),
    value(
        "manglename",
        &[],
        "MODE",
        "how odd characters in names are written: auto, hex or none",
    ),
    value("minor", &['m'], "MINOR", "minor number of the device"),
    value(
        "mode",
        &['M'],
        "MODE",
        "permissions of the device file, octal",
    ),
    flag("nameprefixes", &[], "print DM_FIELD='value' pairs"),
    flag(
        "noflush",
        &[],
        "do not wait for data to be written, nor commit metadata",
    ),
    flag("nogroup", &[], "make no group of the regions"),
    flag("noheadings", &[], "print no headings"),
    flag(
        "nolockfs",
        &[],
        "accepted; a file system on the device is never frozen",
    ),
    flag("nomonitor", &[], "accepted; files are never watched"),
    flag(
        "noopencount",
        &[],
        "accepted; as with the kernel's, the open count is always known",
    ),
    flag("notable", &['n'], "create the device without a table"),
    flag("noudevrules", &[], "accepted; there is no udev here"),
    flag("noudevsync", &[], "accepted; there is no udev here"),
    value(
        "options",
        &['o'],
        "FIELDS",
        "fields of a report, or options of a list",
    ),
    value(
        "readahead",
        &[],
        "SECTORS",
        "accepted: [+]SECTORS, auto or none",
    ),
    flag("precise", &[], "count nanoseconds"),
    value("programid", &[], "ID", "the program that regions are for"),
    flag("readonly", &['r'], "make the table read-only"),
    flag("region", &[], "report regions"),
    value("regionid", &[], "ID", "number of a region"),
    value("regions", &[], "IDS", "numbers of regions, as 0-2,5"),
    flag("relative", &[], "report shares rather than counts"),
    flag(
        "retry",
        &[],
        "try to remove an open device for five seconds",
    ),
    flag("rows", &[], "print each field as a row"),
    flag("segments", &[], "a region for each row of the table"),
    value("select", &['S'], "CRITERIA", "only the devices that match"),
    value("separator", &[], "TEXT", "what stands between two fields"),
    flag("setuuid", &[], "set the uuid rather than the name"),
    flag("showkeys", &[], "print keys in tables"),
    value("sort", &['O'], "FIELDS", "order of a report"),
    value("start", &[], "START", "where a region begins"),
    value("table", &[], "TABLE", "the table, one row per line"),
    value("target", &[], "TYPE", "only rows of this target type"),
    flag("tree", &[], "print devices as a tree"),
    value(
        "udevcookie",
        &[],
        "COOKIE",
        "accepted; there is no udev here",
    ),
    value("uid", &['U'], "UID", "owner of the device file"),
    flag("unbuffered", &[], "print report lines as they come"),
    value("units", &[], "UNITS", "units of sizes in reports"),
    flag("unquoted", &[], "no quotes with --nameprefixes"),
    value("userdata", &[], "TEXT", "what to note with a region"),
    value("uuid", &['u'], "UUID", "uuid of the device"),
    flag("verbose", &['v'], "tell more; may be repeated"),
    flag("verifyudev", &[], "accepted; there is no udev here"),
    flag("version", &[], "print versions"),
    flag("yes", &['y'], "answer yes to every question"),
    own(flag("allow-other", &[], "let other users use the mount")),
    own(value(
        "atomic",
        &[],
        "BYTES",
        "the disk writes so much as a whole or not at all",
    )),
    own(value(
        "check",
        &[],
        "COMMAND",
        "run COMMAND with the shell; {} is the file, as is $DMFS_STATE",
    )),
    own(value("end-mark", &[], "MARK", "up to this mark of a log")),
    own(value(
        "end-sector",
        &[],
        "SECTOR",
        "replay only sectors before this one",
    )),
    own(value(
        "every",
        &[],
        "WHEN",
        "check after so many entries, each flush or each fua",
    )),
    own(flag(
        "ignore-flushes",
        &[],
        "states in which flushes and durable writes promise nothing",
    )),
    own(value("jobs", &[], "N", "so many checks at the same time")),
    own(flag("keep-going", &[], "go on after a bad state")),
    own(value("limit", &[], "N", "at most N entries of a log")),
    own(flag("next-flush", &[], "up to the next flush of a log")),
    own(flag(
        "next-fua",
        &[],
        "up to the next durable write of a log",
    )),
    own(flag("no-discard", &[], "leave discards out")),
    own(value(
        "samples",
        &[],
        "N",
        "random states for each moment of a power cut",
    )),
    own(value("seed", &[], "N", "seed of random states")),
    own(value(
        "start-entry",
        &[],
        "N",
        "from this entry of a log on",
    )),
    own(value(
        "start-mark",
        &[],
        "MARK",
        "from this mark of a log on",
    )),
    own(value(
        "start-sector",
        &[],
        "SECTOR",
        "replay only sectors from this one on",
    )),
    own(value("state", &[], "NAME", "this state alone")),
    own(value("states", &[], "N", "at most N states")),
    own(flag(
        "background",
        &[],
        "leave the terminal once the mount stands",
    )),
    own(flag(
        "block-devices",
        &[],
        "make each device a loop device with the same number, and /dev/mapper/NAME (root)",
    )),
    own(flag(
        "harden",
        &[],
        "keep clear of deadlocks when memory is short",
    )),
    own(flag("json", &[], "print JSON")),
    own(flag(
        "lazy",
        &[],
        "unmount now, end when the last file is closed",
    )),
    own(flag("link", &[], "also make the link /dev/mapper/NAME")),
    own(flag(
        "root",
        &[],
        "the command finds real block devices (root)",
    )),
    own(flag(
        "user",
        &[],
        "the command is told that device files are block devices",
    )),
    own(value(
        "target-versions",
        &[],
        "TYPE=VERSION[,...]",
        "versions of target types that the command is told",
    )),
    own(flag(
        "svg",
        &[],
        "draw the picture as SVG rather than as DOT",
    )),
    own(value(
        "metrics",
        &[],
        "ADDRESS",
        "serve counters for Prometheus: a Unix socket or a loopback port",
    )),
    own(value("mount", &[], "MOUNTPOINT", "which mount to talk to")),
    own(value(
        "program",
        &[],
        "PATH",
        "the program that goes on; this one if not given",
    )),
    own(flag(
        "supervised",
        &[],
        "keep the mount alive where its daemon dies",
    )),
    own(value(
        "transport",
        &[],
        "TRANSPORT",
        "how requests come in: auto, classic or io_uring",
    )),
];
