//! Builds a table out of rows, with every check of the kernel in the kernel's order (dm-table.c:
//! dm_table_add_target, dm_calculate_queue_limits).

use std::collections::HashSet;

use zeroize::Zeroizing;

use super::{Row, Table, TableError, errno_name};
use crate::io::{DevRef, DeviceNumber, Errno, Limits, OpenDevice};
use crate::sync::Arc;
use crate::target::{
    Access, BuildArgs, BuildError, DeviceOpener, EventSink, Target, TargetKind, split_words,
};
use crate::unit::{MAX_SECTORS, SECTOR_SHIFT, Sector, Sectors};

/// One row as loaded: not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSpec {
    /// First sector.
    pub start: Sector,
    /// Length.
    pub len: Sectors,
    /// Name of the kind.
    pub kind: String,
    /// Arguments, white space and backslashes as written.
    pub params: String,
}

/// What a table is built with, beside its rows.
pub struct TableContext<'a> {
    /// The kinds a row may name.
    pub kinds: &'a [&'static TargetKind],
    /// The table's mode.
    pub access: Access,
    /// The device the table is for, as messages name it.
    pub number: DeviceNumber,
    /// Finds devices.
    pub opener: &'a dyn DeviceOpener,
    /// Where targets tell their events.
    pub events: Arc<dyn EventSink>,
    /// The table was accepted before and is built again: devices that are shorter by now are no reason to refuse it.
    pub again: bool,
}

impl Table {
    /// Builds a table of `rows`.
    ///
    /// # Errors
    /// What the kernel says and gives, with the row and the word.
    pub fn build(rows: &[RowSpec], context: &TableContext<'_>) -> Result<Table, TableError> {
        if rows.is_empty() {
            return Err(TableError {
                expected: Some("at least one row".into()),
                ..refusal(
                    Errno::INVAL,
                    vec!["ioctl: populate_table: no targets specified".into()],
                )
            });
        }
        let mut built = Vec::with_capacity(rows.len());
        for (index, spec) in rows.iter().enumerate() {
            let row = add_row(&built, spec, context).map_err(|error| TableError {
                row: Some(row_number(index)),
                ..error
            })?;
            built.push(row);
        }
        complete(built, context)
    }
}

fn row_number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

fn refusal(errno: Errno, messages: Vec<String>) -> TableError {
    TableError {
        errno,
        messages,
        row: None,
        word: None,
        found: None,
        expected: None,
    }
}

/// A row refused while it is added.
fn refuse_row(context: &TableContext<'_>, text: &str) -> TableError {
    let line = format!("table: {}: {text}", context.number);
    refusal(
        Errno::INVAL,
        vec![line, "ioctl: error adding target to table".into()],
    )
}

fn add_row(before: &[Row], spec: &RowSpec, context: &TableContext<'_>) -> Result<Row, TableError> {
    let refuse = |word: u32, text: &str, found: String, expected: &str| TableError {
        word: Some(word),
        found: Some(found),
        expected: Some(expected.into()),
        ..refuse_row(context, text)
    };
    if let Some(single) = before.first().filter(|row| row.kind.rules.singleton) {
        let text = format!(
            "target type {} must appear alone in table",
            single.kind.name
        );
        return Err(refuse(3, &text, spec.kind.clone(), "no further row"));
    }
    if spec.len.is_zero() {
        return Err(refuse(
            2,
            "zero-length target",
            "0".into(),
            "a length of at least 1 sector",
        ));
    }
    if spec
        .start
        .checked_add(spec.len)
        .is_none_or(|end| end.0 > MAX_SECTORS.0)
    {
        let expected = format!("an end at sector {MAX_SECTORS} or before");
        return Err(refuse(
            2,
            "too large device",
            spec.len.to_string(),
            &expected,
        ));
    }
    let Some(kind) = context.kinds.iter().find(|kind| kind.name == spec.kind) else {
        let text = format!("{}: unknown target type", spec.kind);
        let known: Vec<_> = context.kinds.iter().map(|kind| kind.name).collect();
        return Err(refuse(
            3,
            &text,
            spec.kind.clone(),
            &format!("one of {}", known.join(", ")),
        ));
    };
    if kind.rules.singleton && !before.is_empty() {
        let text = format!(
            "{}: singleton target type must appear alone in table",
            kind.name
        );
        return Err(refuse(
            3,
            &text,
            spec.kind.clone(),
            "a table of this row alone",
        ));
    }
    if kind.rules.always_writeable && context.access == Access::ReadOnly {
        let text = format!(
            "{}: target type may not be included in a read-only table",
            kind.name
        );
        return Err(refuse(
            3,
            &text,
            spec.kind.clone(),
            "a table that is not read-only",
        ));
    }
    if let Some(first) = before.first() {
        let mixed = [first.kind, kind]
            .into_iter()
            .find(|rules| rules.rules.immutable)
            .filter(|_| first.kind.name != kind.name);
        if mixed.is_some() {
            let text = format!(
                "{}: immutable target type cannot be mixed with other target types",
                kind.name
            );
            return Err(refuse(3, &text, spec.kind.clone(), "rows of one type"));
        }
    }
    let expected_start = before.last().map_or(Sector(0), Row::end);
    if spec.start != expected_start {
        let text = format!("{}: Gap in table (-EINVAL)", kind.name);
        return Err(refuse(
            1,
            &text,
            spec.start.to_string(),
            &format!("sector {expected_start}"),
        ));
    }
    // One of them may be a key.
    let words = Zeroizing::new(split_words(&spec.params));
    let mut args = BuildArgs::new(
        (spec.start, spec.len),
        &words,
        context.access,
        context.opener,
        context.events.clone(),
    );
    args.again = context.again;
    let target = (kind.build)(&mut args).map_err(|error| refuse_arguments(context, kind, error))?;
    let limits = row_limits(&*target);
    let max_io_len = target.max_io_len();
    Ok(Row {
        start: spec.start,
        len: spec.len,
        kind,
        target,
        limits,
        max_io_len,
    })
}

