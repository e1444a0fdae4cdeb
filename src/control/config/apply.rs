//! Makes what a [`Config`] says: files, then devices in their order. What fails takes back what was made.

use std::collections::HashSet;
use std::path::PathBuf;

use super::examine::explain;
use super::sizes::tidy;
use super::{Config, ConfigError, DeviceSpec, Place};
use crate::backing::{Created, Existing, OpenOptions, create_file};
use crate::control::transaction::{Caller, load};
use crate::control::{Refusal, Registry};
use crate::device::{CachePolicy, Device, Identity, SuspendOptions};
use crate::io::DeviceNumber;
use crate::sync::Arc;

/// Makes the files and devices of `config`. `is_there` says whether somebody still waits for them.
///
/// # Errors
/// The first file or device that could not be made; nothing that this call made is left.
pub fn apply(
    config: &Config,
    registry: &Arc<Registry>,
    is_there: &dyn Fn() -> bool,
) -> Result<(), ConfigError> {
    let mut made = Made {
        registry,
        devices: Vec::new(),
        files: Vec::new(),
    };
    let result = made.everything(config, is_there);
    if result.is_err() {
        made.take_back();
    }
    result
}

struct Made<'a> {
    registry: &'a Arc<Registry>,
    devices: Vec<Arc<Device>>,
    files: Vec<PathBuf>,
}

impl Made<'_> {
    fn everything(
        &mut self,
        config: &Config,
        is_there: &dyn Fn() -> bool,
    ) -> Result<(), ConfigError> {
        let refuse = |place: Option<Place>, message: String| ConfigError {
            origin: config.origin.clone(),
            place,
            message,
        };
        for file in &config.files {
            let path = tidy(&config.folder, &file.path);
            let created = create_file(&path, file.size, Existing::OfThatSize).map_err(|error| {
                refuse(file.place, format!("file {}: {error}", file.path.display()))
            })?;
            if created == Created::New {
                self.files.push(path);
            }
        }
        let mut minors = Minors::of(config);
        for device in &config.devices {
            let minor = device.minor.unwrap_or_else(|| minors.free(self.registry));
            let number = DeviceNumber {
                major: self.registry.major(),
                minor,
            };
            self.device(config, device, minor, is_there)
                .map_err(|refusal| {
                    let text = explain(&refusal, number);
                    refuse(
                        device.place,
                        format!("device {}: {text}", device.name.escape_debug()),
                    )
                })?;
        }
        Ok(())
    }

    fn device(
        &mut self,
        config: &Config,
        spec: &DeviceSpec,
        minor: u32,
        is_there: &dyn Fn() -> bool,
    ) -> Result<(), Refusal> {
        let opened = spec
            .luks
            .as_ref()
            .map(|luks| luks.open(&config.folder, &spec.name))
            .transpose()?;
        let uuid = opened.as_ref().map_or(&spec.uuid, |opened| &opened.uuid);
        let identity = Identity {
            name: spec.name.clone(),
            uuid: uuid.clone(),
        };
        let device = self.registry.create(identity, Some(minor))?;
        self.devices.push(device.clone());
        if let Some(policy) = spec.cache {
            self.cache(&device, policy)?;
        }
        let rows = opened.as_ref().map(|opened| &opened.rows);
        let Some(rows) = rows.or(spec.rows.as_ref()) else {
            return Ok(());
        };
        let caller = Caller {
            folder: config.folder.clone(),
            options: OpenOptions {
                direct: spec.direct,
            },
            is_there,
        };
        load(self.registry, &device, rows, spec.access, &caller)?;
        self.registry
            .resume(&device, SuspendOptions::default(), &mut || is_there())
            .map_err(|error| Refusal::errno(error.errno))
    }

    /// Where passthrough cannot be had, the daemon serves the file as well as it can.
    fn cache(&self, device: &Device, policy: CachePolicy) -> Result<(), Refusal> {
        match self.registry.set_cache(device, policy) {
            Err(refusal) if policy == CachePolicy::Passthrough => {
                log::warn!("{}: {refusal}", device.name());
                Ok(())
            }
            result => result,
        }
    }

    fn take_back(&mut self) {
        for device in self.devices.drain(..).rev() {
            if let Err(refusal) = self.registry.remove(&device, true) {
                log::error!("{}: cannot be taken back: {refusal}", device.name());
            }
        }
        for path in self.files.drain(..).rev() {
            if let Err(error) = std::fs::remove_file(&path) {
                log::error!("{}: cannot be taken back: {error}", path.display());
            }
        }
    }
}

/// Minor numbers for devices that ask for none: not one that a device further down asks for.
struct Minors {
    asked: HashSet<u32>,
    next: u32,
}

impl Minors {
    fn of(config: &Config) -> Minors {
        Minors {
            asked: config
                .devices
                .iter()
                .filter_map(|device| device.minor)
                .collect(),
            next: 0,
        }
    }

    fn free(&mut self, registry: &Registry) -> u32 {
        loop {
            let minor = self.next;
            self.next = self.next.saturating_add(1);
            let number = DeviceNumber {
                major: registry.major(),
                minor,
            };
            if !self.asked.contains(&minor) && registry.by_number(number).is_none() {
                return minor;
            }
        }
    }
}
