//! `close` and `status`: what becomes of an open volume.

use serde_json::json;

use super::device::not_active;
use super::{Context, Done, told};
use crate::cli::task::{Kind as TaskKind, Task};
use crate::cli::verbs::info::split_escaped;
use crate::control::protocol::dm_ioctl::Flags;
use crate::encrypted::{Kind, Refused};
use rustix::io::Errno;

/// `close NAME`
pub fn close(context: &mut Context<'_, '_>) -> Done {
    let name = context.word(0);
    let active = context.active(&name)?;
    // What lies between the volume and its data goes with it.
    let mut below = super::volume::own_part(&active, &name);
    remove(context, &name)?;
    while let Some(part) = below {
        // Or it was the data's own file that is called so.
        if !context.is_active(&part)? {
            break;
        }
        let active = context.active(&part)?;
        below = super::volume::own_part(&active, &name);
        remove(context, &part)?;
    }
    Ok(())
}

fn remove(context: &mut Context<'_, '_>, name: &str) -> Done {
    let deferred = context.arguments.flag("deferred");
    let task: Task = context
        .session
        .task(TaskKind::Remove, Some(name))
        .map_err(super::refused)?
        .with(Flags::DEFERRED_REMOVE, deferred);
    context
        .session
        .run(&task)
        .map(drop)
        .map_err(|failure| match failure.errno {
            Some(Errno::BUSY) => {
                Refused::new(Kind::Busy, format!("Device {name} is still in use."))
            }
            Some(Errno::NXIO) => not_active(name),
            _ => super::refused(failure),
        })
}

/// `status NAME`
pub fn status(context: &mut Context<'_, '_>) -> Done {
    let name = context.word(0);
    let active = match context.active(&name) {
        Ok(active) => active,
        Err(refused) if refused.kind == Kind::Device => {
            context.print(&format!("/dev/mapper/{name} is inactive.\n"))?;
            return Err(Refused::new(Kind::Device, ""));
        }
        Err(refused) => return Err(refused),
    };
    let header = &active.answer.header;
    let uuid = header.uuid.clone();
    let kind = uuid
        .strip_prefix("CRYPT-")
        .and_then(|rest| rest.split('-').next());
    let kind = kind.unwrap_or("n/a").to_owned();
    let in_use = if header.open_count > 0 {
        " and is in use"
    } else {
        ""
    };
    let readonly = header.flags.has(Flags::READONLY);
    let mode = if readonly { "readonly" } else { "read/write" };
    let suspended = header.flags.has(Flags::SUSPEND);
    let Some(row) = active.rows.0.iter().find(|row| row.target == "crypt") else {
        return Err(Refused::invalid(format!(
            "Device {name} is no encrypted volume."
        )));
    };
    let words = split_escaped(&row.params);
    let word = |index: usize| words.get(index).map(String::as_str).unwrap_or_default();
    let key_bits = match word(1) {
        "-" => 0,
        key => key.len() * 4,
    };
    let options: Vec<&String> = words.iter().skip(6).collect();
    let sector = options
        .iter()
        .find_map(|option| option.strip_prefix("sector_size:"));
    let sector = sector.unwrap_or("512");
    let flags: Vec<&str> = options
        .iter()
        .filter(|option| !option.contains(':') && **option != "iv_large_sectors")
        .map(|option| match option.as_str() {
            "allow_discards" => "discards",
            other => other,
        })
        .collect();
    let size: u64 = active.rows.0.iter().map(|row| row.length).sum();
    if context.arguments.flag("json") {
        let value = json!({
            "name": name, "type": kind, "cipher": word(0), "key_bits": key_bits, "device": word(3),
            "sector_size": sector.parse::<u32>().unwrap_or(512), "offset": word(4).parse::<u64>().unwrap_or(0),
            "skipped": word(2).parse::<u64>().unwrap_or(0), "sectors": size, "readonly": readonly,
            "suspended": suspended, "open_count": header.open_count, "flags": flags,
        });
        return told(context.session.print_json(&value));
    }
    let mut text = format!("/dev/mapper/{name} is active{in_use}.\n");
    let mut line = |name: &str, value: &str| {
        text += &format!("  {:<8} {value}\n", format!("{name}:"));
    };
    line("type", &kind);
    line("cipher", word(0));
    line("keysize", &format!("{key_bits} bits"));
    line("key location", "dm-crypt");
    line("device", word(3));
    line("sector size", &format!(" {sector}"));
    line("offset", &format!("{} sectors", word(4)));
    line("size", &format!("{size} sectors"));
    if word(2) != "0" {
        line("skipped", &format!("{} sectors", word(2)));
    }
    line(
        "mode",
        &format!("{mode}{}", if suspended { " (suspended)" } else { "" }),
    );
    if !flags.is_empty() {
        line("flags", &format!("  {}", flags.join(" ")));
    }
    context.print(&text)
}
