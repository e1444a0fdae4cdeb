//! Names and uuids on the command line: which characters are kept, and how an LVM name is taken apart.
//!
//! The daemon stores names as they are sent. The command line writes every character outside
//! `0-9A-Za-z#+-.:=@_` as `\xNN` on the way in and reads it back on the way out, so that a name is also
//! a tidy file name. Three modes, as of `dmsetup --manglename`: `auto` keeps a name that is written
//! that way already and refuses a mixture, `hex` writes always, `none` never.

use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes.
pub const NAME_MAX: usize = 127;
/// Longest uuid, in bytes.
pub const UUID_MAX: usize = 128;

/// When characters are written as `\xNN` (`--manglename`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mangling {
    /// Unless the name is written so already; a mixture is refused.
    #[default]
    Auto,
    /// Always, also a backslash that begins a written character.
    Hex,
    /// Never; names are shown as they are stored.
    None,
}

impl FromStr for Mangling {
    type Err = NameError;

    fn from_str(word: &str) -> Result<Self, NameError> {
        match word {
            "auto" => Ok(Self::Auto),
            "hex" => Ok(Self::Hex),
            "none" => Ok(Self::None),
            _ => Err(NameError("Unknown name mangling mode.".into())),
        }
    }
}

/// What a text names; it changes the words of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The name of a device.
    Name,
    /// The name a device shall get.
    NewName,
    /// A uuid.
    Uuid,
}

impl Subject {
    fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::NewName => "new name",
            Self::Uuid => "UUID",
        }
    }

    fn max(self) -> usize {
        match self {
            Self::Name | Self::NewName => NAME_MAX,
            Self::Uuid => UUID_MAX,
        }
    }

    fn failed(self, text: &str) -> String {
        match self {
            Self::Name => format!("Failed to mangle device name \"{text}\"."),
            Self::NewName => format!("Failed to mangle new device name \"{text}\""),
            Self::Uuid => format!("Failed to mangle device uuid \"{text}\"."),
        }
    }
}

/// A name that cannot be used, as one or two lines for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(pub String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte)
}

/// The name that is sent for a name that the user gave for a new or an existing device (no path).
///
/// # Errors
/// Too long; written twice over, or partly (mode `auto`).
pub fn to_stored(text: &str, subject: Subject, mode: Mangling) -> Result<String, NameError> {
    if text.len() > subject.max() {
        return Err(too_long(text, subject));
    }
    refuse_twice_mangled(text, subject, mode)?;
    if mode == Mangling::None {
        return Ok(text.into());
    }
    let stored = mangle(text, subject, mode)
        .map_err(|NameError(why)| NameError(format!("{why}\n{}", subject.failed(text))))?;
    if stored.len() > subject.max() {
        return Err(NameError(format!(
            "Mangled form of the {} too long for \"{text}\".\n{}",
            subject.word(),
            subject.failed(text)
        )));
    }
    Ok(stored)
}

/// The name that is sent for `text` as the new name of a device.
///
/// # Errors
/// Empty, with a `/`, or as [`to_stored`].
pub fn new_name_to_stored(text: &str, mode: Mangling) -> Result<String, NameError> {
    refuse_slash(text)?;
    if text.is_empty() {
        return Err(NameError("Non empty new name is required.".into()));
    }
    to_stored(text, Subject::NewName, mode)
}

/// Refuses a name with a `/`: a device that does not exist yet has no path.
///
/// # Errors
/// With dmsetup's words, if there is one.
pub fn refuse_slash(text: &str) -> Result<(), NameError> {
    if text.contains('/') {
        return Err(NameError(format!(
            "Name \"{text}\" invalid. It contains \"/\"."
        )));
    }
    Ok(())
}

fn too_long(text: &str, subject: Subject) -> NameError {
    NameError(match subject {
        Subject::Name => format!("Name \"{text}\" too long."),
        Subject::NewName => format!("Name \"{text}\" too long"),
        Subject::Uuid => format!("Uuid \"{text}\" too long"),
    })
}

fn refuse_twice_mangled(text: &str, subject: Subject, mode: Mangling) -> Result<(), NameError> {
    if mode == Mangling::Auto && text.contains("\\x5cx") {
        return Err(NameError(format!(
            "The {} \"{text}\" seems to be mangled more than once. This is not allowed in auto mode.",
            subject.word()
        )));
    }
    Ok(())
}

