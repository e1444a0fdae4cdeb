//! Where a mount's control socket lives: one folder per user, one file name per mountpoint.
//!
//! The folder is `$XDG_RUNTIME_DIR/dmfs`; without that variable `/run/dmfs` for root and
//! `/tmp/dmfs-UID` for others, private to its owner. The file name is the canonical mountpoint with
//! every byte outside `[A-Za-z0-9._]` written `%XX`, and `.sock`. A name over 100 bytes is
//! cut to 60, `~` and a 64-bit FNV-1a hash of the whole, and further if the path would not fit a
//! socket's address (108 bytes).

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Bytes of `sun_path`, one of them for the NUL.
const SUN_PATH: usize = 108;

/// Longest encoded mountpoint that is kept whole.
const LONGEST_WHOLE: usize = 100;

/// The folder of this user's sockets.
pub fn socket_folder() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR");
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let uid = outer_uid(rustix::process::geteuid().as_raw(), &map);
    folder_for(uid, runtime.as_deref())
}

/// Who user `uid` of a user namespace with the map `uid_map` is outside of it: root in a namespace of one's own is
/// not the root to whom `/run` belongs.
fn outer_uid(uid: u32, uid_map: &str) -> u32 {
    let ranges = uid_map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        Some((
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
        ))
    });
    ranges
        .filter(|(inside, _, length)| uid.checked_sub(*inside).is_some_and(|at| at < *length))
        .find_map(|(inside, outside, _)| outside.checked_add(uid - inside))
        .unwrap_or(uid)
}

/// The folder for user `uid` whose `XDG_RUNTIME_DIR` is `runtime`. A relative or empty value counts as
/// unset, as the base directory specification asks.
pub fn folder_for(uid: u32, runtime: Option<&OsStr>) -> PathBuf {
    match runtime.map(Path::new).filter(|path| path.is_absolute()) {
        Some(path) => path.join("dmfs"),
        None if uid == 0 => PathBuf::from("/run/dmfs"),
        None => PathBuf::from(format!("/tmp/dmfs-{uid}")),
    }
}

/// Makes the folder (mode 0700) if it is missing and checks that nobody else could put a socket there.
///
/// # Errors
/// I/O errors; `PermissionDenied` for a folder that is a link, another user's, or open to others.
pub fn prepare_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    check_folder(folder)
}

/// Checks that `folder` is a real folder of this user that others cannot write to.
///
/// # Errors
/// As [`prepare_folder`]; `NotFound` if it is missing.
pub fn check_folder(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let uid = rustix::process::geteuid().as_raw();
    let why = if !found.is_dir() {
        "is not a folder".to_string()
    } else if found.uid() != uid {
        format!("belongs to user {}, expected {uid}", found.uid())
    } else if found.mode() & 0o077 != 0 {
        format!("has mode {:04o}, expected 0700", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    let text = format!("socket folder {} {why}", folder.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// The socket of the mount at `mountpoint`, which must be canonical.
pub fn socket_path(folder: &Path, mountpoint: &Path) -> PathBuf {
    let room = SUN_PATH.saturating_sub(1 + folder.as_os_str().len() + 1 + ".sock".len());
    folder.join(file_stem(mountpoint.as_os_str().as_bytes(), room) + ".sock")
}

/// The mountpoint's name within `room` bytes.
fn file_stem(mountpoint: &[u8], room: usize) -> String {
    let mut name = String::new();
    for &byte in mountpoint {
        match byte {
            b'.' | b'_' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() <= LONGEST_WHOLE.min(room) {
        return name;
    }
    let hash = format!("~{:016x}", fnv1a(mountpoint));
    name.truncate(60.min(room.saturating_sub(hash.len())));
    name + &hash
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
