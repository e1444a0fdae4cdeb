//! The workloads: what is read and written, how, and where the next block lies.

/// How the client goes to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// O_DIRECT.
    Direct,
    /// Through the client's page cache, if the server lets it have one. The cache is dropped before each slice.
    Buffered,
    /// Through a shared map, dropped before each slice; what was written is made durable within the slice.
    Mapped,
}

/// Where blocks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Anywhere, each as likely.
    Random,
    /// One after the other.
    Sequential,
}

/// What a workload is measured in; larger is better for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Operations a second.
    Operations,
    /// MiB a second.
    Bandwidth,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The row's name.
    pub name: &'static str,
    /// How the client goes to the file.
    pub mode: Mode,
    /// Where blocks lie.
    pub pattern: Pattern,
    /// How many of a hundred operations read.
    pub read_percent: u32,
    /// Bytes of one operation.
    pub block: usize,
    /// Operations in flight.
    pub depth: u32,
    /// An fsync follows each write and counts as part of it.
    pub synced: bool,
}

const READ: u32 = 100;
const MIXED: u32 = 70;
const WRITE: u32 = 0;

const fn random(name: &'static str, read_percent: u32, kib: usize, depth: u32) -> Workload {
    Workload {
        name,
        mode: Mode::Direct,
        pattern: Pattern::Random,
        read_percent,
        block: kib << 10,
        depth,
        synced: false,
    }
}

const fn sequential(name: &'static str, read_percent: u32, depth: u32) -> Workload {
    Workload {
        pattern: Pattern::Sequential,
        ..random(name, read_percent, 1024, depth)
    }
}

const fn through(mode: Mode, workload: Workload) -> Workload {
    Workload { mode, ..workload }
}

/// All rows, in the table's order.
pub const WORKLOADS: &[Workload] = &[
    random("randread-4k-qd1", READ, 4, 1),
    random("randread-4k-qd32", READ, 4, 32),
    random("randwrite-4k-qd1", WRITE, 4, 1),
    random("randwrite-4k-qd32", WRITE, 4, 32),
    random("randrw70-4k-qd1", MIXED, 4, 1),
    random("randrw70-4k-qd32", MIXED, 4, 32),
    random("randread-64k-qd8", READ, 64, 8),
    random("randwrite-64k-qd8", WRITE, 64, 8),
    sequential("seqread-1m-qd1", READ, 1),
    sequential("seqread-1m-qd8", READ, 8),
    sequential("seqwrite-1m-qd1", WRITE, 1),
    sequential("seqwrite-1m-qd8", WRITE, 8),
    Workload {
        mode: Mode::Buffered,
        synced: true,
        ..random("fsync-4k", WRITE, 4, 1)
    },
    through(Mode::Buffered, random("buf-randread-4k", READ, 4, 1)),
    through(Mode::Buffered, random("buf-randwrite-4k", WRITE, 4, 1)),
    through(Mode::Buffered, sequential("buf-seqread-1m", READ, 1)),
    through(Mode::Buffered, sequential("buf-seqwrite-1m", WRITE, 1)),
    through(Mode::Mapped, random("mmap-randread-4k", READ, 4, 1)),
    through(Mode::Mapped, random("mmap-randwrite-4k", WRITE, 4, 1)),
    through(Mode::Mapped, sequential("mmap-seqread-1m", READ, 1)),
    through(Mode::Mapped, sequential("mmap-seqwrite-1m", WRITE, 1)),
];

impl Workload {
    /// What the row's figures count.
    pub fn metric(&self) -> Metric {
        match self.block {
            0..=16_384 => Metric::Operations,
            _ => Metric::Bandwidth,
        }
    }

    /// True if a slice goes over the file once at most, because the second time would find it in a cache.
    pub fn ends_with_the_file(&self) -> bool {
        self.mode != Mode::Direct && self.pattern == Pattern::Sequential
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// It reads; else it writes.
    pub is_read: bool,
    /// Where its block begins, in bytes.
    pub at: u64,
}

/// The steps of a workload on a file, the same for every file of the same length.
#[derive(Clone, Debug)]
pub struct Steps {
    workload: Workload,
    blocks: u64,
    next: u64,
    random: Random,
}

impl Steps {
    /// Steps over the first `bytes` of a file. Another `seed` gives another order.
    pub fn new(workload: Workload, bytes: u64, seed: u64) -> Steps {
        Steps {
            workload,
            blocks: (bytes / workload.block as u64).max(1),
            next: 0,
            random: Random(seed),
        }
    }

    /// Begins at the file's beginning again.
    pub fn rewind(&mut self) {
        self.next = 0;
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let block = match self.workload.pattern {
            Pattern::Random => self.random.below(self.blocks),
            Pattern::Sequential if self.next < self.blocks => self.next,
            Pattern::Sequential if self.workload.ends_with_the_file() => return None,
            Pattern::Sequential => 0,
        };
        self.next = block + 1;
        let is_read = match self.workload.read_percent {
            READ => true,
            WRITE => false,
            percent => self.random.below(100) < u64::from(percent),
        };
        Some(Step {
            is_read,
            at: block * self.workload.block as u64,
        })
    }
}

/// SplitMix64: small, fast, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is above 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }
}
