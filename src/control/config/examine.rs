//! Looks whether what a mount file says can be: names and numbers once each, files that can be made, tables
//! that the kernel's checks accept over devices that come before them.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};

use super::read::{Draft, DraftDevice, DraftFile, DraftTable, Text};
use super::report::{Errors, Report};
use super::sizes::{NoEvents, Sizes, Stacking, tidy};
use super::{Config, DeviceSpec, FileSpec, MAPPER_FOLDER, MAX_MINOR, MAX_NAME, MAX_UUID, Terms};
use crate::control::Refusal;
use crate::control::registry::{MAX_STACK_DEPTH, check_name};
use crate::io::DeviceNumber;
use crate::sync::Arc;
use crate::table::{RowSpec, Table, TableContext, TableError};
use crate::target::{Access, split_words};
use crate::unit::{Bytes, Sector};

/// Makes a [`Config`] of a draft that makes sense.
pub(super) fn examine<'t>(
    draft: &Draft<'t>,
    folder: &Path,
    terms: Terms,
    mut report: Report<'t>,
) -> Result<Config, Errors> {
    let planned = planned_files(&draft.files, folder, &mut report);
    let mut sizes = Sizes::new(folder, planned, stacking(&draft.devices));
    let mut claims = Claims::default();
    let mut devices = Vec::with_capacity(draft.devices.len());
    for device in &draft.devices {
        let minor = claims.check(device, &mut report);
        let number = minor.map(|minor| DeviceNumber {
            major: terms.major,
            minor,
        });
        let table = check_table(device, number, &sizes, terms, &mut report);
        let Some(name) = &device.name else { continue };
        if sizes.add(&name.text, number, table.as_ref()) > MAX_STACK_DEPTH {
            let text = format!("expected at most {MAX_STACK_DEPTH} devices on one another");
            report.at(device.offset, format!("{}: {text}", device.title));
        }
        devices.push(DeviceSpec {
            hidden: false,
            place: device.offset.map(|offset| report.place(offset)),
            name: name.text.clone(),
            uuid: device
                .uuid
                .as_ref()
                .map(|uuid| uuid.text.clone())
                .unwrap_or_default(),
            minor,
            access: access_of(device),
            direct: device.direct,
            cache: device.cache,
            rows: device.table.as_ref().map(specs),
            luks: device.luks.clone(),
        });
    }
    let files = draft.files.iter().filter_map(|file| {
        let place = Some(report.place(file.offset));
        Some(FileSpec {
            place,
            path: PathBuf::from(&file.path),
            size: file.size?,
        })
    });
    let config = Config {
        origin: report.origin().to_owned(),
        folder: folder.to_owned(),
        supervised: draft.supervised,
        transport: draft.transport,
        metrics: draft.metrics.clone(),
        harden: draft.harden,
        files: files.collect(),
        devices,
    };
    report.finish(config)
}

/// The files that will be there after mounting, by path.
fn planned_files(
    files: &[DraftFile],
    folder: &Path,
    report: &mut Report<'_>,
) -> HashMap<PathBuf, Bytes> {
    let mut planned = HashMap::new();
    let mut places = Places::default();
    for file in files {
        let mut refuse =
            |what: String| report.at(Some(file.offset), format!("file {}: {what}", file.path));
        let path = tidy(folder, Path::new(&file.path));
        match file_mistake(&path, file) {
            Some(mistake) => refuse(mistake),
            None => {
                if let Some(first) = places.claim(path.clone(), Some(file.offset)) {
                    let before = first
                        .map(|offset| report.place(offset).line)
                        .unwrap_or_default();
                    let text = format!(
                        "file {}: already in the section on line {before}",
                        file.path
                    );
                    report.at(Some(file.offset), text);
                }
            }
        }
        // A file of unknown size is planned all the same, so that nothing seems to miss it.
        planned.insert(path, file.size.unwrap_or_default());
    }
    planned
}

fn file_mistake(path: &Path, file: &DraftFile) -> Option<String> {
    if file.path.is_empty() || file.path.contains('\0') {
        return Some("expected the path of a file".into());
    }
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(_) if path.is_symlink() => return Some("expected no link that leads nowhere".into()),
        Err(_) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let message = || format!("cannot be made: expected a folder {}", folder.display());
            return (!folder.is_dir()).then(message);
        }
    };
    if !metadata.is_file() {
        return Some("expected a regular file, or nothing, there".into());
    }
    let (len, size) = (metadata.len(), file.size?);
    (len != size.0).then(|| format!("is there with {len} bytes: expected {size} bytes, or no file"))
}

