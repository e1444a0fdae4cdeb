//! Many operations in flight from one thread, through io_uring.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::{forget, take};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use crate::load::{Block, Slice};
use crate::workload::{Step, Steps, Workload};

/// A ring with a block of memory for each operation in flight.
pub struct Ring {
    ring: IoUring,
    blocks: Vec<Block>,
}

impl Ring {
    /// Room for the workload's depth.
    ///
    /// # Errors
    /// Where the kernel gives no ring.
    pub fn new(workload: Workload) -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(workload.depth.next_power_of_two())?;
        let blocks = (0..workload.depth)
            .map(|_| Block::new(workload.block))
            .collect();
        Ok(Ring { ring, blocks })
    }

    /// Keeps all blocks in flight for `length`, then waits for the last.
    ///
    /// # Errors
    /// The first operation that failed or fell short.
    pub fn work(&mut self, file: &File, steps: &mut Steps, length: Duration) -> io::Result<Slice> {
        let begun = Instant::now();
        let mut slice = Slice::default();
        let mut idle: Vec<usize> = (0..self.blocks.len()).collect();
        let mut failure = None;
        loop {
            while failure.is_none() && begun.elapsed() < length {
                let Some((index, step)) = idle.pop().zip(steps.next()) else {
                    break;
                };
                self.push(file, index, step)?;
            }
            if idle.len() == self.blocks.len() {
                break;
            }
            self.wait()?;
            for done in self.ring.completion() {
                let index = done.user_data() as usize;
                idle.push(index);
                match done.result() {
                    len if len == self.blocks[index].bytes().len() as i32 => {
                        slice.operations += 1;
                        slice.bytes += len as u64;
                    }
                    error if error < 0 => {
                        failure.get_or_insert(io::Error::from_raw_os_error(-error));
                    }
                    len => {
                        failure.get_or_insert(io::Error::other(format!("{len} bytes only")));
                    }
                }
            }
        }
        slice.seconds = begun.elapsed().as_secs_f64();
        failure.map_or(Ok(slice), Err)
    }

    fn push(&mut self, file: &File, index: usize, step: Step) -> io::Result<()> {
        let entry = operation(file, &mut self.blocks[index], step).user_data(index as u64);
        // SAFETY: the block stays where it is and is not used until its completion was taken, which `work` waits for;
        // where it cannot, `leak` lets nobody else have the memory. The file is borrowed as long as `work` runs.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|error| self.leak(io::Error::other(error)))
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(self.leak(error)),
            _ => Ok(()),
        }
    }

    /// Gives up the memory that the kernel may still write to.
    fn leak(&mut self, error: io::Error) -> io::Error {
        forget(take(&mut self.blocks));
        error
    }
}

fn operation(file: &File, block: &mut Block, step: Step) -> squeue::Entry {
    let fd = types::Fd(file.as_raw_fd());
    let bytes = block.bytes();
    let (start, len) = (bytes.as_mut_ptr(), bytes.len() as u32);
    if step.is_read {
        opcode::Read::new(fd, start, len).offset(step.at).build()
    } else {
        opcode::Write::new(fd, start, len).offset(step.at).build()
    }
}
