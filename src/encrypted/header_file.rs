//! A file or block device that holds a header, beside whoever else uses it.
//!
//! Not a [`Backing`](crate::backing::Backing): a header is read and changed while a daemon maps the data behind it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock, ioctl_blkpbszget, ioctl_blksszget};
use rustix::io::Errno;

use super::{Kind, Refused};
use crate::io::{BlockDev, IoError, IoResult, Limits, Op, Request};
use crate::unit::{Bytes, SECTOR_SIZE, Sectors};

/// An open header.
pub struct HeaderFile {
    file: File,
    sectors: Sectors,
    limits: Limits,
    is_writable: bool,
    /// Keeps others from a block device.
    _claim: Option<File>,
}

impl HeaderFile {
    /// Opens `path`; to change it, others who change headers are waited for first.
    ///
    /// # Errors
    /// A path that cannot be opened.
    pub fn open(path: &Path, is_writable: bool) -> Result<HeaderFile, Refused> {
        let refuse = |why: &str| {
            let shown = path.display();
            Refused::new(Kind::Device, format!("Device {shown} {why}"))
        };
        let file = File::options()
            .read(true)
            .write(is_writable)
            .open(path)
            .map_err(|error| {
                log::debug!("{}: {error}", path.display());
                refuse("does not exist or access denied.")
            })?;
        let found = file
            .metadata()
            .map_err(|error| refuse(&format!("cannot be used: {error}.")))?;
        let kind = found.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(refuse(
                "is not compatible: expected a file or a block device.",
            ));
        }
        let len = match kind.is_block_device() {
            true => rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).unwrap_or(0),
            false => found.len(),
        };
        let logical = ioctl_blksszget(&file).unwrap_or(512);
        let physical = match kind.is_block_device() {
            true => ioctl_blkpbszget(&file).unwrap_or(logical),
            false => u32::try_from(found.blksize()).unwrap_or(512),
        };
        if is_writable {
            wait_for_others(&file, found.dev(), found.ino());
        }
        Ok(HeaderFile {
            file,
            sectors: Bytes(len).whole_sectors(),
            limits: Limits {
                logical_block_size: logical,
                physical_block_size: physical,
                ..Limits::default()
            },
            is_writable,
            _claim: None,
        })
    }

    /// Opens `path` to change all of it, as the only one who uses it.
    ///
    /// # Errors
    /// A path that cannot be opened; somebody who uses it.
    pub fn open_alone(path: &Path) -> Result<HeaderFile, Refused> {
        let mut opened = HeaderFile::open(path, true)?;
        let busy = || {
            let shown = path.display();
            Refused::new(
                Kind::Busy,
                format!("Device {shown} is in use: close what lies on it first."),
            )
        };
        if !opened.is_file() {
            let claim = File::options()
                .read(true)
                .custom_flags(libc::O_EXCL)
                .open(path);
            opened._claim = Some(claim.map_err(|_| busy())?);
        }
        match flock(&opened.file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) => Err(busy()),
            // A file system without locks keeps nobody out.
            _ => Ok(opened),
        }
    }

    /// Makes a file longer.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Refused> {
        let wrong = |error: std::io::Error| {
            Refused::new(
                Kind::Device,
                format!("The header file cannot grow: {error}."),
            )
        };
        self.file.set_len(bytes).map_err(wrong)?;
        self.sectors = Bytes(bytes).whole_sectors();
        Ok(())
    }

    /// How long it is.
    pub fn sectors(&self) -> Sectors {
        self.sectors
    }

    /// What the disk below writes at once, bytes; of a file, its file system's block.
    pub fn physical_block_size(&self) -> u32 {
        self.limits.physical_block_size
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.is_file())
    }
}

/// Takes the locks that who changes a header takes: cryptsetup's (flock), unless a daemon holds it because it maps the
/// file, and one among ourselves. They go with the file.
fn wait_for_others(file: &File, dev: u64, ino: u64) {
    // Among ourselves: record locks do not meet flock's.
    if let Err(error) = rustix::fs::fcntl_lock(file.as_fd(), FlockOperation::LockExclusive) {
        log::debug!("no lock between programs: {error}");
    }
    let refused = flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive);
    if refused == Err(Errno::AGAIN) && is_held_by_cryptsetup(dev, ino) {
        let _ = flock(file.as_fd(), FlockOperation::LockExclusive);
    }
}

/// Whether a process called cryptsetup holds an flock on the file.
fn is_held_by_cryptsetup(dev: u64, ino: u64) -> bool {
    let file = format!(
        "{:02x}:{:02x}:{ino}",
        rustix::fs::major(dev),
        rustix::fs::minor(dev)
    );
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let holder = match words.as_slice() {
            [_, "FLOCK", _, _, pid, place, ..] if *place == file => pid,
            _ => return false,
        };
        let name = fs::read_to_string(format!("/proc/{holder}/comm"));
        name.is_ok_and(|name| name.trim_end() == "cryptsetup")
    })
}

impl BlockDev for HeaderFile {
    fn capacity(&self) -> Sectors {
        self.sectors
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        if request.end().0 > self.sectors.0 {
            return Err(IoError::IO);
        }
        let at = request.at.to_bytes().0;
        if request.op.kind().changes_data() && !self.is_writable {
            return Err(IoError::READ_ONLY);
        }
        match request.op {
            Op::Read(buffer) => {
                let mut at = at;
                for piece in buffer.into_pieces() {
                    self.file.read_exact_at(piece, at)?;
                    at += piece.len() as u64;
                }
            }
            Op::Write(buffer) => {
                let mut at = at;
                for piece in buffer.into_pieces() {
                    self.file.write_all_at(piece, at)?;
                    at += piece.len() as u64;
                }
            }
            Op::Flush => self.file.sync_data()?,
            Op::WriteZeroes { .. } => {
                let zeroes = [0; SECTOR_SIZE as usize];
                for sector in 0..request.len.0 {
                    self.file.write_all_at(&zeroes, at + sector * SECTOR_SIZE)?;
                }
            }
            Op::Discard => return Err(IoError::UNSUPPORTED),
        }
        if request.flags.fua {
            self.file.sync_data()?;
        }
        Ok(())
    }
}
