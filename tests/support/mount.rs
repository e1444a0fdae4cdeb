//! A running `dmfs mount`, the command line against it, and what goes with them.

use super::{loop_device, tools, transport};
use rustix::fs::statx;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a daemon may take to mount or to end before a test calls it stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that has no event to wait for.
const GLANCE: Duration = Duration::from_millis(2);

/// A daemon in the foreground, its mount point and its folder. Dropping it ends the daemon, detaches
/// loop devices over its files, unmounts what is left and removes the folder.
pub struct Mount {
    folder: TempDir,
    at: PathBuf,
    daemon: Option<Child>,
    /// Words that every dmfs is started with, such as setpriv's.
    under: Vec<String>,
}

/// What a program printed and how it ended.
pub struct Said {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Mount {
    /// An empty mount.
    pub fn start() -> Mount {
        Mount::start_with(&[])
    }

    /// An empty mount with further options of `dmfs mount`.
    pub fn start_with(options: &[&str]) -> Mount {
        let (folder, at) = new_folder();
        let mut words = vec!["mount".to_owned(), tools::word(&at).to_owned()];
        words.extend(options.iter().map(|&option| option.to_owned()));
        Mount::launch(folder, at, &[], &words)
    }

    /// A mount of the devices in `toml`, whose relative paths count from the mount's folder.
    pub fn from_toml(toml: &str) -> Mount {
        let (folder, at) = new_folder();
        let file = folder.path().join("mount.toml");
        fs::write(&file, toml).unwrap();
        let words = ["mount", tools::word(&file), tools::word(&at)].map(str::to_owned);
        Mount::launch(folder, at, &[], &words)
    }

    /// An empty mount of the ordinary user [`NOBODY`], who owns the folder.
    pub fn of_nobody() -> Mount {
        let (folder, at) = new_folder();
        let owner = Some(NOBODY);
        for path in [folder.path(), &folder.path().join("run"), &at] {
            chown(path, owner, owner).unwrap();
        }
        let words = ["mount", tools::word(&at)].map(str::to_owned);
        Mount::launch(folder, at, &as_nobody(), &words)
    }

    /// dmfs, started by the words of `under`, with `words`, in `folder`, expected to mount at `at`.
    pub fn launch(folder: TempDir, at: PathBuf, under: &[String], words: &[String]) -> Mount {
        let mut mount = Mount {
            folder,
            at,
            daemon: None,
            under: under.to_vec(),
        };
        put_programs(mount.folder());
        mount.run_daemon(words);
        mount
    }

    /// Starts a daemon on this (unmounted) mount's folder and waits until it serves; over the transport that the
    /// test run is to use, where `words` choose none.
    pub fn run_daemon(&mut self, words: &[String]) {
        let option = "--transport".to_owned();
        match transport::chosen() {
            Some(chosen) if !words.contains(&option) => {
                let words = [words, &[option, chosen]].concat();
                transport::with_rings(|| self.spawn_daemon(&words)).unwrap();
            }
            _ => self.spawn_daemon(words),
        }
    }

    fn spawn_daemon(&mut self, words: &[String]) {
        let mut program = self.program("dmfs");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        self.environment(&mut program)
            .args(words)
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let daemon = program
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}"));
        self.daemon = Some(daemon);
        let deadline = Instant::now() + PATIENCE;
        while !self.serves() {
            let daemon = self.daemon.as_mut().unwrap();
            if let Some(status) = daemon.try_wait().unwrap() {
                panic!("dmfs {words:?} ended ({status}):\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "dmfs {words:?} does not serve:\n{}",
                self.log()
            );
            thread::sleep(GLANCE);
        }
    }

    /// Mounted, and the control socket answers.
    fn serves(&self) -> bool {
        is_mounted(&self.at) && self.dmfs(&["ls"]).status.success()
    }

