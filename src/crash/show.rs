//! A mount in which states are files, made and taken away one by one.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::plan::{Choice, StateSpec};
use super::state::{CrashState, History};
use crate::backing::BackingStore;
use crate::control::majors::Majors;
use crate::control::{Registry, Surroundings};
use crate::device::{CachePolicy, Change, Device, Directory, Identity, SuspendOptions};
use crate::fs::{FsOptions, Mounted};
use crate::io::{DeviceNumber, OpenDevice};
use crate::sync::Arc;
use crate::table::{RowSpec, Table, TableContext};
use crate::target::{Access, DeviceOpener, OpenError};
use crate::targets::KINDS;
use crate::unit::Sector;

/// States as files.
pub(super) struct Show {
    history: Arc<History>,
    choice: Choice,
    access: Access,
    registry: Arc<Registry>,
    mounted: Arc<Mounted>,
    /// A folder that was made for this.
    made: Option<PathBuf>,
}

/// Keeps the mount up with the registry.
struct Around(Arc<Mounted>);

impl Surroundings for Around {
    fn changed(&self, change: &Change) {
        self.0.notify(change);
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn let_go(&self, _device: &Device) {}

    fn write_back(&self, device: &Device) {
        self.0.write_back(device);
    }

    fn offers(&self, policy: CachePolicy) -> Result<(), String> {
        self.0.offers(policy)
    }
}

/// Answers every device argument with one state.
struct Only(Arc<OpenDevice>);

impl DeviceOpener for Only {
    fn open(&self, _spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Ok(self.0.clone())
    }
}

impl Show {
    /// Mounts on `mountpoint`, or on a new folder that goes with the mount.
    ///
    /// # Errors
    /// What stands in the way, for people.
    pub fn begin(
        history: Arc<History>,
        choice: Choice,
        mountpoint: Option<&Path>,
        access: Access,
    ) -> Result<Show, String> {
        let (mountpoint, made) = match mountpoint {
            Some(path) => (path.to_owned(), make_folder(path)?.then(|| path.to_owned())),
            None => {
                let name = format!("dmfs-crash-states-{}", std::process::id());
                let path = std::env::temp_dir().join(name);
                make_folder(&path)?;
                (path.clone(), Some(path))
            }
        };
        let majors = Majors::choose(false);
        let registry = Registry::new(KINDS, majors.mapped, BackingStore::new(majors.files));
        let options = FsOptions::default();
        let mounted = crate::fs::serve(registry.clone(), &mountpoint, &options);
        let mounted = mounted.map_err(|error| {
            if let Some(made) = &made {
                let _ = fs::remove_dir(made);
            }
            error.to_string()
        })?;
        let mounted = Arc::new(mounted);
        registry.set_surroundings(Arc::new(Around(mounted.clone())));
        Ok(Show {
            history,
            choice,
            access,
            registry,
            mounted,
            made,
        })
    }

    /// The mount.
    pub fn mounted(&self) -> &Arc<Mounted> {
        &self.mounted
    }

    /// Makes the file of a state, and gives it with its path.
    ///
    /// # Errors
    /// What stands in the way, for people.
    pub fn add(&self, spec: StateSpec) -> Result<(Arc<Device>, PathBuf), String> {
        let name = spec.to_string();
        let failed = |error: &dyn std::fmt::Display| format!("state {name}: {error}");
        let identity = Identity {
            name: name.clone(),
            uuid: String::new(),
        };
        let device = self.registry.create(identity, None);
        let device = device.map_err(|error| failed(&error))?;
        let state = CrashState::new(self.history.clone(), spec, self.choice);
        let opener = Only(Arc::new(OpenDevice {
            number: DeviceNumber { major: 0, minor: 0 },
            path: PathBuf::from(&name),
            name: name.clone(),
            dev: Arc::new(state),
            direct: false,
            mapped: None,
            part: None,
        }));
        let row = RowSpec {
            start: Sector(0),
            len: self.history.len,
            kind: "linear".to_owned(),
            params: format!("{name} 0"),
        };
        let context = TableContext {
            kinds: KINDS,
            access: self.access,
            number: device.number(),
            opener: &opener,
            events: device.events().clone(),
            again: false,
        };
        let table =
            Table::build(&[row], &context).map_err(|error| failed(&error.messages.join("; ")))?;
        let loaded = self.registry.load(&device, table);
        loaded.map_err(|error| failed(&error))?;
        self.registry
            .resume(&device, SuspendOptions::default(), &mut || true)
            .map_err(|error| failed(&error.errno))?;
        Ok((device, self.mounted.mountpoint().join(name)))
    }

    /// Takes the file of a state away, at its last close where somebody has it open.
    pub fn remove(&self, device: &Arc<Device>) {
        if let Err(refusal) = self.registry.remove(device, true) {
            log::warn!("{}: {refusal}", device.name());
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        for device in self.registry.list() {
            self.remove(&device);
        }
        if let Err(error) = self
            .mounted
            .unmount(false)
            .or_else(|_| self.mounted.unmount(true))
        {
            log::warn!("{error}");
        }
        self.registry.shut_down();
        if let Some(made) = &self.made {
            // What somebody put there meanwhile stays.
            let _ = fs::remove_dir(made);
        }
    }
}

/// Makes a folder for its owner alone; false where it is there.
fn make_folder(path: &Path) -> Result<bool, String> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(format!(
            "{}: the mountpoint cannot be made: {error}",
            path.display()
        )),
    }
}
