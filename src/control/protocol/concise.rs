//! The concise form of devices: `NAME,UUID,MINOR,FLAGS,TABLE[,TABLE...][;NAME,...]`.
//!
//! A comma ends a field or a table's line, a semicolon a device, and a backslash takes the next
//! character as it is. White space behind the comma of a field and behind a semicolon is skipped.
//! Errors, and the order in which they come, are dmsetup's: it creates each device before it reads
//! the next, so what is before a mistake is made.

use std::fmt;

/// A device in the concise form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConciseDevice {
    /// Its name.
    pub name: String,
    /// Its uuid, or nothing.
    pub uuid: String,
    /// The minor number asked for. A text that is no number asks for 0, as C's `atoi` has it.
    pub minor: Option<i64>,
    /// Whether its table is read-only.
    pub readonly: bool,
    /// Its table, one row to a line.
    pub table: String,
}

/// Why a concise text, or the rest of one, is not understood; one or two lines for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConciseError(pub String);

impl fmt::Display for ConciseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConciseError {}

impl ConciseError {
    fn after(reason: &str, fields: &[String]) -> Self {
        let field = |n: usize| fields.get(n).map_or("(null)", String::as_str);
        Self(format!(
            "{reason}\nParsed {} fields: name: {} uuid: {} minor: {} flags: {} table: {}",
            fields.len(),
            field(0),
            field(1),
            field(2),
            field(3),
            field(4)
        ))
    }
}

const FIELDS: usize = 5;
const TOO_FEW: &str = "Five comma-separated fields are required for each device";

/// Reads the devices of `text` one after the other; nothing comes after an error.
pub fn parse(text: &str) -> ConciseDevices<'_> {
    ConciseDevices {
        rest: text,
        failed: false,
    }
}

/// The devices of a concise text; see [`parse`].
#[derive(Clone, Debug)]
pub struct ConciseDevices<'t> {
    rest: &'t str,
    failed: bool,
}

impl Iterator for ConciseDevices<'_> {
    type Item = Result<ConciseDevice, ConciseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let device = self.device();
        self.failed = device.is_err();
        Some(device)
    }
}

impl ConciseDevices<'_> {
    /// Reads up to the end of a device, and leaves the rest.
    fn device(&mut self) -> Result<ConciseDevice, ConciseError> {
        let mut fields = vec![String::new()];
        let mut letters = self.rest.chars();
        let mut unended = false;
        let mut ended = false;
        while let Some(letter) = letters.next() {
            let last = fields.len() == FIELDS;
            unended = false;
            match letter {
                '\\' => match letters.next() {
                    Some(quoted) => {
                        push(&mut fields, quoted);
                        unended = true;
                    }
                    None => {
                        return Err(ConciseError::after(
                            "Backslash must be followed by another character at end of string.",
                            &fields,
                        ));
                    }
                },
                ',' if last => {
                    push(&mut fields, '\n');
                    unended = true;
                }
                ',' => {
                    fields.push(String::new());
                    letters = letters.as_str().trim_start_matches(is_space).chars();
                    unended = true;
                }
                ';' => {
                    ended = true;
                    break;
                }
                other => push(&mut fields, other),
            }
        }
        self.rest = letters.as_str().trim_start_matches(is_space);
        // A last character that is quoted, or a comma, does not end a device.
        if !ended && unended {
            let reason = format!("Incomplete entry: f{}", TOO_FEW.trim_start_matches('F'));
            return Err(ConciseError::after(&reason, &fields));
        }
        device_of(&fields)
    }
}

fn push(fields: &mut [String], letter: char) {
    if let Some(field) = fields.last_mut() {
        field.push(letter);
    }
}

fn device_of(fields: &[String]) -> Result<ConciseDevice, ConciseError> {
    let [name, uuid, minor, flags, table] = fields else {
        return Err(ConciseError::after(TOO_FEW, fields));
    };
    let readonly = match flags.as_str() {
        "ro" => true,
        "rw" | "" => false,
        other => {
            return Err(ConciseError(format!(
                "Invalid flags parameter '{other}' must be 'ro' or 'rw' or empty."
            )));
        }
    };
    Ok(ConciseDevice {
        name: name.clone(),
        uuid: uuid.clone(),
        minor: (!minor.is_empty()).then(|| atoi(minor)),
        readonly,
        table: table.clone(),
    })
}

