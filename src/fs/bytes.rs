//! Bytes to blocks: the one place where requests for any bytes become requests for whole logical blocks.
//!
//! A device takes whole logical blocks only; a file takes any bytes. What does not begin or end with a block is
//! widened: a read to the blocks around it, of which the caller gets the middle, a write by reading the blocks
//! at its edges first. Every change passes the device's [`Edges`] meanwhile, so that bytes beside it in the same
//! block are never put back to what they were.
//!
//! Reads end where the device ends; a write gives how much fitted, and ENOSPC where nothing did, as a block
//! device does.

use std::ops::Range;

use crate::io::{
    BlockDev, Edges, Errno, Flags, IoError, IoResult, Op, OpKind, Part, Plan, ReadBuf, Request,
    Unplanned, WriteBuf, scratch,
};
use crate::sync::Arc;
use crate::unit::{Bytes, SECTOR_SIZE, Sector, Sectors};

/// The largest logical block that is widened to.
pub const LARGEST_BLOCK: u64 = 64 << 10;
/// How much longer than the bytes asked for a request may get.
pub const WIDEST: usize = 2 * LARGEST_BLOCK as usize;

/// Zeroes for the edges of a stretch that is to be zeroed.
static ZEROES: [u8; LARGEST_BLOCK as usize] = [0; LARGEST_BLOCK as usize];

/// A stretch of whole blocks that covers the bytes asked for.
struct Widened {
    at: Sector,
    len: usize,
    /// Where in it the bytes asked for lie.
    inner: Range<usize>,
}

impl Widened {
    /// The blocks of `block` bytes around `len` bytes from `at`, cut at the end of a device of `size` bytes.
    fn new(at: u64, len: usize, block: u64, size: u64) -> Widened {
        let start = at - at % block;
        let end = (at + len as u64).next_multiple_of(block).min(size);
        let skip = (at - start) as usize;
        Widened {
            at: Sector(start / SECTOR_SIZE),
            len: (end - start) as usize,
            inner: skip..skip + len,
        }
    }

    /// The bytes of the device that it covers.
    fn bytes(&self) -> Range<u64> {
        let start = self.at.to_bytes().0;
        start..start + self.len as u64
    }

    fn part(&self) -> Part {
        Part::whole(self.at, Bytes(self.len as u64).whole_sectors())
    }

    fn is_exact(&self) -> bool {
        self.len == self.inner.len()
    }
}

/// The device's length in bytes.
pub fn size(device: &dyn BlockDev) -> u64 {
    device
        .capacity()
        .checked_bytes()
        .map_or(u64::MAX, |bytes| bytes.0)
}

fn block_size(device: &dyn BlockDev) -> u64 {
    u64::from(device.logical_block_size()).clamp(SECTOR_SIZE, LARGEST_BLOCK)
}

/// How many of `len` bytes from `at` lie on a device of `size` bytes.
fn clipped(at: u64, len: u64, size: u64) -> u64 {
    size.saturating_sub(at).min(len)
}

/// Reads up to `len` bytes from `at` into `scratch`, which is [`WIDEST`] longer than `len`, and gives the place
/// in it where they are. Fewer, or none, where the device ends.
///
/// # Errors
/// What the device answers.
pub fn read(
    device: &dyn BlockDev,
    at: u64,
    len: usize,
    scratch: &mut [u8],
    flags: Flags,
) -> Result<Range<usize>, IoError> {
    let size = size(device);
    let len = clipped(at, len as u64, size) as usize;
    if len == 0 {
        return Ok(0..0);
    }
    let wide = Widened::new(at, len, block_size(device), size);
    let buffer = scratch
        .get_mut(..wide.len)
        .ok_or(IoError::from(Errno::NOMEM))?;
    device.submit(Request::read(wide.at, ReadBuf::new(buffer)).with_flags(flags))?;
    Ok(wide.inner)
}

/// Writes as much of `data` to `at` as fits and gives how much that was.
///
/// # Errors
/// ENOSPC where nothing fits; else what the device answers.
pub fn write(
    device: &dyn BlockDev,
    edges: &Edges,
    at: u64,
    data: &[u8],
    flags: Flags,
) -> Result<usize, IoError> {
    if data.is_empty() {
        return Ok(0);
    }
    let size = size(device);
    let data = &data[..clipped(at, data.len() as u64, size) as usize];
    if data.is_empty() {
        return Err(Errno::NOSPC.into());
    }
    let wide = Widened::new(at, data.len(), block_size(device), size);
    let _edges = edges.enter_write(wide.bytes(), !wide.is_exact(), flags.nowait)?;
    if wide.is_exact() {
        device.submit(Request::write(wide.at, WriteBuf::new(data)).with_flags(flags))?;
    } else {
        scratch::with(wide.len, |scratch| {
            write_widened(device, &wide, data, scratch, flags)
        })?;
    }
    Ok(data.len())
}

