//! Carries out DM transactions: what the kernel's dm-ioctl.c does with each command, on the registry.
//!
//! One function a command; the header that comes back is the caller's with what the command says changed.

use std::path::PathBuf;

use zeroize::{Zeroize, Zeroizing};

use super::protocol::dm_ioctl::payload::{
    ListedDevice, TargetSpec, TargetVersion, answer_deps, answer_message, answer_names,
    answer_rows, answer_versions, read_geometry, read_load, read_message, read_rename,
};
use super::protocol::dm_ioctl::{AbiError, Command, DevNo, Flags, HEADER_BYTES, Header, VERSION};
use super::{Refusal, Registry, Resolver, leaf};
use crate::backing::OpenOptions;
use crate::backing::loop_device::LOOP_MAJOR;
use crate::device::{Device, Directory, Identity, StatsError, SuspendOptions};
use crate::io::{DeviceNumber, Errno};
use crate::sync::Arc;
use crate::table::{RowSpec, Table, TableContext};
use crate::target::{Access, MessageError, Naming, split_words};
use crate::unit::{Sector, Sectors};

/// Who asks.
pub struct Caller<'a> {
    /// Where relative paths in tables start.
    pub folder: PathBuf,
    /// How files that its tables name are opened.
    pub options: OpenOptions,
    /// True while the caller waits for an answer; asked now and then by what takes long.
    pub is_there: &'a dyn Fn() -> bool,
}

impl Caller<'_> {
    /// Finds devices that the caller's words name.
    fn opener(&self, registry: &Arc<Registry>) -> Resolver {
        Resolver::new(registry.clone(), self.folder.clone(), self.options)
    }
}

/// Carries out one transaction on `registry` and gives the whole answer, header and payload.
///
/// # Errors
/// The kernel's errno, with its log lines and the place of the mistake.
pub fn carry_out(
    registry: &Arc<Registry>,
    caller: &Caller<'_>,
    command: u32,
    buffer: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let command = Command::try_from(command)?;
    let mut header = Header::decode_request(buffer)?;
    header.check_address(command)?;
    let mut transaction = Transaction {
        registry,
        caller,
        header: header.clone(),
        buffer,
    };
    let mut payload = match transaction.run(command) {
        Err(refusal) if refusal.errno == Errno::NXIO && registry.major() == LOOP_MAJOR => {
            leaf::answer(command, &mut transaction.header).ok_or(refusal)?
        }
        answer => answer?,
    };
    header = transaction.header;
    header.version = VERSION;
    if payload.is_empty() {
        (header.data_start, header.data_size) = (HEADER_BYTES as u32, HEADER_BYTES as u32);
    }
    let answer = header.with_payload(&payload);
    payload.zeroize();
    Ok(answer)
}

struct Transaction<'a> {
    registry: &'a Arc<Registry>,
    caller: &'a Caller<'a>,
    header: Header,
    buffer: &'a [u8],
}

