//! The device mapper's control node: its ioctls are transactions of the mount's control socket.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use zeroize::Zeroize;

use super::caller::Caller;
use crate::control::protocol::client::{self, Client};
use crate::control::protocol::dm_ioctl::payload::{answer_versions, read_versions};
use crate::control::protocol::dm_ioctl::{
    Command, DevNo, Flags, HEADER_BYTES, Header, MAX_BYTES, MIN_BYTES, VERSION,
};
use crate::control::protocol::json::{JsonReply, JsonRequest};
use crate::sync::Mutex;

/// Connections that are kept for the next call.
const MOST_IDLE: usize = 16;
/// Bytes of the version at the start of a header.
const VERSION_BYTES: usize = 12;

/// The mount, as callers of the control node see it.
pub(super) struct ControlNode {
    mountpoint: PathBuf,
    /// Told instead of the real versions.
    versions: Vec<(String, [u32; 3])>,
    idle: Mutex<Vec<Client>>,
}

/// A mapped device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// Its number.
    pub number: DevNo,
    /// Its name.
    pub name: String,
    /// Its identifier, which may be empty.
    pub uuid: String,
    /// Nobody may write.
    pub read_only: bool,
    /// Its I/O waits.
    pub suspended: bool,
}

impl ControlNode {
    /// Of the mount at `mountpoint`.
    pub(super) fn new(mountpoint: &Path, versions: &[(String, [u32; 3])]) -> ControlNode {
        ControlNode {
            mountpoint: mountpoint.to_owned(),
            versions: versions.to_vec(),
            idle: Mutex::default(),
        }
    }

    /// Asks over a connection that nobody else uses meanwhile; ENODEV where there is none, as where no device mapper
    /// is.
    fn ask<T>(&self, ask: impl FnOnce(&mut Client) -> Option<T>) -> Result<T, Errno> {
        let idle = self.idle.lock().pop();
        let mut client = match idle {
            Some(client) => client,
            None => {
                let mountpoint = self.mountpoint.display().to_string();
                client::connect(Some(&mountpoint)).map_err(|_| Errno::NODEV)?
            }
        };
        let answer = ask(&mut client).ok_or(Errno::NODEV)?;
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push(client);
        }
        Ok(answer)
    }

    /// Carries out the ioctl `command` with its argument at `at` in the caller's memory.
    ///
    /// # Errors
    /// The kernel's errno.
    pub(super) fn ioctl(&self, caller: Caller<'_>, command: u32, at: u64) -> Result<i64, Errno> {
        let mut buffer = caller.read(at, MIN_BYTES)?;
        buffer.resize(HEADER_BYTES, 0);
        let known = Command::try_from(command & 0xff).ok();
        let size = word(&buffer, 12) as usize;
        let is_secret = word(&buffer, 28) & Flags::SECURE_DATA.0 != 0;
        if known.is_some_and(has_payload) && size >= MIN_BYTES {
            buffer = caller.read(at, size.min(MAX_BYTES))?;
        }
        let folder = match known {
            Some(Command::TableLoad) => caller.folder(libc::AT_FDCWD),
            _ => None,
        };
        let answer = self.transact(caller, command & 0xff, buffer, folder);
        if matches!(answer, Ok(_) | Err(Errno::INVAL)) {
            // The driver tells its version whatever comes of it.
            let version: Vec<u8> = VERSION.iter().flat_map(|word| word.to_le_bytes()).collect();
            caller.write(at, version.get(..VERSION_BYTES).unwrap_or_default())?;
        }
        let mut answer = answer?;
        if matches!(
            known,
            Some(Command::ListVersions | Command::GetTargetVersion)
        ) {
            answer = self.with_versions(answer)?;
        }
        let fits = answer.get(..answer.len().min(size)).unwrap_or_default();
        let written = caller.write(at, fits);
        if is_secret {
            answer.zeroize();
        }
        written.map(|()| 0)
    }

    fn transact(
        &self,
        caller: Caller<'_>,
        command: u32,
        buffer: Vec<u8>,
        folder: Option<PathBuf>,
    ) -> Result<Vec<u8>, Errno> {
        // What the kernel waits for with an ear for signals.
        let waits = [Command::DevWait, Command::DevArmPoll, Command::DevSuspend];
        let hears = waits.iter().any(|waits| waits.number() == command);
        let mut interrupted = false;
        let answer = self.ask(|client| {
            if let Some(folder) = folder {
                client.move_to(&folder).ok()?;
            }
            let mut keeps_waiting = || {
                interrupted = hears && caller.has_signal();
                !interrupted && caller.waits()
            };
            client
                .ioctl_while(command, buffer, &mut keeps_waiting)
                .ok()?
        });
        match answer {
            Err(_) if interrupted => Err(Errno::INTR),
            answer => answer?,
        }
    }

    /// The list of versions with those that are to be told instead.
    fn with_versions(&self, buffer: Vec<u8>) -> Result<Vec<u8>, Errno> {
        let mut header = Header::decode(&buffer).map_err(|error| error.errno())?;
        if self.versions.is_empty() || header.flags.has(Flags::BUFFER_FULL) {
            return Ok(buffer);
        }
        let mut versions = read_versions(&header, &buffer).map_err(|error| error.errno())?;
        for version in &mut versions {
            let told = self.versions.iter().find(|(name, _)| *name == version.name);
            if let Some((_, told)) = told {
                version.version = *told;
            }
        }
        let payload = answer_versions(&mut header, &versions);
        Ok(header.with_payload(&payload))
    }

    /// The device called `name`.
    ///
    /// # Errors
    /// ENXIO where there is none.
    pub(super) fn device(&self, name: &str) -> Result<Mapped, Errno> {
        self.status_of(Header {
            name: name.to_owned(),
            ..Header::default()
        })
    }

    /// The device of this number.
    ///
    /// # Errors
    /// ENXIO where there is none.
    pub(super) fn device_numbered(&self, number: DevNo) -> Result<Mapped, Errno> {
        self.status_of(Header {
            dev: number,
            ..Header::default()
        })
    }

    fn status_of(&self, mut header: Header) -> Result<Mapped, Errno> {
        header.flags = Flags::SKIP_BDGET;
        let mut buffer = Vec::new();
        header.encode(&mut buffer);
        let status = Command::DevStatus.number();
        let answer = self.ask(|client| client.ioctl_while(status, buffer, &mut || true).ok()?)?;
        let header = Header::decode(&answer?).map_err(|error| error.errno())?;
        Ok(Mapped {
            number: header.dev,
            read_only: header.flags.has(Flags::READONLY),
            suspended: header.flags.has(Flags::SUSPEND),
            name: header.name,
            uuid: header.uuid,
        })
    }

    /// Asks in JSON.
    ///
    /// # Errors
    /// What the daemon says.
    pub(super) fn json(&self, request: &JsonRequest) -> Result<JsonReply, Errno> {
        let answer = self.ask(|client| client.json(request).ok())?;
        answer.map_err(|refusal| refusal.errno)
    }
}

fn has_payload(command: Command) -> bool {
    matches!(
        command,
        Command::DevRename | Command::TableLoad | Command::TargetMsg | Command::DevSetGeometry
    )
}

fn word(bytes: &[u8], at: usize) -> u32 {
    crate::control::protocol::dm_ioctl::payload::u32_at(bytes, at).unwrap_or(0)
}