fn refuse_arguments(
    context: &TableContext<'_>,
    kind: &TargetKind,
    error: BuildError,
) -> TableError {
    let text = format!(
        "{}: {} (-{})",
        kind.name,
        error.text,
        errno_name(error.errno)
    );
    TableError {
        errno: error.errno,
        word: error.word,
        found: error.found,
        expected: error.expected,
        ..refuse_row(context, &text)
    }
}

fn row_limits(target: &dyn Target) -> Limits {
    let mut limits = Limits::STACKING;
    target.devices(&mut |range| limits.stack(&range.limits()));
    target.limits(&mut limits);
    limits
}

fn complete(rows: Vec<Row>, context: &TableContext<'_>) -> Result<Table, TableError> {
    let mut limits = Limits::STACKING;
    for row in &rows {
        limits.stack(&row.limits);
    }
    if !context.again {
        check_against_devices(&rows, &limits, context)?;
    }
    let devices = distinct_devices(rows.iter());
    let flushed = distinct_devices(rows.iter().filter(|row| !row.target.flushes_itself()));
    let flushing_rows = (0..rows.len())
        .filter(|&index| rows[index].target.flushes_itself())
        .collect();
    let ends: Vec<u64> = rows.iter().map(|row| row.end().0).collect();
    let len = Sectors(ends.last().copied().unwrap_or(0));
    let only_shows = rows.iter().all(|row| row.shown().is_some());
    Ok(Table {
        rows,
        rows_per_sector: ends.len() as f64 / len.0.max(1) as f64,
        ends,
        len,
        access: context.access,
        limits,
        only_shows,
        devices,
        flushed,
        flushing_rows,
    })
}

fn check_against_devices(
    rows: &[Row],
    limits: &Limits,
    context: &TableContext<'_>,
) -> Result<(), TableError> {
    for (index, row) in rows.iter().enumerate() {
        let mut refused = None;
        row.target.devices(&mut |range| {
            refused = refused
                .take()
                .or_else(|| device_area_error(range, &row.limits));
        });
        if let Some(text) = refused {
            return Err(refuse_whole(context, index, &text));
        }
    }
    match alignment_error(rows, limits) {
        Some((index, text)) => Err(refuse_whole(context, index, &text)),
        None => Ok(()),
    }
}

/// A table refused when all of its rows are there.
fn refuse_whole(context: &TableContext<'_>, index: usize, text: &str) -> TableError {
    TableError {
        row: Some(row_number(index)),
        ..refusal(
            Errno::INVAL,
            vec![
                format!("table: {}: {text}", context.number),
                "core: Cannot calculate initial queue limits".into(),
                "ioctl: unable to set up device queue for new table.".into(),
            ],
        )
    }
}

/// Whether the stretch lies on its device, at block boundaries of the row (dm-table.c: device_area_is_invalid).
fn device_area_error(range: &DevRef, row: &Limits) -> Option<String> {
    let (start, len) = (range.start(), range.checked());
    let device_len = range.device().dev.capacity();
    let name = &range.device().name;
    if device_len.is_zero() {
        return None;
    }
    if start.0 >= device_len.0
        || start
            .checked_add(len)
            .is_none_or(|end| end.0 > device_len.0)
    {
        return Some(format!(
            "{name} too small for target: start={start}, len={len}, dev_size={device_len}"
        ));
    }
    let block = row.logical_block_size;
    let unaligned = |sectors: u64| sectors & (u64::from(block >> SECTOR_SHIFT).max(1) - 1) != 0;
    if unaligned(start.0) {
        return Some(format!(
            "start={start} not aligned to h/w logical block size {block} of {name}"
        ));
    }
    if unaligned(len.0) {
        return Some(format!(
            "len={len} not aligned to h/w logical block size {block} of {name}"
        ));
    }
    None
}

/// Whether rows of different limits join at block boundaries (dm-table.c:
/// validate_hardware_logical_block_alignment).
fn alignment_error(rows: &[Row], limits: &Limits) -> Option<(usize, String)> {
    let block = u64::from(limits.logical_block_size >> SECTOR_SHIFT).max(1);
    let mut remaining = 0;
    let mut next_start = 0;
    let mut last = 0;
    for (index, row) in rows.iter().enumerate() {
        last = index;
        let row_block = u64::from(row.limits.logical_block_size >> SECTOR_SHIFT).max(1);
        if remaining < row.len.0 && remaining & (row_block - 1) != 0 {
            break;
        }
        next_start = (next_start + row.len.0) & (block - 1);
        remaining = if next_start == 0 {
            0
        } else {
            block - next_start
        };
    }
    (remaining != 0).then(|| {
        let row = &rows[last];
        let text = format!(
            "table line {last} (start sect {} len {}) not aligned to h/w logical block size {}",
            row.start, row.len, limits.logical_block_size
        );
        (last, text)
    })
}

fn distinct_devices<'r>(rows: impl Iterator<Item = &'r Row>) -> Vec<Arc<OpenDevice>> {
    let mut seen = HashSet::new();
    let mut devices = Vec::new();
    for row in rows {
        row.target.devices(&mut |range| {
            if seen.insert(range.device().number) {
                devices.push(range.device().clone());
            }
        });
    }
    devices
}
