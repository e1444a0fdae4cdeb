//! The one list of cryptsetup's options that there are here: parsing and help come from it.

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
    flag("decrypt", "take the encryption away (LUKS2)"),
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
    flag("encrypt", "encrypt data that is not encrypted yet (LUKS2)"),
    flag(
        "force-offline-reencrypt",
        "let encrypted sectors grow, which file systems with smaller blocks cannot follow",
    ),
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
    size("hotzone-size", "most data under way at once"),
    flag(
        "init-only",
        "write down what is to be done, and do none of it",
    ),
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
    text(
        "resilience",
        "MODE",
        "what saves data under way in a power cut: checksum, journal or none",
    ),
    text("resilience-hash", "HASH", "hash of the checksums"),
    flag("resume-only", "go on with what is under way, begin nothing"),
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
