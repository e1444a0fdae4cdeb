//! The servers that are compared: how each is started, what it costs, how it is ended.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
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

    /// True for what one dmfs serves together.
    fn is_dmfs(self) -> bool {
        matches!(self, Kind::Linear | Kind::Stack | Kind::Rows)
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

/// A server that is up, as the one file that is measured. Dropping the last file of a server unmounts and ends it.
pub struct Server {
    /// What it is.
    pub kind: Kind,
    /// The file.
    pub file: PathBuf,
    /// The length of that file.
    pub bytes: u64,
    running: Rc<Running>,
}

/// A mount and the processes that serve it.
struct Running {
    mounted: PathBuf,
    processes: Vec<Child>,
}

/// Starts `kinds` over `backing`, with what they need in `folder`, and waits until their files are there. All that
/// are dmfs are one process, because a backing file has one user at a time.
///
/// # Errors
/// A sentence where a server cannot be started, ends early, or does not show its file in time.
pub fn start(kinds: &[Kind], backing: &Path, folder: &Path) -> Result<Vec<Server>, String> {
    let backing_bytes = fs::metadata(backing)
        .map_err(|error| format!("{}: {error}", backing.display()))?
        .len();
    let mut dmfs: Option<Rc<Running>> = None;
    let mut up = Vec::new();
    for &kind in kinds {
        let name = if kind.is_dmfs() { "dmfs" } else { kind.name() };
        let folder = folder.join(name);
        let running = match (&dmfs, kind.is_dmfs()) {
            (Some(running), true) => running.clone(),
            (_, is_dmfs) => {
                fs::create_dir_all(&folder)
                    .map_err(|error| format!("{}: {error}", folder.display()))?;
                let running = Rc::new(Running::spawn(kind, backing, backing_bytes, &folder)?);
                dmfs = is_dmfs.then(|| running.clone()).or(dmfs);
                running
            }
        };
        let mounted = &running.mounted;
        let (file, bytes) = match kind {
            Kind::Plain => (mounted.join(FILE_NAME), backing_bytes),
            Kind::Linear | Kind::Stack => (mounted.join(kind.name()), backing_bytes),
            Kind::Rows => (mounted.join(kind.name()), ROWS * ROW_BYTES),
            Kind::Qemu | Kind::Nbd => (mounted.clone(), backing_bytes),
        };
        let server = Server {
            kind,
            file,
            bytes,
            running,
        };
        server.wait_until_shown(&folder)?;
        up.push(server);
    }
    Ok(up)
}

impl Server {
    fn wait_until_shown(&self, folder: &Path) -> Result<(), String> {
        let what = format!("{} of {} bytes", self.file.display(), self.bytes);
        wait_for(&what, || {
            for process in &self.running.processes {
                if !Path::new(&format!("/proc/{}/exe", process.id())).exists() {
                    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                    return Err(format!("{} ended: {log}", self.kind.name()));
                }
            }
            Ok(fs::metadata(&self.file).is_ok_and(|found| found.len() == self.bytes))
        })
    }

    /// CPU seconds that the server's processes have used since they started, all threads.
    ///
    /// # Errors
    /// A sentence where a process is gone.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        let processes = &self.running.processes;
        processes.iter().map(|child| cpu_of(child.id())).sum()
    }
}

impl Running {
    fn spawn(kind: Kind, backing: &Path, bytes: u64, folder: &Path) -> Result<Running, String> {
        let mount = folder.join("mnt");
        let failed = |error: std::io::Error| format!("{}: {error}", mount.display());
        match kind {
            Kind::Qemu | Kind::Nbd => fs::write(&mount, "").map_err(failed)?,
            Kind::Plain | Kind::Linear | Kind::Stack | Kind::Rows => {
                fs::create_dir_all(&mount).map_err(failed)?;
            }
        }
        let mut running = Running {
            mounted: mount.clone(),
            processes: Vec::new(),
        };
        match kind {
            Kind::Plain => {
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(program);
                command.arg("--serve-plain").arg(backing).arg(&mount);
                running.add(command, folder)?;
            }
            Kind::Linear | Kind::Stack | Kind::Rows => {
                let config = folder.join("devices.toml");
                fs::write(&config, devices(backing, bytes)).map_err(|error| error.to_string())?;
                let mut command = Command::new(env!("CARGO_BIN_EXE_dmfs"));
                command.arg("mount").arg(&config).arg(&mount);
                running.add(command, folder)?;
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
                running.add(command, folder)?;
            }
            Kind::Nbd => {
                let socket = folder.join("nbd.sock");
                let _ = fs::remove_file(&socket);
                let mut kit = Command::new("nbdkit");
                kit.args(["-f", "-U"]).arg(&socket).arg("file").arg(backing);
                running.add(kit, folder)?;
                wait_for("nbdkit's socket", || Ok(socket.exists()))?;
                let mut fuse = Command::new("nbdfuse");
                fuse.arg(&mount).arg("--unix").arg(&socket);
                running.add(fuse, folder)?;
            }
        }
        Ok(running)
    }

    fn add(&mut self, mut command: Command, folder: &Path) -> Result<(), String> {
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

impl Drop for Running {
    fn drop(&mut self) {
        self.unmount();
        for process in self.processes.iter_mut().rev() {
            Running::end(process);
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

/// The mount file of all that is measured of dmfs.
fn devices(backing: &Path, bytes: u64) -> String {
    let mut text = String::new();
    let mut device = |name: &str, table: &str| {
        let _ = write!(
            text,
            "[[device]]\nname = \"{name}\"\ntable = '''\n{table}'''\n"
        );
    };
    let on = |below: &str| format!("0 {} linear {below} 0\n", bytes / 512);
    device(Kind::Linear.name(), &on(&backing.display().to_string()));
    let mut below = backing.display().to_string();
    for layer in 1..STACK {
        let name = format!("layer{layer}");
        device(&name, &on(&below));
        below = format!("/dev/mapper/{name}");
    }
    device(Kind::Stack.name(), &on(&below));
    device(Kind::Rows.name(), &rows(backing, bytes));
    text
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
    table
}
