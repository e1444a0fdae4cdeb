//! The servers that are compared: how each is started, what it costs, how it is ended.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::kind::{COUNTED, Device, Kind, Transport};
use crate::plain_fuser::FILE_NAME;
use crate::process::{bind_process, cpu_seconds, memory_mib};

/// How long a server may take to come up or to go away.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rows of the long table.
const ROWS: u64 = 10_000;
/// Length of one row of the long table: one whole request, so that no request has to be split.
const ROW_BYTES: u64 = 1 << 20;
/// Devices on top of each other in the stack.
const STACK: u64 = 10;
/// Where linear devices begin on the file.
const OFFSET: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// Sectors of a stripe's chunk.
const CHUNK: u64 = 128;
/// Switches FUSE over io_uring on, for mounts that come after.
const ENABLE_RING: &str = "/sys/module/fuse/parameters/enable_uring";

/// What all servers have in common.
pub struct Setup {
    /// The backing file.
    pub backing: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Servers go around the page cache of the backing file's file system.
    pub direct: bool,
    /// Where mounts and logs go.
    pub folder: PathBuf,
    /// The dmfs to measure.
    pub dmfs: PathBuf,
}

/// A server that is up, as the one file that is measured. Dropping the last file of a server unmounts it and ends it.
pub struct Server {
    /// What it is.
    pub kind: Kind,
    /// The file.
    pub file: PathBuf,
    /// The length of that file.
    pub bytes: u64,
    running: Option<Arc<Running>>,
}

/// A mount and the processes that serve it. Dropping it unmounts and ends them.
pub struct Running {
    mounted: PathBuf,
    processes: Vec<Child>,
}

/// Starts `kinds`, which are of one transport, and waits until their files are there. All that are dmfs are one
/// process, because a backing file has one user at a time.
///
/// # Errors
/// A sentence where a server cannot be started, ends early, or does not show its file in time.
pub fn start(kinds: &[Kind], setup: &Setup) -> Result<Vec<Server>, String> {
    let mut dmfs: Option<Arc<Running>> = None;
    let mut up = Vec::new();
    for &kind in kinds {
        let folder = setup.folder.join(match kind {
            Kind::Dmfs(_, transport) => format!("dmfs-{}", transport.name()),
            _ => kind.name().to_owned(),
        });
        let running = match (kind, &dmfs) {
            (Kind::Backing, _) => None,
            (Kind::Dmfs(..), Some(running)) => Some(running.clone()),
            _ => {
                fs::create_dir_all(&folder)
                    .map_err(|error| format!("{}: {error}", folder.display()))?;
                let running = Arc::new(Running::spawn(kind, kinds, setup, &folder)?);
                if matches!(kind, Kind::Dmfs(..)) {
                    dmfs = Some(running.clone());
                }
                Some(running)
            }
        };
        let mounted = running.as_ref().map(|running| &running.mounted);
        let (file, bytes) = match (kind, mounted) {
            (Kind::Plain, Some(mounted)) => (mounted.join(FILE_NAME), setup.bytes),
            (Kind::Dmfs(device, _), Some(mounted)) => {
                (mounted.join(name_of(device)), bytes_of(device, setup.bytes))
            }
            (_, Some(mounted)) => (mounted.clone(), setup.bytes),
            (_, None) => (setup.backing.clone(), setup.bytes),
        };
        let server = Server {
            kind,
            file,
            bytes,
            running,
        };
        server.wait_until_shown(&folder)?;
        if let (COUNTED, Some(running)) = (kind, &server.running) {
            running.tell(
                setup,
                &["message", kind.name(), "0", "@stats_create", "-", "/1"],
            )?;
        }
        up.push(server);
    }
    Ok(up)
}

impl Server {
    fn processes(&self) -> &[Child] {
        self.running
            .as_ref()
            .map_or(&[], |running| &running.processes)
    }

