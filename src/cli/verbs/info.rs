//! `info`: a device's state in a block of lines, or as a row of a report.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::cli::names::{Subject, to_shown};
use crate::cli::paths::block_device_name;
use crate::cli::report::{Dep, DeviceRow};
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::{Answer, Kind, Task};
use crate::control::protocol::dm_ioctl::payload::read_deps;
use crate::control::protocol::dm_ioctl::{DevNo, Flags};
use crate::terminal::Paint;

/// `info [DEVICE...]`
pub fn info(session: &mut Session<'_>, device: Option<&str>, _several: bool) -> Outcome {
    if session.means_all(device) {
        if session.options.json {
            session.begin_list();
        }
        let silent = session.options.json;
        return session.for_all(silent, |session, name| info(session, Some(name), true));
    }
    let task = session.task(Kind::Info, device)?;
    let answer = session.run(&task)?;
    if !answer.exists {
        return Err(Failure::new("Device does not exist."));
    }
    if session.options.columns {
        let row = device_row(session, &answer)?;
        session.report_rows.push(row);
        return Ok(());
    }
    if session.options.json {
        let value = info_json(session, &answer)?;
        return session.list_json(value);
    }
    let block = info_block(session, &answer)?;
    session.print(&block)
}

/// With `-v`, the block of the device that was worked on.
pub fn when_verbose(session: &mut Session<'_>, answer: &Answer) -> Outcome {
    if session.options.verbose == 0 {
        return Ok(());
    }
    let block = info_block(session, answer)?;
    session.print(&block)
}

/// The block of lines, and the empty one after it.
pub fn info_block(session: &mut Session<'_>, answer: &Answer) -> Outcome<String> {
    let header = &answer.header;
    let has = |flag| header.flags.has(flag);
    let mut text = String::new();
    let look = session.look;
    let mut line = |head: &str, value: &str| {
        let _ = writeln!(text, "{}{value}", look.paint(Paint::Faint, head));
    };
    let name = session.shown(&header.name)?;
    line("Name:              ", &look.paint(Paint::Name, &name));
    let mut state = if has(Flags::SUSPEND) {
        "SUSPENDED"
    } else {
        "ACTIVE"
    }
    .to_string();
    if has(Flags::READONLY) {
        state += " (READ-ONLY)";
    }
    if has(Flags::DEFERRED_REMOVE) {
        state += " (DEFERRED REMOVE)";
    }
    let paint = match has(Flags::SUSPEND) {
        true => Paint::Warning,
        false => Paint::Good,
    };
    line("State:             ", &look.paint(paint, &state));
    let has_table = has(Flags::ACTIVE_PRESENT) || has(Flags::INACTIVE_PRESENT);
    // The kernel's device has no queue, hence no read ahead, before its first table.
    let read_ahead = read_ahead(&session.mount()?.mountpoint).filter(|_| has_table);
    if let Some(sectors) = read_ahead {
        line("Read Ahead:        ", &sectors.to_string());
    }
    let tables = match (has(Flags::ACTIVE_PRESENT), has(Flags::INACTIVE_PRESENT)) {
        (false, false) => "None",
        (true, false) => "LIVE",
        (false, true) => "INACTIVE",
        (true, true) => "LIVE & INACTIVE",
    };
    line("Tables present:    ", tables);
    // Not asking for it is a hint, and the count costs nothing: it is told all the same.
    line("Open count:        ", &header.open_count.to_string());
    line("Event number:      ", &header.event_nr.to_string());
    let dev = header.dev;
    line(
        "Major, minor:      ",
        &format!("{}, {}", dev.major, dev.minor),
    );
    line("Number of targets: ", &header.target_count.to_string());
    if !header.uuid.is_empty() {
        let mode = session.options.mangling;
        line(
            "UUID: ",
            &to_shown(&header.uuid, Subject::Uuid, mode).map_err(Failure::new)?,
        );
    }
    text.push('\n');
    Ok(text)
}

fn info_json(session: &mut Session<'_>, answer: &Answer) -> Outcome<Value> {
    let header = &answer.header;
    let has = |flag| header.flags.has(flag);
    Ok(json!({
        "name": session.shown(&header.name)?,
        "uuid": header.uuid,
        "major": header.dev.major,
        "minor": header.dev.minor,
        "suspended": has(Flags::SUSPEND),
        "readonly": has(Flags::READONLY),
        "deferred_remove": has(Flags::DEFERRED_REMOVE),
        "live_table": has(Flags::ACTIVE_PRESENT),
        "inactive_table": has(Flags::INACTIVE_PRESENT),
        "open_count": header.open_count,
        "event_nr": header.event_nr,
        "targets": header.target_count,
        "read_ahead": read_ahead(&session.mount()?.mountpoint),
    }))
}

