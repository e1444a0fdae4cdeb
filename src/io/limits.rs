//! What a device asks of requests and what it can do, and how that of several devices adds up.

use crate::unit::Sectors;

/// Limits of a device, in the kernel's terms (struct queue_limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Smallest unit of a request, bytes; a power of two of at least 512.
    pub logical_block_size: u32,
    /// Smallest unit the device writes without reading first, bytes.
    pub physical_block_size: u32,
    /// Smallest preferred request, bytes; 0 where there is no preference.
    pub io_min: u32,
    /// Preferred request for streaming, bytes; 0 where there is no preference.
    pub io_opt: u32,
    /// Most sectors of one discard; zero where the device does not discard.
    pub max_discard: Sectors,
    /// Smallest stretch that a discard gives back, bytes.
    pub discard_granularity: u32,
    /// Most sectors of one write-zeroes; zero where the core must write zeroes instead.
    pub max_write_zeroes: Sectors,
    /// The device makes the caller wait (a disk rather than memory): parallel pieces pay.
    pub waits: bool,
}

impl Default for Limits {
    /// A device that has no wishes: 512-byte blocks, no discard, no write-zeroes.
    fn default() -> Limits {
        Limits {
            logical_block_size: 512,
            physical_block_size: 512,
            io_min: 0,
            io_opt: 0,
            max_discard: Sectors::ZERO,
            discard_granularity: 0,
            max_write_zeroes: Sectors::ZERO,
            waits: false,
        }
    }
}

impl Limits {
    /// Where stacking starts: everything is allowed, nothing asked for.
    pub const STACKING: Limits = Limits {
        logical_block_size: 512,
        physical_block_size: 512,
        io_min: 0,
        io_opt: 0,
        max_discard: Sectors(u64::MAX),
        discard_granularity: 0,
        max_write_zeroes: Sectors(u64::MAX),
        waits: false,
    };

    /// True where the device discards.
    pub fn discards(&self) -> bool {
        !self.max_discard.is_zero()
    }

    /// True where the device writes zeroes by itself.
    pub fn writes_zeroes(&self) -> bool {
        !self.max_write_zeroes.is_zero()
    }

    /// Adds a device below (or beside, for the rows of a table) to these limits, as the kernel's
    /// blk_stack_limits does: the largest block sizes, the least common multiple of the optimal size, and
    /// only what every device can do.
    pub fn stack(&mut self, below: &Limits) {
        self.logical_block_size = self.logical_block_size.max(below.logical_block_size);
        self.physical_block_size = self.physical_block_size.max(below.physical_block_size);
        self.io_min = self.io_min.max(below.io_min);
        self.io_opt = least_common_multiple(self.io_opt, below.io_opt);
        self.max_discard = self.max_discard.min(below.max_discard);
        self.discard_granularity = self.discard_granularity.max(below.discard_granularity);
        self.max_write_zeroes = self.max_write_zeroes.min(below.max_write_zeroes);
        self.waits |= below.waits;
    }
}

/// The least common multiple, as blk_stack_limits uses it: zero stands for no preference, and a result that
/// does not fit gives up the preference.
fn least_common_multiple(a: u32, b: u32) -> u32 {
    if a == 0 || b == 0 {
        return a.max(b);
    }
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).checked_mul(b).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Limits, least_common_multiple};
    use crate::unit::Sectors;

    #[test]
    fn the_strictest_device_rules() {
        let mut stacked = Limits::STACKING;
        stacked.stack(&Limits {
            logical_block_size: 4096,
            max_discard: Sectors(8),
            ..Limits::default()
        });
        stacked.stack(&Limits {
            io_opt: 3072,
            max_discard: Sectors(16),
            ..Limits::default()
        });
        assert_eq!(stacked.logical_block_size, 4096);
        assert_eq!(stacked.max_discard, Sectors(8));
        assert_eq!(stacked.io_opt, 3072);
        assert!(!stacked.writes_zeroes());
    }

    #[test]
    fn optimal_sizes_meet() {
        assert_eq!(least_common_multiple(4096, 3072), 12288);
        assert_eq!(least_common_multiple(0, 3072), 3072);
        assert_eq!(least_common_multiple(u32::MAX, u32::MAX - 1), 0);
    }
}
