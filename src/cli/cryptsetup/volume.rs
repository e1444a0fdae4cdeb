//! Open volumes: their length, and their key while they are suspended.

use super::device::{Active, Rows};
use super::{Context, Done};
use crate::cli::task::{Kind as TaskKind, Task};
use crate::cli::verbs::info::split_escaped;
use crate::control::protocol::dm_ioctl::Flags;
use crate::control::protocol::dm_ioctl::payload::message;
use crate::encrypted::{HeaderFile, Kind, Refused, hex};
use crate::unit::{Bytes, Sectors};

/// The device that was made along with the volume `name`, and lies right below `active`: `NAME_1` or `NAME_2`.
pub fn own_part(active: &Active, name: &str) -> Option<String> {
    if !active.answer.header.uuid.starts_with("CRYPT-TCRYPT-") {
        return None;
    }
    let words = split_escaped(&active.rows.0.first()?.params);
    let below = words.get(3)?.rsplit('/').next()?;
    let number = below.strip_prefix(name)?.strip_prefix('_')?;
    matches!(number, "1" | "2").then(|| below.to_owned())
}

/// `resize NAME`
pub fn resize(context: &mut Context<'_, '_>) -> Done {
    let name = context.word(0);
    let mut active = context.active(&name)?;
    let readonly = active.answer.header.flags.has(Flags::READONLY);
    let before: u64 = active.rows.0.iter().map(|row| row.length).sum();
    let Some(last) = active.rows.0.last_mut().filter(|row| row.target == "crypt") else {
        return Err(Refused::invalid(format!(
            "Device {name} is no encrypted volume."
        )));
    };
    let found = split_escaped(&last.params);
    let word = |index: usize| found.get(index).cloned().unwrap_or_default();
    let offset: u64 = word(4).parse().unwrap_or(0);
    let path = context.path_of(&word(3));
    let device = HeaderFile::open(&path, false)?.sectors();
    let room = device.0.saturating_sub(offset);
    let start = last.start;
    let asked = match (
        context.arguments.number("size")?,
        context.arguments.size("device-size")?,
    ) {
        (Some(sectors), None) => Some(sectors),
        (None, Some(bytes)) if Bytes(bytes).is_whole_sectors() => {
            Some(Bytes(bytes).whole_sectors().0)
        }
        (None, None) => None,
        (None, Some(_)) => {
            return Err(Refused::invalid(
                "Device size must be multiple of 512 bytes sector.",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(Refused::invalid(
                "Options --size and --device-size cannot be combined.",
            ));
        }
    };
    let sectors = match asked.filter(|sectors| *sectors > 0) {
        Some(sectors) => sectors.checked_sub(start).filter(|rest| *rest > 0),
        None => Some(room),
    };
    let Some(sectors) = sectors.filter(|sectors| *sectors <= room && *sectors > 0) else {
        return Err(Refused::new(
            Kind::Device,
            format!("Device is too small: {room} sectors are there from sector {offset}."),
        ));
    };
    let unit = found
        .iter()
        .find_map(|word| word.strip_prefix("sector_size:"));
    let unit: u64 = unit.and_then(|unit| unit.parse().ok()).unwrap_or(512);
    if !Sectors(sectors).to_bytes().0.is_multiple_of(unit) {
        return Err(Refused::invalid(
            "Device size is not aligned to requested sector size.",
        ));
    }
    if before == start + sectors {
        return Ok(());
    }
    last.length = sectors;
    let rows = Rows(std::mem::take(&mut active.rows.0));
    context.reload(&name, &rows, readonly)
}

/// Sends the crypt target a message; the text is wiped.
fn tell(context: &mut Context<'_, '_>, name: &str, text: &str) -> Done {
    let task: Task = context
        .session
        .task(TaskKind::Message, Some(name))
        .map_err(super::refused)?
        .carrying(message(0, text));
    context.session.run(&task).map(drop).map_err(super::refused)
}

/// `luksSuspend NAME`
pub fn suspend(context: &mut Context<'_, '_>) -> Done {
    let name = context.word(0);
    let active = luks(context, &name)?;
    if active.answer.header.flags.has(Flags::SUSPEND) {
        return Err(Refused::invalid(format!(
            "Volume {name} is already suspended."
        )));
    }
    context.simple(TaskKind::Suspend, &name)?;
    if let Err(refused) = tell(context, &name, "key wipe") {
        context.simple(TaskKind::Resume, &name)?;
        return Err(refused);
    }
    Ok(())
}

/// `luksResume NAME`
pub fn resume(context: &mut Context<'_, '_>) -> Done {
    let name = context.word(0);
    let active = luks(context, &name)?;
    if !active.answer.header.flags.has(Flags::SUSPEND) {
        return Err(Refused::invalid(format!("Volume {name} is not suspended.")));
    }
    let row = active
        .rows
        .0
        .first()
        .map(|row| split_escaped(&row.params))
        .unwrap_or_default();
    let device = row.get(3).cloned().unwrap_or_default();
    context.arguments.words = vec![device];
    let header = context.header(false)?;
    let volume: String = header
        .luks
        .uuid()
        .chars()
        .filter(|letter| *letter != '-')
        .collect();
    if !active.answer.header.uuid.contains(&volume) {
        return Err(Refused::invalid(format!(
            "The header of {} is not that of {name}.",
            header.path
        )));
    }
    let key = match context.volume_key_from_file(&header.luks)? {
        Some(key) => key,
        None => {
            let slot = context.arguments.number("key-slot")?;
            context.unlock(&header, slot)?.key
        }
    };
    let mut text = zeroize::Zeroizing::new(String::with_capacity(8 + 2 * key.len()));
    text.push_str("key set ");
    text.push_str(&hex(&key));
    tell(context, &name, &text)?;
    context.simple(TaskKind::Resume, &name)
}

/// An open volume of LUKS.
fn luks(context: &mut Context<'_, '_>, name: &str) -> Done<Active> {
    let active = context.active(name)?;
    match active.answer.header.uuid.starts_with("CRYPT-LUKS") {
        true => Ok(active),
        false => Err(Refused::invalid(format!(
            "Device {name} is no LUKS volume."
        ))),
    }
}
