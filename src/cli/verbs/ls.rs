//! `ls` and `deps`: which devices there are and what they use.

use regex::Regex;
use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use super::info::{device_row, info_block, mapped_name, number_name};
use super::rows::{execute, rows_of};
use crate::cli::report::DeviceRow;
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::{Kind, Task};
use crate::cli::tree::{self, Drawing, TreeOptions};
use crate::control::protocol::dm_ioctl::payload::{ListedDevice, read_deps};
use crate::control::protocol::dm_ioctl::{DevNo, Flags};
use crate::terminal::Paint;

/// How a device is shown (`-o`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Number,
    BlockDevice,
    Mapped,
}

fn shown(session: &Session<'_>) -> Outcome<Shown> {
    let mut shown = Shown::Number;
    for word in session
        .options
        .options
        .iter()
        .flat_map(|words| words.split(','))
    {
        shown = match word {
            "devno" => Shown::Number,
            "blkdevname" => Shown::BlockDevice,
            "devname" => Shown::Mapped,
            _ => {
                return Err(Failure::new(format!(
                    "Option not recognised: {word}.\nCouldn't process command line."
                ))
                .final_word());
            }
        };
    }
    Ok(shown)
}

/// Checks `-o` before anything is done.
pub fn check_options(session: &Session<'_>) -> Outcome {
    if session.options.tree {
        return tree_options(session).map(drop);
    }
    shown(session).map(drop)
}

/// `ls`
pub fn ls(session: &mut Session<'_>, _words: &[String]) -> Outcome {
    let filtered = session.options.target.is_some() || session.options.exec.is_some();
    if session.options.tree && !filtered {
        return show_tree(session);
    }
    if session.options.json {
        session.begin_list();
        return session.for_all(true, |session, name| list_json(session, name));
    }
    if filtered {
        return session.for_all(false, with_target);
    }
    let devices = session.list()?;
    if devices.is_empty() {
        return session.print("No devices found\n");
    }
    let style = shown(session)?;
    for device in devices {
        let what = match style {
            Shown::BlockDevice if has_table(session, &device)? => mapped_name(device.dev),
            Shown::Mapped if has_table(session, &device)? => device.name.clone(),
            _ => device.dev.to_string(),
        };
        let name = session.paint(Paint::Name, &device.name);
        session.print(&format!("{name}\t({what})\n"))?;
    }
    Ok(())
}

/// The kernel's device has no name among block devices before its first table.
fn has_table(session: &mut Session<'_>, device: &ListedDevice) -> Outcome<bool> {
    let flags = session.run(&Task::on(Kind::Info, device.dev))?.header.flags;
    Ok(flags.has(Flags::ACTIVE_PRESENT) || flags.has(Flags::INACTIVE_PRESENT))
}

/// Lists the device if it has a row of the target asked for, and runs the command asked for.
fn with_target(session: &mut Session<'_>, name: &str) -> Outcome {
    let task = session.task(Kind::Status, Some(name))?;
    let (answer, rows) = rows_of(session, &task)?;
    let wanted = session.options.target.as_ref();
    if !wanted.is_none_or(|wanted| rows.iter().any(|row| row.target == *wanted)) {
        return Ok(());
    }
    if session.options.exec.is_none() || session.options.verbose > 0 {
        let dev = answer.header.dev;
        session.print(&format!("{name}\t({}, {})\n", dev.major, dev.minor))?;
    }
    execute(session, name)
}

fn list_json(session: &mut Session<'_>, name: &str) -> Outcome {
    let task = session.task(Kind::Status, Some(name))?;
    let (answer, rows) = rows_of(session, &task)?;
    let wanted = session.options.target.as_ref();
    if !wanted.is_none_or(|wanted| rows.iter().any(|row| row.target == *wanted)) {
        return Ok(());
    }
    let dev = answer.header.dev;
    session.list_json(json!({
        "name": name,
        "uuid": answer.header.uuid,
        "major": dev.major,
        "minor": dev.minor,
        "event_nr": answer.header.event_nr,
    }))
}

fn tree_options(session: &Session<'_>) -> Outcome<TreeOptions> {
    let drawing = if is_utf8_locale() {
        Drawing::Utf
    } else {
        Drawing::Ascii
    };
    let options = TreeOptions {
        drawing,
        width: Some(terminal_width()),
        mangling: session.options.mangling,
        ..TreeOptions::default()
    };
    match session.options.options.as_deref() {
        None => Ok(options),
        Some(words) => options.read(words).map_err(|error| {
            Failure::new(format!("{error}\nCouldn't process command line.")).final_word()
        }),
    }
}

