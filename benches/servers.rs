//! The servers that are compared: how each is started, what it costs, how it is ended.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::plain_fuser::FILE_NAME;

/// How long a server may take to come up or to go away.
const PATIENCE: Duration = Duration::from_secs(20);
/// What /proc counts CPU time in: USER_HZ, the same in every kernel that user programs see.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;
/// Rows of the long table.
const ROWS: u64 = 10_000;
/// Length of one row of the long table: one whole request, so that no request has to be split.
const ROW_BYTES: u64 = 1 << 20;
/// Devices on top of each other in the stack.
const STACK: u64 = 10;

/// One way to serve the backing file as a file of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The passthrough of one file that all are compared with.
    Plain,
    /// dmfs, one linear row.
    Linear,
    /// dmfs, ten linear devices on top of each other.
    Stack,
    /// dmfs, one linear device of 10,000 rows.
    Rows,
    /// qemu-storage-daemon's FUSE export of the raw file.
    Qemu,
    /// nbdkit's file plugin under nbdfuse.
    Nbd,
}

/// All servers, in the table's order.
pub const KINDS: &[Kind] = &[
    Kind::Plain,
    Kind::Linear,
    Kind::Stack,
    Kind::Rows,
    Kind::Qemu,
    Kind::Nbd,
];

impl Kind {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain-fuser",
            Kind::Linear => "linear",
            Kind::Stack => "stack-10",
            Kind::Rows => "rows-10000",
            Kind::Qemu => "qemu-storage-daemon",
            Kind::Nbd => "nbdfuse",
        }
    }

    /// The programs that have to be installed.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Plain | Kind::Linear | Kind::Stack | Kind::Rows => &[],
            Kind::Qemu => &["qemu-storage-daemon"],
            Kind::Nbd => &["nbdkit", "nbdfuse"],
        }
    }
}

/// A server that is up. Dropping it unmounts and ends it.
pub struct Server {
    /// What it is.
    pub kind: Kind,
    /// The file it shows.
    pub file: PathBuf,
    /// The length of that file.
    pub bytes: u64,
    mounted: PathBuf,
    processes: Vec<Child>,
}

impl Server {
    /// Starts `kind` over `backing`, with what it needs in `folder`, and waits until its file is there.
    ///
    /// # Errors
    /// A sentence where the server cannot be started, ends early, or does not show its file in time.
    pub fn start(kind: Kind, backing: &Path, folder: &Path) -> Result<Server, String> {
        let folder = folder.join(kind.name());
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let backing_bytes = fs::metadata(backing)
            .map_err(|error| format!("{}: {error}", backing.display()))?
            .len();
        let mount = folder.join("mnt");
        let mut server = match kind {
            Kind::Qemu | Kind::Nbd => {
                fs::write(&mount, "").map_err(|error| format!("{}: {error}", mount.display()))?;
                Server::new(kind, mount.clone(), mount, backing_bytes)
            }
            Kind::Plain | Kind::Linear | Kind::Stack | Kind::Rows => {
                fs::create_dir_all(&mount)
                    .map_err(|error| format!("{}: {error}", mount.display()))?;
                let bytes = if kind == Kind::Rows {
                    ROWS * ROW_BYTES
                } else {
                    backing_bytes
                };
                Server::new(kind, mount.join(FILE_NAME), mount, bytes)
            }
        };
        server.spawn_all(backing, backing_bytes, &folder)?;
        server.wait_until_shown(&folder)?;
        Ok(server)
    }

    fn new(kind: Kind, file: PathBuf, mounted: PathBuf, bytes: u64) -> Server {
        Server {
            kind,
            file,
            bytes,
            mounted,
            processes: Vec::new(),
        }
    }

