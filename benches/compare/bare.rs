//! The floor: one file straight over `/dev/fuse`, without a library, a file system or a mapper in between.
//!
//! Two threads, each with a descriptor of its own, that read a request, do one `pread` or `pwrite` on the backing
//! file and write the reply. The mount's root is the file. Requests as long, as many in the background, and open
//! flags as dmfs has them. The layouts are those of the kernel's `include/uapi/linux/fuse.h`, version 7.31 and later;
//! mounting takes root.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, read, writev};
use rustix::mount::{MountFlags, mount};

const THREADS: usize = 2;
const PAGE: usize = 4096;
const MAX_REQUEST: usize = 1 << 20;
const MAX_BACKGROUND: u16 = 128;
/// struct fuse_in_header
const HEADER: usize = 40;
/// struct fuse_in_header and struct fuse_write_in: the data of a write comes after it.
const BEFORE_DATA: usize = 80;
/// FUSE_DEV_IOC_CLONE
const CLONE: libc::Ioctl = 0x8004_e500;

/// FUSE_ASYNC_READ, BIG_WRITES, ASYNC_DIO, PARALLEL_DIROPS, MAX_PAGES, INIT_EXT, DIRECT_IO_ALLOW_MMAP.
const WANTED: u64 = 1 | 1 << 5 | 1 << 15 | 1 << 18 | 1 << 22 | 1 << 30 | 1 << 36;
const INIT_EXT: u64 = 1 << 30;
/// FOPEN_DIRECT_IO, FOPEN_NOFLUSH, FOPEN_PARALLEL_DIRECT_WRITES.
const OPEN_FLAGS: u32 = 1 | 1 << 5 | 1 << 6;

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const ACCESS: u32 = 34;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;
const FALLOCATE: u32 = 43;

/// Serves `backing` as the file `mountpoint`, which must be there, until it is unmounted.
///
/// # Errors
/// Where the file cannot be opened, or the mount or the greeting fails.
pub fn serve(backing: &Path, mountpoint: &Path, direct: bool) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(if direct { libc::O_DIRECT } else { 0 })
        .open(backing)?;
    let size = file.metadata()?.len();
    let device = open_device()?;
    let options = format!(
        "fd={},rootmode=100000,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    mount(
        "bare",
        mountpoint,
        "fuse.bare",
        MountFlags::NOSUID | MountFlags::NODEV,
        CString::new(options)?.as_c_str(),
    )?;
    let server = Server { file, size };
    server.greet(&device)?;
    thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS)
            .map(|_| {
                let clone = clone_of(&device)?;
                Ok(scope.spawn(|| server.work(clone)))
            })
            .collect::<io::Result<_>>()?;
        let own = server.work(device);
        let join = |other: thread::ScopedJoinHandle<'_, io::Result<()>>| {
            other
                .join()
                .map_err(|_| io::Error::other("a thread ended"))?
        };
        others.into_iter().map(join).fold(own, Result::and)
    })
}

fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/fuse")
}

fn clone_of(device: &File) -> io::Result<File> {
    let clone = open_device()?;
    let of = device.as_raw_fd() as u32;
    // SAFETY: FUSE_DEV_IOC_CLONE reads one u32 from the pointer, which is valid for that.
    match unsafe { libc::ioctl(clone.as_raw_fd(), CLONE, &raw const of) } {
        0 => Ok(clone),
        _ => Err(io::Error::last_os_error()),
    }
}

struct Server {
    file: File,
    size: u64,
}

/// What a request is answered with: an error number, or so many bytes of the given ones.
type Answer = Result<usize, Errno>;

impl Server {
    fn greet(&self, device: &File) -> io::Result<()> {
        let mut request = vec![0; MAX_REQUEST + PAGE];
        let len = read(device, &mut request)?;
        let request = &request[..len];
        if u32_at(request, 4) != INIT {
            return Err(io::Error::other("the kernel did not begin with a greeting"));
        }
        let mut offered = u64::from(u32_at(request, HEADER + 12));
        if offered & INIT_EXT != 0 {
            offered |= u64::from(u32_at(request, HEADER + 16)) << 32;
        }
        let flags = WANTED & offered;
        let mut out = [0; 64];
        put(&mut out, 0, &7_u32.to_ne_bytes());
        put(&mut out, 4, &request[HEADER + 4..HEADER + 8]);
        put(&mut out, 8, &(MAX_REQUEST as u32).to_ne_bytes());
        put(&mut out, 12, &(flags as u32).to_ne_bytes());
        put(&mut out, 16, &MAX_BACKGROUND.to_ne_bytes());
        put(&mut out, 18, &(MAX_BACKGROUND / 4 * 3).to_ne_bytes());
        put(&mut out, 20, &(MAX_REQUEST as u32).to_ne_bytes());
        put(&mut out, 24, &1_u32.to_ne_bytes());
        put(&mut out, 28, &((MAX_REQUEST / PAGE) as u16).to_ne_bytes());
        put(&mut out, 32, &((flags >> 32) as u32).to_ne_bytes());
        reply(device, u64_at(request, 8), Ok(out.len()), &out)
    }

