//! Names and uuids, each of one device only.

use super::Registry;
use crate::control::Refusal;
use crate::device::{Change, Device, Identity};
use crate::io::Errno;
use crate::sync::Arc;
use crate::target::EventSink;

impl Registry {
    /// Gives a device another name.
    ///
    /// # Errors
    /// EINVAL for a bad name, EBUSY for one that is taken, even by this device.
    pub fn rename(&self, device: &Arc<Device>, to: &str) -> Result<(), Refusal> {
        check_name(to)?;
        let from = {
            let mut devices = self.devices.write();
            let identity = device.identity();
            if devices.by_name.contains_key(to) {
                let text = format!(
                    "ioctl: Unable to change name on mapped device {} to one that already exists: {to}",
                    identity.name
                );
                return Err(Refusal::message(Errno::BUSY, text));
            }
            devices.by_name.remove(&identity.name);
            devices.by_name.insert(to.to_owned(), device.clone());
            device.set_identity(Identity {
                name: to.to_owned(),
                uuid: identity.uuid,
            });
            identity.name
        };
        if device.active().is_some() {
            device.events().raise();
        }
        self.tell(&Change::Renamed {
            id: device.id(),
            from,
            to: to.to_owned(),
        });
        self.note(device);
        Ok(())
    }

    /// Gives a device its uuid, once.
    ///
    /// # Errors
    /// EINVAL where it has one, EBUSY where another device has this one.
    pub fn set_uuid(&self, device: &Arc<Device>, uuid: &str) -> Result<(), Refusal> {
        let mut devices = self.devices.write();
        let identity = device.identity();
        if devices.by_uuid.contains_key(uuid) {
            let text = format!(
                "ioctl: Unable to change uuid on mapped device {} to one that already exists: {uuid}",
                identity.name
            );
            return Err(Refusal::message(Errno::BUSY, text));
        }
        if !identity.uuid.is_empty() {
            let text = format!(
                "ioctl: Unable to change uuid of mapped device {} to {uuid} because uuid is already set to {}",
                identity.name, identity.uuid
            );
            return Err(Refusal::message(Errno::INVAL, text));
        }
        devices.by_uuid.insert(uuid.to_owned(), device.clone());
        device.set_identity(Identity {
            uuid: uuid.to_owned(),
            ..identity
        });
        drop(devices);
        if device.active().is_some() {
            device.events().raise();
        }
        self.note(device);
        Ok(())
    }
}

/// The kernel's rules for a name (dm-ioctl.c: check_name).
pub(in crate::control) fn check_name(name: &str) -> Result<(), Refusal> {
    let text = match name {
        "" => "ioctl: device name cannot be empty",
        "control" | "." | ".." => r#"ioctl: device name cannot be "control", ".", or "..""#,
        name if name.contains('/') => "ioctl: device name cannot contain '/'",
        _ => return Ok(()),
    };
    Err(Refusal::message(Errno::INVAL, text.into()))
}