impl Transaction<'_> {
    fn run(&mut self, command: Command) -> Result<Vec<u8>, Refusal> {
        match command {
            Command::Version => Ok(Vec::new()),
            Command::RemoveAll => self.remove_all(),
            Command::ListDevices => self.list_devices(),
            Command::DevCreate => self.create(),
            Command::DevRemove => self.remove(),
            Command::DevRename => self.rename(),
            Command::DevSuspend if self.header.flags.has(Flags::SUSPEND) => self.suspend(),
            Command::DevSuspend => self.resume(),
            Command::DevStatus => self.info(),
            Command::DevWait => self.wait(),
            Command::TableLoad => self.load(),
            Command::TableClear => self.clear(),
            Command::TableDeps => self.dependencies(),
            Command::TableStatus => self.find().map(|device| self.status(&device)),
            Command::ListVersions => Ok(self.versions(|_| true)),
            Command::TargetMsg => self.message(),
            Command::DevSetGeometry => self.set_geometry(),
            Command::DevArmPoll => self.arm_poll(),
            Command::GetTargetVersion => self.target_version(),
        }
    }

    /// The device that the header addresses, by exactly one of uuid, name and number.
    fn find(&mut self) -> Result<Arc<Device>, Refusal> {
        let Header {
            name, uuid, dev, ..
        } = &self.header;
        let keys = [!uuid.is_empty(), !name.is_empty(), dev.is_some()];
        let device = match keys.iter().filter(|&&given| given).count() {
            1 if !uuid.is_empty() => self.registry.by_uuid(uuid),
            1 if !name.is_empty() => self.registry.by_name(name),
            1 => self.registry.by_number(number_of(*dev)),
            0 => None,
            _ => {
                let text = format!(
                    "ioctl: Invalid ioctl structure: uuid {uuid}, name {name}, dev {:x}",
                    dev.encode()
                );
                return Err(Refusal::message(Errno::NXIO, text));
            }
        };
        let device = device.ok_or_else(|| Refusal::errno(Errno::NXIO))?;
        self.registry.settle(&device);
        Ok(device)
    }

    /// Writes what `info` shows of a device into the header (__dev_status).
    fn describe(&mut self, device: &Device) -> Vec<u8> {
        let state = device.state();
        let identity = device.identity();
        let flags = &mut self.header.flags;
        let inactive_asked = flags.has(Flags::QUERY_INACTIVE_TABLE);
        let table = if inactive_asked {
            &state.inactive
        } else {
            &state.active
        };
        flags.set(Flags::SUSPEND, state.suspended);
        flags.set(Flags::DEFERRED_REMOVE, state.deferred_remove);
        flags.set(Flags::ACTIVE_PRESENT, state.active.is_some());
        flags.set(Flags::INACTIVE_PRESENT, state.inactive.is_some());
        flags.set(Flags::INTERNAL_SUSPEND, false);
        flags.set(
            Flags::READONLY,
            table
                .as_ref()
                .is_some_and(|table| table.access() == Access::ReadOnly),
        );
        self.header.target_count = count(table.as_ref().map_or(0, |table| table.rows().len()));
        let count = self.registry.open_count(device, state.open_count, false);
        self.header.open_count = i32::try_from(count).unwrap_or(i32::MAX);
        self.header.event_nr = state.event_number;
        self.header.dev = dev_no(device.number());
        self.header.name = identity.name;
        self.header.uuid = identity.uuid;
        Vec::new()
    }

    /// `info`: who has the device open is looked for unless the caller does not care.
    fn info(&mut self) -> Result<Vec<u8>, Refusal> {
        let look = !self.header.flags.has(Flags::SKIP_BDGET);
        let device = self.find()?;
        self.describe(&device);
        let counted = device.state().open_count;
        let count = self.registry.open_count(&device, counted, look);
        self.header.open_count = i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Vec::new())
    }

    fn remove_all(&mut self) -> Result<Vec<u8>, Refusal> {
        let left = self
            .registry
            .remove_all(self.header.flags.has(Flags::DEFERRED_REMOVE));
        if left > 0 {
            log::warn!("remove_all left {left} open device(s)");
        }
        Ok(Vec::new())
    }

    fn list_devices(&mut self) -> Result<Vec<u8>, Refusal> {
        let devices: Vec<ListedDevice> = self
            .registry
            .list()
            .iter()
            .map(|device| {
                let identity = device.identity();
                ListedDevice {
                    dev: dev_no(device.number()),
                    name: identity.name,
                    event_nr: device.events().number(),
                    uuid: Some(identity.uuid).filter(|uuid| !uuid.is_empty()),
                }
            })
            .collect();
        Ok(answer_names(&mut self.header, &devices))
    }

    fn create(&mut self) -> Result<Vec<u8>, Refusal> {
        let identity = Identity {
            name: self.header.name.clone(),
            uuid: self.header.uuid.clone(),
        };
        let minor = self
            .header
            .flags
            .has(Flags::PERSISTENT_DEV)
            .then_some(self.header.dev.minor);
        let device = self.registry.create(identity, minor)?;
        Ok(self.describe(&device))
    }

    fn remove(&mut self) -> Result<Vec<u8>, Refusal> {
        let deferred = self.header.flags.has(Flags::DEFERRED_REMOVE);
        let device = self.find()?;
        let identity = device.identity();
        let waits = self.registry.remove(&device, deferred)?;
        self.header.flags.set(Flags::DEFERRED_REMOVE, waits);
        (self.header.name, self.header.uuid) = (identity.name, identity.uuid);
        Ok(Vec::new())
    }

    fn rename(&mut self) -> Result<Vec<u8>, Refusal> {
        let new = read_rename(&self.header, self.buffer)?;
        let uuid = self.header.flags.has(Flags::UUID);
        let Some(device) = self.registry.by_name(&self.header.name) else {
            let kind = if uuid { "uuid " } else { "" };
            let text = format!(
                "ioctl: Unable to rename non-existent device, {} to {kind}{new}",
                self.header.name
            );
            return Err(Refusal::message(Errno::NXIO, text));
        };
        match uuid {
            true => self.registry.set_uuid(&device, &new)?,
            false => self.registry.rename(&device, &new)?,
        }
        Ok(self.describe(&device))
    }

    fn suspend_options(&self) -> SuspendOptions {
        SuspendOptions {
            noflush: self.header.flags.has(Flags::NOFLUSH),
            nolockfs: self.header.flags.has(Flags::SKIP_LOCKFS),
        }
    }

    fn suspend(&mut self) -> Result<Vec<u8>, Refusal> {
        let device = self.find()?;
        self.registry
            .suspend(&device, self.suspend_options(), &mut || {
                (self.caller.is_there)()
            })
            .map_err(|errno| refuse_move(&device, errno))?;
        self.registry.note(&device);
        Ok(self.describe(&device))
    }

    fn resume(&mut self) -> Result<Vec<u8>, Refusal> {
        let device = self.find()?;
        self.registry
            .resume(&device, self.suspend_options(), &mut || {
                (self.caller.is_there)()
            })
            .map_err(|error| refuse_move(&device, error.errno))?;
        Ok(self.describe(&device))
    }

    fn wait(&mut self) -> Result<Vec<u8>, Refusal> {
        let device = self.find()?;
        if !device
            .events()
            .wait(self.header.event_nr, &mut || (self.caller.is_there)())
        {
            return Err(Refusal::errno(Errno::INTR));
        }
        Ok(self.status(&device))
    }

    fn load(&mut self) -> Result<Vec<u8>, Refusal> {
        let device = self.find()?;
        let mut rows: Vec<RowSpec> = read_load(&self.header, self.buffer)?
            .into_iter()
            .map(|spec| RowSpec {
                start: Sector(spec.start),
                len: Sectors(spec.length),
                kind: spec.target,
                params: spec.params,
            })
            .collect();
        let access = match self.header.flags.has(Flags::READONLY) {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        let loaded = load(self.registry, &device, &rows, access, self.caller);
        // There may be keys in them.
        for row in &mut rows {
            row.params.zeroize();
        }
        loaded?;
        Ok(self.describe(&device))
    }

    fn clear(&mut self) -> Result<Vec<u8>, Refusal> {
        let device = self.find()?;
        device.clear();
        self.registry.note(&device);
        Ok(self.describe(&device))
    }

    fn asked_table(&self, device: &Device) -> Option<Arc<Table>> {
        let state = device.state();
        match self.header.flags.has(Flags::QUERY_INACTIVE_TABLE) {
            true => state.inactive,
            false => state.active,
        }
    }

    fn dependencies(&mut self) -> Result<Vec<u8>, Refusal> {
        let device = self.find()?;
        self.describe(&device);
        let Some(table) = self.asked_table(&device) else {
            return Ok(Vec::new());
        };
        let numbers: Vec<DevNo> = table.dependencies().map(dev_no).collect();
        Ok(answer_deps(&mut self.header, &numbers))
    }

    fn status(&mut self, device: &Device) -> Vec<u8> {
        self.describe(device);
        let Some(table) = self.asked_table(device) else {
            return Vec::new();
        };
        let naming = match self.header.flags.has(Flags::PATHS) {
            true => Naming::Paths,
            false => Naming::Numbers,
        };
        let table_asked = self.header.flags.has(Flags::STATUS_TABLE);
        let rows = table.rows().iter().map(|row| TargetSpec {
            start: row.start().0,
            length: row.len().0,
            target: row.kind().name.to_owned(),
            params: match table_asked {
                true => row.target().args(naming),
                false => row.target().status(naming),
            },
        });
        answer_rows(&mut self.header, rows)
    }

    fn versions(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
        let versions: Vec<TargetVersion> = self
            .registry
            .kinds()
            .iter()
            .filter(|kind| wanted(kind.name))
            .map(|kind| TargetVersion {
                name: kind.name.to_owned(),
                version: kind.version,
            })
            .collect();
        answer_versions(&mut self.header, &versions)
    }

    fn target_version(&mut self) -> Result<Vec<u8>, Refusal> {
        let name = self.header.name.clone();
        if !self.registry.kinds().iter().any(|kind| kind.name == name) {
            return Err(Refusal::of(Errno::INVAL, "a known target type", &name));
        }
        Ok(self.versions(|kind| kind == name))
    }

    fn message(&mut self) -> Result<Vec<u8>, Refusal> {
        let invalid = |text: &str| Refusal::message(Errno::INVAL, text.to_owned());
        let device = self.find()?;
        let (sector, text) = read_message(&self.header, self.buffer)?;
        let text = Zeroizing::new(text);
        let words = Zeroizing::new(split_words(&text));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some(first) = words.first() else {
            return Err(invalid("ioctl: Empty message received."));
        };
        let reply = if first.starts_with('@') {
            let reply = core_message(&device, &words, self.header.room())?;
            if first.eq_ignore_ascii_case(STAY) {
                self.registry.leave(&device, true);
            }
            reply
        } else {
            let table = device
                .active()
                .ok_or_else(|| invalid("ioctl: The device has no table."))?;
            let row = table
                .row_at(Sector(sector))
                .ok_or_else(|| invalid("ioctl: Target message sector outside device."))?;
            row.target()
                .message(&words, &self.caller.opener(self.registry))
                .map_err(|error| refuse_message(error, &text))?
        };
        // What a message changes may be part of the arguments, or of what the device itself keeps.
        self.registry.note(&device);
        self.describe(&device);
        Ok(answer_message(&mut self.header, &reply))
    }

    fn set_geometry(&mut self) -> Result<Vec<u8>, Refusal> {
        let device = self.find()?;
        let geometry = read_geometry(&self.header, self.buffer)?;
        let (cylinders, heads, sectors) = (
            u64::from(geometry.cylinders),
            u64::from(geometry.heads),
            u64::from(geometry.sectors),
        );
        if geometry.start > cylinders * heads * sectors {
            let text = "core: Start sector is beyond the geometry limits.";
            return Err(Refusal::message(Errno::INVAL, text.to_owned()));
        }
        device.set_geometry(format!("{cylinders} {heads} {sectors} {}", geometry.start));
        self.registry.note(&device);
        Ok(Vec::new())
    }

    /// A socket cannot be polled for the kernel's events: the answer itself waits for the next event of any
    /// device after the one with the number given.
    fn arm_poll(&mut self) -> Result<Vec<u8>, Refusal> {
        let events = self.registry.any_event();
        if !events.wait(self.header.event_nr, &mut || (self.caller.is_there)()) {
            return Err(Refusal::errno(Errno::INTR));
        }
        self.header.event_nr = events.number();
        Ok(Vec::new())
    }
}