/// `text` with every character outside the kept ones written as `\xNN`; mode `none` counts as `auto`.
///
/// # Errors
/// Partly written already (not in mode `hex`).
pub fn mangle(text: &str, subject: Subject, mode: Mangling) -> Result<String, NameError> {
    let mixed = || {
        NameError(format!(
            "The {} \"{text}\" contains mixed mangled and unmangled characters or it's already mangled improperly.",
            subject.word()
        ))
    };
    let mut stored = String::with_capacity(text.len());
    let (mut found_written, mut found_unwritten) = (false, false);
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let rest = &text.as_bytes()[at..];
        if mode != Mangling::Hex && rest.starts_with(b"\\x") {
            // libdm copies the two characters behind `\x` without looking whether they are digits.
            let written = text
                .get(at..at + 4)
                .filter(|_| !found_unwritten)
                .ok_or_else(mixed)?;
            stored.push_str(written);
            found_written = true;
            at += 4;
            continue;
        }
        if is_kept(byte) {
            stored.push(char::from(byte));
        } else if found_written && mode != Mangling::Hex {
            return Err(mixed());
        } else {
            stored.push_str(&format!("\\x{byte:02x}"));
            found_unwritten = true;
        }
        at += 1;
    }
    Ok(stored)
}

/// A stored name as it is shown in `mode`: unmangled in `auto` and `hex`, as it is in `none`.
///
/// # Errors
/// It has characters that should have been written as `\xNN`, or was written twice over (`auto`).
pub fn to_shown(stored: &str, subject: Subject, mode: Mangling) -> Result<String, NameError> {
    if mode == Mangling::None {
        return Ok(stored.into());
    }
    refuse_twice_mangled(stored, subject, mode)?;
    if !stored.bytes().all(|byte| is_kept(byte) || byte == b'\\') {
        return Err(NameError(format!(
            "The {} \"{stored}\" should be mangled but it contains blacklisted characters.",
            subject.word()
        )));
    }
    Ok(unmangle(stored))
}

