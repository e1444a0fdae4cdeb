//! Lines read back: what counts of them.

use std::collections::BTreeMap;

use super::{AttachedRecord, DeviceRecord, Line, MountRecord, STATE_FORMAT};
use crate::backing::Numbered;

/// What a mount was like when its lines ended.
#[derive(Debug, Default)]
pub struct Replay {
    /// The mount.
    pub mount: Option<MountRecord>,
    /// What numbers of files and memory stand for.
    pub backings: Vec<Numbered>,
    /// The devices, by permanent number.
    pub devices: BTreeMap<u64, DeviceRecord>,
    /// Loop devices.
    pub loops: Vec<AttachedRecord>,
    /// The largest permanent number so far.
    pub last_id: u64,
    /// Events of all devices so far.
    pub all_events: u32,
}

impl Replay {
    /// Takes in the next line.
    ///
    /// # Errors
    /// Where it is none, or of another version.
    pub fn line(&mut self, text: &[u8]) -> Result<(), String> {
        let refuse = |error: serde_json::Error| format!("a line that is not understood: {error}");
        match serde_json::from_slice(text).map_err(refuse)? {
            Line::Mount(mount) if mount.format != STATE_FORMAT => {
                return Err(format!(
                    "written by dmfs {} in format {}: expected format {STATE_FORMAT}",
                    mount.version, mount.format
                ));
            }
            Line::Mount(mount) => self.mount = Some(mount),
            Line::Backings { first, numbers } => {
                self.backings.truncate(first);
                self.backings.extend(numbers);
            }
            Line::Device(device) => {
                self.last_id = self.last_id.max(device.id);
                self.all_events = self.all_events.max(device.all_events);
                self.devices.insert(device.id, device);
            }
            Line::Removed { id } => {
                self.last_id = self.last_id.max(id);
                self.devices.remove(&id);
            }
            Line::Loops(loops) => self.loops = loops,
            Line::LastId(id) => self.last_id = self.last_id.max(id),
        }
        Ok(())
    }
}
