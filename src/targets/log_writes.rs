//! `log-writes <dev> <log_dev>`: a device as it is, and a log of all that is written to it.
//!
//! The log has the kernel's format ([`crate::format::log_writes`]) and the kernel's order: what is written or discarded
//! is held back when it completes, and logged when a flush that was asked for afterwards completes, the flush behind it.
//! A durable write is logged when it completes, ahead of what is held back; a mark at once. So the log tells what was
//! durable when. Two things differ from dm-log-writes.c, neither of which makes the log say more than is true: what is
//! held back is logged early where it comes to much memory, and where a durable write lies on it, for a log that told
//! them the other way round would not lead to what the device holds.

mod held;
mod writer;

use held::{Held, HeldList};
use writer::Writer;

use crate::format::log_writes::{END_MARK, EntryFlags, EntryHeader};
use crate::io::{DevRef, Extent, IoError, IoResult, Limits, Op, Request, WriteBuf};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::target::{
    Access, Behaviour, BuildArgs, BuildError, DeviceOpener, Lifecycle, Mapping, MessageError,
    ModelRow, Naming, Rules, Target, TargetKind,
};
use crate::unit::{SECTOR_SHIFT, Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "log-writes",
    version: [1, 1, 0],
    summary: "a device, and a log of all that is written to it",
    syntax: "log-writes <dev> <log_dev>",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 441,
            args: "{0} {1}",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 4096,
            args: "{1} {0}",
            behaves: Behaviour::Disk,
        },
    ],
};

/// Bytes of data that are held back at most.
const MOST_HELD: usize = 64 << 20;

struct LogWrites {
    disk: DevRef,
    log: DevRef,
    /// Sectors of the table before the row: the disk is addressed as the table is.
    start: Sectors,
    /// Of the log, whose sectors are the disk's logical blocks.
    sector_shift: u32,
    /// The disk discards.
    discards: bool,
    /// The log lies on a mapped device, which may be suspended.
    log_may_wait: bool,
    /// Something may be logged.
    logs: bool,
    /// The table is or was live, or has logged something.
    used: AtomicBool,
    /// Lock order: `writer`, `held`. Held while the log is written.
    writer: Mutex<Writer>,
    held: Mutex<HeldList>,
    /// The status, for who must not wait for the log. A leaf.
    shown: Mutex<String>,
    /// Logging has ended: nothing need be held back.
    stopped: AtomicBool,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    args.check_count(|left| left >= 2, "Invalid argument count", KIND.syntax)?;
    let start = Sectors(args.start.0);
    let disk = args.device("Device lookup failed")?;
    let log = args.device("Log device lookup failed")?;
    let end = Sectors(start.0.saturating_add(args.len.0));
    let disk = DevRef::new(disk, Sector(0), end).checked_for(args.len);
    let log_len = log.dev.capacity();
    let log_may_wait = log.mapped.is_some();
    let log = DevRef::new(log, Sector(0), log_len).checked_for(Sectors::ZERO);
    let below = disk.limits();
    let sector_size = below.logical_block_size;
    let logs = args.access == Access::ReadWrite;
    let writer = match args.again && logs {
        true => Writer::go_on(&log, sector_size),
        false => Writer::begin(sector_size),
    };
    let shown = writer.status();
    Ok(Box::new(LogWrites {
        start,
        sector_shift: sector_size.trailing_zeros().saturating_sub(SECTOR_SHIFT),
        discards: below.discards(),
        log_may_wait,
        logs,
        used: AtomicBool::new(false),
        writer: Mutex::new(writer),
        held: Mutex::default(),
        disk,
        log,
        shown: Mutex::new(shown),
        stopped: AtomicBool::new(false),
    }))
}

impl LogWrites {
    fn header(&self, at: Sector, len: Sectors, flags: EntryFlags) -> EntryHeader {
        EntryHeader {
            sector: at.0 >> self.sector_shift,
            n_sectors: len.0 >> self.sector_shift,
            flags,
            data_len: 0,
        }
    }

    /// Writes the log.
    fn log<R>(&self, write: impl FnOnce(&mut Writer) -> R) -> R {
        let mut writer = self.writer.lock();
        let result = write(&mut writer);
        self.used.store(true, Ordering::Relaxed);
        self.stopped.store(!writer.is_enabled(), Ordering::Relaxed);
        *self.shown.lock() = writer.status();
        result
    }

    /// Carries out a flush. What had completed before it began is logged when it is done, done well or not, as in the
    /// kernel.
    fn flush(&self, request: Request<'_>) -> IoResult {
        let before = self.held.lock().begin_flush();
        let result = self.disk.submit(request);
        if result.is_err_and(IoError::is_put_off) {
            self.held.lock().give_up_flush();
            return result;
        }
        let flush = self.header(Sector(0), Sectors::ZERO, EntryFlags::FLUSH);
        self.log(|writer| {
            let durable = self.held.lock().end_flush(before).into_iter();
            writer.append(durable.chain([Held::new(flush, None)]), &self.log);
            writer.count(&self.log);
        });
        result
    }

