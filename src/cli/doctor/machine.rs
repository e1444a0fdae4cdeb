//! The facts that `doctor` judges, read from the running system, or in tests from a folder that looks like one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Capabilities, by their bit.
pub const CAP_IPC_LOCK: u32 = 14;
/// See [`CAP_IPC_LOCK`].
pub const CAP_SYS_ADMIN: u32 = 21;

/// A limit: what holds, and what it may be raised to. None: unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// What holds.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

/// A machine, as a process on it sees it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Where `/dev`, `/etc`, `/proc` and `/sys` are.
    pub root: PathBuf,
    /// Who the process is.
    pub uid: u32,
    /// What it may do, a bit for each capability.
    pub capabilities: u64,
    /// It is in the user namespace that the machine began with.
    pub is_first_namespace: bool,
    /// Version of the kernel.
    pub kernel: (u32, u32),
    /// Open files.
    pub open_files: Limit,
    /// Locked memory, in bytes.
    pub locked_memory: Limit,
    /// Where programs are looked for.
    pub path: OsString,
}

impl Machine {
    /// This machine.
    pub fn here() -> Machine {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let uname = rustix::system::uname();
        Machine {
            root: PathBuf::from("/"),
            uid: rustix::process::geteuid().as_raw(),
            capabilities: effective(&status),
            is_first_namespace: maps_everybody(&map),
            kernel: version(&uname.release().to_string_lossy()),
            open_files: limit(Resource::Nofile),
            locked_memory: limit(Resource::Memlock),
            path: std::env::var_os("PATH").unwrap_or_default(),
        }
    }

    /// Whether the process may do what the capability stands for.
    pub fn can(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// The text of a file, without the end of its last line.
    pub fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.at(path)).map(|text| text.trim_end().to_owned())
    }

    /// Opens a device for reading and writing, and closes it again.
    pub fn open(&self, path: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.at(path))
    }

    /// Whether the process may write in a folder.
    pub fn may_write(&self, path: &str) -> bool {
        rustix::fs::access(self.at(path), rustix::fs::Access::WRITE_OK).is_ok()
    }

    /// The program's file, and whether it runs with root's rights.
    pub fn program(&self, name: &str) -> Option<(PathBuf, bool)> {
        std::env::split_paths(&self.path)
            .map(|folder| self.at(&folder.join(name).to_string_lossy()))
            .find_map(|file| {
                let found = fs::metadata(&file).ok().filter(fs::Metadata::is_file)?;
                let is_setuid = found.mode() & 0o4000 != 0 && found.uid() == 0;
                Some((file, is_setuid))
            })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root
            .join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }
}

fn limit(resource: Resource) -> Limit {
    let found = getrlimit(resource);
    Limit {
        soft: found.current,
        hard: found.maximum,
    }
}

/// The effective capabilities in a process's status.
pub fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether a map of users is that of the first namespace: everybody is who they are.
pub fn maps_everybody(map: &str) -> bool {
    let words: Vec<&str> = map.split_whitespace().collect();
    words == ["0", "0", "4294967295"]
}

/// The first two numbers of a kernel's release.
pub fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