/// `stored` with every `\xNN` read back. What is not two hexadecimal digits stays.
pub fn unmangle(stored: &str) -> String {
    let mut bytes = Vec::with_capacity(stored.len());
    let mut rest = stored.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        if let Some((byte, left)) = written_byte(rest) {
            bytes.push(byte);
            rest = left;
        } else {
            bytes.push(first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn written_byte(text: &[u8]) -> Option<(u8, &[u8])> {
    let digits = text.strip_prefix(b"\\x")?.get(..2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((u8::from_str_radix(digits, 16).ok()?, text.get(4..)?))
}

/// What `dmsetup mangle` has to do for one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MangleStep {
    /// Nothing; the line to print says so.
    Keep(String),
    /// Rename the device to this stored name, after printing the line.
    Rename {
        /// The line to print first.
        line: String,
        /// The stored name that the device gets.
        new_name: String,
    },
}

/// Decides what `dmsetup mangle` does with a device of this stored name and uuid (empty: none).
///
/// # Errors
/// The uuid would have to change, which cannot be done to a living device; or a name written twice over.
pub fn mangle_step(name: &str, uuid: &str, mode: Mangling) -> Result<MangleStep, NameError> {
    let remedies = [
        ("name", name, "rename the device"),
        ("UUID", uuid, "correct the device UUID"),
    ];
    for (word, text, remedy) in remedies {
        if mode == Mangling::Auto && text.contains("\\x5cx") {
            return Err(NameError(format!(
                "The {word} \"{text}\" seems to be mangled more than once. Manual intervention required to {remedy}."
            )));
        }
    }
    // A stored name is read as `auto` would: `hex` must not write what is written already.
    let wanted = |text: &str, subject| match mode {
        Mangling::None => Ok(unmangle(text)),
        Mangling::Auto | Mangling::Hex => mangle(text, subject, Mangling::Auto),
    };
    let new_name = wanted(name, Subject::Name)?;
    if wanted(uuid, Subject::Uuid)? != uuid {
        return Err(NameError(format!(
            "{name}: {uuid}: UUID in incorrect form. \nUnable to change device UUID. The device must be deactivated first."
        )));
    }
    if new_name == name {
        let (shown, word) = if uuid.is_empty() {
            ("[no UUID]", "")
        } else {
            (uuid, "and UUID ")
        };
        return Ok(MangleStep::Keep(format!(
            "{name}: {shown}: name {word}already in correct form"
        )));
    }
    Ok(MangleStep::Rename {
        line: format!("{name}: renaming to {new_name}"),
        new_name,
    })
}

/// The parts of a device name that LVM made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitName {
    /// Who made the device, e.g. `LVM` or `CRYPT`.
    pub subsystem: String,
    /// Volume group.
    pub vg: String,
    /// Logical volume.
    pub lv: String,
    /// What is behind the volume's name, e.g. `real`.
    pub layer: String,
}

impl SplitName {
    /// Takes `name` apart by the rules of `subsystem`; only LVM's are known, others leave the parts empty.
    pub fn new(name: &str, subsystem: &str) -> Self {
        let mut split = Self {
            subsystem: subsystem.into(),
            ..Self::default()
        };
        if subsystem == "LVM" {
            let rest;
            (split.vg, rest) = next_part(name);
            let (lv, rest) = next_part(rest);
            split.lv = lv;
            split.layer = next_part(rest).0;
        }
        split
    }

    /// As [`SplitName::new`], with the subsystem that stands before the first `-` of the uuid.
    pub fn by_uuid(name: &str, uuid: &str) -> Self {
        Self::new(
            name,
            uuid.split_once('-').map_or("", |(subsystem, _)| subsystem),
        )
    }
}

/// The text up to a single hyphen, doubled ones read as one; and what follows. A last hyphen is text.
fn next_part(name: &str) -> (String, &str) {
    let mut part = String::new();
    let mut rest = name.chars();
    while let Some(letter) = rest.next() {
        if letter == '-' && !rest.as_str().is_empty() {
            if !rest.as_str().starts_with('-') {
                break;
            }
            rest.next();
        }
        part.push(letter);
    }
    (part, rest.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        MangleStep, Mangling, SplitName, Subject, mangle_step, new_name_to_stored, to_shown,
        to_stored,
    };
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn stored(text: &str, mode: Mangling) -> Result<String, String> {
        to_stored(text, Subject::Name, mode).map_err(|e| e.0)
    }

    fn shown(text: &str, mode: Mangling) -> Result<String, String> {
        to_shown(text, Subject::Name, mode).map_err(|e| e.0)
    }

    #[test]
    fn characters_outside_the_list_are_written_as_hex() {
        assert_eq!(stored("a b", Mangling::Auto).unwrap(), "a\\x20b");
        assert_eq!(stored("x,y;z", Mangling::Auto).unwrap(), "x\\x2cy\\x3bz");
        assert_eq!(
            stored("#+-.:=@_Az09", Mangling::Auto).unwrap(),
            "#+-.:=@_Az09"
        );
        assert_eq!(stored("o\\p", Mangling::Auto).unwrap(), "o\\x5cp");
        assert_eq!(stored("\u{e9}", Mangling::Auto).unwrap(), "\\xc3\\xa9");
    }

    #[test]
    fn auto_keeps_what_is_written_and_refuses_a_mixture() {
        assert_eq!(stored("c\\x20d", Mangling::Auto).unwrap(), "c\\x20d");
        assert_eq!(stored("m\\xzz", Mangling::Auto).unwrap(), "m\\xzz");
        for text in ["a\\x20b c", "a b\\x20c", "n\\x2"] {
            let why = stored(text, Mangling::Auto).unwrap_err();
            assert_eq!(
                why,
                format!(
                    "The name \"{text}\" contains mixed mangled and unmangled characters or it's already mangled improperly.\nFailed to mangle device name \"{text}\"."
                )
            );
        }
        assert_eq!(stored("i\\x20j", Mangling::Hex).unwrap(), "i\\x5cx20j");
        assert_eq!(stored("e f", Mangling::None).unwrap(), "e f");
    }

    #[test]
    fn stored_names_are_shown_by_mode() {
        assert_eq!(shown("a\\x20b", Mangling::Auto).unwrap(), "a b");
        assert_eq!(shown("a\\x20b", Mangling::None).unwrap(), "a\\x20b");
        assert_eq!(shown("m\\xzz", Mangling::Auto).unwrap(), "m\\xzz");
        assert_eq!(
            shown("e f", Mangling::Auto).unwrap_err(),
            "The name \"e f\" should be mangled but it contains blacklisted characters."
        );
        assert_eq!(
            shown("i\\x5cx20j", Mangling::Auto).unwrap_err(),
            "The name \"i\\x5cx20j\" seems to be mangled more than once. This is not allowed in auto mode."
        );
        assert_eq!(shown("i\\x5cx20j", Mangling::Hex).unwrap(), "i\\x20j");
    }

    #[test]
    fn lengths_are_checked_before_and_after_writing() {
        assert!(stored(&"n".repeat(127), Mangling::Auto).is_ok());
        let long = "n".repeat(128);
        assert_eq!(
            stored(&long, Mangling::Auto).unwrap_err(),
            format!("Name \"{long}\" too long.")
        );
        let blanks = " ".repeat(100);
        assert!(
            stored(&blanks, Mangling::Auto)
                .unwrap_err()
                .starts_with("Mangled form of the name too long for")
        );
    }

    #[test]
    fn a_new_name_has_errors_of_its_own() {
        let why = |text: &str| new_name_to_stored(text, Mangling::Auto).unwrap_err().0;
        assert_eq!(why(""), "Non empty new name is required.");
        assert_eq!(why("a/b"), "Name \"a/b\" invalid. It contains \"/\".");
        assert!(why(&"n".repeat(128)).ends_with("too long"));
        assert!(why("u\\x20v w").ends_with("Failed to mangle new device name \"u\\x20v w\""));
    }

    #[test]
    fn mangle_keeps_renames_or_refuses() {
        let line = |name, uuid, mode| match mangle_step(name, uuid, mode) {
            Ok(MangleStep::Keep(line) | MangleStep::Rename { line, .. }) => line,
            Err(why) => why.0,
        };
        assert_eq!(
            line("a", "", Mangling::Auto),
            "a: [no UUID]: name already in correct form"
        );
        assert_eq!(
            line("a", "U", Mangling::Auto),
            "a: U: name and UUID already in correct form"
        );
        assert_eq!(line("a b", "", Mangling::Auto), "a b: renaming to a\\x20b");
        assert_eq!(
            line("a\\x20b", "", Mangling::None),
            "a\\x20b: renaming to a b"
        );
        assert!(
            line("e f", "U V", Mangling::Auto).starts_with("e f: U V: UUID in incorrect form. \n")
        );
        assert!(line("i\\x5cx20j", "", Mangling::Auto).ends_with("required to rename the device."));
    }

    #[test]
    fn lvm_names_split_at_single_hyphens() {
        let split = |name| {
            let SplitName { vg, lv, layer, .. } = SplitName::new(name, "LVM");
            (vg, lv, layer)
        };
        let parts = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(split("vg-lv"), parts("vg", "lv", ""));
        assert_eq!(split("vg-lv--x-real"), parts("vg", "lv-x", "real"));
        assert_eq!(split("vg-"), parts("vg-", "", ""));
        assert_eq!(split("--"), parts("-", "", ""));
        assert_eq!(split("vg---lv"), parts("vg-", "lv", ""));
        assert_eq!(split("vg----lv"), parts("vg--lv", "", ""));
        assert_eq!(split("a-b-c-d"), parts("a", "b", "c"));
        assert_eq!(SplitName::by_uuid("vg-lv", "CRYPT-1").vg, "");
        assert_eq!(SplitName::by_uuid("vg-lv", "LVM-1").lv, "lv");
    }

    proptest! {
        #[test]
        fn what_is_stored_is_shown_as_given(text in "[ -~]{0,30}") {
            if let Ok(stored) = to_stored(&text, Subject::Name, Mangling::Auto)
                && !text.contains("\\x")
            {
                prop_assert_eq!(to_shown(&stored, Subject::Name, Mangling::Auto).unwrap(), text);
            }
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            for mode in [Mangling::Auto, Mangling::Hex, Mangling::None] {
                let _ = to_stored(&text, Subject::Uuid, mode);
                let _ = to_shown(&text, Subject::Name, mode);
                let _ = mangle_step(&text, &text, mode);
            }
            SplitName::new(&text, "LVM");
        }
    }
}