    fn spawn_all(&mut self, backing: &Path, bytes: u64, folder: &Path) -> Result<(), String> {
        let mount = self.mounted.clone();
        match self.kind {
            Kind::Plain => {
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(program);
                command.arg("--serve-plain").arg(backing).arg(&mount);
                self.spawn(command, folder)
            }
            Kind::Linear => self.spawn(dmfs_concise(&mount, &linear(backing, bytes)), folder),
            Kind::Stack => self.spawn(dmfs_concise(&mount, &stack(backing, bytes, &mount)), folder),
            Kind::Rows => {
                let config = folder.join("rows.toml");
                fs::write(&config, rows(backing, bytes)).map_err(|error| error.to_string())?;
                let mut command = Command::new(env!("CARGO_BIN_EXE_dmfs"));
                command.arg("mount").arg(&config).arg(&mount);
                self.spawn(command, folder)
            }
            Kind::Qemu => {
                let mut command = Command::new("qemu-storage-daemon");
                command.arg("--blockdev").arg(format!(
                    "driver=file,node-name=f,filename={},discard=unmap,locking=off,aio=threads",
                    backing.display()
                ));
                command.arg("--export").arg(format!(
                    "type=fuse,id=e,node-name=f,mountpoint={},writable=on",
                    mount.display()
                ));
                self.spawn(command, folder)
            }
            Kind::Nbd => {
                let socket = folder.join("nbd.sock");
                let mut kit = Command::new("nbdkit");
                kit.args(["-f", "-U"]).arg(&socket).arg("file").arg(backing);
                self.spawn(kit, folder)?;
                wait_for("nbdkit's socket", || Ok(socket.exists()))?;
                let mut fuse = Command::new("nbdfuse");
                fuse.arg(&mount).arg("--unix").arg(&socket);
                self.spawn(fuse, folder)
            }
        }
    }

    fn spawn(&mut self, mut command: Command, folder: &Path) -> Result<(), String> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .map_err(|error| format!("{}: {error}", folder.join("log").display()))?;
        let other = log.try_clone().map_err(|error| error.to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(other)
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        self.processes.push(child);
        Ok(())
    }

    fn wait_until_shown(&mut self, folder: &Path) -> Result<(), String> {
        let (file, bytes) = (self.file.clone(), self.bytes);
        let what = format!("{} of {bytes} bytes", file.display());
        wait_for(&what, || {
            for process in &mut self.processes {
                if let Ok(Some(status)) = process.try_wait() {
                    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                    return Err(format!("{} ended with {status}: {log}", self.kind.name()));
                }
            }
            Ok(fs::metadata(&file).is_ok_and(|found| found.len() == bytes))
        })
    }

    /// CPU seconds that the server's processes have used since they started, all threads.
    ///
    /// # Errors
    /// A sentence where a process is gone.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        self.processes.iter().map(|child| cpu_of(child.id())).sum()
    }

    fn unmount(&self) {
        if geteuid().is_root() {
            if unmount(&self.mounted, UnmountFlags::empty()).is_err() {
                let _ = unmount(&self.mounted, UnmountFlags::DETACH);
            }
        } else {
            let _ = Command::new("fusermount3")
                .args(["-u", "-z", "-q"])
                .arg(&self.mounted)
                .status();
        }
    }

    fn end(process: &mut Child) {
        let signal = |signal| {
            if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        };
        signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.unmount();
        for process in self.processes.iter_mut().rev() {
            Server::end(process);
        }
    }
}

fn cpu_of(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    Ok(ticks as f64 / CLOCK_TICKS_PER_SECOND)
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_there()? {
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
    Err(format!(
        "waited {} s in vain for {what}",
        PATIENCE.as_secs()
    ))
}

fn dmfs_concise(mount: &Path, devices: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmfs"));
    command
        .arg("mount")
        .arg(mount)
        .arg("--concise")
        .arg(devices);
    command
}

fn linear(backing: &Path, bytes: u64) -> String {
    format!(
        "{FILE_NAME},,,rw,0 {} linear {} 0",
        bytes / 512,
        backing.display()
    )
}

/// `layer1` on the file, each further layer on the one before, the last one called as the file is.
fn stack(backing: &Path, bytes: u64, mount: &Path) -> String {
    let mut devices = String::new();
    let mut below = backing.to_path_buf();
    for layer in 1..=STACK {
        let name = if layer == STACK {
            FILE_NAME.to_owned()
        } else {
            format!("layer{layer}")
        };
        let separator = if layer == 1 { "" } else { ";" };
        let _ = write!(
            devices,
            "{separator}{name},,,rw,0 {} linear {} 0",
            bytes / 512,
            below.display()
        );
        below = mount.join(name);
    }
    devices
}

/// Rows of one MiB that lie on the file in an order of their own, each stretch used by many rows.
fn rows(backing: &Path, bytes: u64) -> String {
    let stretches = bytes / ROW_BYTES;
    let sectors = ROW_BYTES / 512;
    let mut table = String::new();
    for row in 0..ROWS {
        let stretch = (row * 37) % stretches;
        let _ = writeln!(
            table,
            "{} {sectors} linear {} {}",
            row * sectors,
            backing.display(),
            stretch * sectors
        );
    }
    format!("[[device]]\nname = \"{FILE_NAME}\"\ntable = '''\n{table}'''\n")
}
