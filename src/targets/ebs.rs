//! `ebs <dev> <offset> <ebs_sectors> [<ubs_sectors>]`: a device with small blocks over one with larger ones.
//!
//! Keeps nothing on disk and nothing in memory: a write that covers a block of the device below in part reads that
//! block, changes its part and writes the block, all before it is answered, while no other write changes the block.

use crate::io::{
    AlignedWrite, DevRef, Edges, Extent, Flags, IoResult, Limits, Op, OpKind, Part, Plan, ReadBuf,
    Request, Unplanned, WriteBuf,
};
use crate::sync::Arc;
use crate::target::{
    Behaviour, BuildArgs, BuildError, Mapping, ModelRow, Naming, Rules, Target, TargetKind,
    scan_u64,
};
use crate::unit::{SECTOR_SIZE, Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "ebs",
    version: [1, 0, 1],
    summary: "small blocks over a device with larger ones",
    syntax: "ebs <dev> <offset> <ebs_sectors> [<ubs_sectors>]",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 1000,
            args: "{0} 8 1 8",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 333,
            args: "{0} 64 1 64",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 400,
            args: "{0} 4 4",
            behaves: Behaviour::Disk,
        },
    ],
};

/// The largest block that is shown: a page of the kernel's.
const LARGEST_SHOWN: u16 = 8;

struct Ebs {
    /// Ends with a whole block.
    range: DevRef,
    /// Sectors of a block as it is shown.
    shown: u16,
    /// Sectors of a block of the device below; a power of two.
    block: u64,
    /// The line names it.
    block_named: bool,
    edges: Arc<Edges>,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    args.check_count(
        |left| matches!(left, 3 | 4),
        "Invalid argument count",
        KIND.syntax,
    )?;
    let block_named = args.left() == 4;
    let start = args.ahead(1, |args| args.sector("Invalid device offset sector"))?;
    let shown = args.ahead(2, |args| {
        block_size(args, LARGEST_SHOWN, "Invalid emulated block size")
    })?;
    let named = match block_named {
        true => {
            let read = |args: &mut BuildArgs<'_>| {
                block_size(args, u16::MAX, "Invalid underlying block size")
            };
            Some(args.ahead(3, read)?)
        }
        false => None,
    };
    let device = args.device("Device lookup failed")?;
    let block = match named {
        Some(block) => u64::from(block),
        None => u64::from(device.dev.logical_block_size()) / SECTOR_SIZE,
    };
    if !block.is_power_of_two() {
        return Err(args.refuse_last(
            "Invalid retrieved underlying block size",
            "a device whose blocks are a power of two of sectors",
        ));
    }
    if start.0 & (block - 1) != 0 {
        args.skip(1);
        return Err(args.refuse_last(
            "Device offset must be multiple of underlying block size",
            format!("a multiple of {block} sectors"),
        ));
    }
    // The last block of the device may reach beyond the row.
    let whole = Sectors(args.len.0.div_ceil(block).saturating_mul(block));
    Ok(Box::new(Ebs {
        range: DevRef::new(device, start, whole).checked_for(args.len),
        shown,
        block,
        block_named,
        edges: Arc::new(Edges::new()),
    }))
}

/// A block size in sectors. The kernel keeps the lower 16 bits of the number.
fn block_size(args: &mut BuildArgs<'_>, most: u16, text: &str) -> Result<u16, BuildError> {
    let expected = format!(
        "sectors of a block, a power of two from 1 to {}",
        1 << most.ilog2()
    );
    let word = args.word(text, &expected)?;
    let size = scan_u64(word).map(|size| size as u16);
    size.filter(|size| size.is_power_of_two() && *size <= most)
        .ok_or_else(|| args.refuse_last(text, expected))
}

impl Ebs {
    fn block_start(&self, at: Sector) -> Sector {
        Sector(at.0 & !(self.block - 1))
    }

    fn block_end(&self, at: Sector) -> Sector {
        Sector(at.0.saturating_add(self.block - 1) & !(self.block - 1))
    }

    #[inline]
    fn is_aligned(&self, at: Sector, end: Sector) -> bool {
        (at.0 | end.0) & (self.block - 1) == 0
    }

    /// The blocks that a write from `at` to `end` touches, by number.
    fn blocks(&self, at: Sector, end: Sector) -> std::ops::Range<u64> {
        at.0 / self.block..end.0.div_ceil(self.block)
    }

