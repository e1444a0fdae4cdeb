//! Reads the keys of a mount file, and says which are unknown, missing or of the wrong type.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::LuksSpec;
use super::place::{Letters, Literal};
use super::report::Report;
use crate::backing::parse_size;
use crate::control::protocol::concise::ConciseDevice;
use crate::control::protocol::mount::{MetricsAddress, Transport};
use crate::control::protocol::table_text::parse_lines;
use crate::device::CachePolicy;
use crate::table::RowSpec;
use crate::unit::{Bytes, Sector, Sectors};

/// What a mount file says, before it is known to make sense.
#[derive(Default)]
pub(super) struct Draft<'t> {
    pub supervised: bool,
    pub transport: Option<Transport>,
    pub metrics: Option<MetricsAddress>,
    pub harden: bool,
    pub files: Vec<DraftFile>,
    pub devices: Vec<DraftDevice<'t>>,
}

/// `[[file]]`.
pub(super) struct DraftFile {
    pub offset: usize,
    pub path: String,
    /// Nothing where the size is wrong.
    pub size: Option<Bytes>,
}

/// `[[device]]`.
pub(super) struct DraftDevice<'t> {
    /// How errors call it.
    pub title: String,
    pub offset: Option<usize>,
    /// Nothing where it is missing or no text.
    pub name: Option<Text>,
    pub uuid: Option<Text>,
    pub minor: Option<(i64, Option<usize>)>,
    pub readonly: bool,
    pub direct: bool,
    pub cache: Option<CachePolicy>,
    pub table: Option<DraftTable<'t>>,
    /// The volume that its table comes from instead.
    pub luks: Option<LuksSpec>,
}

/// A text and where it stands.
pub(super) struct Text {
    pub text: String,
    pub offset: Option<usize>,
}

/// A device's table.
pub(super) struct DraftTable<'t> {
    pub rows: Vec<DraftRow>,
    /// False where a line is no row.
    pub complete: bool,
    /// The lines of the text; none where they have no place in a file.
    lines: Vec<Letters<'t>>,
}

/// A row and its line in the table's text, from 1.
pub(super) struct DraftRow {
    pub spec: RowSpec,
    pub line: usize,
}

/// Defaults for devices.
#[derive(Clone, Copy, Default)]
struct Defaults {
    cache: Option<CachePolicy>,
    direct: bool,
    readonly: bool,
}

const ROOT_KEYS: &[&str] = &[
    "defaults",
    "device",
    "file",
    "harden",
    "luks",
    "metrics",
    "supervised",
    "transport",
];
const DEFAULTS_KEYS: &[&str] = &["cache", "direct", "readonly"];
const FILE_KEYS: &[&str] = &["path", "size"];
const DEVICE_KEYS: &[&str] = &[
    "cache", "direct", "minor", "name", "readonly", "table", "uuid",
];

const LUKS_KEYS: &[&str] = &[
    "allow-discards",
    "cache",
    "device",
    "direct",
    "format",
    "header",
    "key-file",
    "key-slot",
    "keyfile-offset",
    "keyfile-size",
    "minor",
    "name",
    "readonly",
];

/// Reads the whole text; whatever can be understood is in the draft, whatever cannot in the report.
pub(super) fn read<'t>(text: &'t str, report: &mut Report<'t>) -> Draft<'t> {
    let (root, mistakes) = DeTable::parse_recoverable(text);
    for mistake in mistakes {
        let offset = mistake.span().map_or(text.len(), |span| span.start);
        report.syntax(offset, mistake.message());
    }
    let root = Section {
        title: "this file".into(),
        offset: 0,
        text,
        table: root.get_ref(),
    };
    root.refuse_unknown(ROOT_KEYS, report);
    let harden = root.flag("harden", report).unwrap_or(false);
    let defaults = root.defaults(harden, report);
    let mut draft = Draft {
        supervised: root.flag("supervised", report).unwrap_or(false),
        transport: root.transport(report),
        metrics: root.metrics(report),
        harden,
        ..Draft::default()
    };
    for file in root.sections("file", report) {
        draft.files.extend(file.file(report));
    }
    for device in root.sections("device", report) {
        draft
            .devices
            .push(device.device(DEVICE_KEYS, defaults, report));
    }
    for volume in root.sections("luks", report) {
        let luks = volume.luks(report);
        let mut device = volume.device(LUKS_KEYS, defaults, report);
        device.luks = luks;
        draft.devices.push(device);
    }
    // In the order in which they stand in the file, whatever their sections are called.
    draft.devices.sort_by_key(|device| device.offset);
    draft
}

