//! Reads the words of a table line and says which word was wrong, in the kernel's terms and in ours.

use std::fmt;
use std::ops::RangeInclusive;

use crate::backing::{Access, BackingError};
use crate::io::{DevRef, Errno, OpenDevice};
use crate::sync::Arc;
use crate::target::EventSink;
use crate::unit::{Sector, Sectors};

/// Finds the device behind a device argument.
pub trait DeviceOpener {
    /// Opens what `spec` (a path, `major:minor`, `mem:SIZE`) names.
    ///
    /// # Errors
    /// The kernel's errno and what was wrong with the device.
    fn open(&self, spec: &str, access: Access) -> Result<Arc<OpenDevice>, OpenError>;
}

/// Why a device argument could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// The errno the kernel gives.
    pub errno: Errno,
    /// What was wrong, for people.
    pub reason: String,
}

impl From<BackingError> for OpenError {
    fn from(error: BackingError) -> OpenError {
        OpenError {
            errno: error.errno,
            reason: error.message,
        }
    }
}

/// Why a row was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    /// The kernel's text.
    pub text: String,
    /// The kernel's errno.
    pub errno: Errno,
    /// The word of the row, counted from 1 (start 1, length 2, type 3).
    pub word: Option<u32>,
    /// The word as found.
    pub found: Option<String>,
    /// What was expected there.
    pub expected: Option<String>,
}

/// The first argument's place in its row: start, length and type come before it.
const FIRST_ARGUMENT_WORD: u32 = 4;

/// The arguments of one row, and what a target needs to be built.
pub struct BuildArgs<'a> {
    /// First sector of the row in its table.
    pub start: Sector,
    /// Length of the row.
    pub len: Sectors,
    /// The table's mode.
    pub access: Access,
    /// Where the target tells its events.
    pub events: Arc<dyn EventSink>,
    /// The target is built again from what [`crate::target::Target::kept`] gave.
    pub again: bool,
    words: &'a [String],
    next: usize,
    opener: &'a dyn DeviceOpener,
}