    fn work(&self, device: File) -> io::Result<()> {
        // Requests are read to where the data of a write begins a page, as direct I/O below wants it.
        let mut memory = vec![1; MAX_REQUEST + 3 * PAGE];
        let data_at = memory.as_ptr().align_offset(PAGE) + PAGE;
        let memory = &mut memory[data_at - BEFORE_DATA..];
        loop {
            match read(&device, &mut *memory) {
                Ok(_) => self.answer(&device, memory)?,
                Err(Errno::NODEV) => return Ok(()),
                Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn answer(&self, device: &File, request: &mut [u8]) -> io::Result<()> {
        let opcode = u32_at(request, 4);
        let unique = u64_at(request, 8);
        match opcode {
            READ => {
                let at = u64_at(request, HEADER + 8);
                let wanted = u64::from(u32_at(request, HEADER + 16));
                let len = wanted.min(self.size.saturating_sub(at)) as usize;
                let data = &mut request[BEFORE_DATA..BEFORE_DATA + len];
                let answer = self.file.read_at(data, at).map_err(|error| errno(&error));
                reply(device, unique, answer, data)
            }
            WRITE => {
                let at = u64_at(request, HEADER + 8);
                let len = u32_at(request, HEADER + 16) as usize;
                let data = &request[BEFORE_DATA..BEFORE_DATA + len];
                let mut out = [0; 8];
                let answer = self.file.write_at(data, at).map_err(|error| errno(&error));
                let answer = answer.map(|len| put(&mut out, 0, &(len as u32).to_ne_bytes()));
                reply(device, unique, answer.map(|()| 8), &out)
            }
            FORGET | BATCH_FORGET | INTERRUPT => Ok(()),
            _ => {
                let mut out = [0; 104];
                let answer = self.small(opcode, &request[HEADER..], &mut out);
                reply(device, unique, answer, &out)
            }
        }
    }

    fn small(&self, opcode: u32, arguments: &[u8], out: &mut [u8; 104]) -> Answer {
        match opcode {
            GETATTR | SETATTR => {
                put(out, 0, &3600_u64.to_ne_bytes());
                put(out, 16, &1_u64.to_ne_bytes());
                put(out, 24, &self.size.to_ne_bytes());
                put(out, 32, &(self.size / 512).to_ne_bytes());
                put(out, 76, &0o100_600_u32.to_ne_bytes());
                put(out, 80, &1_u32.to_ne_bytes());
                put(out, 96, &(PAGE as u32).to_ne_bytes());
                Ok(104)
            }
            OPEN => {
                put(out, 8, &OPEN_FLAGS.to_ne_bytes());
                Ok(16)
            }
            STATFS => {
                put(out, 40, &(PAGE as u32).to_ne_bytes());
                put(out, 44, &255_u32.to_ne_bytes());
                put(out, 48, &(PAGE as u32).to_ne_bytes());
                Ok(80)
            }
            FSYNC => self.file.sync_data().map(|()| 0).map_err(|e| errno(&e)),
            FALLOCATE => {
                let mode = FallocateFlags::from_bits_retain(u32_at(arguments, 24));
                let (at, len) = (u64_at(arguments, 8), u64_at(arguments, 16));
                fallocate(self.file.as_fd(), mode, at, len).map(|()| 0)
            }
            RELEASE | FLUSH | ACCESS | DESTROY => Ok(0),
            _ => Err(Errno::NOSYS),
        }
    }
}

fn reply(device: &File, unique: u64, answer: Answer, out: &[u8]) -> io::Result<()> {
    let (error, out) = match answer {
        Ok(len) => (0, &out[..len]),
        Err(errno) => (-errno.raw_os_error(), &out[..0]),
    };
    let mut header = [0; 16];
    put(&mut header, 0, &((16 + out.len()) as u32).to_ne_bytes());
    put(&mut header, 4, &error.to_ne_bytes());
    put(&mut header, 8, &unique.to_ne_bytes());
    match writev(device, &[IoSlice::new(&header), IoSlice::new(out)]) {
        // The request was interrupted, or the mount is going away; the next read tells which.
        Ok(_) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}