/// A table of the TOML file.
struct Section<'d, 't> {
    /// How errors call it.
    title: String,
    offset: usize,
    text: &'t str,
    table: &'d DeTable<'t>,
}

impl<'d, 't> Section<'d, 't> {
    fn refuse_unknown(&self, known: &[&str], report: &mut Report<'t>) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("expected one of {}", known.join(", ")),
            };
            report.at(
                Some(key.span().start),
                format!("{}: unknown key '{name}': {hint}", self.title),
            );
        }
    }

    /// The sections `[[key]]`.
    fn sections(&self, key: &str, report: &mut Report<'t>) -> Vec<Section<'d, 't>> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        let expected = format!("expected [[{key}]] sections");
        let Some(array) = value.get_ref().as_array() else {
            report.at(
                Some(value.span().start),
                format!("'{key}': {expected}, found {}", found(value)),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (value, number) in array.iter().zip(1..) {
            let offset = value.span().start;
            match value.get_ref().as_table() {
                Some(table) => {
                    let title = format!("{key} {number}");
                    sections.push(Section {
                        title,
                        offset,
                        text: self.text,
                        table,
                    });
                }
                None => report.at(
                    Some(offset),
                    format!("'{key}': {expected}, found {}", found(value)),
                ),
            }
        }
        sections
    }

    fn transport(&self, report: &mut Report<'t>) -> Option<Transport> {
        let names = Transport::NAMES.map(|name| format!("\"{name}\""));
        let expected = format!("one of {}", names.join(", "));
        let read = |value: &DeValue<'t>| value.as_str().and_then(Transport::named);
        let (transport, _) = self.typed("transport", &expected, report, read)?;
        Some(transport)
    }

    fn metrics(&self, report: &mut Report<'t>) -> Option<MetricsAddress> {
        let expected = "the absolute path of a Unix socket, 127.0.0.1:PORT or [::1]:PORT";
        let read = |value: &DeValue<'t>| MetricsAddress::parse(value.as_str()?).ok();
        let (address, _) = self.typed("metrics", expected, report, read)?;
        Some(address)
    }

    /// What devices are where they do not say otherwise; a hardened mount goes around the page cache.
    fn defaults(&self, harden: bool, report: &mut Report<'t>) -> Defaults {
        let unsaid = Defaults {
            direct: harden,
            ..Defaults::default()
        };
        let Some(value) = self.table.get("defaults") else {
            return unsaid;
        };
        let offset = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let message = format!(
                "'defaults': expected a section [defaults], found {}",
                found(value)
            );
            report.at(Some(offset), message);
            return unsaid;
        };
        let section = Section {
            title: "[defaults]".into(),
            offset,
            text: self.text,
            table,
        };
        section.refuse_unknown(DEFAULTS_KEYS, report);
        Defaults {
            cache: section.policy("cache", report),
            direct: section.flag("direct", report).unwrap_or(unsaid.direct),
            readonly: section.flag("readonly", report).unwrap_or(false),
        }
    }

    fn file(mut self, report: &mut Report<'t>) -> Option<DraftFile> {
        let path = self.text("path", report);
        if let Some(path) = &path {
            self.title = format!("file {}", path.text);
        }
        self.refuse_unknown(FILE_KEYS, report);
        let size = match self.text("size", report) {
            Some(text) => parse_size(&text.text)
                .map_err(|error| {
                    report.at(text.offset, format!("{}: {}", self.title, error.message))
                })
                .ok(),
            None => {
                self.refuse_missing("size", r#"how long the file is, as size = "64M""#, report);
                None
            }
        };
        let Some(path) = path else {
            self.refuse_missing("path", "where the file is", report);
            return None;
        };
        Some(DraftFile {
            offset: path.offset.unwrap_or(self.offset),
            path: path.text,
            size,
        })
    }

    /// What a `[[luks]]` section says beside what every device does.
    fn luks(&self, report: &mut Report<'t>) -> Option<LuksSpec> {
        let mut path = |key: &str| Some(PathBuf::from(self.text(key, report)?.text));
        let (device, header, key_file) = (path("device"), path("header"), path("key-file"));
        let mut amount = |key: &str| {
            let (number, offset) = self.number(key, report)?;
            let amount = u64::try_from(number);
            if amount.is_err() {
                let message = format!("{}: '{key}': expected 0 or more", self.title);
                report.at(offset, message);
            }
            amount.ok()
        };
        let (keyfile_offset, keyfile_size) = (amount("keyfile-offset"), amount("keyfile-size"));
        let key_slot = amount("key-slot");
        let key_slot = key_slot.map(|slot| u32::try_from(slot).unwrap_or(u32::MAX));
        if device.is_none() {
            self.refuse_missing(
                "device",
                "the file or block device that holds the volume",
                report,
            );
        }
        Some(LuksSpec {
            device: device?,
            header,
            key_file,
            keyfile_offset: keyfile_offset.unwrap_or(0),
            keyfile_size,
            key_slot,
            allow_discards: self.flag("allow-discards", report).unwrap_or(false),
            format: self.flag("format", report).unwrap_or(false),
        })
    }

    fn device(
        mut self,
        keys: &[&str],
        defaults: Defaults,
        report: &mut Report<'t>,
    ) -> DraftDevice<'t> {
        let name = self.text("name", report);
        if let Some(name) = &name {
            self.title = format!("device {}", name.text.escape_debug());
        }
        self.refuse_unknown(keys, report);
        if name.is_none() {
            self.refuse_missing("name", "what the device's file is called", report);
        }
        DraftDevice {
            offset: Some(self.offset),
            name,
            uuid: self.text("uuid", report),
            minor: self.number("minor", report),
            readonly: self.flag("readonly", report).unwrap_or(defaults.readonly),
            direct: self.flag("direct", report).unwrap_or(defaults.direct),
            cache: self.policy("cache", report).or(defaults.cache),
            table: self.rows(report),
            luks: None,
            title: self.title,
        }
    }

    fn rows(&self, report: &mut Report<'t>) -> Option<DraftTable<'t>> {
        let value = self.table.get("table")?;
        let text = self.text("table", report)?;
        let span = value.span();
        let raw = self.text.get(span.clone()).unwrap_or_default();
        let lines = Literal {
            offset: span.start,
            raw,
        }
        .lines();
        Some(DraftTable::read(&text.text, lines, &self.title, report))
    }

    fn refuse_missing(&self, key: &str, what: &str, report: &mut Report<'t>) {
        if !self.table.contains_key(key) && !report.has_broken_lines() {
            report.at(
                Some(self.offset),
                format!("{}: '{key}' is missing: expected {what}", self.title),
            );
        }
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        report: &mut Report<'t>,
        read: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Option<(T, usize)> {
        let value = self.table.get(key)?;
        let offset = value.span().start;
        let read = read(value.get_ref());
        if read.is_none() {
            let message = format!(
                "{}: '{key}': expected {expected}, found {}",
                self.title,
                found(value)
            );
            report.at(Some(offset), message);
        }
        Some((read?, offset))
    }

    fn text(&self, key: &str, report: &mut Report<'t>) -> Option<Text> {
        let read = |value: &DeValue<'t>| value.as_str().map(str::to_owned);
        let (text, offset) = self.typed(key, "a text in quotes", report, read)?;
        Some(Text {
            text,
            offset: Some(offset),
        })
    }

    fn policy(&self, key: &str, report: &mut Report<'t>) -> Option<CachePolicy> {
        let word = self.text(key, report)?;
        let policy = word.text.parse();
        policy
            .map_err(|expected: String| {
                report.at(word.offset, format!("{}: '{key}': {expected}", self.title));
            })
            .ok()
    }

    fn flag(&self, key: &str, report: &mut Report<'t>) -> Option<bool> {
        self.typed(key, "true or false", report, DeValue::as_bool)
            .map(|(flag, _)| flag)
    }

    fn number(&self, key: &str, report: &mut Report<'t>) -> Option<(i64, Option<usize>)> {
        let read = |value: &DeValue<'t>| {
            let number = value.as_integer()?;
            i64::from_str_radix(number.as_str(), number.radix()).ok()
        };
        let (number, offset) = self.typed(key, "a number", report, read)?;
        Some((number, Some(offset)))
    }
}

impl<'t> DraftTable<'t> {
    fn read(
        text: &str,
        lines: Vec<Letters<'t>>,
        title: &str,
        report: &mut Report<'t>,
    ) -> DraftTable<'t> {
        let mut table = DraftTable {
            rows: Vec::new(),
            complete: true,
            lines,
        };
        for (line, row) in parse_lines(text) {
            match row {
                Ok(row) => table.rows.push(DraftRow {
                    spec: RowSpec {
                        start: Sector(row.start),
                        len: Sectors(row.length),
                        kind: row.target,
                        params: row.params,
                    },
                    line,
                }),
                Err(detail) => {
                    table.complete = false;
                    report.at(
                        table.place(line, 1),
                        format!("{title}: table, line {line}: {detail}"),
                    );
                }
            }
        }
        table
    }

    /// Where the word number `word` of a line stands in the file.
    pub(super) fn place(&self, line: usize, word: u32) -> Option<usize> {
        self.lines
            .get(line.checked_sub(1)?)
            .map(|letters| letters.clone().place_of_word(word))
    }
}

