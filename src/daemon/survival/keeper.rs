//! The daemon's side: hands to the supervisor what must not die, and writes down what changes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags, open};

use super::journal::Journal;
use super::link::{Link, Message};
use crate::backing::{self, Descriptors};
use crate::control::Registry;
use crate::control::state::{self, AttachedRecord, Line, MountRecord, Replay};
use crate::device::{Device, Directory};
use crate::fs::{Note, Recalled, Recorder};
use crate::sync::{Arc, AtomicBool, Mutex, OnceLock, Ordering};

/// Tells a process that it is a supervised daemon.
pub(super) const MARK: &str = "DMFS_SUPERVISED";

/// What the supervisor keeps beside backing files, by name.
const CONNECTION: &str = "connection";
const SOCKET: &str = "socket";
pub(super) const DEVICES: &str = "devices";
const FILES: &str = "files";

/// The link to the supervisor, in a daemon that has one. To be asked once, before anything uses the standard input.
///
/// # Errors
/// What the system says.
pub fn daemon_link() -> io::Result<Option<Link>> {
    if std::env::var_os(MARK).is_none() {
        return Ok(None);
    }
    // The supervisor runs whatever program it has open, and the kernel names us after how.
    rustix::thread::set_name(c"dmfs")?;
    let link = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(Some(Link::new(link)))
}

/// What a daemon begins with.
#[derive(Debug)]
pub struct Inherited {
    /// How many daemons served this mount before.
    pub restarts: u32,
    /// What they left; nothing for the first.
    pub left: Option<Left>,
}

/// What a daemon that died has left.
#[derive(Debug)]
pub struct Left {
    /// Every descriptor of the connection to the kernel.
    pub connections: Vec<OwnedFd>,
    /// The control socket.
    pub socket: OwnedFd,
    /// Backing files and memory.
    pub descriptors: Descriptors,
    /// What the mount was like.
    pub replay: Replay,
    /// What was noted of its files.
    pub recalled: Recalled,
}

impl Inherited {
    /// Takes over what the supervisor kept.
    ///
    /// # Errors
    /// Where something is missing or of another version.
    pub fn receive(link: &Link) -> Result<Inherited, String> {
        let failed = |error: io::Error| format!("the supervisor: {error}");
        let mut kept = Descriptors::new();
        let restarts = loop {
            match link.receive().map_err(failed)? {
                Some(Message::Keep(name, descriptor)) => {
                    kept.insert(name, descriptor);
                }
                Some(Message::Begin(restarts)) => break restarts,
                Some(_) => {}
                None => return Err("the supervisor is gone".to_owned()),
            }
        };
        let left = match kept.is_empty() {
            true => None,
            false => Some(Left::of(kept)?),
        };
        Ok(Inherited { restarts, left })
    }
}

impl Left {
    fn of(mut kept: Descriptors) -> Result<Left, String> {
        let mut connections = Vec::new();
        while let Some(connection) = kept.remove(&format!("{CONNECTION} {}", connections.len())) {
            connections.push(connection);
        }
        let mut take = |name: &str| {
            let taken = kept.remove(name);
            taken.ok_or_else(|| format!("the supervisor has no {name} kept"))
        };
        let (devices, files, socket) = (take(DEVICES)?, take(FILES)?, take(SOCKET)?);
        let mut replay = Replay::default();
        Journal::resume(devices, |line| replay.line(line))
            .map_err(|error| format!("the state of the mount: {error}"))?;
        let mut recalled = Recalled::default();
        let understand = |line: &[u8]| {
            let note = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            recalled.take(&note);
            Ok(())
        };
        Journal::resume(files, understand)
            .map_err(|error| format!("the state of the files: {error}"))?;
        Ok(Left {
            connections,
            socket,
            descriptors: kept,
            replay,
            recalled,
        })
    }
}