/// Sectors that the kernel reads ahead in files of the mount, as its backing device info tells.
fn read_ahead(mountpoint: &str) -> Option<u32> {
    let dev = fs::metadata(mountpoint).ok()?.dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let text = fs::read_to_string(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb")).ok()?;
    text.trim().parse::<u32>().ok()?.checked_mul(2)
}

/// What a report knows of the device in `answer`; its dependencies are asked for when they are needed.
pub fn device_row(session: &mut Session<'_>, answer: &Answer) -> Outcome<DeviceRow> {
    let header = &answer.header;
    let has = |flag| header.flags.has(flag);
    let deps = match session.report_needs_deps {
        true => dependencies(session, header.dev)?,
        false => Vec::new(),
    };
    Ok(DeviceRow {
        name: header.name.clone(),
        uuid: header.uuid.clone(),
        major: header.dev.major,
        minor: header.dev.minor,
        // The kernel makes the block device with the first table.
        blkdev_name: match has(Flags::ACTIVE_PRESENT) || has(Flags::INACTIVE_PRESENT) {
            true => mapped_name(header.dev),
            false => String::new(),
        },
        read_ahead: read_ahead(&session.mount()?.mountpoint).unwrap_or(0),
        live: has(Flags::ACTIVE_PRESENT),
        inactive: has(Flags::INACTIVE_PRESENT),
        suspended: has(Flags::SUSPEND),
        readonly: has(Flags::READONLY),
        open_count: header.open_count,
        segments: header.target_count,
        event_nr: header.event_nr,
        deps,
    })
}

/// The name that a mapped device would have among block devices.
pub fn mapped_name(dev: DevNo) -> String {
    format!("dm-{}", dev.minor)
}

/// What the device uses.
fn dependencies(session: &mut Session<'_>, dev: DevNo) -> Outcome<Vec<Dep>> {
    let inactive = session.options.inactive;
    let task = Task::on(Kind::Deps, dev).with(Flags::QUERY_INACTIVE_TABLE, inactive);
    let answer = session.run(&task)?;
    let numbers = read_deps(&answer.header, &answer.buffer).map_err(Failure::new)?;
    let mut deps = Vec::new();
    for number in numbers {
        deps.push(Dep {
            major: number.major,
            minor: number.minor,
            blkdev_name: number_name(session, dev, number)?.unwrap_or_default(),
        });
    }
    Ok(deps)
}

/// What the device of `number`, which the mapped device `user` uses, is called: `dm-N`, a block
/// device's own name, or the name of a file.
pub fn number_name(
    session: &mut Session<'_>,
    user: DevNo,
    number: DevNo,
) -> Outcome<Option<String>> {
    if number.major == user.major {
        return Ok(Some(mapped_name(number)));
    }
    if let Some(name) = block_device_name(number) {
        return Ok(Some(name));
    }
    let path = path_in_table(session, user, number)?;
    Ok(path.map(|path| path.rsplit('/').next().unwrap_or_default().to_string()))
}

/// The path that the table of `user` has where it has `number`: the two forms of its rows, word by word.
fn path_in_table(session: &mut Session<'_>, user: DevNo, number: DevNo) -> Outcome<Option<String>> {
    let inactive = session.options.inactive;
    let numbers = Task::on(Kind::Table, user).with(Flags::QUERY_INACTIVE_TABLE, inactive);
    let paths = numbers.clone().with(Flags::PATHS, true);
    let (_, numbers) = super::rows::rows_of(session, &numbers)?;
    let (_, paths) = super::rows::rows_of(session, &paths)?;
    let wanted = number.to_string();
    let found = numbers.iter().zip(&paths).find_map(|(number, path)| {
        let mut words = number.params.split(' ').zip(split_escaped(&path.params));
        words
            .find(|(word, _)| *word == wanted)
            .map(|(_, path)| path)
    });
    Ok(found)
}

/// The words of table arguments: a backslash takes the next character as it is.
pub fn split_escaped(params: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = params.chars();
    while let Some(letter) = letters.next() {
        let (letter, quoted) = match letter {
            '\\' => (letters.next().unwrap_or('\\'), true),
            other => (other, false),
        };
        match words.last_mut() {
            Some(word) if quoted || letter != ' ' => word.push(letter),
            _ => words.push(String::new()),
        }
    }
    words
}
