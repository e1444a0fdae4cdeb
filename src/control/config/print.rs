//! Writes a [`Config`] as a mount file that means the same.

use std::fmt::Write;

use toml::Value;

use super::{Config, DeviceSpec, LuksSpec};
use crate::control::protocol::table_text::parse_lines;
use crate::table::RowSpec;
use crate::target::Access;
use crate::unit::{Sector, Sectors};

impl Config {
    /// The mount file.
    pub fn to_toml(&self) -> String {
        let mut toml = String::new();
        if self.supervised {
            entry(&mut toml, "supervised", "true");
        }
        if let Some(metrics) = &self.metrics {
            entry(&mut toml, "metrics", &quoted(&metrics.to_string()));
        }
        if self.harden {
            entry(&mut toml, "harden", "true");
        }
        for file in &self.files {
            section(&mut toml, "file");
            entry(&mut toml, "path", &quoted(&file.path.to_string_lossy()));
            entry(&mut toml, "size", &quoted(&file.size.to_string()));
        }
        for device in &self.devices {
            write_device(&mut toml, device, self.harden);
        }
        toml
    }
}

fn write_device(toml: &mut String, device: &DeviceSpec, is_direct_unsaid: bool) {
    section(
        toml,
        if device.luks.is_some() {
            "luks"
        } else {
            "device"
        },
    );
    entry(toml, "name", &quoted(&device.name));
    if !device.uuid.is_empty() {
        entry(toml, "uuid", &quoted(&device.uuid));
    }
    if let Some(minor) = device.minor {
        entry(toml, "minor", &minor.to_string());
    }
    if device.access == Access::ReadOnly {
        entry(toml, "readonly", "true");
    }
    if device.direct != is_direct_unsaid {
        entry(toml, "direct", &device.direct.to_string());
    }
    if let Some(policy) = device.cache {
        entry(toml, "cache", &quoted(policy.word()));
    }
    if let Some(luks) = &device.luks {
        write_luks(toml, luks);
    }
    if device.hidden {
        toml.push_str(
            "# Its table holds a key and is not written: dmfs dump --showkeys writes it.\n",
        );
    }
    let Some(rows) = &device.rows else { return };
    let mut table = String::new();
    for row in rows {
        let line = line_of(row);
        if !means(&line, row) {
            let note = "# Its table cannot be written: a path in it has a '#', a line break, or is not UTF-8.";
            toml.push_str(note);
            toml.push('\n');
            return;
        }
        table.push_str(&line);
        table.push('\n');
    }
    entry(toml, "table", &lines(&table));
}

fn write_luks(toml: &mut String, luks: &LuksSpec) {
    let paths = [
        ("device", Some(&luks.device)),
        ("header", luks.header.as_ref()),
        ("key-file", luks.key_file.as_ref()),
    ];
    for (key, path) in paths {
        if let Some(path) = path {
            entry(toml, key, &quoted(&path.to_string_lossy()));
        }
    }
    let numbers = [
        (
            "keyfile-offset",
            Some(luks.keyfile_offset).filter(|offset| *offset > 0),
        ),
        ("keyfile-size", luks.keyfile_size),
        ("key-slot", luks.key_slot.map(u64::from)),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            entry(toml, key, &number.to_string());
        }
    }
    for (key, is_set) in [
        ("allow-discards", luks.allow_discards),
        ("format", luks.format),
    ] {
        if is_set {
            entry(toml, key, "true");
        }
    }
}

fn section(toml: &mut String, name: &str) {
    if !toml.is_empty() {
        toml.push('\n');
    }
    toml.push_str("[[");
    toml.push_str(name);
    toml.push_str("]]\n");
}

fn entry(toml: &mut String, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(toml, "{key} = {value}");
}

/// The row as a line of a table.
fn line_of(row: &RowSpec) -> String {
    let line = format!("{} {} {} {}", row.start, row.len, row.kind, row.params);
    line.trim_end_matches(' ').to_owned()
}

/// Whether `line` reads as `row`: tables have no word for some letters.
fn means(line: &str, row: &RowSpec) -> bool {
    let mut read = parse_lines(line);
    let first = read
        .next()
        .and_then(|(_, row)| row.ok())
        .map(|line| RowSpec {
            start: Sector(line.start),
            len: Sectors(line.length),
            kind: line.target,
            params: line.params,
        });
    read.next().is_none()
        && first.as_ref() == Some(row)
        && !row.params.contains(char::REPLACEMENT_CHARACTER)
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Several lines as they are, where TOML has a way to write them so.
fn lines(text: &str) -> String {
    let plain = |letter: char| matches!(letter, '\n' | '\t') || !letter.is_control();
    match text.chars().all(plain) && !text.contains("'''") {
        true => format!("'''\n{text}'''"),
        false => quoted(text),
    }
}
