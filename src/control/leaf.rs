//! Loop devices of others, as callers see them who go by major numbers: where each mapped device is a loop device, all
//! loop devices look like mapped devices. They are shown as a row that lies on nothing.

use std::fs;
use std::path::PathBuf;

use super::protocol::dm_ioctl::payload::{TargetSpec, answer_deps, answer_rows};
use super::protocol::dm_ioctl::{Command, DevNo, Flags, Header};
use crate::backing::loop_device::{self, LOOP_MAJOR};

/// What `command` answers about a loop device that is none of our devices; `None` where it does not ask about one.
pub(super) fn answer(command: Command, header: &mut Header) -> Option<Vec<u8>> {
    if !matches!(
        command,
        Command::DevStatus | Command::TableStatus | Command::TableDeps
    ) {
        return None;
    }
    let minor = match header.dev {
        DevNo {
            major: LOOP_MAJOR,
            minor,
        } => minor,
        _ => header.name.strip_prefix("loop")?.parse().ok()?,
    };
    if !header.uuid.is_empty()
        || !loop_device::is_attached(&PathBuf::from(format!("/dev/loop{minor}")))
    {
        return None;
    }
    let number = DevNo::new(LOOP_MAJOR, minor);
    let sectors = fs::read_to_string(format!("/sys/dev/block/{number}/size")).ok()?;
    header.flags.set(
        Flags::SUSPEND | Flags::READONLY | Flags::INACTIVE_PRESENT | Flags::DEFERRED_REMOVE,
        false,
    );
    header.flags.set(Flags::ACTIVE_PRESENT, true);
    (header.target_count, header.open_count, header.event_nr) = (1, 0, 0);
    (header.dev, header.name) = (number, format!("loop{minor}"));
    match command {
        Command::TableDeps => Some(answer_deps(header, &[])),
        Command::TableStatus => {
            let params = match header.flags.has(Flags::STATUS_TABLE) {
                true => format!("{number} 0"),
                false => String::new(),
            };
            let row = TargetSpec {
                start: 0,
                length: sectors.trim().parse().ok()?,
                target: "linear".to_owned(),
                params,
            };
            Some(answer_rows(header, [row]))
        }
        _ => Some(Vec::new()),
    }
}
