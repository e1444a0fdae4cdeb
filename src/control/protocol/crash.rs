//! What the command line asks for logs of log-writes: the work is the program's, which hands its functions in.

use std::path::PathBuf;

/// What to do with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTask {
    /// Print its entries.
    List,
    /// Print where the last of the entries lies.
    Find,
    /// Write what its entries wrote to a device or file.
    Replay {
        /// Where to.
        onto: PathBuf,
    },
}

/// Which entries of a log are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub start_entry: Option<u64>,
    /// Behind this mark.
    pub start_mark: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Up to this mark.
    pub end_mark: Option<String>,
    /// Up to the next flush.
    pub next_flush: bool,
    /// Up to the next durable write.
    pub next_fua: bool,
}

/// When a replay runs a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// After so many entries each.
    Entries(u64),
    /// After each flush.
    Flush,
    /// After each durable write.
    Fua,
}

/// `dmfs log-writes`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The log.
    pub log: PathBuf,
    /// What to do.
    pub task: LogTask,
    /// With which entries.
    pub span: Span,
    /// A replay leaves discards out.
    pub no_discard: bool,
    /// A replay takes only these sectors of 512 bytes: from, and up to but without.
    pub sectors: (Option<u64>, Option<u64>),
    /// A command for the shell during a replay, and when.
    pub check: Option<(String, Every)>,
}

/// `dmfs crash-states`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashOptions {
    /// What the device held when the log began.
    pub base: PathBuf,
    /// The log.
    pub log: PathBuf,
    /// Where the states are shown; a folder of our own for the time of the checks if none.
    pub mountpoint: Option<PathBuf>,
    /// A command for the shell, for each state.
    pub check: Option<String>,
    /// How many checks at the same time; as many as processors if none.
    pub jobs: Option<usize>,
    /// Go on after a bad state.
    pub keep_going: bool,
    /// Seed of all that is random.
    pub seed: u64,
    /// Random states for each moment at which something was not durable.
    pub samples: usize,
    /// At most so many states.
    pub states: usize,
    /// This one alone.
    pub state: Option<String>,
    /// With which entries.
    pub span: Span,
    /// Flushes and durable writes promise nothing.
    pub ignore_flushes: bool,
    /// Bytes that the disk writes as a whole or not at all; a sector of the log if none.
    pub atomic: Option<u64>,
    /// The states cannot be written to.
    pub readonly: bool,
}
