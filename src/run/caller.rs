//! The process behind a trapped call: its memory, its descriptors, its folder.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::io::{Errno, Result};

use super::listener::{Listener, Trapped};

/// Memory is read up to the ends of pages of this size, so that a text before an unmapped page is found.
const PAGE: u64 = 4096;
/// PATH_MAX
const LONGEST_PATH: usize = 4096;

/// The caller of a trapped call.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    listener: &'a Listener,
    id: u64,
    /// The calling thread.
    pub pid: u32,
}

impl<'a> Caller<'a> {
    /// Of this call.
    pub(super) fn of(listener: &'a Listener, call: &Trapped) -> Caller<'a> {
        Caller {
            listener,
            id: call.id,
            pid: call.pid,
        }
    }

    /// True while it waits: nobody else has its number.
    pub(super) fn waits(&self) -> bool {
        self.listener.is_valid(self.id)
    }

    /// True where a signal has come for which it would stop waiting.
    pub(super) fn has_signal(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .unwrap_or(0)
        };
        let pending = mask("SigPnd:") | mask("ShdPnd:");
        pending & !mask("SigBlk:") & !mask("SigIgn:") != 0
    }

    fn check(&self) -> Result<()> {
        match self.waits() {
            true => Ok(()),
            false => Err(Errno::SRCH),
        }
    }

    /// `len` bytes of its memory.
    ///
    /// # Errors
    /// EFAULT where they are not all there, EPERM where we may not look, ESRCH where it has died.
    pub(super) fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.read_some(at, &mut bytes)?;
        match read == len {
            true => Ok(bytes),
            false => Err(Errno::FAULT),
        }
    }

    fn read_some(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let local = libc::iovec {
            iov_base: into.as_mut_ptr().cast(),
            iov_len: into.len(),
        };
        let remote = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(at as usize),
            iov_len: into.len(),
        };
        // SAFETY: writes at most `into.len()` bytes to `into`; the remote address is the other process's.
        let read = unsafe {
            libc::process_vm_readv(
                self.pid as i32,
                &raw const local,
                1,
                &raw const remote,
                1,
                0,
            )
        };
        let read = count(read)?;
        self.check()?;
        Ok(read)
    }

    /// The text at `at`, without its NUL.
    ///
    /// # Errors
    /// As for [`Caller::read`]; ENAMETOOLONG for one that has no end within a path's length.
    pub(super) fn read_path(&self, at: u64) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut chunk = [0; PAGE as usize];
        while text.len() < LONGEST_PATH {
            let from = at.checked_add(text.len() as u64).ok_or(Errno::FAULT)?;
            // Most paths are short.
            let room = (PAGE - from % PAGE).min(if text.is_empty() { 256 } else { PAGE });
            let chunk = chunk.get_mut(..room as usize).ok_or(Errno::FAULT)?;
            let read = self.read_some(from, chunk)?;
            let chunk = chunk.get(..read).unwrap_or_default();
            match chunk.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(chunk.get(..end).unwrap_or_default());
                    return Ok(text);
                }
                None if read == 0 => return Err(Errno::FAULT),
                None => text.extend_from_slice(chunk),
            }
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Writes to its memory.
    ///
    /// # Errors
    /// As for [`Caller::read`].
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let local = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let remote = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(at as usize),
            iov_len: bytes.len(),
        };
        // SAFETY: reads `bytes` only; what is written is the other process's.
        let written = unsafe {
            libc::process_vm_writev(
                self.pid as i32,
                &raw const local,
                1,
                &raw const remote,
                1,
                0,
            )
        };
        match count(written)? == bytes.len() {
            true => Ok(()),
            false => Err(Errno::FAULT),
        }
    }

    /// What a descriptor of it leads to; `fd` may be AT_FDCWD.
    pub(super) fn folder(&self, fd: i32) -> Option<PathBuf> {
        match fd {
            libc::AT_FDCWD => fs::read_link(format!("/proc/{}/cwd", self.pid)).ok(),
            fd => fs::read_link(self.descriptor(fd)).ok(),
        }
    }

    /// Where a descriptor of it is found.
    pub(super) fn descriptor(&self, fd: i32) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{fd}", self.pid))
    }

    /// An absolute path of `path` as it means it; links in it are not followed.
    pub(super) fn absolute(&self, folder: i32, path: Vec<u8>) -> Option<PathBuf> {
        let path = PathBuf::from(OsString::from_vec(path));
        if path.is_absolute() {
            return Some(path);
        }
        Some(self.folder(folder)?.join(path))
    }
}

fn count(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}
