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
    /// The uuid a device shall get (`rename --setuuid`).
    NewUuid,
}

impl Subject {
    fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::NewName => "new name",
            Self::Uuid => "UUID",
            Self::NewUuid => "new UUID",
        }
    }

    fn max(self) -> usize {
        match self {
            Self::Name | Self::NewName => NAME_MAX,
            Self::Uuid | Self::NewUuid => UUID_MAX,
        }
    }

    fn failed(self, text: &str) -> String {
        match self {
            Self::Name => format!("Failed to mangle device name \"{text}\"."),
            Self::NewName => format!("Failed to mangle new device name \"{text}\""),
            Self::Uuid => format!("Failed to mangle device uuid \"{text}\"."),
            Self::NewUuid => format!("Failed to mangle new device UUID \"{text}\""),
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
    if let Some(refusal) = too_long(text, subject).filter(|_| text.len() > subject.max()) {
        return Err(refusal);
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

/// The words for a text that is too long as it was given; a uuid is only measured when it is mangled.
fn too_long(text: &str, subject: Subject) -> Option<NameError> {
    match subject {
        Subject::Name => Some(NameError(format!("Name \"{text}\" too long."))),
        Subject::NewName => Some(NameError(format!("Name \"{text}\" too long"))),
        Subject::NewUuid => Some(NameError(format!("Uuid \"{text}\" too long"))),
        Subject::Uuid => None,
    }
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
mod tests;