fn write_widened(
    device: &dyn BlockDev,
    wide: &Widened,
    data: &[u8],
    scratch: &mut [u8],
    flags: Flags,
) -> IoResult {
    let block = block_size(device) as usize;
    let reading = Flags {
        fua: false,
        ..flags
    };
    let mut read = |from: usize, to: usize| {
        let at = wide.at + Bytes(from as u64).whole_sectors();
        device.submit(Request::read(at, ReadBuf::new(&mut scratch[from..to])).with_flags(reading))
    };
    let last = (wide.len - 1) / block * block;
    if last == 0 {
        read(0, wide.len)?;
    } else {
        if wide.inner.start != 0 {
            read(0, block)?;
        }
        if wide.inner.end != wide.len {
            read(last, wide.len)?;
        }
    }
    scratch[wide.inner.clone()].copy_from_slice(data);
    device.submit(Request::write(wide.at, WriteBuf::new(scratch)).with_flags(flags))
}

/// A request as a plan, and which of the bytes that it moves are those asked for.
pub struct Planned {
    /// What is to be done. Moves `len` bytes.
    pub plan: Plan,
    /// Bytes of memory that it needs.
    pub len: usize,
    /// Where in them those asked for are.
    pub inner: Range<usize>,
}

/// Plans what [`read`] does, where there is something to read.
///
/// # Errors
/// Where it is not to be planned.
pub fn plan_read(device: Arc<dyn BlockDev>, at: u64, len: usize) -> Result<Planned, Unplanned> {
    let size = size(&*device);
    let len = clipped(at, len as u64, size) as usize;
    if len == 0 {
        return Err(Unplanned);
    }
    let wide = Widened::new(at, len, block_size(&*device), size);
    let mut plan = Plan::new(OpKind::Read, Flags::default());
    device.plan(wide.part(), &mut plan)?;
    Ok(Planned {
        plan,
        len: wide.len,
        inner: wide.inner,
    })
}

/// Plans what [`write`] does with `len` bytes, where all fit and cover whole blocks. The edges are the caller's to
/// pass, before.
///
/// # Errors
/// Where it is not to be planned.
pub fn plan_write(
    device: Arc<dyn BlockDev>,
    at: u64,
    len: usize,
    flags: Flags,
) -> Result<Plan, Unplanned> {
    let size = size(&*device);
    if len == 0 || clipped(at, len as u64, size) < len as u64 {
        return Err(Unplanned);
    }
    let wide = Widened::new(at, len, block_size(&*device), size);
    if !wide.is_exact() {
        return Err(Unplanned);
    }
    let mut plan = Plan::new(OpKind::Write, flags);
    device.plan(wide.part(), &mut plan)?;
    Ok(plan)
}

/// Carries out `op`, which makes a range read as zeroes or drops it, on the whole blocks of `len` bytes from
/// `at`, and writes zeroes over the parts of blocks at its ends. What lies beyond the device is left out.
///
/// # Errors
/// What the device answers.
pub fn zero(
    device: &dyn BlockDev,
    edges: &Edges,
    at: u64,
    len: u64,
    op: impl Fn() -> Op<'static>,
    flags: Flags,
) -> IoResult {
    let size = size(device);
    let end = at + clipped(at, len, size);
    let block = block_size(device);
    let whole_start = at.next_multiple_of(block).min(end);
    // The device may end within a block; its last one then counts as whole.
    let whole_end = if end == size {
        end
    } else {
        (end - end % block).max(whole_start)
    };
    if whole_start < whole_end {
        debug_assert!(matches!(op().kind(), OpKind::Discard | OpKind::WriteZeroes));
        let request = Request {
            op: op(),
            at: Sector(whole_start / SECTOR_SIZE),
            len: Bytes(whole_end - whole_start).whole_sectors(),
            flags,
        };
        let _edges = edges.enter_write(whole_start..whole_end, false, flags.nowait)?;
        device.submit(request)?;
    }
    write_zeroes(device, edges, at..whole_start, flags)?;
    write_zeroes(device, edges, whole_end..end, flags)
}

fn write_zeroes(device: &dyn BlockDev, edges: &Edges, range: Range<u64>, flags: Flags) -> IoResult {
    let len = range.end.saturating_sub(range.start) as usize;
    let zeroes = ZEROES.get(..len).ok_or(IoError::IO)?;
    write(device, edges, range.start, zeroes, flags).map(|_| ())
}

/// The next place from `at` on where data (`holes` false) or a hole (`holes` true) lies. The end of the device
/// counts as a hole.
///
/// # Errors
/// ENXIO beyond the end, and for data where none follows.
pub fn seek(device: &dyn BlockDev, at: u64, holes: bool) -> Result<u64, IoError> {
    let size = size(device);
    if at >= size {
        return Err(Errno::NXIO.into());
    }
    let mut place = at;
    while place < size {
        let sector = Sector(place / SECTOR_SIZE);
        let extent = device.extent_at(sector);
        if extent.hole == holes {
            return Ok(place);
        }
        let next = extent.end.max(sector + Sectors(1));
        place = next.checked_bytes().map_or(size, |bytes| bytes.0);
    }
    if holes {
        Ok(size)
    } else {
        Err(Errno::NXIO.into())
    }
}

#[cfg(test)]
mod tests;