impl<'t> Draft<'t> {
    /// Adds a device in the concise form, which has no places.
    pub(super) fn push_concise(
        &mut self,
        device: ConciseDevice,
        direct: bool,
        report: &mut Report<'t>,
    ) {
        let title = format!("device {}", device.name.escape_debug());
        let text = |text: String| Text { text, offset: None };
        let table = DraftTable::read(&device.table, Vec::new(), &title, report);
        self.devices.push(DraftDevice {
            offset: None,
            name: Some(text(device.name)),
            uuid: Some(text(device.uuid)),
            minor: device.minor.map(|minor| (minor, None)),
            readonly: device.readonly,
            direct,
            cache: None,
            table: Some(table),
            luks: None,
            title,
        });
    }
}

/// What stands there instead of what was expected.
fn found(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a section".into(),
    }
}

/// The known key that `name` was probably meant to be.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let by_distance = known.iter().map(|key| (distance(name, key), *key));
    let (distance, key) = by_distance.min()?;
    (distance <= 1 + key.len() / 4).then_some(key)
}

/// How many letters must be put in, taken out, exchanged or swapped with their neighbour to make `b` of `a`; at
/// most [`MAX_KEY`] letters of `a` count.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a
        .chars()
        .take(MAX_KEY)
        .flat_map(char::to_lowercase)
        .collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let exchange = rows[i][j] + usize::from(x != y);
            let mut least = exchange.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(0)
}

/// More letters than any key has.
const MAX_KEY: usize = 24;

/// The names of sections and keys.
#[cfg(test)]
pub(super) fn all_keys() -> Vec<&'static str> {
    [ROOT_KEYS, DEFAULTS_KEYS, FILE_KEYS, DEVICE_KEYS, LUKS_KEYS].concat()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let known = &["direct", "minor", "name", "readonly", "table", "uuid"];
        let near = [
            "nmae",
            "Name",
            "read-only",
            "read_only",
            "talbe",
            "tables",
            "uid",
            "redonly",
        ];
        let meant = [
            "name", "name", "readonly", "readonly", "table", "table", "uuid", "readonly",
        ];
        assert_eq!(near.map(|name| nearest(name, known)), meant.map(Some));
        assert_eq!(
            ["size", "x", "targets", ""].map(|name| nearest(name, known)),
            [None; 4]
        );
    }
}