    fn wait_until_shown(&self, folder: &Path) -> Result<(), String> {
        let what = format!("{} of {} bytes", self.file.display(), self.bytes);
        wait_for(&what, || {
            for process in self.processes() {
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
        let processes = self.processes().iter();
        processes.map(|child| cpu_seconds(child.id())).sum()
    }

    /// Lets the server's threads run on the processors of `cpus` alone; changes nothing where `cpus` is empty.
    ///
    /// # Errors
    /// A sentence where a process is gone, or these processors are not to be had.
    pub fn bind(&self, cpus: &[usize]) -> Result<(), String> {
        let mut processes = self.processes().iter();
        processes.try_for_each(|child| bind_process(child.id(), cpus))
    }

    /// The most memory that the server's processes ever had resident, in MiB; nothing for the file itself.
    ///
    /// # Errors
    /// A sentence where a process is gone.
    pub fn peak_mib(&self) -> Result<f64, String> {
        let processes = self.processes().iter();
        processes.map(|child| memory_mib(child.id(), "VmHWM")).sum()
    }
}

impl Running {
    /// A dmfs without devices, with what it needs in `folder`.
    ///
    /// # Errors
    /// A sentence where it cannot be started or does not mount in time.
    pub fn empty_dmfs(setup: &Setup, folder: &Path) -> Result<Running, String> {
        let mounted = folder.join("mnt");
        fs::create_dir_all(&mounted).map_err(|error| format!("{}: {error}", mounted.display()))?;
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        let mut running = Running {
            mounted,
            processes: Vec::new(),
        };
        let mut command = Command::new(&setup.dmfs);
        command.arg("mount").arg(&running.mounted);
        running.add(command, folder)?;
        wait_for("a mount", || Ok(device(&running.mounted) != device(folder)))?;
        Ok(running)
    }

    /// Where the mount is.
    pub fn mounted(&self) -> &Path {
        &self.mounted
    }

    /// The process that serves the mount.
    pub fn pid(&self) -> Option<u32> {
        self.processes.first().map(Child::id)
    }

    /// Starts what serves `kind`, and where that is dmfs all devices of `kinds`.
    fn spawn(kind: Kind, kinds: &[Kind], setup: &Setup, folder: &Path) -> Result<Running, String> {
        let mount = folder.join("mnt");
        let backing = setup.backing.as_path();
        match kind {
            Kind::Bare | Kind::Qemu | Kind::Nbd => fs::write(&mount, ""),
            Kind::Backing | Kind::Plain | Kind::Dmfs(..) => fs::create_dir_all(&mount),
        }
        .map_err(|error| format!("{}: {error}", mount.display()))?;
        let mut running = Running {
            mounted: mount.clone(),
            processes: Vec::new(),
        };
        let on_off = if setup.direct { "on" } else { "off" };
        match kind {
            Kind::Backing => {}
            Kind::Plain | Kind::Bare => {
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(program);
                command.args(["--serve", kind.name(), on_off]);
                command.arg(backing).arg(&mount);
                running.add(command, folder)?;
            }
            Kind::Dmfs(_, transport) => {
                let config = folder.join("devices.toml");
                fs::write(&config, devices(kinds, setup)).map_err(|error| error.to_string())?;
                let mut command = Command::new(&setup.dmfs);
                command
                    .arg("mount")
                    .args(transport_option(setup, transport)?);
                command.arg(&config).arg(&mount);
                running.add(command, folder)?;
            }
            Kind::Qemu => {
                let mut command = Command::new("qemu-storage-daemon");
                command.arg("--blockdev").arg(format!(
                    "driver=file,node-name=f,filename={},discard=unmap,locking=off,cache.direct={on_off},aio={}",
                    backing.display(),
                    if setup.direct { "io_uring" } else { "threads" },
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

    /// Has the dmfs that serves the mount carry out a command.
    fn tell(&self, setup: &Setup, words: &[&str]) -> Result<(), String> {
        let mut command = Command::new(&setup.dmfs);
        command.arg("--mount").arg(&self.mounted).args(words);
        let done = command.output().map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        }
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
            // A terminal's Ctrl-C is for us; servers are ended in order.
            .process_group(0)
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

/// What tells dmfs the transport, switched on in the kernel where it has to be.
///
/// # Errors
/// A sentence where this dmfs or this kernel has no such transport.
pub fn transport_option(setup: &Setup, transport: Transport) -> Result<Vec<OsString>, String> {
    let help = Command::new(&setup.dmfs)
        .args(["mount", "--help"])
        .output()
        .map_err(|error| format!("{}: {error}", setup.dmfs.display()))?;
    if !String::from_utf8_lossy(&help.stdout).contains("--transport") {
        return match transport {
            Transport::Classic => Ok(Vec::new()),
            Transport::Ring => Err("this dmfs has one transport".to_owned()),
        };
    }
    if transport == Transport::Ring && !is_ring_enabled() {
        fs::write(ENABLE_RING, "Y").map_err(|error| format!("{ENABLE_RING}: {error}"))?;
    }
    Ok(vec!["--transport".into(), transport.name().into()])
}

/// True if the kernel gives new mounts FUSE over io_uring.
pub fn is_ring_enabled() -> bool {
    fs::read_to_string(ENABLE_RING).is_ok_and(|found| found.starts_with('Y'))
}

/// Takes [`transport_option`]'s switch back.
pub fn disable_ring() {
    let _ = fs::write(ENABLE_RING, "N");
}

fn name_of(device: Device) -> &'static str {
    Kind::Dmfs(device, Transport::Classic).name()
}

fn bytes_of(device: Device, backing: u64) -> u64 {
    match device {
        Device::Linear | Device::Stack | Device::Crypt | Device::Idle(_) | Device::Counted => {
            backing - OFFSET
        }
        Device::Striped | Device::Passthrough => backing,
        Device::Rows => ROWS * ROW_BYTES,
    }
}

/// The mount file of those of `kinds` that are devices of dmfs.
fn devices(kinds: &[Kind], setup: &Setup) -> String {
    let mut text = format!("[defaults]\ndirect = {}\n", setup.direct);
    let mut device = |name: &str, more: &str, table: &str| {
        let _ = write!(
            text,
            "[[device]]\nname = \"{name}\"\n{more}table = '''\n{table}'''\n"
        );
    };
    let file = setup.backing.display().to_string();
    let sectors = (setup.bytes - OFFSET) / SECTOR;
    let linear = |below: &str, at: u64| format!("0 {sectors} linear {below} {}\n", at / SECTOR);
    let all = setup.bytes / SECTOR;
    for kind in kinds {
        let Kind::Dmfs(what, _) = *kind else {
            continue;
        };
        match what {
            Device::Linear | Device::Counted => {
                device(name_of(what), "", &linear(&file, OFFSET));
            }
            Device::Idle(idle) => {
                let row = idle.row.replace("FILE", &file);
                device(name_of(what), "", &format!("0 {sectors} {row}\n"));
            }
            Device::Striped => {
                let half = all / 2;
                let table = format!("0 {all} striped 2 {CHUNK} {file} 0 {file} {half}\n");
                device(name_of(what), "", &table);
            }
            Device::Stack => {
                device("layer1", "", &linear(&file, OFFSET));
                for layer in 2..STACK {
                    let below = format!("/dev/mapper/layer{}", layer - 1);
                    device(&format!("layer{layer}"), "", &linear(&below, 0));
                }
                let top = format!("/dev/mapper/layer{}", STACK - 1);
                device(name_of(what), "", &linear(&top, 0));
            }
            Device::Rows => device(name_of(what), "", &rows(&file, setup.bytes)),
            Device::Crypt => {
                let (key, start) = ("5a".repeat(32) + &"a5".repeat(32), OFFSET / SECTOR);
                let table = format!(
                    "0 {sectors} crypt aes-xts-plain64 {key} 0 {file} {start} 1 sector_size:4096\n"
                );
                device(name_of(what), "", &table);
            }
            Device::Passthrough => device(
                name_of(what),
                "cache = \"passthrough\"\n",
                &format!("0 {all} linear {file} 0\n"),
            ),
        }
    }
    text
}

/// Rows of one MiB that lie on the file in an order of their own, each stretch used by many rows.
fn rows(file: &str, bytes: u64) -> String {
    let stretches = bytes / ROW_BYTES;
    let sectors = ROW_BYTES / SECTOR;
    let mut table = String::new();
    for row in 0..ROWS {
        let at = (row * 37) % stretches * sectors;
        let _ = writeln!(table, "{} {sectors} linear {file} {at}", row * sectors);
    }
    table
}