/// Builds a table out of `rows` and puts it into the device's inactive slot.
///
/// # Errors
/// The kernel's errno and lines, with the row and the word.
pub fn load(
    registry: &Arc<Registry>,
    device: &Arc<Device>,
    rows: &[RowSpec],
    access: Access,
    caller: &Caller<'_>,
) -> Result<(), Refusal> {
    let opener = caller.opener(registry);
    let context = TableContext {
        kinds: registry.kinds(),
        access,
        number: device.number(),
        opener: &opener,
        events: device.events().clone(),
        again: false,
    };
    registry.load(device, Table::build(rows, &context)?)
}

/// Why a device was not suspended or resumed.
fn refuse_move(device: &Device, errno: Errno) -> Refusal {
    match errno {
        Errno::BUSY if device.is_bypassed() => Refusal::message(
            errno,
            format!(
                "core: {}: open files go straight to the backing file (cache policy passthrough), and cannot be held back: close them first",
                device.name()
            ),
        ),
        errno => Refusal::errno(errno),
    }
}

/// What a target said of the message `text`.
fn refuse_message(error: MessageError, text: &str) -> Refusal {
    let mut refusal = match error.line {
        Some(line) => Refusal::message(error.errno, line),
        None => Refusal::errno(error.errno),
    };
    refusal.detail.found = error.expected.is_some().then(|| match error.secret {
        true => "a message that is not shown".to_owned(),
        false => text.to_owned(),
    });
    refusal.detail.expected = error.expected;
    refusal
}

