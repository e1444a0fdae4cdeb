//! The one list of cryptsetup's actions and options that there are here: parsing, what goes with what, and help come
//! from it.

use super::{Action, close, config, dump, format, header, open, slots, tokens, volume};

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A text.
    Text(&'static str),
    /// A number.
    Number(&'static str),
    /// A number of bytes, with a suffix if there is one.
    Size,
}

/// One option.
pub struct OptionDef {
    /// Long name; also the key to its value.
    pub long: &'static str,
    /// Its other long name.
    pub alias: Option<&'static str>,
    /// Its letter.
    pub short: Option<char>,
    /// What it takes.
    pub takes: Takes,
    /// One line of help.
    pub help: &'static str,
}

const fn option(
    long: &'static str,
    short: Option<char>,
    takes: Takes,
    help: &'static str,
) -> OptionDef {
    OptionDef {
        long,
        alias: None,
        short,
        takes,
        help,
    }
}

const fn flag(long: &'static str, help: &'static str) -> OptionDef {
    option(long, None, Takes::Nothing, help)
}

const fn text(long: &'static str, what: &'static str, help: &'static str) -> OptionDef {
    option(long, None, Takes::Text(what), help)
}

const fn number(long: &'static str, what: &'static str, help: &'static str) -> OptionDef {
    option(long, None, Takes::Number(what), help)
}

const fn size(long: &'static str, help: &'static str) -> OptionDef {
    option(long, None, Takes::Size, help)
}

/// Every option.
pub const OPTIONS: &[OptionDef] = &[
    number(
        "align-payload",
        "SECTORS",
        "align the data's beginning to so many sectors",
    ),
    flag(
        "allow-discards",
        "hand discards to the device below, which then shows what is unused",
    ),
    option(
        "batch-mode",
        Some('q'),
        Takes::Nothing,
        "ask for no confirmation",
    ),
    option(
        "cipher",
        Some('c'),
        Takes::Text("CIPHER"),
        "cipher, as aes-xts-plain64",
    ),
    flag("deferred", "remove a device in use when it is closed"),
    flag(
        "disable-keyring",
        "accepted; there is no kernel keyring here",
    ),
    flag(
        "disable-locks",
        "accepted; a header is locked while it changes",
    ),
    flag("disable-veracrypt", "look for TrueCrypt's headers alone"),
    flag("dump-json-metadata", "print the metadata as JSON (LUKS2)"),
    OptionDef {
        alias: Some("dump-master-key"),
        ..flag("dump-volume-key", "print the volume key")
    },
    flag(
        "force-password",
        "accepted; passphrases are not judged here",
    ),
    option(
        "hash",
        Some('h'),
        Takes::Text("HASH"),
        "hash of the key derivation, as sha256",
    ),
    text(
        "header",
        "FILE",
        "where the header lies, if not on the device",
    ),
    text(
        "header-backup-file",
        "FILE",
        "file with the backup of a header",
    ),
    option("help", Some('?'), Takes::Nothing, "print help"),
    option(
        "integrity",
        Some('I'),
        Takes::Text("ALGORITHM"),
        "not there yet",
    ),
    option(
        "iter-time",
        Some('i'),
        Takes::Number("MSECS"),
        "how long the key derivation shall take",
    ),
    flag(
        "iv-large-sectors",
        "count vectors in encrypted sectors, not in 512 bytes",
    ),
    flag("json", "print JSON"),
    text("json-file", "FILE", "file with a token"),
    text("key-description", "TEXT", "what the keyring calls a key"),
    OptionDef {
        short: Some('d'),
        ..text(
            "key-file",
            "FILE",
            "read the passphrase from a file; - is standard input",
        )
    },
    option(
        "key-size",
        Some('s'),
        Takes::Number("BITS"),
        "size of the volume key",
    ),
    option("key-slot", Some('S'), Takes::Number("SLOT"), "key slot"),
    size("keyfile-offset", "bytes of the key file to skip"),
    OptionDef {
        short: Some('l'),
        ..size("keyfile-size", "bytes of the key file to read")
    },
    text("keyslot-cipher", "CIPHER", "cipher of the key slot (LUKS2)"),
    number("keyslot-key-size", "BITS", "size of its key (LUKS2)"),
    text("label", "LABEL", "label (LUKS2)"),
    size("luks2-keyslots-size", "room for key slots (LUKS2)"),
    size(
        "luks2-metadata-size",
        "room for one copy of the metadata (LUKS2)",
    ),
    text("mount", "MOUNTPOINT", "which mount to talk to"),
    number("new-key-slot", "SLOT", "key slot of the new key"),
    text("new-keyfile", "FILE", "file with the new passphrase"),
    size("new-keyfile-offset", "bytes of the new key file to skip"),
    size("new-keyfile-size", "bytes of the new key file to read"),
    option(
        "offset",
        Some('o'),
        Takes::Number("SECTORS"),
        "where the data begins",
    ),
    text(
        "pbkdf",
        "NAME",
        "key derivation: argon2id, argon2i or pbkdf2",
    ),
    number(
        "pbkdf-force-iterations",
        "N",
        "its iterations, instead of measuring",
    ),
    number("pbkdf-memory", "KIB", "its memory at most"),
    number("pbkdf-parallel", "N", "its lanes at most"),
    flag(
        "perf-no_read_workqueue",
        "have the table say no_read_workqueue",
    ),
    flag(
        "perf-no_write_workqueue",
        "have the table say no_write_workqueue",
    ),
    flag("perf-same_cpu_crypt", "have the table say same_cpu_crypt"),
    flag(
        "perf-submit_from_crypt_cpus",
        "have the table say submit_from_crypt_cpus",
    ),
    flag(
        "persistent",
        "keep the flags of this opening in the header (LUKS2)",
    ),
    text(
        "priority",
        "PRIORITY",
        "priority of a key slot: prefer, normal or ignore (LUKS2)",
    ),
    option(
        "readonly",
        Some('r'),
        Takes::Nothing,
        "make the device read-only",
    ),
    flag("refresh", "open again with other flags"),
    number(
        "sector-size",
        "BYTES",
        "unit of encryption: 512, 1024, 2048 or 4096",
    ),
    flag(
        "shared",
        "accepted; devices may share what lies below anyway",
    ),
    option(
        "size",
        Some('b'),
        Takes::Number("SECTORS"),
        "length of the device",
    ),
    size("device-size", "length of the device"),
    option(
        "skip",
        Some('p'),
        Takes::Number("SECTORS"),
        "what vectors count from",
    ),
    text("subsystem", "TEXT", "subsystem (LUKS2)"),
    flag("tcrypt-backup", "use the backup of the header"),
    flag("tcrypt-hidden", "use the hidden volume's header"),
    flag("tcrypt-system", "use the header of a system's disk"),
    flag(
        "test-passphrase",
        "tell whether the passphrase opens the volume, and no more",
    ),
    option(
        "timeout",
        Some('t'),
        Takes::Number("SECS"),
        "how long a prompt waits",
    ),
    number("token-id", "ID", "token"),
    flag("token-only", "use tokens alone; none opens anything here"),
    flag("token-replace", "replace the token"),
    option(
        "tries",
        Some('T'),
        Takes::Number("N"),
        "how often a passphrase may be given",
    ),
    option(
        "type",
        Some('M'),
        Takes::Text("TYPE"),
        "kind of volume: luks, luks1, luks2, plain, tcrypt",
    ),
    flag("unbound", "a key that belongs to no data (LUKS2)"),
    flag(
        "use-random",
        "accepted; the kernel has one source of randomness",
    ),
    flag(
        "use-urandom",
        "accepted; the kernel has one source of randomness",
    ),
    text("uuid", "UUID", "UUID of the volume"),
    flag(
        "veracrypt",
        "accepted; VeraCrypt's headers are looked for anyway",
    ),
    number("veracrypt-pim", "PIM", "personal iterations multiplier"),
    flag(
        "veracrypt-query-pim",
        "ask for the personal iterations multiplier",
    ),
    option("verbose", Some('v'), Takes::Nothing, "tell more"),
    option(
        "verify-passphrase",
        Some('y'),
        Takes::Nothing,
        "ask for a passphrase twice",
    ),
    option("version", Some('V'), Takes::Nothing, "print the version"),
    OptionDef {
        alias: Some("master-key-file"),
        ..text(
            "volume-key-file",
            "FILE",
            "read the volume key from a file, or write it there",
        )
    },
];

/// Options that go with every action.
const EVERYWHERE: &[&str] = &[
    "batch-mode",
    "disable-keyring",
    "disable-locks",
    "help",
    "mount",
    "type",
    "verbose",
    "version",
];

/// One action.
pub struct ActionDef {
    /// cryptsetup's name for it.
    pub name: &'static str,
    /// What `dmfs luks` (`dmfs plain`, `dmfs tcrypt`) calls it.
    pub verb: &'static str,
    /// Words that must follow.
    pub usage: &'static str,
    /// Fewest and most words.
    pub words: (usize, usize),
    /// Options that go with it.
    pub options: &'static [&'static str],
    /// One line of help.
    pub about: &'static str,
    /// What it does.
    pub run: Action,
}