/// Which device's table names which, as far as they have names.
fn stacking(devices: &[DraftDevice<'_>]) -> Stacking {
    let named = devices
        .iter()
        .filter_map(|device| Some((device.name.as_ref()?.text.clone(), devices_below(device))));
    Stacking(named.collect())
}

/// The devices of this mount that a device's table names.
fn devices_below(device: &DraftDevice<'_>) -> HashSet<String> {
    let rows = device.table.iter().flat_map(|table| &table.rows);
    let words = rows.flat_map(|row| split_words(&row.spec.params));
    words
        .filter_map(|word| word.strip_prefix(MAPPER_FOLDER).map(str::to_owned))
        .collect()
}

/// What can be there once only, and where it was first.
struct Places<K>(HashMap<K, Option<usize>>);

impl<K> Default for Places<K> {
    fn default() -> Places<K> {
        Places(HashMap::new())
    }
}

impl<K: Hash + Eq> Places<K> {
    /// Takes `key`; where it was taken before, says where.
    fn claim(&mut self, key: K, offset: Option<usize>) -> Option<Option<usize>> {
        match self.0.get(&key) {
            Some(first) => Some(*first),
            None => {
                self.0.insert(key, offset);
                None
            }
        }
    }
}

#[derive(Default)]
struct Claims {
    names: Places<String>,
    uuids: Places<String>,
    minors: Places<u32>,
}

impl Claims {
    /// Checks name, uuid and minor number; gives the latter where it is good.
    fn check(&mut self, device: &DraftDevice<'_>, report: &mut Report<'_>) -> Option<u32> {
        let title = &device.title;
        let mut taken = |what: &str, offset: Option<usize>, first: Option<Option<usize>>| {
            let Some(first) = first else { return };
            let by = match first {
                Some(first) => format!("the device on line {}", report.place(first).line),
                None => "a device before".into(),
            };
            report.at(offset, format!("{title}: {what} is already that of {by}"));
        };
        if let Some(name) = &device.name {
            taken(
                "this name",
                name.offset,
                self.names.claim(name.text.clone(), name.offset),
            );
        }
        if let Some(uuid) = device.uuid.as_ref().filter(|uuid| !uuid.text.is_empty()) {
            let what = format!("the uuid '{}'", uuid.text.escape_debug());
            taken(
                &what,
                uuid.offset,
                self.uuids.claim(uuid.text.clone(), uuid.offset),
            );
        }
        let minor = device
            .minor
            .map(|(minor, offset)| (u32::try_from(minor).ok(), offset));
        let good = |minor: &u32| *minor <= MAX_MINOR;
        if let Some((Some(minor), offset)) =
            minor.filter(|(minor, _)| minor.as_ref().is_some_and(good))
        {
            taken(
                &format!("the minor number {minor}"),
                offset,
                self.minors.claim(minor, offset),
            );
        }
        if let Some(name) = &device.name {
            check_text(name, MAX_NAME, "a name", title, report);
            if let Err(refusal) = check_name(&name.text) {
                let text = refusal.to_string();
                let text = text.strip_prefix("ioctl: ").unwrap_or(&text);
                report.at(name.offset, format!("{title}: {text}"));
            }
        }
        if let Some(uuid) = &device.uuid {
            check_text(uuid, MAX_UUID, "a uuid", title, report);
        }
        let (value, offset) = device.minor?;
        let minor = u32::try_from(value).ok().filter(good);
        if minor.is_none() {
            let text =
                format!("{title}: expected a minor number from 0 to {MAX_MINOR}, found {value}");
            report.at(offset, text);
        }
        minor
    }
}

fn check_text(text: &Text, max: usize, what: &str, title: &str, report: &mut Report<'_>) {
    if text.text.len() > max {
        let len = text.text.len();
        report.at(
            text.offset,
            format!("{title}: expected {what} of at most {max} bytes, found {len}"),
        );
    }
    if text.text.contains('\0') {
        report.at(
            text.offset,
            format!("{title}: expected {what} without a zero byte"),
        );
    }
}

fn access_of(device: &DraftDevice<'_>) -> Access {
    match device.readonly {
        true => Access::ReadOnly,
        false => Access::ReadWrite,
    }
}

fn specs(table: &DraftTable<'_>) -> Vec<RowSpec> {
    table.rows.iter().map(|row| row.spec.clone()).collect()
}

/// Builds the device's table over lengths, and reports every row that is wrong.
fn check_table(
    device: &DraftDevice<'_>,
    number: Option<DeviceNumber>,
    sizes: &Sizes<'_>,
    terms: Terms,
    report: &mut Report<'_>,
) -> Option<Table> {
    let table = device.table.as_ref()?;
    let rows = specs(table);
    if rows.is_empty() && !table.complete {
        return None;
    }
    let number = number.unwrap_or(DeviceNumber {
        major: terms.major,
        minor: 0,
    });
    let context = TableContext {
        kinds: terms.kinds,
        access: access_of(device),
        number,
        opener: sizes,
        events: Arc::new(NoEvents),
        again: false,
    };
    let errors = match Table::build(&rows, &context) {
        // Rows around a line that is none do not follow each other.
        Ok(built) => return table.complete.then_some(built),
        Err(error) => all_errors(error, &rows, &context, table.complete),
    };
    for error in errors {
        let row = error
            .row
            .and_then(|row| table.rows.get((row as usize).checked_sub(1)?));
        let place = row.and_then(|row| table.place(row.line, error.word.unwrap_or(1)));
        let text = explain(&Refusal::from(error), number);
        report.at(place.or(device.offset), format!("{}: {text}", device.title));
    }
    None
}

/// `first`, and what is wrong with each other row for itself.
fn all_errors(
    first: TableError,
    rows: &[RowSpec],
    context: &TableContext<'_>,
    complete: bool,
) -> Vec<TableError> {
    let Some(failed) = first.row else {
        return vec![first];
    };
    let mut errors = Vec::new();
    let mut end = Some(Sector(0));
    for (row, number) in rows.iter().zip(1..) {
        let gap = end.filter(|end| *end != row.start && number != failed);
        if let Some(end) = gap {
            errors.push(gap_error(&first, row, number, end));
        }
        end = row.start.checked_add(row.len);
        if number == failed || gap.is_some() {
            continue;
        }
        let alone = RowSpec {
            start: Sector(0),
            ..row.clone()
        };
        if let Err(error) = Table::build(&[alone], context) {
            errors.push(TableError {
                row: Some(number),
                ..error
            });
        }
    }
    errors.push(first);
    errors.retain(|error| complete || !is_gap(error));
    errors.sort_by_key(|error| error.row);
    errors
}

const GAP: &str = ": Gap in table";

fn gap_error(first: &TableError, row: &RowSpec, number: u32, end: Sector) -> TableError {
    TableError {
        errno: first.errno,
        messages: vec![format!("{}{GAP}", row.kind)],
        row: Some(number),
        word: Some(1),
        found: Some(row.start.to_string()),
        expected: Some(format!("sector {end}")),
    }
}

fn is_gap(error: &TableError) -> bool {
    error
        .messages
        .first()
        .is_some_and(|message| message.contains(GAP))
}

/// The mistake in one line: its place in the table, the kernel's text without what only a log needs, and what
/// was expected. `number` is the device's.
pub(super) fn explain(refusal: &Refusal, number: DeviceNumber) -> String {
    let detail = &refusal.detail;
    let mut text = match (detail.row, detail.word) {
        (Some(row), Some(word)) => format!("row {row}, word {word}: "),
        (Some(row), None) => format!("row {row}: "),
        (None, _) => String::new(),
    };
    match detail.messages.first() {
        Some(message) => {
            let message = message
                .strip_prefix(&format!("table: {number}: "))
                .unwrap_or(message);
            let message = message.strip_prefix("ioctl: ").unwrap_or(message);
            text.push_str(match message.rsplit_once(" (-") {
                Some((before, errno)) if errno.ends_with(')') => before,
                _ => message,
            });
        }
        None => text.push_str(&std::io::Error::from(refusal.errno).to_string()),
    }
    if let Some(expected) = &detail.expected {
        text.push_str(&format!(": expected {expected}"));
    }
    if let Some(found) = &detail.found {
        text.push_str(&format!(", found '{found}'"));
    }
    text
}
