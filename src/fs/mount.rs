//! Mounting and unmounting: directly where we may (root, or a user namespace of our own), else through
//! fusermount3. Whatever stands in the way is named together with what to do about it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{error, fmt};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{getgid, getuid};

use super::transport::Transport;
use crate::io::Errno;

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
/// What `mount` and /proc/mounts show.
const TYPE: &str = "fuse.dmfs";

/// How to mount.
#[derive(Clone, Debug)]
pub struct FsOptions {
    /// Other users (root, and so loop devices, among them) may enter the mount.
    pub allow_other: bool,
    /// Owner of the files.
    pub uid: u32,
    /// Group of the files.
    pub gid: u32,
    /// Permission bits of the files.
    pub mode: u16,
    /// Workers; by default as many as there are processors, four at most.
    pub threads: Option<usize>,
    /// The kernel may hold back writes to cached files; it cannot go around the daemon then.
    pub writeback: bool,
    /// The mount is to outlive this process: the kernel must be able to hand requests over again, and nothing may be
    /// under way that the end of this process does not end.
    pub outlives: bool,
    /// How requests come in. A mount that is to outlive this process has the classic one.
    pub transport: Transport,
    /// What `mount` shows as the source.
    pub fsname: String,
}

impl Default for FsOptions {
    /// Files of the caller's with mode 0600; others may enter where root mounts.
    fn default() -> FsOptions {
        FsOptions {
            allow_other: getuid().is_root(),
            uid: getuid().as_raw(),
            gid: getgid().as_raw(),
            mode: 0o600,
            threads: None,
            transport: Transport::Auto,
            writeback: false,
            outlives: false,
            fsname: "dmfs".to_owned(),
        }
    }
}

/// Why a mount cannot be made or taken away: what stands in the way, and what to do.
#[derive(Debug)]
pub struct MountError(String);

impl MountError {
    pub(super) fn new(message: String) -> MountError {
        MountError(message)
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for MountError {}

fn refuse<T>(message: String) -> Result<T, MountError> {
    Err(MountError(message))
}

/// Mounts on `mountpoint` and gives the connection to the kernel and the mountpoint's absolute path.
///
/// # Errors
/// What stands in the way.
pub fn mount_fuse(
    mountpoint: &Path,
    options: &FsOptions,
) -> Result<(OwnedFd, PathBuf), MountError> {
    let mountpoint = check_mountpoint(mountpoint)?;
    let device = open_device()?;
    match mount_directly(&device, &mountpoint, options) {
        Ok(()) => Ok((device.into(), mountpoint)),
        Err(Errno::PERM | Errno::ACCESS) => {
            drop(device);
            Ok((mount_with_helper(&mountpoint, options)?, mountpoint))
        }
        Err(Errno::NODEV) => refuse(format!(
            "{}: this kernel has no FUSE: load its module with `modprobe fuse`",
            mountpoint.display()
        )),
        Err(error) => refuse(format!(
            "{}: mounting failed: {error}",
            mountpoint.display()
        )),
    }
}

/// Checks that `mountpoint` is an empty directory, and gives its absolute path.
fn check_mountpoint(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let shown = mountpoint.display();
    take_away_dead(mountpoint)?;
    let found = fs::metadata(mountpoint);
    match found {
        Ok(found) if !found.is_dir() => {
            return refuse(format!(
                "{shown}: not a directory; a mountpoint has to be one"
            ));
        }
        Ok(_) => {}
        Err(error) => return refuse(explain_missing(mountpoint, &error)),
    }
    let absolute = fs::canonicalize(mountpoint)
        .map_err(|error| MountError(format!("{shown}: cannot be resolved: {error}")))?;
    if mounted_type(&absolute).is_some_and(|kind| kind == TYPE) {
        return refuse(format!(
            "{shown}: dmfs is mounted here already; unmount it with `dmfs umount {shown}`, or choose another directory"
        ));
    }
    let mut entries = fs::read_dir(&absolute)
        .map_err(|error| MountError(format!("{shown}: cannot be read: {error}")))?;
    if entries.next().is_some() {
        return refuse(format!(
            "{shown}: not empty; what it holds would be hidden: choose an empty directory"
        ));
    }
    Ok(absolute)
}

/// Takes away a mount of ours whose daemon has died: nothing can be reached through it any more, and files
/// that are still open of it stay as dead as they are.
fn take_away_dead(mountpoint: &Path) -> Result<(), MountError> {
    // Attributes may be remembered; only what is asked of the daemon tells that it is gone.
    let is_dead = |path: &Path| match fs::read_dir(path) {
        Ok(_) => false,
        // The latter where it died over our question: its descriptors are closed a moment after its end.
        Err(error) => matches!(
            Errno::from_io_error(&error),
            Some(Errno::NOTCONN | Errno::CONNABORTED)
        ),
    };
    let Ok(absolute) = std::path::absolute(mountpoint) else {
        return Ok(());
    };
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(());
    };
    let Ok(parent) = fs::canonicalize(parent) else {
        return Ok(());
    };
    let place = parent.join(name);
    if mounted_type(&place).is_some_and(|kind| kind == TYPE) && is_dead(&place) {
        log::warn!(
            "{}: takes the place of a mount whose daemon has died",
            place.display()
        );
        unmount_fuse(&place, true)?;
    }
    Ok(())
}

fn explain_missing(mountpoint: &Path, error: &io::Error) -> String {
    let shown = mountpoint.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => format!("{shown}: does not exist; make it with `mkdir {shown}`"),
        Some(Errno::NOTCONN) => format!(
            "{shown}: a FUSE mount whose daemon has died is still there; take it away with `fusermount3 -u {shown}` (as root: `umount {shown}`)"
        ),
        Some(Errno::ACCESS) => format!(
            "{shown}: permission denied; it may be another user's FUSE mount, or below a directory that is closed to you"
        ),
        _ => format!("{shown}: {error}"),
    }
}