fn is_utf8_locale() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL")
        .or_else(|| set("LC_CTYPE"))
        .or_else(|| set("LANG"));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Columns of a line: three fewer than the terminal has, as dmsetup leaves; 80 where there is none.
fn terminal_width() -> usize {
    let terminal = tcgetwinsize(std::io::stdout()).ok();
    terminal
        .map(|size| usize::from(size.ws_col))
        .filter(|&columns| columns > 3)
        .map_or(80, |columns| columns - 3)
}

/// Every device with what it uses.
pub fn all_rows(session: &mut Session<'_>) -> Outcome<Vec<DeviceRow>> {
    session.report_needs_deps = true;
    let mut rows = Vec::new();
    for device in session.list()? {
        let task = session.task(Kind::Info, Some(&device.name))?;
        let answer = session.run(&task)?;
        if answer.exists {
            rows.push(device_row(session, &answer)?);
        }
    }
    Ok(rows)
}

fn show_tree(session: &mut Session<'_>) -> Outcome {
    let options = tree_options(session)?;
    let rows = all_rows(session)?;
    if session.options.json {
        let tree: Vec<Value> = rows.iter().map(|row| tree_json(row, &rows)).collect();
        return session.print_json(&Value::from(tree));
    }
    if rows.is_empty() {
        return session.print("No devices found\n");
    }
    let tree = tree::render(&rows, &options);
    let tree = match (session.look.colour, Regex::new(r"\(\d+:\d+\)")) {
        (true, Ok(numbers)) => {
            let faint = session.paint(Paint::Faint, "$0");
            numbers.replace_all(&tree, faint).into_owned()
        }
        _ => tree,
    };
    session.print(&tree)
}

fn tree_json(row: &DeviceRow, all: &[DeviceRow]) -> Value {
    let uses: Vec<Value> = row
        .deps
        .iter()
        .map(|dep| {
            let mapped = all
                .iter()
                .find(|row| (row.major, row.minor) == (dep.major, dep.minor));
            json!({
                "major": dep.major,
                "minor": dep.minor,
                "name": mapped.map(|row| row.name.as_str()),
                "blkdevname": dep.blkdev_name,
            })
        })
        .collect();
    json!({
        "name": row.name,
        "uuid": row.uuid,
        "major": row.major,
        "minor": row.minor,
        "suspended": row.suspended,
        "readonly": row.readonly,
        "open_count": row.open_count,
        "uses": uses,
    })
}

/// `deps [DEVICE...]`
pub fn deps(session: &mut Session<'_>, device: Option<&str>, several: bool) -> Outcome {
    if session.means_all(device) {
        if session.options.json {
            session.begin_list();
        }
        let silent = session.options.json;
        return session.for_all(silent, |session, name| deps(session, Some(name), true));
    }
    let task = session.task(Kind::Deps, device)?;
    let answer = session.run(&task)?;
    let numbers = read_deps(&answer.header, &answer.buffer).map_err(Failure::new)?;
    let name = match device {
        Some(word) => word.to_string(),
        None => session.shown(&answer.header.name)?,
    };
    let user = answer.header.dev;
    if session.options.json {
        let value = deps_json(session, &name, user, &numbers)?;
        return session.list_json(value);
    }
    let verbose = session.options.verbose > 0;
    let mut text = String::new();
    if verbose {
        text += &info_block(session, &answer)?;
    } else if several {
        text += &format!("{name}: ");
    }
    text += &format!("{} dependencies\t:", numbers.len());
    for number in numbers {
        text += &format!(" ({})", dependency(session, user, number)?);
    }
    text.push('\n');
    if verbose && several {
        text.push('\n');
    }
    session.print(&text)
}

/// A dependency, shown as `-o` asks.
fn dependency(session: &mut Session<'_>, user: DevNo, number: DevNo) -> Outcome<String> {
    let plain = format!("{}, {}", number.major, number.minor);
    let name = match shown(session)? {
        Shown::Number => None,
        Shown::BlockDevice => number_name(session, user, number)?,
        Shown::Mapped if number.major == user.major => {
            let devices: Vec<ListedDevice> = session.list()?;
            devices
                .into_iter()
                .find(|device| device.dev == number)
                .map(|device| device.name)
        }
        Shown::Mapped => number_name(session, user, number)?,
    };
    Ok(name.unwrap_or(plain))
}

fn deps_json(
    session: &mut Session<'_>,
    name: &str,
    user: DevNo,
    numbers: &[DevNo],
) -> Outcome<Value> {
    let mut deps = Vec::new();
    for &number in numbers {
        let blkdevname = number_name(session, user, number)?;
        deps.push(json!({"major": number.major, "minor": number.minor, "blkdevname": blkdevname}));
    }
    Ok(json!({"name": name, "dependencies": deps}))
}