    /// The folder for backing files and the like.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The mount point.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// The file of device `name`.
    pub fn device(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    /// The open file of device `name`, for reading and writing.
    pub fn open(&self, name: &str) -> File {
        let path = self.device(name);
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The open file of device `name`, for reading.
    pub fn open_reading(&self, name: &str) -> File {
        let path = self.device(name);
        File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A sparse file of `bytes` bytes in this mount's folder.
    pub fn backing(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.folder().join(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    /// The runtime directory, which holds the control socket's folder.
    pub fn runtime(&self) -> PathBuf {
        self.folder().join("run")
    }

    /// What the daemon printed so far.
    pub fn log(&self) -> String {
        tools::text(&fs::read(self.log_path()).unwrap_or_default())
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("daemon.log")
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// A command that runs `tool` of this mount's folder, or of the system, as the mount's owner.
    pub fn program(&self, tool: &str) -> Command {
        let own = self.folder().join(tool);
        let tool = if own.exists() { own } else { tool.into() };
        match self.under.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(tool);
                command
            }
            None => Command::new(tool),
        }
    }

    /// Sets what a process needs to find this mount and no other.
    pub fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let path = format!("{}:{}", self.folder().display(), tools::path_variable());
        command
            .env("XDG_RUNTIME_DIR", self.runtime())
            .env("DMFS_MOUNT", &self.at)
            .env("PATH", path)
            .env("LC_ALL", "C")
    }

    /// `dmfs VERB --mount MNT ...`
    pub fn dmfs(&self, words: &[&str]) -> Said {
        self.dmfs_fed(words, "")
    }

    /// `dmfs VERB --mount MNT ...` with text on its standard input.
    pub fn dmfs_fed(&self, words: &[&str], stdin: &str) -> Said {
        let mut command = self.program("dmfs");
        if let Some((verb, rest)) = words.split_first() {
            command.arg(verb).arg("--mount").arg(&self.at).args(rest);
        }
        self.feed(command, stdin)
    }

    /// The same program under the name `dmsetup`.
    pub fn dmsetup(&self, words: &[&str]) -> Said {
        self.dmsetup_fed(words, "")
    }

    /// The same program under the name `dmsetup`, with text on its standard input.
    pub fn dmsetup_fed(&self, words: &[&str], stdin: &str) -> Said {
        let mut command = self.program("dmsetup");
        command.args(words);
        self.feed(command, stdin)
    }

    /// A shell line that finds `dmsetup` in its path and this mount behind it.
    pub fn shell(&self, line: &str) -> Said {
        let mut command = self.program("sh");
        command.arg("-c").arg(line).current_dir(self.folder());
        self.feed(command, "")
    }

    fn feed(&self, mut command: Command, stdin: &str) -> Said {
        self.environment(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // A program that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        Said::from(child.wait_with_output().unwrap())
    }

    /// `dmfs create NAME` with a table, which must succeed.
    pub fn create(&self, name: &str, table: &str) {
        self.dmfs_fed(&["create", name], table).must();
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the daemon's end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let daemon = self.daemon.as_mut().unwrap();
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                self.daemon = None;
                return status;
            }
            if Instant::now() > deadline {
                panic!("the daemon does not end:\n{}", self.log());
            }
            thread::sleep(GLANCE);
        }
    }

    /// Ends the daemon with SIGTERM: it must leave in order and unmount.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}:\n{}", self.log());
        assert!(!is_mounted(&self.at), "still mounted:\n{}", self.log());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the daemon printed:\n{}", self.log());
        }
        loop_device::detach_below(&self.at);
        if let Some(mut daemon) = self.daemon.take() {
            if let Some(pid) = daemon.id().try_into().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(GLANCE);
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if is_mounted(&self.at) {
            let _ = tools::command("umount").arg("-l").arg(&self.at).status();
        }
    }
}

impl Said {
    /// Standard output of a program that had to succeed.
    pub fn must(self) -> String {
        assert!(
            self.status.success(),
            "{}: {}{}",
            self.status,
            self.out,
            self.err
        );
        self.out
    }

    /// Standard error of a program that had to fail with status 1.
    pub fn must_fail(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{}{}", self.out, self.err);
        self.err
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            status: output.status,
            out: tools::text(&output.stdout),
            err: tools::text(&output.stderr),
        }
    }
}

/// The user id (and group id) of an ordinary user that every system has.
pub const NOBODY: u32 = 65534;

/// Words that start a program as [`NOBODY`].
pub fn as_nobody() -> Vec<String> {
    let id = NOBODY.to_string();
    ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]
        .map(str::to_owned)
        .to_vec()
}

/// Puts dmfs and its other name into `folder`, where another user finds it too: there may be no way for
/// him into the folder that it was built in.
pub fn put_programs(folder: &Path) {
    let (built, ours) = (env!("CARGO_BIN_EXE_dmfs"), folder.join("dmfs"));
    if fs::hard_link(built, &ours).is_err() {
        // Not by ourselves: a child that another test forks meanwhile would hold the copy open for
        // writing until it executes, and a file that is being written cannot be run (ETXTBSY).
        let copied = tools::command("cp").arg(built).arg(&ours).status().unwrap();
        assert!(
            copied.success(),
            "cannot copy {built} to {}",
            ours.display()
        );
    }
    for name in ["dmsetup", "dmstats"] {
        symlink("dmfs", folder.join(name)).unwrap();
    }
}

/// A fresh folder with a runtime directory and a mount point.
pub fn new_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::Builder::new()
        .prefix("dmfs-test-")
        .tempdir()
        .unwrap();
    fs::create_dir(folder.path().join("run")).unwrap();
    let at = folder.path().join("mnt");
    fs::create_dir(&at).unwrap();
    (folder, at)
}

/// Whether something is mounted at `path`, told without asking the file system there.
pub fn is_mounted(path: &Path) -> bool {
    let wanted: &OsStr = path.as_os_str();
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|at| OsStr::new(at) == wanted)
}

/// The logical size of a file, asked of its owner and not of a cache.
pub fn size(path: &Path) -> u64 {
    let flags = rustix::fs::AtFlags::STATX_FORCE_SYNC;
    statx(rustix::fs::CWD, path, flags, rustix::fs::StatxFlags::SIZE)
        .unwrap()
        .stx_size
}