/// C's `atoi`, which makes 0 of a text that is no number; it stops at what is no digit.
fn atoi(text: &str) -> i64 {
    let text = text.trim_start_matches(is_space);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let value = digits
        .get(..end)
        .and_then(|digits| digits.parse::<i64>().ok())
        .unwrap_or(0);
    if text.starts_with('-') { -value } else { value }
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// A device as `table --concise` prints it; `rows` are `START LENGTH TARGET PARAMS`.
/// The devices of one output are joined with `;`.
pub fn print(name: &str, uuid: &str, minor: u32, readonly: bool, rows: &[String]) -> String {
    let flags = if readonly { "ro" } else { "rw" };
    let mut text = format!("{},{},{minor},{flags}", quoted(name), quoted(uuid));
    for row in rows {
        text.push(',');
        text.push_str(&quoted(row));
    }
    text
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, ',' | ';' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{ConciseDevice, parse, print};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn all(text: &str) -> Result<Vec<ConciseDevice>, String> {
        parse(text).collect::<Result<_, _>>().map_err(|e| e.0)
    }

    fn one(text: &str) -> ConciseDevice {
        let mut devices = all(text).unwrap();
        assert_eq!(devices.len(), 1);
        devices.remove(0)
    }

    #[test]
    fn fields_lines_and_devices_are_taken_apart() {
        let devices = all("c1,UUID-1,20,ro,0 8 zero,8 8 error;c2,,,rw,0 16 zero").unwrap();
        assert_eq!(devices[0].name, "c1");
        assert_eq!(devices[0].uuid, "UUID-1");
        assert_eq!(devices[0].minor, Some(20));
        assert!(devices[0].readonly);
        assert_eq!(devices[0].table, "0 8 zero\n8 8 error");
        assert_eq!(
            (
                devices[1].name.as_str(),
                devices[1].minor,
                devices[1].readonly
            ),
            ("c2", None, false)
        );
    }

    #[test]
    fn blanks_behind_separators_are_skipped_and_quoted_letters_kept() {
        let device = one("c5, UUID-5, 21, rw, 0 8 zero, 8 8 error");
        assert_eq!((device.uuid.as_str(), device.minor), ("UUID-5", Some(21)));
        assert_eq!(device.table, "0 8 zero\n 8 8 error");
        assert_eq!(one("c\\,6\\;x,,,,0 8 zero").name, "c,6;x");
        assert_eq!(one("c\\\\7,,,,0 8 zero").name, "c\\7");
        assert_eq!(
            all("c3,,,,0 8 zero;\n c4,,,,0 8 error\n").unwrap()[1].name,
            "c4"
        );
    }

    #[test]
    fn missing_fields_are_told_with_what_was_read() {
        let five = "Five comma-separated fields are required for each device";
        assert_eq!(
            all("a,b").unwrap_err(),
            format!(
                "{five}\nParsed 2 fields: name: a uuid: b minor: (null) flags: (null) table: (null)"
            )
        );
        assert_eq!(
            all(";").unwrap_err(),
            format!(
                "{five}\nParsed 1 fields: name:  uuid: (null) minor: (null) flags: (null) table: (null)"
            )
        );
        assert_eq!(
            all("a,,,,").unwrap_err(),
            "Incomplete entry: five comma-separated fields are required for each device\nParsed 5 fields: name: a uuid:  minor:  flags:  table: "
        );
        assert_eq!(
            all("d8,,,,0 8 zero\\").unwrap_err(),
            "Backslash must be followed by another character at end of string.\nParsed 5 fields: name: d8 uuid:  minor:  flags:  table: 0 8 zero"
        );
        assert_eq!(
            all("a,,,rx,0 8 zero").unwrap_err(),
            "Invalid flags parameter 'rx' must be 'ro' or 'rw' or empty."
        );
        assert_eq!(all("").unwrap(), []);
    }

    #[test]
    fn what_stands_before_a_mistake_is_read() {
        let mut devices = parse("d1,,,,0 8 zero;;d2,,,,0 8 zero");
        assert_eq!(devices.next().unwrap().unwrap().name, "d1");
        assert!(
            devices
                .next()
                .unwrap()
                .unwrap_err()
                .0
                .contains("Parsed 1 fields: name:  ")
        );
        assert!(devices.next().is_none());
    }

    #[test]
    fn numbers_are_read_as_atoi_reads_them() {
        let minor = |text: &str| one(&format!("a,,{text},,0 8 zero")).minor;
        assert_eq!(
            [minor("x"), minor("-1"), minor("1x"), minor("")],
            [Some(0), Some(-1), Some(1), None]
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = parse(&text).count();
        }

        #[test]
        fn printed_devices_are_read_back(name in "[ -~]{1,20}", row in "0 8 [a-z,;\\\\ ]{0,20}x") {
            let device = one(&print(&name, "", 3, true, std::slice::from_ref(&row)));
            prop_assert_eq!(device.name, name);
            prop_assert_eq!(device.table, row);
        }
    }
}
