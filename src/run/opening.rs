//! Opening what is not what it seems: devices, and what is told of them in `/proc` and `/sys`.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode as FileMode, OFlags, openat};
use rustix::io::Errno;

use super::control_node::Mapped;
use super::device::Side;
use super::listener::Answer;
use super::supervisor::{Supervisor, errno};
use super::sysfs::{SysPlace, attribute_of, file_of};
use crate::control::protocol::dm_ioctl::DevNo;
use crate::control::protocol::run::Mode;

impl Supervisor {
    /// `/proc/devices` with one more line.
    pub(super) fn drivers(&self) -> Result<OwnedFd, Errno> {
        let real = fs::read_to_string("/proc/devices").map_err(errno)?;
        file_of("devices", &with_driver(&real, self.major))
    }

    /// An attribute in `/sys`.
    pub(super) fn open_attribute(&self, place: &SysPlace, flags: OFlags) -> Result<Answer, Errno> {
        match place.attribute.as_str() {
            "holders" => return self.open_neighbours(place.number, Side::Above, flags),
            "slaves" => return self.open_neighbours(place.number, Side::Below, flags),
            _ => {}
        }
        let Ok(mapped) = self.mapped(place.number) else {
            return Ok(Answer::Continue);
        };
        let Some(text) = attribute_of(&mapped, &place.attribute) else {
            return Ok(Answer::Continue);
        };
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            return Err(Errno::ACCESS);
        }
        Ok(Answer::Descriptor {
            fd: file_of("attribute", &text)?,
            close_on_exec: flags.contains(OFlags::CLOEXEC),
        })
    }

    fn open_neighbours(&self, number: DevNo, side: Side, flags: OFlags) -> Result<Answer, Errno> {
        let names = self.neighbours(number, side)?;
        if names.is_empty() && self.mode == Mode::Root {
            // The kernel's own folder is there.
            return Ok(Answer::Continue);
        }
        let devices: Vec<Mapped> = names
            .iter()
            .filter_map(|name| self.node.device(name).ok())
            .collect();
        let folder = self
            .folders
            .of_devices(self.mode, &devices)
            .map_err(errno)?;
        open_ours(&folder, flags)
    }

    pub(super) fn open_device(&self, name: &str, flags: OFlags) -> Result<Answer, Errno> {
        if flags.contains(OFlags::DIRECTORY) {
            return Err(Errno::NOTDIR);
        }
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST);
        }
        if flags.contains(OFlags::EXCL) && self.lies_below(name)? {
            return Err(Errno::BUSY);
        }
        // What says how a file is to be made, and cut, says nothing about a device.
        let unmeant = OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC | OFlags::NOFOLLOW;
        let file = self.file(name);
        let opened = openat(
            CWD,
            file,
            (flags - unmeant) | OFlags::CLOEXEC,
            FileMode::empty(),
        )?;
        Ok(Answer::Descriptor {
            fd: opened,
            close_on_exec: flags.contains(OFlags::CLOEXEC),
        })
    }
}

/// Opens a file or folder of the supervisor's for a caller; one that is made is the user's alone.
pub(super) fn open_ours(path: &Path, flags: OFlags) -> Result<Answer, Errno> {
    let fd = openat(
        CWD,
        path,
        flags | OFlags::CLOEXEC,
        FileMode::RUSR | FileMode::WUSR,
    )?;
    Ok(Answer::Descriptor {
        fd,
        close_on_exec: flags.contains(OFlags::CLOEXEC),
    })
}

/// The kernel's list of drivers with the device mapper in its place among the block devices.
fn with_driver(real: &str, major: u32) -> String {
    let line = format!("{major:>3} device-mapper\n");
    match real.ends_with('\n') || real.is_empty() {
        true => format!("{real}{line}"),
        false => format!("{real}\n{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::with_driver;

    #[test]
    fn the_driver_is_listed_last() {
        let real = "Character devices:\n 10 misc\n\nBlock devices:\n  7 loop\n";
        assert_eq!(with_driver(real, 7), format!("{real}  7 device-mapper\n"));
        assert_eq!(with_driver("x", 253), "x\n253 device-mapper\n");
    }
}
