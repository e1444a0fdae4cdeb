//! `flakey <dev> <offset> <up_s> <down_s> [<#features> <feature>...]`: a device that fails now and then.
//!
//! Keeps nothing on disk. While it is up, and it is for the first `up_s` of every `up_s + down_s` seconds, everything
//! goes to the device; what becomes of a request while it is down, the features say. A flush is a request like others
//! here: it can fail, or be dropped with the writes that it should have made durable.

mod features;

use features::{Corruption, Features, Writes};

use crate::io::{
    DevRef, Extent, Flags, IoError, IoResult, Limits, Op, OpKind, Part, Plan, ReadBuf, Request,
    Unplanned, WriteBuf,
};
use crate::target::{
    Behaviour, BuildArgs, BuildError, DeviceOpener, Mapping, MessageError, ModelRow, Naming,
    Repeat, Rules, Target, TargetKind, Uses,
};
use crate::unit::{Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "flakey",
    version: [1, 5, 0],
    summary: "fails, drops or corrupts now and then",
    syntax: "flakey [dmfs:...] <dev> <offset> <up_s> <down_s> [<#features> <feature>...]",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 1000,
            args: "{0} 24 1 0",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 77,
            args: "dmfs:seed=1,clock=messages {0} 3 1 100 2 random_read_corrupt 1000000000",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 50,
            args: "dmfs:clock=requests {0} 3 0 1 5 corrupt_bio_byte 600000 w 1 0",
            behaves: Behaviour::Disk,
        },
    ],
};

/// What probabilities are fractions of.
const CERTAIN: u64 = 1_000_000_000;

struct Flakey {
    range: DevRef,
    up: u32,
    down: u32,
    features: Features,
    repeat: Repeat,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    let repeat = Repeat::read(args, Uses::TimeAndChance)?;
    args.check_count(|left| left >= 4, "Invalid argument count", KIND.syntax)?;
    let start = args.ahead(1, |args| args.sector("Invalid device sector"))?;
    let interval = |args: &mut BuildArgs<'_>| {
        // The kernel says so of both.
        args.number(0..=u32::MAX, "Invalid up interval", "a time in seconds")
    };
    let up = args.ahead(2, interval)?;
    let down = args.ahead(3, interval)?;
    args.ahead(3, |args| check_intervals(args, up, down))?;
    let features = args.ahead(4, Features::read)?;
    let device = args.device("Device lookup failed")?;
    Ok(Box::new(Flakey {
        range: DevRef::new(device, start, args.len),
        up,
        down,
        features,
        repeat,
    }))
}

fn check_intervals(args: &mut BuildArgs<'_>, up: u32, down: u32) -> Result<(), BuildError> {
    args.skip(1);
    let refusal = match up.checked_add(down) {
        Some(1..) => return Ok(()),
        None if up.wrapping_add(down) != 0 => "Interval overflow",
        Some(0) | None => "Total (up + down) interval is zero",
    };
    Err(args.refuse_last(
        refusal,
        "up and down intervals that are 1 to 4294967295 seconds together",
    ))
}

impl Flakey {
    #[inline]
    fn is_down(&self) -> bool {
        self.down > 0 && {
            let interval = u64::from(self.up) + u64::from(self.down);
            self.repeat.clock().seconds() % interval >= u64::from(self.up)
        }
    }

    #[inline]
    fn pass(&self, request: Request<'_>) -> IoResult {
        match request.op.kind() {
            OpKind::Flush => self.range.flush(request.flags),
            OpKind::Read | OpKind::Write | OpKind::Discard | OpKind::WriteZeroes => {
                self.range.submit(request)
            }
        }
    }

    /// Carries out a request by a clock or a seed that was given.
    #[cold]
    fn submit_exactly(&self, request: Request<'_>) -> IoResult {
        if request.flags.nowait {
            return Err(IoError::WOULD_WAIT);
        }
        let is_down = self.is_down();
        self.repeat.count_request();
        match is_down {
            true => self.submit_down(request),
            false => self.pass(request),
        }
    }

