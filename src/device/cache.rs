//! Who caches the data of a device's file.

use std::fmt;
use std::str::FromStr;

use crate::sync::{AtomicU32, Ordering};

/// What the kernel may do by itself with the data of a device's file. Takes effect when the file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// Nothing: every read and every write reaches the device.
    #[default]
    None,
    /// Keep what was read or written; every write reaches the device at once.
    Keep,
    /// Keep written data to itself as well, until it is synced or a while has passed.
    Writeback,
    /// Read and write the backing file itself, where the device is nothing but that file.
    Passthrough,
}

impl CachePolicy {
    /// All of them.
    pub const ALL: [CachePolicy; 4] = [
        CachePolicy::None,
        CachePolicy::Keep,
        CachePolicy::Writeback,
        CachePolicy::Passthrough,
    ];

    /// Its word in mount files and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            CachePolicy::None => "none",
            CachePolicy::Keep => "keep",
            CachePolicy::Writeback => "writeback",
            CachePolicy::Passthrough => "passthrough",
        }
    }

    /// True where the kernel's page cache holds data of the file.
    pub fn caches(self) -> bool {
        matches!(self, CachePolicy::Keep | CachePolicy::Writeback)
    }
}

impl fmt::Display for CachePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for CachePolicy {
    type Err = String;

    /// Reads a policy's word; the error says what was expected.
    fn from_str(word: &str) -> Result<CachePolicy, String> {
        let policy = CachePolicy::ALL
            .into_iter()
            .find(|policy| policy.word() == word);
        policy.ok_or_else(|| {
            format!("expected one of none, keep, writeback, passthrough, found {word:?}")
        })
    }
}

/// A device's policy, which can change at any time.
#[derive(Default)]
pub(super) struct PolicyCell(AtomicU32);

impl PolicyCell {
    pub(super) fn get(&self) -> CachePolicy {
        let number = self.0.load(Ordering::Relaxed) as usize;
        CachePolicy::ALL.get(number).copied().unwrap_or_default()
    }

    pub(super) fn set(&self, policy: CachePolicy) {
        // Relaxed: an open at the same time may go either way.
        self.0.store(policy as u32, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{CachePolicy, PolicyCell};

    #[test]
    fn words_mean_what_they_say() {
        for policy in CachePolicy::ALL {
            assert_eq!(policy.word().parse(), Ok(policy));
            let cell = PolicyCell::default();
            assert_eq!(cell.get(), CachePolicy::None);
            cell.set(policy);
            assert_eq!(cell.get(), policy);
        }
        for wrong in ["", "None", "write-back", "keep "] {
            let error = wrong.parse::<CachePolicy>().expect_err("no policy");
            assert!(error.contains("writeback"), "{error}");
        }
    }
}