/// The type of the file system that was mounted on `mountpoint` last.
fn mounted_type(mountpoint: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let wanted = as_in_mountinfo(mountpoint.to_str()?);
    table.lines().rev().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?;
        (place == wanted).then(|| after.split(' ').next().unwrap_or_default().to_owned())
    })
}

/// As the kernel writes paths in its tables of mounts.
pub fn as_in_mountinfo(path: &str) -> String {
    path.replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
        .replace('\n', "\\012")
}

fn open_device() -> Result<File, MountError> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map_err(|error| {
        MountError(match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => format!(
                "{DEVICE}: {error}; load the kernel's module with `modprobe fuse` (in a container, hand the device in, for instance `--device {DEVICE}`)"
            ),
            Some(Errno::ACCESS | Errno::PERM) => format!(
                "{DEVICE}: {error}; it has to be open to all users (mode 0666): Debian's package fuse3 sees to that, `chmod 666 {DEVICE}` as root does until the next boot"
            ),
            _ => format!("{DEVICE}: {error}"),
        })
    })
}

fn mount_directly(device: &File, mountpoint: &Path, options: &FsOptions) -> Result<(), Errno> {
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions{}",
        device.as_raw_fd(),
        getuid().as_raw(),
        getgid().as_raw(),
        if options.allow_other {
            ",allow_other"
        } else {
            ""
        },
    );
    let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(
        options.fsname.as_str(),
        mountpoint,
        TYPE,
        flags,
        data.as_c_str(),
    )
}

/// Has fusermount3, which is allowed to, mount and send us the connection.
fn mount_with_helper(mountpoint: &Path, options: &FsOptions) -> Result<OwnedFd, MountError> {
    let shown = mountpoint.display();
    let failed = |error: io::Error| MountError(format!("{HELPER}: {error}"));
    let (ours, helpers) = UnixStream::pair().map_err(failed)?;
    let names: Vec<_> = [&*options.fsname, "dmfs"]
        .iter()
        .map(|name| name.replace('\\', "\\\\").replace(',', "\\,"))
        .collect();
    let mut child = Command::new(HELPER)
        .arg("-o")
        .arg(format!(
            "fsname={},subtype={},default_permissions,nosuid,nodev{}",
            names[0],
            names[1],
            if options.allow_other { ",allow_other" } else { "" },
        ))
        .arg("--")
        .arg(mountpoint)
        // The socket is its standard input, so that it need not be kept open over any other program's start.
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(helpers)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            MountError(match error.kind() {
                io::ErrorKind::NotFound => format!(
                    "{shown}: only root may mount directly, and {HELPER} is not installed; install it (Debian: `apt-get install fuse3`), or run in a namespace of your own (`unshare -Urm`)"
                ),
                _ => format!("{HELPER}: {error}"),
            })
        })?;
    let received = receive_connection(&ours);
    drop(ours);
    let mut complaint = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut complaint);
    }
    let status = child.wait().map_err(failed)?;
    match received {
        Ok(connection) if status.success() => Ok(connection),
        Ok(_) | Err(_) => refuse(explain_helper(mountpoint, complaint.trim())),
    }
}

