//! What a path of the command means: the control node, a mapped device, or nothing of ours.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::folders::LOCKS;
use super::sysfs::{SysPlace, sys_place};
use crate::control::protocol::run::Mode;

/// How many links one after the other are followed, as in the kernel.
const MOST_LINKS: usize = 40;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The device mapper's control node.
    Control,
    /// The list of drivers.
    ProcDevices,
    /// The folder of cryptsetup's locks, or this one in it.
    Lock(PathBuf),
    /// What `/sys` tells of what may be a mapped device.
    Sys(SysPlace),
    /// What may be the mapped device of this name.
    Device(String),
    /// Something else.
    Other,
}

/// Where a root's program finds something else than there is. Devices are real, with the number `major`.
pub(super) fn place_for_root(path: &[u8], major: u32) -> Place {
    match path {
        b"/proc/devices" => Place::ProcDevices,
        path if path.ends_with(b"/control") => Place::Control,
        path if path.starts_with(b"/sys/") => {
            let place = sys_place(Path::new(OsStr::from_bytes(path)), Mode::Root, major);
            place.map_or(Place::Other, Place::Sys)
        }
        _ => Place::Other,
    }
}

/// Where an ordinary user's program finds something else than there is: in folders called `mapper`, in the mount at
/// `mountpoint`, in `/sys` what is told of devices with the number `major`, and behind links to that where `follow` is
/// set. `path` is absolute.
pub(super) fn place_for_user(path: &Path, mountpoint: &Path, major: u32, follow: bool) -> Place {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let place = named(&path, mountpoint, major);
        if place != Place::Other {
            return place;
        }
        let Some(target) = fs::read_link(&path).ok().filter(|_| follow) else {
            return Place::Other;
        };
        path.pop();
        path.push(target);
    }
    Place::Other
}

fn named(path: &Path, mountpoint: &Path, major: u32) -> Place {
    if path == Path::new("/proc/devices") {
        return Place::ProcDevices;
    }
    let path = plain(path);
    if let Ok(lock) = path.strip_prefix(LOCKS) {
        return Place::Lock(lock.to_owned());
    }
    if let Some(place) = sys_place(&path, Mode::User, major) {
        return Place::Sys(place);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Place::Other;
    };
    let is_mount = folder == mountpoint;
    if !is_mount && folder.file_name() != Some(OsStr::new("mapper")) {
        return Place::Other;
    }
    match name.to_str() {
        Some("control") if !is_mount => Place::Control,
        Some(name) => Place::Device(name.to_owned()),
        None => Place::Other,
    }
}

/// The path without `.`, `..` and empty parts, where that can be told without asking.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// The name of the device whose file in the mount at `mountpoint` a descriptor leads to, by what `/proc` shows of it.
pub(super) fn device_of(shown: PathBuf, mountpoint: &Path) -> Option<String> {
    let name = shown.strip_prefix(mountpoint).ok()?;
    let bytes = name.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    let name = String::from_utf8(OsStr::from_bytes(bytes).to_owned().into_vec()).ok()?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Place, device_of, place_for_root, place_for_user};

    #[test]
    fn root_finds_the_control_node_and_the_drivers() {
        assert_eq!(place_for_root(b"/dev/mapper/control", 7), Place::Control);
        assert_eq!(place_for_root(b"/proc/devices", 7), Place::ProcDevices);
        assert_eq!(place_for_root(b"/dev/mapper/vg-lv", 7), Place::Other);
        assert_eq!(place_for_root(b"", 7), Place::Other);
        let sys = place_for_root(b"/sys/dev/block/254:0/holders", 7);
        assert!(matches!(sys, Place::Sys(place) if place.number.to_string() == "254:0"));
        assert_eq!(place_for_root(b"/sys/dev/block/7:256/ro", 7), Place::Other);
    }

    #[test]
    fn users_find_devices_by_every_name() {
        let mount = Path::new("/run/m");
        let device = |name: &str| Place::Device(name.to_owned());
        let of = |path: &str| place_for_user(Path::new(path), mount, 252, true);
        assert_eq!(of("/dev/mapper/a"), device("a"));
        assert_eq!(of("/dev//./mapper/a"), device("a"));
        assert_eq!(of("/dev/x/../mapper/a"), device("a"));
        assert_eq!(of("/home/me/dev/mapper/control"), Place::Control);
        assert_eq!(of("/run/m/a"), device("a"));
        assert_eq!(of("/run/m"), Place::Other);
        assert!(matches!(of("/sys/dev/block/252:0/dm/name"), Place::Sys(_)));
        assert_eq!(of("/sys/dev/block/7:0"), Place::Other);
        assert_eq!(of("/run/cryptsetup"), Place::Lock("".into()));
        assert_eq!(of("/run/cryptsetup/L_7:0"), Place::Lock("L_7:0".into()));
        assert_eq!(of("/run/cryptsetup/../x"), Place::Other);
        assert_eq!(of("/run/m/a/b"), Place::Other);
        assert_eq!(of("/"), Place::Other);
        let folder = tempfile::tempdir().unwrap();
        let (link, again) = (folder.path().join("lv"), folder.path().join("again"));
        symlink("/dev/mapper/vg-lv", &link).unwrap();
        symlink("lv", &again).unwrap();
        assert_eq!(place_for_user(&again, mount, 252, true), device("vg-lv"));
        assert_eq!(place_for_user(&again, mount, 252, false), Place::Other);
        let round = folder.path().join("round");
        symlink("round", &round).unwrap();
        assert_eq!(place_for_user(&round, mount, 252, true), Place::Other);
    }

    #[test]
    fn descriptors_lead_to_devices() {
        let of = |shown: &str| device_of(shown.into(), Path::new("/run/m"));
        assert_eq!(of("/run/m/a").as_deref(), Some("a"));
        assert_eq!(of("/run/m/a (deleted)").as_deref(), Some("a"));
        assert_eq!(of("/run/m"), None);
        assert_eq!(of("/run/mm/a"), None);
        assert_eq!(of("socket:[1]"), None);
    }
}