/// Keeps what a successor needs.
pub struct Keeper {
    link: Link,
    registry: Arc<Registry>,
    /// Locked after a device's own locks and before the store's; nothing of the files is locked under it.
    devices: Mutex<DevicesJournal>,
    /// A leaf in the lock order.
    files: Mutex<FilesJournal>,
    restarts: u32,
    /// The supervisor is gone: from now on this is a daemon like any other.
    lost: AtomicBool,
    /// Called when the supervisor has gone.
    when_lost: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct DevicesJournal {
    journal: Journal,
    mount: MountRecord,
    loops: Vec<AttachedRecord>,
    /// Numbers of backings that are written down.
    n_backings: usize,
}

struct FilesJournal {
    journal: Journal,
    recalled: Recalled,
}

impl Keeper {
    /// A keeper for the devices of `registry`, with all that is there to be kept by now but descriptors. `recalled`
    /// and `loops` are what was taken over.
    ///
    /// # Errors
    /// Where there is no memory or no supervisor.
    pub fn new(
        link: Link,
        registry: Arc<Registry>,
        mount: MountRecord,
        restarts: u32,
        recalled: Recalled,
        loops: Vec<AttachedRecord>,
    ) -> io::Result<Arc<Keeper>> {
        let (lines, n_backings) = all_lines(&registry, &mount, &loops);
        let devices = DevicesJournal {
            journal: Journal::of("dmfs-devices", lines)?,
            mount,
            loops,
            n_backings,
        };
        let files = FilesJournal {
            journal: Journal::of("dmfs-files", recalled.notes())?,
            recalled,
        };
        link.keep(DEVICES, devices.journal.as_fd())?;
        link.keep(FILES, files.journal.as_fd())?;
        let keeper = Arc::new(Keeper {
            link,
            registry,
            devices: Mutex::new(devices),
            files: Mutex::new(files),
            restarts,
            lost: AtomicBool::new(false),
            when_lost: OnceLock::new(),
        });
        Ok(keeper)
    }

    /// Has every descriptor of the connection kept.
    ///
    /// # Errors
    /// Where there is no supervisor any more.
    pub fn keep_connection<'d>(
        &self,
        descriptors: impl Iterator<Item = BorrowedFd<'d>>,
    ) -> io::Result<()> {
        for (number, descriptor) in descriptors.enumerate() {
            self.link
                .keep(&format!("{CONNECTION} {number}"), descriptor)?;
        }
        Ok(())
    }

    /// Has the control socket kept.
    ///
    /// # Errors
    /// As for [`Self::keep_connection`].
    pub fn keep_socket(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.link.keep(SOCKET, socket)
    }

    /// Says that the mount stands, and watches the supervisor from now on: `when_lost` is called when it has gone.
    ///
    /// # Errors
    /// As for [`Self::keep_connection`], and where no thread can be started.
    pub fn ready(self: &Arc<Self>, when_lost: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
        self.link.say("ready")?;
        let _ = self.when_lost.set(Box::new(when_lost));
        let keeper = self.clone();
        thread::Builder::new()
            .name("supervision".into())
            .spawn(move || {
                // It says nothing more: this ends when it does.
                while let Ok(Some(_)) = keeper.link.receive() {}
                keeper.lose();
            })
            .map(drop)
    }

    fn lose(&self) {
        if !self.lost.swap(true, Ordering::Relaxed)
            && let Some(when_lost) = self.when_lost.get()
        {
            when_lost();
        }
    }

    /// True where the supervisor is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// How many daemons served this mount before.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Says that the mount has ended.
    pub fn bye(&self) {
        self.lost.store(true, Ordering::Relaxed);
        if let Err(error) = self.link.say("bye") {
            log::debug!("the supervisor: {error}");
        }
    }