const PASSPHRASE: [&str; 5] = [
    "key-file",
    "keyfile-offset",
    "keyfile-size",
    "timeout",
    "tries",
];

/// Every action.
pub const ACTIONS: &[ActionDef] = &[
    ActionDef {
        name: "open",
        verb: "open",
        usage: "DEVICE NAME",
        words: (1, 2),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            PASSPHRASE[4],
            "allow-discards",
            "cipher",
            "device-size",
            "disable-veracrypt",
            "hash",
            "header",
            "iv-large-sectors",
            "key-size",
            "key-slot",
            "offset",
            "perf-no_read_workqueue",
            "perf-no_write_workqueue",
            "perf-same_cpu_crypt",
            "perf-submit_from_crypt_cpus",
            "persistent",
            "readonly",
            "refresh",
            "sector-size",
            "shared",
            "size",
            "skip",
            "tcrypt-backup",
            "tcrypt-hidden",
            "tcrypt-system",
            "test-passphrase",
            "token-id",
            "token-only",
            "unbound",
            "veracrypt",
            "veracrypt-pim",
            "veracrypt-query-pim",
            "verify-passphrase",
            "volume-key-file",
        ],
        about: "Open a volume: make the mapped device NAME",
        run: open::open,
    },
    ActionDef {
        name: "close",
        verb: "close",
        usage: "NAME",
        words: (1, 1),
        options: &["deferred"],
        about: "Close a volume: remove its device",
        run: close::close,
    },
    ActionDef {
        name: "status",
        verb: "status",
        usage: "NAME",
        words: (1, 1),
        options: &["json"],
        about: "Tell what an open volume is",
        run: close::status,
    },
    ActionDef {
        name: "resize",
        verb: "resize",
        usage: "NAME",
        words: (1, 1),
        options: &["device-size", "size"],
        about: "Make an open volume as long as what lies below, or as said",
        run: volume::resize,
    },
    ActionDef {
        name: "luksFormat",
        verb: "format",
        usage: "DEVICE [KEY_FILE]",
        words: (1, 2),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            "align-payload",
            "cipher",
            "force-password",
            "hash",
            "header",
            "integrity",
            "iter-time",
            "key-size",
            "key-slot",
            "keyslot-cipher",
            "keyslot-key-size",
            "label",
            "luks2-keyslots-size",
            "luks2-metadata-size",
            "offset",
            "pbkdf",
            "pbkdf-force-iterations",
            "pbkdf-memory",
            "pbkdf-parallel",
            "sector-size",
            "subsystem",
            "use-random",
            "use-urandom",
            "uuid",
            "verify-passphrase",
            "volume-key-file",
        ],
        about: "Make a volume; what is on the device is lost",
        run: format::format,
    },
    ActionDef {
        name: "luksDump",
        verb: "dump",
        usage: "DEVICE",
        words: (1, 1),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            "dump-json-metadata",
            "dump-volume-key",
            "header",
            "json",
            "key-slot",
            "unbound",
            "volume-key-file",
            "disable-veracrypt",
            "tcrypt-backup",
            "tcrypt-hidden",
            "tcrypt-system",
            "tries",
            "veracrypt",
            "veracrypt-pim",
            "veracrypt-query-pim",
        ],
        about: "Print a header",
        run: dump::luks_dump,
    },
    ActionDef {
        name: "luksAddKey",
        verb: "addKey",
        usage: "DEVICE [NEW_KEY_FILE]",
        words: (1, 2),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            PASSPHRASE[4],
            "force-password",
            "hash",
            "header",
            "iter-time",
            "key-size",
            "key-slot",
            "keyslot-cipher",
            "keyslot-key-size",
            "new-key-slot",
            "new-keyfile",
            "new-keyfile-offset",
            "new-keyfile-size",
            "pbkdf",
            "pbkdf-force-iterations",
            "pbkdf-memory",
            "pbkdf-parallel",
            "unbound",
            "verify-passphrase",
            "volume-key-file",
        ],
        about: "Put the volume key under another passphrase, too",
        run: slots::add_key,
    },
    ActionDef {
        name: "luksRemoveKey",
        verb: "removeKey",
        usage: "DEVICE [KEY_FILE]",
        words: (1, 2),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            PASSPHRASE[4],
            "header",
        ],
        about: "Remove the key slot that a passphrase opens",
        run: slots::remove_key,
    },
    ActionDef {
        name: "luksChangeKey",
        verb: "changeKey",
        usage: "DEVICE [NEW_KEY_FILE]",
        words: (1, 2),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            PASSPHRASE[4],
            "force-password",
            "hash",
            "header",
            "iter-time",
            "key-slot",
            "keyslot-cipher",
            "keyslot-key-size",
            "new-keyfile-offset",
            "new-keyfile-size",
            "pbkdf",
            "pbkdf-force-iterations",
            "pbkdf-memory",
            "pbkdf-parallel",
            "verify-passphrase",
        ],
        about: "Replace a passphrase",
        run: slots::change_key,
    },
    ActionDef {
        name: "luksConvertKey",
        verb: "convertKey",
        usage: "DEVICE",
        words: (1, 1),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            PASSPHRASE[4],
            "hash",
            "header",
            "iter-time",
            "key-slot",
            "keyslot-cipher",
            "keyslot-key-size",
            "pbkdf",
            "pbkdf-force-iterations",
            "pbkdf-memory",
            "pbkdf-parallel",
        ],
        about: "Give a key slot another key derivation (LUKS2)",
        run: slots::convert_key,
    },
    ActionDef {
        name: "luksKillSlot",
        verb: "killSlot",
        usage: "DEVICE SLOT",
        words: (2, 2),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            "header",
        ],
        about: "Remove a key slot by its number",
        run: slots::kill_slot,
    },
    ActionDef {
        name: "luksUUID",
        verb: "uuid",
        usage: "DEVICE",
        words: (1, 1),
        options: &["header", "uuid"],
        about: "Print a volume's UUID, or set it",
        run: config::uuid,
    },
    ActionDef {
        name: "isLuks",
        verb: "isLuks",
        usage: "DEVICE",
        words: (1, 1),
        options: &["header"],
        about: "Tell by the exit code whether a device has a LUKS header",
        run: config::is_luks,
    },
    ActionDef {
        name: "config",
        verb: "config",
        usage: "DEVICE",
        words: (1, 1),
        options: &["header", "key-slot", "label", "priority", "subsystem"],
        about: "Set label, subsystem, or a key slot's priority (LUKS2)",
        run: config::config,
    },
    ActionDef {
        name: "convert",
        verb: "convert",
        usage: "DEVICE --type luks1|luks2",
        words: (1, 1),
        options: &["header"],
        about: "Make LUKS2 of LUKS1, or the other way round",
        run: header::convert,
    },
    ActionDef {
        name: "repair",
        verb: "repair",
        usage: "DEVICE",
        words: (1, 1),
        options: &["header"],
        about: "Write a damaged copy of a header anew (LUKS2)",
        run: header::repair,
    },
    ActionDef {
        name: "luksHeaderBackup",
        verb: "headerBackup",
        usage: "DEVICE --header-backup-file FILE",
        words: (1, 1),
        options: &["header", "header-backup-file"],
        about: "Copy a header with its key slots to a file",
        run: header::backup,
    },
    ActionDef {
        name: "luksHeaderRestore",
        verb: "headerRestore",
        usage: "DEVICE --header-backup-file FILE",
        words: (1, 1),
        options: &["header", "header-backup-file"],
        about: "Put a header back that was copied to a file",
        run: header::restore,
    },
    ActionDef {
        name: "luksErase",
        verb: "erase",
        usage: "DEVICE",
        words: (1, 1),
        options: &["header"],
        about: "Remove all key slots: the data is lost",
        run: header::erase,
    },
    ActionDef {
        name: "token",
        verb: "token",
        usage: "import|export|remove|add DEVICE",
        words: (2, 2),
        options: &[
            "header",
            "json-file",
            "key-description",
            "key-slot",
            "token-id",
            "token-replace",
            "unbound",
        ],
        about: "Put a token into a header, print it, or remove it (LUKS2)",
        run: tokens::token,
    },
    ActionDef {
        name: "luksSuspend",
        verb: "suspend",
        usage: "NAME",
        words: (1, 1),
        options: &["header"],
        about: "Hold back all I/O and forget the key",
        run: volume::suspend,
    },
    ActionDef {
        name: "luksResume",
        verb: "resume",
        usage: "NAME",
        words: (1, 1),
        options: &[
            PASSPHRASE[0],
            PASSPHRASE[1],
            PASSPHRASE[2],
            PASSPHRASE[3],
            PASSPHRASE[4],
            "header",
            "key-slot",
            "volume-key-file",
        ],
        about: "Take the key again and let I/O go on",
        run: volume::resume,
    },
];

/// Other names of actions: an action, and the type that it is for.
pub const ALIASES: &[(&str, &str, Option<&str>)] = &[
    ("luksOpen", "open", Some("luks")),
    ("plainOpen", "open", Some("plain")),
    ("tcryptOpen", "open", Some("tcrypt")),
    ("create", "open", Some("plain")),
    ("luksClose", "close", None),
    ("remove", "close", None),
    ("plainClose", "close", None),
    ("tcryptClose", "close", None),
    ("erase", "luksErase", None),
    ("luksConfig", "config", None),
    ("tcryptDump", "luksDump", Some("tcrypt")),
];

/// Whether `option` goes with `action`.
pub fn goes_with(option: &str, action: &ActionDef) -> bool {
    EVERYWHERE.contains(&option) || action.options.contains(&option)
}
