//! Answers the trapped calls of a process tree.
//!
//! One thread takes the calls and lets those go on that are none of ours. What asks the daemon, and so may wait, is
//! done by a thread of its own: nobody waits for another's call.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{
    AtFlags, CWD, FileType, MemfdFlags, OFlags, fstat, major, memfd_create, minor, stat, statat,
};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, setpgid, waitpid};

use super::caller::Caller;
use super::control_node::ControlNode;
use super::filter::{BLOCK_IOCTLS, DM_IOCTLS, Filter};
use super::folders::Folders;
use super::listener::{Answer, Listener, Trapped};
use super::opening::open_ours;
use super::paths::{Place, device_of, place_for_root, place_for_user};
use super::process::{NotStarted, Reaction, react, start};
use super::sysfs::SysPlace;
use super::wire::News;
use crate::control::protocol::json::MountInfo;
use crate::control::protocol::run::{Mode, RunOptions};
use crate::sync::Arc;

/// The control node's number on every kernel since 2.6.36.
pub(super) const CONTROL_NUMBER: (u32, u32) = (10, 236);
/// What the node's descriptors show in `/proc`.
const CONTROL_NAME: &str = "dmfs-control";

/// What is told of some target types where the command line does not say otherwise. Since dm-crypt 1.18.1 cryptsetup
/// hands keys over in the kernel's keyring, in a form that no process can read.
const TOLD_VERSIONS: &[(&str, [u32; 3])] = &[("crypt", [1, 18, 0])];

/// The supervisor of one command.
pub(super) struct Supervisor {
    pub(super) listener: Listener,
    pub(super) mode: Mode,
    pub(super) mountpoint: PathBuf,
    /// Major number of mapped devices.
    pub(super) major: u32,
    pub(super) node: ControlNode,
    /// What stands for the control node.
    control: File,
    control_id: (u64, u64),
    pub(super) folders: Folders,
}

/// Starts the command, and answers for it and its children until all have ended. `front` hears what becomes of it.
pub(super) fn supervise(options: &RunOptions, mode: Mode, mount: &MountInfo, front: UnixStream) {
    let started = start(&options.command, &mount.mountpoint, Filter::new(mode));
    let (pid, listener) = match started {
        Ok(started) => started,
        Err(why) => {
            let news = match why {
                NotStarted::NoFilter(errno) => News::NoFilter(errno.raw_os_error()),
                NotStarted::Command(errno) => News::NotStarted(errno.raw_os_error()),
            };
            let _ = news.send(&front);
            return;
        }
    };
    leave_the_job();
    let _ = News::Started(pid.as_raw_nonzero().get()).send(&front);
    let supervisor = Supervisor::new(Listener::new(listener), options, mode, mount);
    let watched = supervisor.and_then(|supervisor| {
        let watched = watch(pid, front, supervisor.clone())?;
        Ok((supervisor, watched))
    });
    match watched {
        Ok((supervisor, watched)) => {
            supervisor.clone().serve();
            let _ = watched.join();
            supervisor.folders.clear();
        }
        Err(error) => eprintln!("dmfs: run: {error}"),
    }
}

/// What the terminal sends to the command's job is not meant for us, and who reads the command's output is not to wait
/// for us.
fn leave_the_job() {
    react(
        &[
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGTTOU,
            libc::SIGPIPE,
        ],
        Reaction::Ignore,
    );
    if let Err(errno) = setpgid(None, None) {
        log::debug!("setpgid: {errno}");
    }
    let null = File::options().read(true).write(true).open("/dev/null");
    let let_go = null.and_then(|null| {
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        Ok(())
    });
    if let Err(error) = let_go {
        log::debug!("letting go of standard input and output: {error}");
    }
}