/// Why a message about statistics is refused: the kernel logs nothing but what is malformed.
fn refuse_stats(error: StatsError, words: &[&str]) -> Refusal {
    let mut refusal = Refusal::of(error.errno, error.expected, &words.join(" "));
    if let (Errno::INVAL, Some(verb)) = (error.errno, words.first()) {
        let line = format!("stats: Invalid parameters for message {verb}");
        refusal.detail.messages = vec![line];
    }
    refusal
}

/// The message after which a device is not removed when its last user lets go of it.
const STAY: &str = "@cancel_deferred_remove";

/// Messages that begin with `@` are the core's and never reach a target.
fn core_message(device: &Device, words: &[&str], room: usize) -> Result<String, Refusal> {
    let invalid = |text: String| Refusal::message(Errno::INVAL, text);
    if let Some(answer) = device.stats_message(words, room) {
        return answer.map_err(|error| refuse_stats(error, words));
    }
    match words {
        [word] if word.eq_ignore_ascii_case(STAY) => {
            device
                .openers()
                .cancel_deferred_remove()
                .map_err(Refusal::errno)?;
            Ok(String::new())
        }
        [word, ..] if word.eq_ignore_ascii_case(STAY) => Err(invalid(
            "ioctl: Invalid arguments for @cancel_deferred_remove".to_owned(),
        )),
        [word, ..] => Err(invalid(format!(
            "ioctl: Unsupported message sent to DM core: {word}"
        ))),
        [] => Err(invalid("ioctl: Empty message received.".to_owned())),
    }
}

impl From<AbiError> for Refusal {
    fn from(error: AbiError) -> Refusal {
        Refusal::message(error.errno(), error.to_string())
    }
}

fn number_of(dev: DevNo) -> DeviceNumber {
    DeviceNumber {
        major: dev.major,
        minor: dev.minor,
    }
}

fn dev_no(number: DeviceNumber) -> DevNo {
    DevNo::new(number.major, number.minor)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
