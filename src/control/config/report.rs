//! Collects mistakes and says where they are.

use std::collections::BTreeSet;
use std::fmt;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as the user called it, or `--concise`.
    pub origin: String,
    /// Where it is, if it is anywhere in particular.
    pub place: Option<Place>,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.origin)?;
        if let Some(place) = self.place {
            write!(f, "{}:", place.line)?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// All mistakes of one text, at least one, in the order of their places. Shown one to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<ConfigError>);

impl Errors {
    /// One mistake of the whole text.
    pub(super) fn of(origin: &str, message: String) -> Errors {
        Errors(vec![ConfigError {
            origin: origin.to_owned(),
            place: None,
            message,
        }])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Mistakes as they are found, by their offset in the text.
pub(super) struct Report<'t> {
    origin: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
    errors: Vec<ConfigError>,
    /// Lines that are not TOML: what else seems wrong there follows from that.
    broken_lines: BTreeSet<usize>,
}

impl<'t> Report<'t> {
    pub(super) fn new(origin: &'t str, text: &'t str) -> Report<'t> {
        let after_newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(after_newlines.map(|(at, _)| at + 1))
            .collect();
        Report {
            origin,
            text,
            line_starts,
            errors: Vec::new(),
            broken_lines: BTreeSet::new(),
        }
    }

    pub(super) fn origin(&self) -> &'t str {
        self.origin
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let start = line
            .checked_sub(1)
            .and_then(|index| self.line_starts.get(index))
            .copied();
        let before = self
            .text
            .get(start.unwrap_or(0)..offset)
            .unwrap_or_default();
        Place {
            line,
            column: before.chars().count() + 1,
        }
    }

    /// A mistake at `offset`, or nowhere in particular.
    pub(super) fn at(&mut self, offset: Option<usize>, message: impl Into<String>) {
        let place = offset.map(|offset| self.place(offset));
        if place.is_some_and(|place| self.broken_lines.contains(&place.line)) {
            return;
        }
        self.push(place, message.into());
    }

    /// A mistake of the whole text.
    pub(super) fn whole(&mut self, message: impl Into<String>) {
        self.push(None, message.into());
    }

    /// A mistake in the TOML itself; the first one of a line counts.
    pub(super) fn syntax(&mut self, offset: usize, message: &str) {
        let place = self.place(offset);
        if self.broken_lines.insert(place.line) {
            self.push(Some(place), format!("column {}: {message}", place.column));
        }
    }

    /// True where the text is not TOML: something that seems to be missing may be what could not be read.
    pub(super) fn has_broken_lines(&self) -> bool {
        !self.broken_lines.is_empty()
    }

    fn push(&mut self, place: Option<Place>, message: String) {
        self.errors.push(ConfigError {
            origin: self.origin.to_owned(),
            place,
            message,
        });
    }

    /// `value`, unless there was a mistake.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Errors> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        self.errors.sort_by_key(|error| error.place);
        self.errors.dedup();
        Err(Errors(self.errors))
    }
}