fn explain_helper(mountpoint: &Path, complaint: &str) -> String {
    let shown = mountpoint.display();
    let advice = if complaint.contains("user_allow_other") {
        "; root has to write `user_allow_other` into /etc/fuse.conf, or mount without access for other users"
    } else if complaint.contains("Operation not permitted") {
        "; fusermount3 has to belong to root and be set-user-id (Debian's package fuse3 sees to that); or run in a namespace of your own (`unshare -Urm`)"
    } else {
        ""
    };
    format!("{shown}: {complaint}{advice}")
}

fn receive_connection(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut pieces = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Takes the mount away; `lazy`: at once from the tree of files, for good when nobody uses it any more.
///
/// # Errors
/// Where it is in use, and what else the kernel or fusermount3 say.
pub fn unmount_fuse(mountpoint: &Path, lazy: bool) -> Result<(), MountError> {
    let flags = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match unmount(mountpoint, flags | UnmountFlags::NOFOLLOW) {
        // Not mounted any more: somebody else was faster.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(Errno::PERM) => unmount_with_helper(mountpoint, lazy),
        Err(error) => refuse(explain_busy(
            mountpoint,
            &error.to_string(),
            error == Errno::BUSY,
        )),
    }
}

fn unmount_with_helper(mountpoint: &Path, lazy: bool) -> Result<(), MountError> {
    let output = Command::new(HELPER)
        .arg("-u")
        .args(lazy.then_some("-z"))
        .arg("--")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| MountError(format!("{HELPER}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let is_busy = complaint.contains("busy");
    refuse(explain_busy(mountpoint, complaint.trim(), is_busy))
}

fn explain_busy(mountpoint: &Path, complaint: &str, is_busy: bool) -> String {
    let shown = mountpoint.display();
    if is_busy {
        format!(
            "{shown}: in use ({complaint}); `fuser -vm {shown}` and `losetup --list` show by whom"
        )
    } else {
        format!("{shown}: {complaint}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::path::Path;

    use super::{as_in_mountinfo, check_mountpoint, explain_helper, explain_missing, mounted_type};
    use crate::io::Errno;

    fn refusal(path: &Path) -> String {
        check_mountpoint(path).unwrap_err().to_string()
    }

    #[test]
    fn a_bad_mountpoint_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(refusal(&missing).contains("mkdir"));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(refusal(&file).contains("not a directory"));
        assert!(refusal(folder.path()).contains("not empty"));
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).unwrap();
        assert_eq!(
            check_mountpoint(&empty).unwrap(),
            fs::canonicalize(&empty).unwrap()
        );
    }

    #[test]
    fn a_dead_mount_is_told_from_a_missing_directory() {
        let text = explain_missing(Path::new("/mnt/x"), &Errno::NOTCONN.into());
        assert!(text.contains("fusermount3 -u /mnt/x"));
    }

    #[test]
    fn mounts_are_found_in_the_kernels_table() {
        assert!(mounted_type(Path::new("/proc")).is_some());
        assert_eq!(mounted_type(Path::new("/proc/self")), None);
        assert_eq!(as_in_mountinfo("/a b\\c"), "/a\\040b\\134c");
    }

    #[test]
    fn fusermounts_complaint_comes_with_advice() {
        let said = "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf";
        let text = explain_helper(Path::new("/mnt/x"), said);
        assert!(text.starts_with("/mnt/x: fusermount3") && text.contains("root has to write"));
    }
}
