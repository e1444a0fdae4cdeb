//! Mapped devices of the mount: made, found, changed.

use std::path::Path;

use rustix::io::Errno;
use zeroize::Zeroize;

use super::{Context, Done, refused};
use crate::cli::names::refuse_slash;
use crate::cli::session::Failure;
use crate::cli::task::{Answer, Kind as TaskKind, Task};
use crate::cli::verbs::create::{NewDevice, create_device};
use crate::cli::verbs::rows::rows_of;
use crate::control::protocol::dm_ioctl::Flags;
use crate::control::protocol::dm_ioctl::payload::TargetSpec;
use crate::encrypted::{CryptRow, Kind, Refused};

/// Rows of a table, whose keys are wiped when dropped.
pub struct Rows(pub Vec<TargetSpec>);

impl Drop for Rows {
    fn drop(&mut self) {
        for row in &mut self.0 {
            row.params.zeroize();
        }
    }
}

impl Rows {
    /// The rows of a volume with its data on `device`.
    pub fn of(rows: &[CryptRow], device: &str) -> Rows {
        let spec = |row: &CryptRow| TargetSpec {
            start: row.start.0,
            length: row.len.0,
            target: row.target().to_owned(),
            params: row.params(device).to_string(),
        };
        Rows(rows.iter().map(spec).collect())
    }
}

/// An open volume.
pub struct Active {
    /// What the daemon says of it.
    pub answer: Answer,
    /// Its table, with paths and keys.
    pub rows: Rows,
}

impl Context<'_, '_> {
    /// Makes the device `name`.
    ///
    /// # Errors
    /// A device of that name; what the daemon refuses.
    pub fn make(&mut self, name: &str, uuid: &str, rows: Rows, readonly: bool) -> Done {
        refuse_slash(name).map_err(|error| Refused::invalid(error.0))?;
        let mut device = NewDevice {
            name: name.to_owned(),
            uuid: Some(uuid.to_owned()),
            dev: None,
            readonly,
            rows: rows.0.clone(),
        };
        let made = create_device(self.session, &device);
        drop(Rows(std::mem::take(&mut device.rows)));
        made.map_err(failed)
    }

    /// Whether a device of that name is there.
    ///
    /// # Errors
    /// No daemon.
    pub fn is_active(&mut self, name: &str) -> Done<bool> {
        let task = self.session.task(TaskKind::Info, Some(name));
        let task = task.map_err(refused)?;
        let answer = self.session.run(&task).map_err(refused)?;
        Ok(answer.exists)
    }

    /// The open volume `name`.
    ///
    /// # Errors
    /// None of that name.
    pub fn active(&mut self, name: &str) -> Done<Active> {
        let task = self.session.task(TaskKind::Table, Some(name));
        let task = task.map_err(refused)?.with(Flags::PATHS, true);
        let (mut answer, rows) = match rows_of(self.session, &task) {
            Ok((answer, rows)) if answer.exists => (answer, rows),
            Ok(_) => return Err(not_active(name)),
            Err(failure) if failure.errno == Some(Errno::NXIO) => return Err(not_active(name)),
            Err(failure) => return Err(refused(failure)),
        };
        // The rows have the keys from it.
        answer.buffer.zeroize();
        Ok(Active {
            answer,
            rows: Rows(rows),
        })
    }

    /// Gives the open volume `name` another table.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub fn reload(&mut self, name: &str, rows: &Rows, readonly: bool) -> Done {
        let load = self.session.task(TaskKind::Reload, Some(name));
        let load = load.map_err(refused)?.with(Flags::READONLY, readonly);
        let load = load.with_rows(&rows.0).map_err(Refused::invalid)?;
        self.session.run(&load).map_err(failed)?;
        self.simple(TaskKind::Suspend, name)?;
        self.simple(TaskKind::Resume, name)
    }

    /// One task about `name`.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub fn simple(&mut self, kind: TaskKind, name: &str) -> Done {
        let task: Task = self.session.task(kind, Some(name)).map_err(refused)?;
        self.session.run(&task).map(drop).map_err(failed)
    }
}

/// A failure of the daemon's, by its errno.
fn failed(failure: Failure) -> Refused {
    let kind = match failure.errno {
        Some(Errno::BUSY | Errno::EXIST) => Kind::Busy,
        Some(Errno::NODEV | Errno::NXIO | Errno::NOENT | Errno::NOTBLK) => Kind::Device,
        Some(Errno::NOMEM) => Kind::Memory,
        _ => Kind::Invalid,
    };
    Refused::new(kind, failure.lines.join("\n"))
}

/// No volume is open under `name`.
pub fn not_active(name: &str) -> Refused {
    Refused::new(Kind::Device, format!("Device {name} is not active."))
}

/// The word that names a device in a table: where it is, whatever folder the daemon is in.
pub fn table_word(device: &str) -> String {
    let path = Path::new(device);
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    absolute.to_string_lossy().into_owned()
}

/// The uuid of a volume's device: what cryptsetup calls it there.
pub fn device_uuid(kind: &str, volume: &str, name: &str) -> String {
    let volume: String = volume.chars().filter(|letter| *letter != '-').collect();
    let volume = match volume.is_empty() {
        true => volume,
        false => format!("{volume}-"),
    };
    let mut uuid = format!("CRYPT-{kind}-{volume}{name}");
    // The field ends there; cryptsetup cuts, too.
    while uuid.len() > 127 {
        uuid.pop();
    }
    uuid
}