    #[cold]
    fn read(&self, at: Sector, flags: Flags, mut buffer: ReadBuf<'_>) -> IoResult {
        let end = at + buffer.len().whole_sectors();
        let (first, last) = (self.block_start(at), self.block_end(end));
        let mut blocks = vec![0; (last - first).to_bytes().0 as usize];
        let read = Request::read(first, ReadBuf::new(&mut blocks));
        self.range.submit(read.with_flags(flags))?;
        let mut rest = blocks
            .get((at - first).to_bytes().0 as usize..)
            .unwrap_or_default();
        buffer.for_each_piece(|piece| {
            if let Some((data, after)) = rest.split_at_checked(piece.len()) {
                piece.copy_from_slice(data);
                rest = after;
            }
        });
        Ok(())
    }

    /// Writes what does not begin or end with a block. The blocks are held.
    #[cold]
    fn write(&self, at: Sector, flags: Flags, buffer: WriteBuf<'_>) -> IoResult {
        let end = at + buffer.len().whole_sectors();
        let (first, last) = (self.block_start(at), self.block_end(end));
        let bytes = |from: Sector| (from - first).to_bytes().0 as usize;
        let mut blocks = vec![0; bytes(last)];
        // The first block, if it is not covered, and the last one, if that is another.
        let first_end = first + Sectors(self.block);
        let last_start = self.block_start(end).max(first_end);
        let heads = (at > first || end < first_end).then_some((first, first_end));
        let tails = (last_start < end).then_some((last_start, last));
        let tails = tails.filter(|_| end < last);
        for (from, to) in heads.into_iter().chain(tails) {
            if let Some(block) = blocks.get_mut(bytes(from)..bytes(to)) {
                let read = Request::read(from, ReadBuf::new(block));
                self.range.submit(read.with_flags(flags))?;
            }
        }
        let mut place = bytes(at);
        buffer.for_each_piece(|piece| {
            if let Some(data) = blocks.get_mut(place..place + piece.len()) {
                data.copy_from_slice(piece);
                place += piece.len();
            }
        });
        let write = Request::write(first, WriteBuf::new(&blocks));
        self.range.submit(write.with_flags(flags))
    }

    /// Discards the whole blocks among those from `at` to `end`.
    fn discard(&self, at: Sector, end: Sector, flags: Flags) -> IoResult {
        let (first, last) = (self.block_end(at), self.block_start(end));
        if first >= last {
            return Ok(());
        }
        let discard = Request::discard(first, last - first);
        self.range.submit(discard.with_flags(flags))
    }
}

impl Target for Ebs {
    fn submit(&self, request: Request<'_>) -> IoResult {
        let (at, end, flags) = (request.at, request.end(), request.flags);
        let aligned = self.is_aligned(at, end);
        let kind = request.op.kind();
        if kind == OpKind::Read && aligned {
            return self.range.submit(request);
        }
        let _held = match kind.changes_data() {
            true => Some(
                self.edges
                    .enter_write(self.blocks(at, end), !aligned, flags.nowait)?,
            ),
            false => None,
        };
        match request.op {
            Op::Read(buffer) => self.read(at, flags, buffer),
            Op::Write(buffer) if !aligned => self.write(at, flags, buffer),
            Op::Discard => self.discard(at, end, flags),
            Op::Write(_) | Op::WriteZeroes { .. } => self.range.submit(request),
            // The core flushes the device by itself.
            Op::Flush => Ok(()),
        }
    }

    fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        if !self.is_aligned(part.at, part.end()) {
            return Err(Unplanned);
        }
        let first = plan.n_pieces();
        let passing = match plan.kind().changes_data() {
            true => Some(self.edges.pass_aligned().ok_or(Unplanned)?),
            false => None,
        };
        self.range.plan(part, plan)?;
        if let Some(passing) = passing {
            plan.watch(first, Box::<AlignedWrite>::new(passing));
        }
        Ok(())
    }

    fn args(&self, naming: Naming) -> String {
        let (range, shown) = (&self.range, self.shown);
        let line = format!("{} {} {shown}", naming.of(range), range.start());
        match self.block_named {
            true => format!("{line} {}", self.block),
            false => line,
        }
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        visit(&self.range);
    }

    fn limits(&self, stacked: &mut Limits) {
        let shown = u32::from(self.shown) * SECTOR_SIZE as u32;
        let block = u32::try_from(self.block * SECTOR_SIZE).unwrap_or(u32::MAX);
        stacked.logical_block_size = shown;
        stacked.physical_block_size = block.max(shown);
        stacked.io_min = stacked.physical_block_size;
        // As in the kernel: zeroes are written.
        stacked.max_write_zeroes = Sectors::ZERO;
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        Mapping::to(&self.range, at, Sectors(row_len.0.saturating_sub(at.0)))
    }

    fn extent_at(&self, at: Sector, row_len: Sectors) -> Extent {
        let below = self.range.extent_at(at);
        Extent {
            end: below.end.min(Sector(row_len.0)),
            ..below
        }
    }
}

#[cfg(test)]
mod tests;
