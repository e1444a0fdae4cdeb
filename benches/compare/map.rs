//! A shared map of a file, as a client reads and writes it.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::{copy_nonoverlapping, null_mut};
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

use crate::load::Slice;
use crate::workload::{Step, Steps};

/// A map that ends with its value.
pub struct Map {
    start: *mut c_void,
    len: usize,
}

impl Map {
    /// The first `len` bytes of `file`.
    ///
    /// # Errors
    /// Where the file cannot be mapped.
    pub fn new(file: &File, len: usize) -> io::Result<Map> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place that the kernel picks changes no memory of ours.
        let start = unsafe { mmap(null_mut(), len, protection, MapFlags::SHARED, file, 0) }?;
        Ok(Map { start, len })
    }

    /// Copies blocks from and to the map for `length`, and makes durable what it wrote.
    ///
    /// # Errors
    /// Where a block is outside the map, or msync fails. A page that cannot be read ends the process with SIGBUS.
    pub fn work(
        &mut self,
        steps: &mut Steps,
        block: &mut [u8],
        length: Duration,
    ) -> io::Result<Slice> {
        let begun = Instant::now();
        let mut operations = 0;
        let mut has_written = false;
        for Step { is_read, at } in steps {
            let at = usize::try_from(at).map_err(io::Error::other)?;
            if at.checked_add(block.len()).is_none_or(|end| end > self.len) {
                return Err(io::Error::other("a block outside the map"));
            }
            // SAFETY: `at..at + block.len()` lies within the map, as checked, which nobody else has a pointer to and
            // which `block` cannot overlap.
            unsafe {
                let place = self.start.cast::<u8>().add(at);
                if is_read {
                    copy_nonoverlapping(place, block.as_mut_ptr(), block.len());
                } else {
                    copy_nonoverlapping(block.as_ptr(), place, block.len());
                }
            }
            has_written |= !is_read;
            operations += 1;
            if begun.elapsed() >= length {
                break;
            }
        }
        if has_written {
            // SAFETY: the range is the map's own.
            unsafe { msync(self.start, self.len, MsyncFlags::SYNC) }?;
        }
        Ok(Slice {
            operations,
            bytes: operations * block.len() as u64,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is the map's own, and no pointer into it outlives `work`.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}