impl<'a> BuildArgs<'a> {
    /// Arguments `words` of a row of `len` sectors at `start`.
    pub fn new(
        (start, len): (Sector, Sectors),
        words: &'a [String],
        access: Access,
        opener: &'a dyn DeviceOpener,
        events: Arc<dyn EventSink>,
    ) -> BuildArgs<'a> {
        BuildArgs {
            start,
            len,
            access,
            events,
            again: false,
            words,
            next: 0,
            opener,
        }
    }

    /// How many words are left.
    pub fn left(&self) -> usize {
        self.words.len().saturating_sub(self.next)
    }

    /// An error about the table line as a whole: `text` is the kernel's, `expected` ours.
    pub fn refuse(&self, text: &str, expected: impl Into<String>) -> BuildError {
        BuildError {
            text: text.into(),
            errno: Errno::INVAL,
            word: None,
            found: None,
            expected: Some(expected.into()),
        }
    }

    /// An error about the word read last.
    pub fn refuse_last(&self, text: &str, expected: impl Into<String>) -> BuildError {
        let index = self.next.saturating_sub(1);
        BuildError {
            word: Some(
                FIRST_ARGUMENT_WORD.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)),
            ),
            found: self.words.get(index).map(|word| told(word)),
            ..self.refuse(text, expected)
        }
    }

    /// An error about the word read last, which must not be told to anybody: a key.
    pub fn refuse_secret(&self, text: &str, expected: impl Into<String>) -> BuildError {
        let refused = self.refuse_last(text, expected);
        let found = refused.found.as_deref().map(hidden);
        BuildError { found, ..refused }
    }

    /// Fails with `text` unless `allowed` holds for the number of words left.
    ///
    /// # Errors
    /// EINVAL; `expected` says what the words should be.
    pub fn check_count(
        &self,
        allowed: impl FnOnce(usize) -> bool,
        text: &str,
        expected: &str,
    ) -> Result<(), BuildError> {
        if allowed(self.left()) {
            return Ok(());
        }
        let plural = if self.left() == 1 {
            "argument"
        } else {
            "arguments"
        };
        Err(BuildError {
            found: Some(format!("{} {plural}", self.left())),
            ..self.refuse(text, expected)
        })
    }

    /// The next word.
    ///
    /// # Errors
    /// EINVAL with `text` where there is none.
    pub fn word(&mut self, text: &str, expected: &str) -> Result<&'a str, BuildError> {
        let word = self
            .words
            .get(self.next)
            .ok_or_else(|| self.refuse(text, expected))?;
        self.next += 1;
        Ok(word)
    }

    /// The next `count` words.
    ///
    /// # Errors
    /// EINVAL with `text` where there are not as many.
    pub fn words(
        &mut self,
        count: usize,
        text: &str,
        expected: &str,
    ) -> Result<&'a [String], BuildError> {
        let after = self.next.checked_add(count);
        let words = after.and_then(|after| self.words.get(self.next..after));
        let words = words.ok_or_else(|| self.refuse(text, expected))?;
        self.next += count;
        Ok(words)
    }

    /// A plain decimal number of sectors or a place, as the kernel reads `%llu`.
    ///
    /// # Errors
    /// EINVAL with `text`.
    pub fn sector(&mut self, text: &str) -> Result<Sector, BuildError> {
        let expected = "a sector number (plain decimal)";
        let word = self.word(text, expected)?;
        parse_digits(word)
            .map(Sector)
            .ok_or_else(|| self.refuse_last(text, expected))
    }

    /// A number from 1 to 2^32 - 1 (as the kernel's kstrtouint reads it).
    ///
    /// # Errors
    /// EINVAL with `text`.
    pub fn positive_u32(&mut self, text: &str, what: &str) -> Result<u32, BuildError> {
        match self.u32(text, what)? {
            0 => Err(self.refuse_last(text, format!("{what} of at least 1"))),
            number => Ok(number),
        }
    }

    /// A number from 0 to 2^32 - 1 (as the kernel's kstrtouint reads it).
    ///
    /// # Errors
    /// EINVAL with `text`.
    pub fn u32(&mut self, text: &str, what: &str) -> Result<u32, BuildError> {
        let word = self.word(text, what)?;
        parse_digits(word.strip_prefix('+').unwrap_or(word))
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| self.refuse_last(text, format!("{what} (0 to 4294967295)")))
    }

    /// A number within `range`, as the kernel's dm_read_arg reads it.
    ///
    /// # Errors
    /// EINVAL with `text`.
    pub fn number(
        &mut self,
        range: RangeInclusive<u32>,
        text: &str,
        what: &str,
    ) -> Result<u32, BuildError> {
        let expected = format!("{what} ({} to {})", range.start(), range.end());
        let word = self.word(text, &expected)?;
        scan_u32(word)
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.refuse_last(text, expected))
    }

    /// How many words of a group follow, as the kernel's dm_read_arg_group reads it: a number within `range`, and not
    /// more than there are.
    ///
    /// # Errors
    /// EINVAL with `text`.
    pub fn group(
        &mut self,
        range: RangeInclusive<u32>,
        text: &str,
        what: &str,
    ) -> Result<usize, BuildError> {
        let count = self.number(range, text, what)? as usize;
        if count > self.left() {
            let expected = format!("{what} of at most the {} that follow", self.left());
            return Err(self.refuse_last(text, expected));
        }
        Ok(count)
    }

    /// What `read` makes of the words from `words` further on; the next word stays the same. For words that the
    /// kernel looks at before those in front of them.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn ahead<R>(
        &mut self,
        words: usize,
        read: impl FnOnce(&mut Self) -> Result<R, BuildError>,
    ) -> Result<R, BuildError> {
        let here = self.next;
        self.next = here.saturating_add(words);
        let result = read(self);
        self.next = here;
        result
    }

    /// The next word, which stays the next one.
    pub fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(String::as_str)
    }

    /// Goes on behind the next `words` words, which were read before.
    pub fn skip(&mut self, words: usize) {
        self.next = self.next.saturating_add(words).min(self.words.len());
    }

    /// The device that the next word names.
    ///
    /// # Errors
    /// The opener's errno with `text`.
    pub fn device(&mut self, text: &str) -> Result<Arc<OpenDevice>, BuildError> {
        let word = self.word(text, "a device")?;
        self.opener
            .open(word, self.access)
            .map_err(|error| BuildError {
                errno: error.errno,
                ..self.refuse_last(
                    text,
                    format!("a device that can be opened ({})", error.reason),
                )
            })
    }

    /// The device and the sector that the next two words name, `len` sectors of it. The kernel reads the
    /// sector first, and so do we: where both are wrong the error is about the sector.
    ///
    /// # Errors
    /// EINVAL with `sector_text`, or the opener's errno with `device_text`.
    pub fn device_range(
        &mut self,
        len: Sectors,
        device_text: &str,
        sector_text: &str,
    ) -> Result<DevRef, BuildError> {
        self.ahead(0, |args| {
            args.word(device_text, "a device and its first sector")
        })?;
        let start = self.ahead(1, |args| args.sector(sector_text))?;
        let device = self.device(device_text)?;
        self.skip(1);
        Ok(DevRef::new(device, start, len))
    }
}