    /// Carries out a change and logs it, or holds it back.
    fn change(&self, mut request: Request<'_>, flags: EntryFlags) -> IoResult {
        let (at, len, durable) = (request.at, request.len, request.flags.fua);
        let (result, data) = match request.op {
            Op::Discard if !self.discards => (Ok(()), None),
            Op::Write(_) => {
                let result = self.disk.submit(request.reborrow());
                let data = match request.op {
                    Op::Write(data) => Some(data),
                    _ => None,
                };
                (result, data)
            }
            _ => (self.disk.submit(request), None),
        };
        if result.is_err_and(IoError::is_put_off) {
            return result;
        }
        let header = self.header(at, len, flags);
        if durable {
            let flags = flags.with(EntryFlags::FUA);
            self.log_durable(EntryHeader { flags, ..header }, data);
        } else {
            self.hold(Held::new(header, data));
        }
        result
    }

    fn log_durable(&self, header: EntryHeader, data: Option<WriteBuf<'_>>) {
        self.log(|writer| {
            let older = self.held.lock().take_up_to_overlap(&header);
            writer.append(older, &self.log);
            writer.append_borrowed(&header, data, &self.log);
            writer.count(&self.log);
        });
    }

    fn hold(&self, entry: Held) {
        self.used.store(true, Ordering::Relaxed);
        let full = {
            let mut held = self.held.lock();
            held.push(entry);
            held.bytes() > MOST_HELD
        };
        if full {
            self.log(|writer| {
                let early = self.held.lock().take_all_unless_flushing();
                writer.append(early, &self.log);
            });
        }
    }

    /// True where the request would come to writing the log, which may have to wait.
    fn would_wait(&self, request: &Request<'_>) -> bool {
        request.flags.nowait
            && self.log_may_wait
            && (request.flags.fua
                || matches!(request.op, Op::Flush)
                || self.held.lock().bytes() > MOST_HELD)
    }
}

impl Target for LogWrites {
    fn submit(&self, mut request: Request<'_>) -> IoResult {
        if !matches!(request.op, Op::Flush) {
            request.at = request.at + self.start;
        }
        let logs = self.logs && !self.stopped.load(Ordering::Relaxed);
        if logs && self.would_wait(&request) {
            return Err(IoError::WOULD_WAIT);
        }
        match request.op {
            Op::Flush if logs => self.flush(request),
            Op::Write(_) if logs => self.change(request, EntryFlags::NONE),
            Op::Discard if logs => self.change(request, EntryFlags::DISCARD),
            Op::Discard if !self.discards => Ok(()),
            Op::Read(_) | Op::Write(_) | Op::Flush | Op::Discard => self.disk.submit(request),
            // The core writes zeroes as data.
            Op::WriteZeroes { .. } => Err(IoError::UNSUPPORTED),
        }
    }

    fn settle(&self) -> IoResult {
        self.disk.submit(Request::flush())
    }

    fn flushes_itself(&self) -> bool {
        true
    }

    fn args(&self, naming: Naming) -> String {
        format!("{} {}", naming.of(&self.disk), naming.of(&self.log))
    }

    fn status(&self, _naming: Naming) -> String {
        self.shown.lock().clone()
    }

    fn message(&self, words: &[&str], _devices: &dyn DeviceOpener) -> Result<String, MessageError> {
        match words {
            [verb, text] if verb.eq_ignore_ascii_case("mark") => {
                if self.logs {
                    self.log(|writer| writer.mark(text, &self.log));
                }
                Ok(String::new())
            }
            [verb, _] => {
                let line =
                    format!("log-writes: Unrecognised log writes target message received: {verb}");
                Err(MessageError::invalid(line, "mark TEXT"))
            }
            _ => {
                let count = words.len();
                let line = format!(
                    "log-writes: Invalid log-writes message arguments, expect 2 arguments, got {count}"
                );
                Err(MessageError::invalid(line, "mark TEXT"))
            }
        }
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        visit(&self.disk);
        visit(&self.log);
    }

    fn limits(&self, stacked: &mut Limits) {
        // The log's own limits are nobody's business, as in the kernel.
        *stacked = self.disk.limits();
        // Zeroes are written, for the log has no word for them.
        stacked.max_write_zeroes = Sectors::ZERO;
        if !self.discards {
            stacked.max_discard = Sectors(u64::from(u32::MAX >> SECTOR_SHIFT));
            stacked.discard_granularity = stacked.logical_block_size;
        }
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        let left = Sectors(row_len.0.saturating_sub(at.0));
        Mapping::to(&self.disk, at + self.start, left)
    }

    fn extent_at(&self, at: Sector, row_len: Sectors) -> Extent {
        let below = self.disk.extent_at(at + self.start);
        let end = below.end.0.saturating_sub(self.start.0);
        Extent {
            end: Sector(end.min(row_len.0)),
            ..below
        }
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        Some(self)
    }
}

impl Lifecycle for LogWrites {
    fn resume(&self) {
        self.used.store(true, Ordering::Relaxed);
    }
}

impl Drop for LogWrites {
    /// Ends the log with what was held back. A table that never came to life leaves alone what is on the log device.
    fn drop(&mut self) {
        if self.logs && self.used.load(Ordering::Relaxed) {
            self.log(|writer| {
                let rest = self.held.lock().take_all();
                writer.append(rest, &self.log);
                writer.mark(END_MARK, &self.log);
            });
        }
    }
}

#[cfg(test)]
mod tests;
