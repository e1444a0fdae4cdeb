//! What a mount says when it stands: what it shows, and what to do with it.

use std::io::{self, Write};

use crate::control::protocol::mount::MountOptions;
use crate::device::Device;
use crate::io::BlockDev;
use crate::sync::Arc;

/// More devices than this are only counted.
const MOST_SHOWN: usize = 20;
/// More kinds of targets than this in one table are not named.
const MOST_KINDS: usize = 4;

/// Says on standard output what the mount shows, how to use it and how to end it.
///
/// # Errors
/// Where standard output takes no more.
pub fn announce(devices: &[Arc<Device>], options: &MountOptions) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mountpoint = options.mountpoint.display();
    let plural = if devices.len() == 1 {
        "device"
    } else {
        "devices"
    };
    writeln!(out, "{mountpoint} shows {} {plural}", devices.len())?;
    for device in devices.iter().take(MOST_SHOWN) {
        let bytes = device.capacity().to_bytes();
        writeln!(
            out,
            "  {:<20} {:>14} bytes  {}",
            device.name(),
            bytes.0,
            kinds(device)
        )?;
    }
    if devices.len() > MOST_SHOWN {
        writeln!(out, "  ... and {} more", devices.len() - MOST_SHOWN)?;
    }
    let program = std::env::args().next().unwrap_or_else(|| "dmfs".to_owned());
    let first_made = devices.iter().min_by_key(|device| device.id());
    let mut hints = match first_made.map(|device| device.name()) {
        None => vec![(
            format!("{program} --mount {mountpoint} create NAME --table '0 131072 linear FILE 0'"),
            "makes a device",
        )],
        Some(name) => vec![
            (
                format!("mkfs.ext4 {mountpoint}/{name}"),
                "each is a file that is the disk",
            ),
            (
                format!("{program} --mount {mountpoint} table"),
                "what each is made of",
            ),
            (
                format!("{program} --mount {mountpoint} attach {name}"),
                "a loop device over it (root)",
            ),
        ],
    };
    hints.push((
        format!("{program} umount {mountpoint}"),
        if options.background {
            "the end"
        } else {
            "the end (or Ctrl-C here)"
        },
    ));
    let width = hints
        .iter()
        .map(|(command, _)| command.len())
        .max()
        .unwrap_or(0);
    writeln!(out)?;
    for (command, meaning) in hints {
        writeln!(out, "  {command:<width$}  # {meaning}")?;
    }
    out.flush()
}

/// The kinds of targets of the live table, in order.
fn kinds(device: &Device) -> String {
    let Some(table) = device.active() else {
        return "no table".to_owned();
    };
    let mut kinds: Vec<_> = table.rows().iter().map(|row| row.kind().name).collect();
    kinds.dedup();
    match kinds.get(..MOST_KINDS) {
        Some(first) if kinds.len() > MOST_KINDS => first.join(" + ") + " + ...",
        _ => kinds.join(" + "),
    }
}