    /// Has the supervisor go on with `program` when this process has ended.
    ///
    /// # Errors
    /// Where the program cannot be opened, or there is no supervisor any more.
    pub fn upgrade(&self, program: &Path) -> io::Result<()> {
        let program = open(program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        self.link.upgrade(program.as_fd())
    }

    /// Writes down what `device` is like.
    pub fn note_device(&self, device: &Device) {
        let mut devices = self.devices.lock();
        // Gone meanwhile, and that is written down or about to be.
        if self.registry.by_id(device.id()).is_none() {
            return;
        }
        let record = state::device(device, self.registry.any_event().number());
        let result = devices
            .note_backings(&self.registry)
            .and_then(|()| devices.journal.append(&Line::Device(record)));
        self.after(result, &mut devices);
    }

    /// Writes down that a device is gone.
    pub fn note_removed(&self, id: u64) {
        let mut devices = self.devices.lock();
        let result = devices.journal.append(&Line::Removed { id });
        self.after(result, &mut devices);
    }

    /// Writes down which loop devices there are.
    pub fn note_loops(&self, loops: Vec<AttachedRecord>) {
        let mut devices = self.devices.lock();
        let result = devices.journal.append(&Line::Loops(loops.clone()));
        devices.loops = loops;
        self.after(result, &mut devices);
    }

    fn after(&self, result: io::Result<()>, devices: &mut DevicesJournal) {
        let result = result.and_then(|()| match devices.journal.is_long() {
            true => self.write_anew(devices),
            false => Ok(()),
        });
        if let Err(error) = result {
            self.give_up(&error);
        }
    }

    fn write_anew(&self, devices: &mut DevicesJournal) -> io::Result<()> {
        let (lines, n_backings) = all_lines(&self.registry, &devices.mount, &devices.loops);
        devices.journal = Journal::of("dmfs-devices", lines)?;
        devices.n_backings = n_backings;
        self.keep_unless_lost(DEVICES, devices.journal.as_fd());
        Ok(())
    }

    /// What cannot be written down cannot be taken over: better no successor than one that is wrong.
    fn give_up(&self, error: &io::Error) {
        log::error!("no daemon will take over from this one: its state cannot be written: {error}");
        let _ = self.link.say(&format!("forget {DEVICES}"));
    }

    fn keep_unless_lost(&self, name: &str, descriptor: BorrowedFd<'_>) {
        if !self.is_lost()
            && let Err(error) = self.link.keep(name, descriptor)
        {
            log::debug!("the supervisor: {error}");
        }
    }
}

impl DevicesJournal {
    fn note_backings(&mut self, registry: &Registry) -> io::Result<()> {
        if let Some((line, count)) = state::backings(registry.store(), self.n_backings) {
            self.journal.append(&line)?;
            self.n_backings += count;
        }
        Ok(())
    }
}

/// Everything there is to write down of the devices, and how many numbers of backings are among it.
fn all_lines(
    registry: &Registry,
    mount: &MountRecord,
    loops: &[AttachedRecord],
) -> (Vec<Line>, usize) {
    let events = registry.any_event().number();
    let mut lines = vec![Line::Mount(mount.clone()), Line::LastId(registry.last_id())];
    let mut records: Vec<Line> = registry
        .list()
        .iter()
        .map(|device| Line::Device(state::device(device, events)))
        .collect();
    // After the devices were read, so that no number in them is missing.
    let backings = state::backings(registry.store(), 0);
    let count = backings.as_ref().map_or(0, |(_, count)| *count);
    lines.extend(backings.map(|(line, _)| line));
    lines.append(&mut records);
    lines.push(Line::Loops(loops.to_vec()));
    (lines, count)
}

impl backing::Keeper for Keeper {
    fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) {
        self.keep_unless_lost(name, descriptor);
    }

    fn forget(&self, name: &str) {
        if !self.is_lost()
            && let Err(error) = self.link.say(&format!("forget {name}"))
        {
            log::debug!("the supervisor: {error}");
        }
    }
}

impl Recorder for Keeper {
    fn record(&self, note: Note) {
        let mut files = self.files.lock();
        files.recalled.take(&note);
        let mut result = files.journal.append(&note);
        if result.is_ok() && files.journal.is_long() {
            result = Journal::of("dmfs-files", files.recalled.notes()).map(|anew| {
                files.journal = anew;
                self.keep_unless_lost(FILES, files.journal.as_fd());
            });
        }
        if let Err(error) = result {
            self.give_up(&error);
        }
    }
}