    #[cold]
    fn submit_down(&self, request: Request<'_>) -> IoResult {
        let (at, flags) = (request.at, request.flags);
        match request.op {
            Op::Read(_) if self.features.error_reads => Err(IoError::IO),
            Op::Read(buffer) => self.read(at, flags, buffer),
            Op::Write(_) | Op::Flush | Op::Discard | Op::WriteZeroes { .. }
                if self.features.writes != Writes::Pass =>
            {
                match self.features.writes {
                    Writes::Fail => Err(IoError::IO),
                    Writes::Drop | Writes::Pass => Ok(()),
                }
            }
            Op::Write(buffer) => self.write(at, flags, buffer),
            Op::Flush | Op::Discard | Op::WriteZeroes { .. } => self.pass(request),
        }
    }

    fn read(&self, at: Sector, flags: Flags, mut buffer: ReadBuf<'_>) -> IoResult {
        let read = Request::read(at, buffer.reborrow()).with_flags(flags);
        self.range.submit(read)?;
        for (place, value) in self.bad_bytes(OpKind::Read, flags, buffer.len().0) {
            let mut start = 0;
            buffer.for_each_piece(|piece| {
                let end = start + piece.len() as u64;
                if (start..end).contains(&place)
                    && let Some(byte) = piece.get_mut((place - start) as usize)
                {
                    *byte = value;
                }
                start = end;
            });
        }
        Ok(())
    }

    fn write(&self, at: Sector, flags: Flags, buffer: WriteBuf<'_>) -> IoResult {
        let bad = self.bad_bytes(OpKind::Write, flags, buffer.len().0);
        if bad.is_empty() {
            return self
                .range
                .submit(Request::write(at, buffer).with_flags(flags));
        }
        let mut copy = Vec::new();
        buffer.for_each_piece(|piece| copy.extend_from_slice(piece));
        for (place, value) in bad {
            if let Some(byte) = copy.get_mut(place as usize) {
                *byte = value;
            }
        }
        let write = Request::write(at, WriteBuf::new(&copy));
        self.range.submit(write.with_flags(flags))
    }

    /// The bytes of a request of `len` bytes that are replaced, and by what.
    fn bad_bytes(&self, kind: OpKind, flags: Flags, len: u64) -> Vec<(u64, u8)> {
        let mut bad = Vec::new();
        if let Some(fixed) = &self.features.corruption
            && fixed.concerns(kind, flags)
        {
            let Corruption { nth, value, .. } = *fixed;
            bad.push((u64::from(nth) - 1, value));
        }
        let probability = self.features.probability(kind);
        if probability > 0 && self.repeat.roll() % CERTAIN < u64::from(probability) {
            let place = self.repeat.roll() % len.max(1);
            bad.push((place, self.repeat.roll() as u8));
        }
        bad.retain(|(place, _)| *place < len);
        bad
    }
}

impl Target for Flakey {
    #[inline]
    fn submit(&self, request: Request<'_>) -> IoResult {
        if self.repeat.is_exact() {
            self.submit_exactly(request)
        } else if self.is_down() {
            self.submit_down(request)
        } else {
            self.pass(request)
        }
    }

    fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        if self.repeat.is_exact() || self.is_down() {
            return Err(Unplanned);
        }
        match plan.kind() {
            OpKind::Flush => self.range.plan_flush(plan),
            OpKind::Read | OpKind::Write | OpKind::Discard | OpKind::WriteZeroes => {
                self.range.plan(part, plan)
            }
        }
    }

    fn flushes_itself(&self) -> bool {
        true
    }

    fn args(&self, naming: Naming) -> String {
        format!(
            "{}{} {} {} {} {}",
            self.repeat.prefix(),
            naming.of(&self.range),
            self.range.start(),
            self.up,
            self.down,
            self.features
        )
    }

    fn message(&self, words: &[&str], _devices: &dyn DeviceOpener) -> Result<String, MessageError> {
        self.repeat.tick(words).map(|()| String::new())
    }

    fn recall(&self) -> Vec<String> {
        self.repeat.recall()
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        visit(&self.range);
    }

    fn limits(&self, stacked: &mut Limits) {
        // As in the kernel: zeroes are written, and so fail as writes do.
        stacked.max_write_zeroes = Sectors::ZERO;
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        Mapping::to(&self.range, at, Sectors(row_len.0.saturating_sub(at.0)))
    }

    fn extent_at(&self, at: Sector, _row_len: Sectors) -> Extent {
        self.range.extent_at(at)
    }
}

#[cfg(test)]
mod tests;
