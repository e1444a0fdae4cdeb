//! What the kernel relies on a daemon to remember of its files: how many times each is open, whose it is, its times.
//!
//! A [`Recorder`] is told of each change before the kernel is answered; [`Recalled`] is what its notes come to, so
//! that another daemon can go on. The kernel sends requests again that were not answered. Opening and closing count,
//! so a note of either bears the number of its request: one that is noted already is only answered.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::inodes::Owner;

/// The bit of a request's number that says it is sent again (FUSE_UNIQUE_RESEND).
const SENT_AGAIN: u64 = 1 << 63;
/// How many numbers of requests are remembered: more than can be in service at a time without an answer.
const REMEMBERED: usize = 1024;

/// Writes notes down.
pub trait Recorder: Send + Sync {
    /// Writes `note` down.
    fn record(&self, note: Note);
}

/// Something to remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// A file was opened.
    Opened {
        /// The file.
        inode: u64,
        /// The request's number.
        request: u64,
    },
    /// A file was closed.
    Closed {
        /// The file.
        inode: u64,
        /// The request's number.
        request: u64,
    },
    /// A file belongs to somebody.
    Owned {
        /// The file.
        inode: u64,
        /// To whom, and its times.
        owner: OwnerNote,
    },
    /// A file was written, nanoseconds since 1970.
    Written {
        /// The file.
        inode: u64,
        /// When.
        at: i64,
    },
    /// A file is open so many times.
    Openers {
        /// The file.
        inode: u64,
        /// How many times.
        count: u32,
    },
    /// A file is gone.
    Gone {
        /// The file.
        inode: u64,
    },
    /// Requests that were noted.
    Requests(Vec<u64>),
}

/// An `Owner` in plain numbers; times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerNote {
    uid: u32,
    gid: u32,
    mode: u16,
    atime: i64,
    mtime: i64,
    ctime: i64,
}

impl From<Owner> for OwnerNote {
    fn from(owner: Owner) -> OwnerNote {
        OwnerNote {
            uid: owner.uid,
            gid: owner.gid,
            mode: owner.mode,
            atime: nanos(owner.atime),
            mtime: nanos(owner.mtime),
            ctime: nanos(owner.ctime),
        }
    }
}

impl From<OwnerNote> for Owner {
    fn from(note: OwnerNote) -> Owner {
        Owner {
            uid: note.uid,
            gid: note.gid,
            mode: note.mode,
            atime: time(note.atime),
            mtime: time(note.mtime),
            ctime: time(note.ctime),
        }
    }
}

fn nanos(time: SystemTime) -> i64 {
    let count = |since: Duration| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => count(since),
        Err(before) => -count(before.duration()),
    }
}

fn time(nanos: i64) -> SystemTime {
    let since = Duration::from_nanos(nanos.unsigned_abs());
    let time = match nanos < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(since),
        false => SystemTime::UNIX_EPOCH.checked_add(since),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What is remembered of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How many times it is open.
    pub openers: u32,
    /// Whose it is, where somebody has said so or it was open.
    pub owner: Option<OwnerNote>,
    /// When it was written, nanoseconds since 1970; 0 for never.
    pub written_at: i64,
}

/// What notes come to.
#[derive(Clone, Debug, Default)]
pub struct Recalled {
    files: HashMap<u64, Known>,
    requests: VecDeque<u64>,
}

impl Recalled {
    /// Takes in the next note.
    pub fn take(&mut self, note: &Note) {
        match *note {
            Note::Opened { inode, request } => {
                let known = self.files.entry(inode).or_default();
                known.openers = known.openers.saturating_add(1);
                self.remember(request);
            }
            Note::Closed { inode, request } => {
                let known = self.files.entry(inode).or_default();
                known.openers = known.openers.saturating_sub(1);
                self.remember(request);
            }
            Note::Owned { inode, owner } => {
                self.files.entry(inode).or_default().owner = Some(owner);
            }
            Note::Written { inode, at } => {
                self.files.entry(inode).or_default().written_at = at;
            }
            Note::Openers { inode, count } => {
                self.files.entry(inode).or_default().openers = count;
            }
            Note::Gone { inode } => {
                self.files.remove(&inode);
            }
            Note::Requests(ref requests) => requests.iter().for_each(|&n| self.remember(n)),
        }
    }

    fn remember(&mut self, request: u64) {
        self.requests.push_back(request & !SENT_AGAIN);
        if self.requests.len() > REMEMBERED {
            self.requests.pop_front();
        }
    }

    /// True where request `unique` is sent again although it was noted.
    pub fn has_noted(&self, unique: u64) -> bool {
        unique & SENT_AGAIN != 0 && self.requests.contains(&(unique & !SENT_AGAIN))
    }

    /// The files, by inode.
    pub fn files(&self) -> impl Iterator<Item = (u64, Known)> {
        self.files.iter().map(|(inode, known)| (*inode, *known))
    }

    /// Notes that come to the same.
    pub fn notes(&self) -> Vec<Note> {
        let mut notes = vec![Note::Requests(self.requests.iter().copied().collect())];
        for (&inode, known) in &self.files {
            let count = known.openers;
            notes.push(Note::Openers { inode, count });
            notes.extend(known.owner.map(|owner| Note::Owned { inode, owner }));
            if known.written_at != 0 {
                let at = known.written_at;
                notes.push(Note::Written { inode, at });
            }
        }
        notes
    }
}

/// Whether request `unique` is one that an earlier daemon was sent and did not answer.
pub(super) fn is_sent_again(unique: u64) -> bool {
    unique & SENT_AGAIN != 0
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Note, Recalled, SENT_AGAIN, nanos, time};

    #[test]
    fn an_opening_that_is_sent_again_counts_once() {
        let mut recalled = Recalled::default();
        let opened = |request| Note::Opened { inode: 5, request };
        recalled.take(&opened(100));
        assert!(recalled.has_noted(100 | SENT_AGAIN));
        // A number is used once: without the bit it cannot be an old one.
        assert!(!recalled.has_noted(100));
        assert!(!recalled.has_noted(102 | SENT_AGAIN));
        recalled.take(&opened(104 | SENT_AGAIN));
        assert!(recalled.has_noted(104 | SENT_AGAIN));
        assert_eq!(
            recalled.files().next().map(|(_, file)| file.openers),
            Some(2)
        );
    }

    #[test]
    fn notes_written_anew_come_to_the_same() {
        let mut recalled = Recalled::default();
        for request in 0..5000 {
            recalled.take(&Note::Opened { inode: 2, request });
        }
        recalled.take(&Note::Closed {
            inode: 2,
            request: 5000,
        });
        recalled.take(&Note::Written { inode: 3, at: 77 });
        recalled.take(&Note::Opened {
            inode: 4,
            request: 5001,
        });
        recalled.take(&Note::Gone { inode: 4 });
        let mut anew = Recalled::default();
        recalled.notes().iter().for_each(|note| anew.take(note));
        assert_eq!(anew.files, recalled.files);
        assert_eq!(anew.requests, recalled.requests);
        assert_eq!(anew.files.get(&2).map(|file| file.openers), Some(4999));
        assert!(anew.requests.len() <= super::REMEMBERED);
    }

    #[test]
    fn times_survive_before_and_after_1970() {
        for time_then in [
            SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
            SystemTime::UNIX_EPOCH - Duration::from_secs(3),
        ] {
            assert_eq!(time(nanos(time_then)), time_then);
        }
    }
}