/// Tells the front what becomes of the command, and lets that go on when the front says so.
fn watch(
    pid: Pid,
    front: UnixStream,
    supervisor: Arc<Supervisor>,
) -> std::io::Result<thread::JoinHandle<()>> {
    let hears = front.try_clone()?;
    let go_on = move || {
        while News::receive(&hears) == Some(News::GoOn) {
            let _ = kill_process(pid, Signal::CONT);
        }
    };
    thread::Builder::new().name("front".into()).spawn(go_on)?;
    let wait = move || {
        loop {
            let status = match waitpid(Some(pid), WaitOptions::UNTRACED) {
                Ok(Some((_, status))) => status,
                Ok(None) | Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            let news = match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => News::Exited(status),
                (None, Some(signal)) => News::Killed(signal),
                (None, None) => News::Stopped(status.stopping_signal().unwrap_or(libc::SIGSTOP)),
            };
            if !matches!(news, News::Stopped(_)) {
                supervisor.folders.clear();
            }
            let _ = news.send(&front);
            if !matches!(news, News::Stopped(_)) {
                let _ = front.shutdown(std::net::Shutdown::Both);
                let_go_of_errors();
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("command".into());
    thread.spawn(wait)
}

fn let_go_of_errors() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

impl Supervisor {
    fn new(
        listener: Listener,
        options: &RunOptions,
        mode: Mode,
        mount: &MountInfo,
    ) -> std::io::Result<Arc<Supervisor>> {
        let control = File::from(memfd_create(CONTROL_NAME, MemfdFlags::CLOEXEC)?);
        let about = fstat(&control)?;
        let mut versions = options.versions.clone();
        for (name, version) in TOLD_VERSIONS {
            if !versions.iter().any(|(told, _)| told == name) {
                versions.push(((*name).to_owned(), *version));
            }
        }
        let mountpoint = PathBuf::from(&mount.mountpoint);
        Ok(Arc::new(Supervisor {
            listener,
            mode,
            node: ControlNode::new(&mountpoint, &versions),
            mountpoint,
            major: mount.major,
            control,
            control_id: (about.st_dev, about.st_ino),
            folders: Folders::new(),
        }))
    }

    fn serve(self: Arc<Supervisor>) {
        loop {
            match self.listener.next() {
                Ok(Some(call)) => self.take(call),
                Ok(None) => return,
                Err(errno) => {
                    eprintln!("dmfs: run: listening: {errno}");
                    return;
                }
            }
        }
    }

    /// Lets a call go on, or has it answered.
    fn take(self: &Arc<Supervisor>, call: Trapped) {
        let caller = Caller::of(&self.listener, &call);
        let Some(work) = self.look_at(caller, &call) else {
            self.answer(&call, Answer::Continue);
            return;
        };
        let supervisor = self.clone();
        let carry_out = move || {
            let caller = Caller::of(&supervisor.listener, &call);
            let answer = supervisor.carry_out(caller, work);
            supervisor.answer(&call, answer.unwrap_or_else(Answer::Fails));
        };
        let thread = thread::Builder::new().name("call".into());
        if let Err(error) = thread.spawn(carry_out) {
            log::warn!("no thread for a call: {error}");
            self.answer(&call, Answer::Fails(Errno::NOMEM));
        }
    }

    fn answer(&self, call: &Trapped, answer: Answer) {
        // ENOENT: nobody waits for it any more.
        if let Err(errno) = self.listener.answer(call.id, &answer)
            && errno != Errno::NOENT
        {
            log::debug!("answering call {}: {errno}", call.nr);
        }
    }

    /// What a path of the caller leads to.
    pub(super) fn place(&self, caller: Caller<'_>, folder: i32, at: u64, follow: bool) -> Place {
        let Ok(path) = caller.read_path(at) else {
            // The kernel says what is wrong with it.
            return Place::Other;
        };
        if self.mode == Mode::Root {
            return place_for_root(&path, self.major);
        }
        if path.is_empty() {
            return self.device_at(caller, folder);
        }
        match caller.absolute(folder, path) {
            Some(path) => place_for_user(&path, &self.mountpoint, self.major, follow),
            None => Place::Other,
        }
    }

    /// What a descriptor of the caller leads to.
    pub(super) fn device_at(&self, caller: Caller<'_>, fd: i32) -> Place {
        let device = caller
            .folder(fd)
            .and_then(|shown| device_of(shown, &self.mountpoint));
        device.map_or(Place::Other, Place::Device)
    }

    /// What is to be done for a call; `None` where it is none of ours.
    fn look_at(&self, caller: Caller<'_>, call: &Trapped) -> Option<Work> {
        let [first, second, third, fourth, _, _] = call.args;
        let fd = |word: u64| word as i32;
        match call.nr {
            libc::SYS_ioctl => {
                let (fd, command) = (fd(first), second as u32);
                match (command >> 8) as u8 {
                    DM_IOCTLS => self
                        .is_control(caller, fd)
                        .then_some(Work::Control { command, at: third }),
                    BLOCK_IOCTLS => match self.device_at(caller, fd) {
                        Place::Device(name) => Some(Work::BlockIoctl {
                            name,
                            fd,
                            command,
                            at: third,
                        }),
                        _ => None,
                    },
                    _ => None,
                }
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => self.look_at_open(caller, (libc::AT_FDCWD, first), second as u32),
            libc::SYS_openat => self.look_at_open(caller, (fd(first), second), third as u32),
            libc::SYS_openat2 => {
                // struct open_how begins with the flags.
                let flags = caller.read(third, 8).ok()?;
                let flags = u32::from_le_bytes(flags.get(..4)?.try_into().ok()?);
                self.look_at_open(caller, (fd(first), second), flags)
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => self.look_at_unlink(caller, libc::AT_FDCWD, first),
            libc::SYS_unlinkat => self.look_at_unlink(caller, fd(first), second),
            nr => self.look_at_stat(caller, nr, [first, second, third, fourth], call.args[4]),
        }
    }

    fn look_at_open(
        &self,
        caller: Caller<'_>,
        (folder, at): (i32, u64),
        flags: u32,
    ) -> Option<Work> {
        let flags = OFlags::from_bits_retain(flags);
        let follow = !flags.contains(OFlags::NOFOLLOW);
        match self.place(caller, folder, at, follow) {
            Place::Control if self.is_control_path(caller, folder, at) => {
                Some(Work::OpenControl { flags })
            }
            Place::ProcDevices => Some(Work::OpenDrivers { flags }),
            Place::Device(name) => Some(Work::OpenDevice { name, flags }),
            Place::Lock(name) => Some(Work::OpenLock { name, flags }),
            Place::Sys(place) => Some(Work::OpenAttribute { place, flags }),
            Place::Control | Place::Other => None,
        }
    }

    /// Whether a file called `control` is the device mapper's: a node with its number, or none in `/dev/mapper`.
    fn is_control_path(&self, caller: Caller<'_>, folder: i32, at: u64) -> bool {
        if self.mode == Mode::User {
            return true;
        }
        let Ok(path) = caller.read_path(at) else {
            return false;
        };
        let is_usual = path == b"/dev/mapper/control";
        let Some(path) = caller.absolute(folder, path) else {
            return false;
        };
        match stat(&path) {
            Ok(about) => {
                FileType::from_raw_mode(about.st_mode) == FileType::CharacterDevice
                    && (major(about.st_rdev), minor(about.st_rdev)) == CONTROL_NUMBER
            }
            Err(_) => is_usual,
        }
    }

    fn is_control(&self, caller: Caller<'_>, fd: i32) -> bool {
        let about = statat(CWD, caller.descriptor(fd), AtFlags::empty());
        about.is_ok_and(|about| (about.st_dev, about.st_ino) == self.control_id)
    }

    /// A node that the mount keeps is not to be taken away: libdm, where it does udev's work by itself, would take
    /// away the node that a device has got with its new name. It knows EPERM from devfs.
    fn look_at_unlink(&self, caller: Caller<'_>, folder: i32, at: u64) -> Option<Work> {
        if self.mode == Mode::User {
            return match self.place(caller, folder, at, false) {
                Place::Device(name) => Some(Work::Unlink { name }),
                Place::Lock(name) => Some(Work::UnlinkLock { name }),
                _ => None,
            };
        }
        let path = caller.read_path(at).ok()?;
        let path = path.strip_prefix(b"/dev/mapper/".as_slice())?;
        let name = std::str::from_utf8(path).ok()?;
        Some(Work::Unlink {
            name: name.to_owned(),
        })
    }

    fn carry_out(&self, caller: Caller<'_>, work: Work) -> Result<Answer, Errno> {
        match work {
            Work::Control { command, at } => {
                self.node.ioctl(caller, command, at).map(Answer::Value)
            }
            Work::OpenControl { flags } => Ok(Answer::Descriptor {
                fd: self.control.try_clone().map_err(errno)?.into(),
                close_on_exec: flags.contains(OFlags::CLOEXEC),
            }),
            Work::OpenDrivers { flags } => Ok(Answer::Descriptor {
                fd: self.drivers()?,
                close_on_exec: flags.contains(OFlags::CLOEXEC),
            }),
            Work::OpenLock { name, flags } => {
                open_ours(&self.folders.lock(&name).map_err(errno)?, flags)
            }
            Work::UnlinkLock { name } => {
                rustix::fs::unlink(self.folders.lock(&name).map_err(errno)?)?;
                Ok(Answer::Value(0))
            }
            Work::OpenAttribute { place, flags } => self.open_attribute(&place, flags),
            Work::Unlink { name } => match self.node.device(&name) {
                Ok(_) => Err(Errno::PERM),
                Err(_) => Ok(Answer::Continue),
            },
            Work::OpenDevice { name, flags } => match self.node.device(&name) {
                Ok(_) => self.open_device(&name, flags),
                Err(_) => Ok(Answer::Continue),
            },
            Work::BlockIoctl {
                name,
                fd,
                command,
                at,
            } => self.block_ioctl(caller, &name, fd, command, at),
            Work::Ask { place, question } => self.ask(caller, &place, &question),
        }
    }

    /// The device's file.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.mountpoint).join(name)
    }
}

/// What a call asks for.
pub(super) enum Work {
    /// A transaction.
    Control { command: u32, at: u64 },
    /// The control node.
    OpenControl { flags: OFlags },
    /// `/proc/devices`.
    OpenDrivers { flags: OFlags },
    /// A lock of cryptsetup's, or their folder.
    OpenLock { name: PathBuf, flags: OFlags },
    /// To take such a lock away.
    UnlinkLock { name: PathBuf },
    /// What `/sys` says of a mapped device.
    OpenAttribute { place: SysPlace, flags: OFlags },
    /// A mapped device.
    OpenDevice { name: String, flags: OFlags },
    /// To take a device's node away.
    Unlink { name: String },
    /// An ioctl of block devices.
    BlockIoctl {
        name: String,
        fd: i32,
        command: u32,
        at: u64,
    },
    /// What a file is.
    Ask {
        place: Place,
        question: super::device::Question,
    },
}

pub(super) fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