/// Digits of a word from which on it may be a key.
const KEY_DIGITS: usize = 32;

/// The word, unless it looks like a key that stands in the wrong place.
fn told(word: &str) -> String {
    let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_hex && word.len() >= KEY_DIGITS {
        true => hidden(word),
        false => word.to_owned(),
    }
}

/// What is said of a word that is not told.
fn hidden(word: &str) -> String {
    format!("{} characters, not shown", word.chars().count())
}

/// Digits only, within 64 bits.
fn parse_digits(word: &str) -> Option<u64> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    word.parse().ok()
}

/// Digits only; what does not fit 32 bits wraps, as in the kernel's `sscanf("%u%c")`.
pub fn scan_u32(word: &str) -> Option<u32> {
    scan_u64(word).map(|number| number as u32)
}

/// Digits only; what does not fit 64 bits wraps, as in the kernel's `sscanf("%llu%c")`.
pub fn scan_u64(word: &str) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.bytes().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.wrapping_mul(10).wrapping_add(digit))
    })
}

/// Splits arguments as the kernel's dm_split_args does: at white space; a backslash quotes the next character.
pub fn split_words(text: &str) -> Vec<String> {
    let is_blank = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if is_blank(c) {
            words.extend(word.take());
            continue;
        }
        let rest = chars.as_str();
        // With room for all of it, so that of a key no part is left behind where it grew.
        let word = word.get_or_insert_with(|| {
            String::with_capacity(c.len_utf8() + rest.find(is_blank).unwrap_or(rest.len()))
        });
        match c {
            '\\' => word.push(chars.next().unwrap_or('\\')),
            c => word.push(c),
        }
    }
    words.extend(word);
    words
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_digits, scan_u32, scan_u64, split_words, told};
    use crate::target::escape_word;

    #[test]
    fn backslashes_quote_one_character() {
        assert_eq!(split_words(r"a\ b  c\\d \"), ["a b", r"c\d", r"\"]);
        assert_eq!(split_words("  "), [""; 0]);
    }

    #[test]
    fn an_escaped_word_comes_back() {
        for word in ["plain", "with space", r"back\slash", "tab\tnew\nline"] {
            assert_eq!(split_words(&escape_word(word)), [word]);
        }
    }

    #[test]
    fn what_looks_like_a_key_is_not_told() {
        assert_eq!(told("4294967296"), "4294967296");
        assert_eq!(told("/dev/sda"), "/dev/sda");
        assert_eq!(told(&"0aF9".repeat(8)), "32 characters, not shown");
    }

    #[test]
    fn scanned_numbers_wrap() {
        assert_eq!(scan_u32("4294967296"), Some(0));
        assert_eq!(scan_u32("0017"), Some(17));
        assert_eq!(scan_u64("18446744073709551617"), Some(1));
        for bad in ["", "-1", "+1", "1x", " 1", "x"] {
            assert_eq!((scan_u32(bad), scan_u64(bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(parse_digits("18446744073709551615"), Some(u64::MAX));
        for bad in ["", "-1", "+1", "1x", " 1", "18446744073709551616", "0x10"] {
            assert_eq!(parse_digits(bad), None, "{bad}");
        }
    }
}
