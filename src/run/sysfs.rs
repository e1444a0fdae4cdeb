//! What `/sys` says of mapped devices without root: the few attributes that tools go by.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode as FileMode, OFlags, memfd_create, open};
use rustix::io::Errno;

use super::control_node::Mapped;
use crate::control::protocol::dm_ioctl::DevNo;
use crate::control::protocol::run::Mode;

/// Where the kernel shows block devices by their numbers, and by their names.
const BY_NUMBER: &str = "/sys/dev/block";
const BY_NAME: [&str; 2] = ["/sys/block", "/sys/devices/virtual/block"];

/// A place in `/sys` that is a block device's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SysPlace {
    /// The device.
    pub number: DevNo,
    /// What of it, as `dm/name`; nothing for the link to the device's folder.
    pub attribute: String,
}

/// What the kernel calls mapped devices: theirs are loop devices, or none.
pub(super) fn kernel_name(mode: Mode, number: DevNo) -> String {
    format!("{}{}", prefix(mode), number.minor)
}

fn prefix(mode: Mode) -> &'static str {
    match mode {
        Mode::Root => "loop",
        Mode::User => "dm-",
    }
}

/// What a path of `/sys` leads to, where something else is to be found there than the kernel has. Mapped devices have
/// the number `major`.
pub(super) fn sys_place(path: &Path, mode: Mode, major: u32) -> Option<SysPlace> {
    let place = device_place(path, mode, major)?;
    let is_near = ["holders", "slaves"].contains(&place.attribute.as_str());
    let is_told = match mode {
        // Devices are real, and the kernel tells of them; of what lies on what it knows nothing.
        Mode::Root => is_near || place.number.major == major && place.attribute.starts_with("dm/"),
        Mode::User => place.number.major == major,
    };
    is_told.then_some(place)
}

fn device_place(path: &Path, mode: Mode, major: u32) -> Option<SysPlace> {
    let of = |folder: &str| path.strip_prefix(folder).ok()?.to_str();
    let (number, rest) = match of(BY_NUMBER) {
        Some(rest) => {
            let (number, rest) = rest.split_once('/').unwrap_or((rest, ""));
            let (major, minor) = number.split_once(':')?;
            (DevNo::new(major.parse().ok()?, minor.parse().ok()?), rest)
        }
        None => {
            let rest = BY_NAME.iter().find_map(|folder| of(folder))?;
            let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
            let minor = name.strip_prefix(prefix(mode))?.parse().ok()?;
            (DevNo::new(major, minor), rest)
        }
    };
    let attribute = rest.to_owned();
    Some(SysPlace { number, attribute })
}

/// Where `/sys/dev/block/MAJOR:MINOR` leads.
pub(super) fn link_of(number: DevNo) -> String {
    let name = kernel_name(Mode::User, number);
    format!("../../devices/virtual/block/{name}")
}

/// Attributes that are told.
pub(super) const SHOWN: [&str; 5] = ["dev", "ro", "dm/name", "dm/uuid", "dm/suspended"];

/// What an attribute says; `None` for one that is not told.
pub(super) fn attribute_of(mapped: &Mapped, attribute: &str) -> Option<String> {
    let said = match attribute {
        "dev" => mapped.number.to_string(),
        "ro" => u8::from(mapped.read_only).to_string(),
        "dm/name" => mapped.name.clone(),
        "dm/uuid" => mapped.uuid.clone(),
        "dm/suspended" => u8::from(mapped.suspended).to_string(),
        _ => return None,
    };
    Some(said + "\n")
}

/// A file to read that holds `text`, called `name` in `/proc`.
///
/// # Errors
/// Where no such file can be made.
pub(super) fn file_of(name: &str, text: &str) -> Result<OwnedFd, Errno> {
    let mut copy = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    let written = copy.write_all(text.as_bytes()).and_then(|()| copy.rewind());
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    // Nobody writes to the original either.
    let again = format!("/proc/self/fd/{}", copy.as_raw_fd());
    open(again, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::io::{Read, Write};
    use std::path::Path;

    use super::{SysPlace, attribute_of, file_of, link_of, sys_place};
    use crate::control::protocol::dm_ioctl::DevNo;
    use crate::control::protocol::run::Mode;
    use crate::run::control_node::Mapped;

    #[test]
    fn devices_are_found_by_number_and_by_name() {
        let of = |path: &str| sys_place(Path::new(path), Mode::User, 252);
        let place = |attribute: &str| {
            let number = DevNo::new(252, 3);
            let attribute = attribute.to_owned();
            Some(SysPlace { number, attribute })
        };
        assert_eq!(of("/sys/dev/block/252:3"), place(""));
        assert_eq!(of("/sys/dev/block/252:3/dm/name"), place("dm/name"));
        assert_eq!(of("/sys/block/dm-3/dm/uuid"), place("dm/uuid"));
        assert_eq!(of("/sys/devices/virtual/block/dm-3/ro"), place("ro"));
        for other in [
            "/sys/dev/block/7:3",
            "/sys/dev/block",
            "/sys/dev/block/252",
            "/sys/dev/block/252:x",
            "/sys/dev/block/252:-1/dm/name",
            "/sys/block/sda/dev",
            "/sys/block/dm-99999999999/dev",
            "/sys/dev/char/252:3",
            "/dev/block/252:3",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(
            link_of(DevNo::new(252, 3)),
            "../../devices/virtual/block/dm-3"
        );
    }

    #[test]
    fn root_is_told_what_the_kernel_does_not_know() {
        let of = |path: &str| sys_place(Path::new(path), Mode::Root, 7);
        let place = |major: u32, attribute: &str| {
            let number = DevNo::new(major, 3);
            let attribute = attribute.to_owned();
            Some(SysPlace { number, attribute })
        };
        assert_eq!(of("/sys/dev/block/254:3/holders"), place(254, "holders"));
        assert_eq!(of("/sys/dev/block/7:3/dm/uuid"), place(7, "dm/uuid"));
        assert_eq!(of("/sys/block/loop3/slaves"), place(7, "slaves"));
        for the_kernels in [
            "/sys/dev/block/7:3",
            "/sys/block/loop3/ro",
            "/sys/dev/block/254:3/dm/uuid",
        ] {
            assert_eq!(of(the_kernels), None, "{the_kernels}");
        }
    }

    #[test]
    fn attributes_read_as_the_kernels() {
        let mapped = Mapped {
            number: DevNo::new(252, 3),
            name: "a".to_owned(),
            uuid: "CRYPT-x".to_owned(),
            read_only: true,
            suspended: false,
        };
        let said = |attribute: &str| attribute_of(&mapped, attribute);
        assert_eq!(said("dm/name").as_deref(), Some("a\n"));
        assert_eq!(said("dm/uuid").as_deref(), Some("CRYPT-x\n"));
        assert_eq!(said("dm/suspended").as_deref(), Some("0\n"));
        assert_eq!(said("dev").as_deref(), Some("252:3\n"));
        assert_eq!(said("ro").as_deref(), Some("1\n"));
        assert_eq!(said("queue/rotational"), None);
    }

    #[test]
    fn what_is_told_can_be_read_alone() {
        let mut file = File::from(file_of("told", "a\n").unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\n");
        assert!(file.write_all(b"b").is_err());
    }
}
