//! Folders that tools expect and only root, or the kernel, could make: cryptsetup's locks, and what `/sys` tells of the
//! devices above and below one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::control_node::Mapped;
use super::sysfs::{SHOWN, attribute_of, kernel_name};
use crate::control::protocol::run::Mode;
use crate::control::protocol::socket_path::{prepare_folder, socket_folder};

/// Where cryptsetup keeps the locks of LUKS2 devices.
pub(super) const LOCKS: &str = "/run/cryptsetup";

/// The folders of one supervisor; what is made for its callers alone goes with it.
pub(super) struct Folders {
    /// The runtime directory.
    runtime: PathBuf,
    /// What only this supervisor's callers see.
    own: PathBuf,
}

impl Folders {
    /// None yet.
    pub(super) fn new() -> Folders {
        Folders::within(socket_folder())
    }

    fn within(runtime: PathBuf) -> Folders {
        let own = runtime.join(format!("run-{}.sys", std::process::id()));
        Folders { runtime, own }
    }

    /// A lock, or their folder where `name` is empty. All commands of the user share it, and so the folder stays.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub(super) fn lock(&self, name: &Path) -> io::Result<PathBuf> {
        prepare_folder(&self.runtime)?;
        let locks = self.runtime.join("locks");
        make(&locks)?;
        Ok(match name.as_os_str().is_empty() {
            true => locks,
            false => locks.join(name),
        })
    }

    /// A folder that shows `devices` by their kernel's names, as `holders` and `slaves` do in `/sys`. One made before
    /// serves as long as they are the same.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn of_devices(&self, mode: Mode, devices: &[Mapped]) -> io::Result<PathBuf> {
        prepare_folder(&self.runtime)?;
        make(&self.own)?;
        let name = |device: &Mapped| kernel_name(mode, device.number);
        let mut names: Vec<String> = devices.iter().map(name).collect();
        names.sort();
        let folder = self.own.join(format!("of {}", names.join(" ")));
        make(&folder)?;
        for device in devices {
            let shown = folder.join(name(device));
            make(&shown.join("dm"))?;
            for attribute in SHOWN {
                let text = attribute_of(device, attribute).unwrap_or_default();
                fs::write(shown.join(attribute), text)?;
            }
        }
        Ok(folder)
    }

    /// Removes what has been made for this supervisor's callers alone. What is asked for after that is made again.
    pub(super) fn clear(&self) {
        let _ = fs::remove_dir_all(&self.own);
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::Folders;
    use crate::control::protocol::dm_ioctl::DevNo;
    use crate::control::protocol::run::Mode;
    use crate::run::control_node::Mapped;

    #[test]
    fn devices_are_shown_until_the_supervisor_ends() {
        let runtime = tempfile::tempdir().unwrap();
        let folders = Folders::within(runtime.path().join("dmfs"));
        let device = |minor: u32, name: &str| Mapped {
            number: DevNo::new(252, minor),
            name: name.to_owned(),
            uuid: format!("UUID-{name}"),
            read_only: false,
            suspended: false,
        };
        let (a, b) = (device(1, "a"), device(2, "b"));
        let folder = folders
            .of_devices(Mode::User, &[b.clone(), a.clone()])
            .unwrap();
        let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
        assert_eq!(read("dm-1/dm/name"), "a\n");
        assert_eq!(read("dm-2/dm/uuid"), "UUID-b\n");
        assert_eq!(read("dm-2/dev"), "252:2\n");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        // The same again; others; none.
        assert_eq!(
            folders.of_devices(Mode::User, &[a.clone(), b]).unwrap(),
            folder
        );
        assert_ne!(folders.of_devices(Mode::User, &[a]).unwrap(), folder);
        let none = folders.of_devices(Mode::User, &[]).unwrap();
        assert_eq!(fs::read_dir(none).unwrap().count(), 0);
        let lock = folders.lock("L_252:1".as_ref()).unwrap();
        assert_eq!(lock.parent().unwrap(), folders.lock("".as_ref()).unwrap());
        fs::write(&lock, "").unwrap();
        folders.clear();
        assert!(lock.exists());
        let left = fs::read_dir(runtime.path().join("dmfs")).unwrap();
        assert_eq!(left.count(), 1);
    }
}
