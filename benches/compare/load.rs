//! The client: one thread that reads and writes a file as a workload says, slice by slice.
//!
//! One operation in flight is pread and pwrite, several are a ring of io_uring, a map is memory copied. A file
//! stays open from the first slice to the last, so that a slice of a fifth of a second is worth taking.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};

use crate::map::Map;
use crate::ring::Ring;
use crate::workload::{Mode, Step, Steps, Workload};

const PAGE: usize = 4096;

/// What was done in a slice, and in what time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    /// Operations that ended.
    pub operations: u64,
    /// Bytes they read and wrote.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
}

impl Slice {
    /// Both together.
    pub fn and(self, other: Slice) -> Slice {
        Slice {
            operations: self.operations + other.operations,
            bytes: self.bytes + other.bytes,
            seconds: self.seconds + other.seconds,
        }
    }
}

/// Page-aligned memory that was touched.
pub struct Block {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Block {
    /// `len` bytes that are not zero.
    pub fn new(len: usize) -> Block {
        let memory = vec![0x5a; len + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        Block { memory, start, len }
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// A file under a workload.
pub struct Load {
    workload: Workload,
    file: File,
    steps: Steps,
    way: Way,
}

enum Way {
    Calls(Block),
    Ring(Box<Ring>),
    Map { len: usize, block: Block },
}

impl Load {
    /// Opens `path`, of which the first `bytes` are used.
    ///
    /// # Errors
    /// Where the file cannot be opened as the workload demands.
    pub fn open(workload: Workload, path: &Path, bytes: u64) -> io::Result<Load> {
        let flags = match workload.mode {
            Mode::Direct => libc::O_DIRECT,
            Mode::Buffered | Mode::Mapped => 0,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        let way = match (workload.mode, workload.depth) {
            (Mode::Mapped, _) => Way::Map {
                len: usize::try_from(bytes).map_err(io::Error::other)?,
                block: Block::new(workload.block),
            },
            (_, 1) => Way::Calls(Block::new(workload.block)),
            _ => Way::Ring(Box::new(Ring::new(workload)?)),
        };
        Ok(Load {
            workload,
            file,
            steps: Steps::new(workload, bytes, 1),
            way,
        })
    }

    /// Works for `length` (shorter if the file ends it). What comes before the clock starts: caches are dropped, or
    /// where there are none, a tenth of the time is spent on getting warm.
    ///
    /// # Errors
    /// The first operation that failed or fell short.
    pub fn slice(&mut self, length: Duration) -> io::Result<Slice> {
        if self.workload.mode == Mode::Direct {
            self.work(length / 10)?;
        } else {
            self.file.sync_data()?;
            fadvise(&self.file, 0, None, Advice::DontNeed)?;
            self.steps.rewind();
        }
        self.work(length)
    }

    fn work(&mut self, length: Duration) -> io::Result<Slice> {
        match &mut self.way {
            Way::Calls(block) => calls(
                &self.file,
                &self.workload,
                &mut self.steps,
                block.bytes(),
                length,
            ),
            Way::Ring(ring) => ring.work(&self.file, &mut self.steps, length),
            Way::Map { len, block } => {
                Map::new(&self.file, *len)?.work(&mut self.steps, block.bytes(), length)
            }
        }
    }
}

fn calls(
    file: &File,
    workload: &Workload,
    steps: &mut Steps,
    block: &mut [u8],
    length: Duration,
) -> io::Result<Slice> {
    let begun = Instant::now();
    let mut operations = 0;
    for Step { is_read, at } in steps {
        if is_read {
            file.read_exact_at(block, at)?;
        } else {
            file.write_all_at(block, at)?;
            if workload.synced {
                file.sync_data()?;
            }
        }
        operations += 1;
        if begun.elapsed() >= length {
            break;
        }
    }
    if workload.mode == Mode::Buffered && workload.read_percent < 100 {
        file.sync_data()?;
    }
    Ok(Slice {
        operations,
        bytes: operations * block.len() as u64,
        seconds: begun.elapsed().as_secs_f64(),
    })
}
