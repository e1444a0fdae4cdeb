//! `dust <dev> <offset> <block_bytes>`: a device with bad blocks, which messages name and writes mend.
//!
//! Keeps nothing on disk: the list of bad blocks goes with the table. A request is looked at as the kernel cuts it, at
//! blocks from the row's start on; of each piece the block that its first sector lies in counts. As long as no
//! block can fail, a request costs one load more than `linear`'s.

use std::collections::BTreeMap;

use crate::io::{
    DevRef, Errno, Extent, IoError, IoResult, Limits, OpKind, Part, Plan, Request, Unplanned,
};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::target::{
    Behaviour, BuildArgs, BuildError, DeviceOpener, Mapping, MessageError, ModelRow, Naming, Rules,
    Target, TargetKind, scan_u32, scan_u64,
};
use crate::unit::{SECTOR_SIZE, Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "dust",
    version: [1, 0, 0],
    summary: "bad blocks, named by messages",
    syntax: "dust <dev> <offset> <block_bytes>",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 1000,
            args: "{0} 24 512",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 333,
            args: "{0} 3 8192",
            behaves: Behaviour::Disk,
        },
    ],
};

/// The largest block, sectors (dm-dust.c: DUST_MAX_BLKSZ_SECTORS).
const LARGEST_BLOCK: u64 = 2_097_152;

struct Dust {
    range: DevRef,
    /// Sectors of a block; a power of two.
    block: u64,
    /// There are bad blocks, and they fail: whoever finds this set looks at the list.
    armed: AtomicBool,
    /// A leaf in the lock order.
    list: Mutex<List>,
}

/// The bad blocks of the device, and what is done about them.
#[derive(Default)]
struct List {
    /// How many writes each refuses before one mends it.
    bad: BTreeMap<u64, u8>,
    enabled: bool,
    quiet: bool,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    args.check_count(|left| left == 3, "Invalid argument count", KIND.syntax)?;
    let block = args.ahead(2, block_sectors)?;
    let range = args.device_range(
        args.len,
        "Device lookup failed",
        "Invalid device offset sector",
    );
    // Whatever is wrong with the device (dm-dust.c: dust_ctr).
    let range = range.map_err(|error| BuildError {
        errno: Errno::INVAL,
        ..error
    })?;
    Ok(Box::new(Dust {
        range,
        block,
        armed: AtomicBool::new(false),
        list: Mutex::default(),
    }))
}

/// The size of a block, given in bytes.
fn block_sectors(args: &mut BuildArgs<'_>) -> Result<u64, BuildError> {
    let bytes = args.positive_u32("Invalid block size parameter", "a block size in bytes")?;
    let sectors = u64::from(bytes) / SECTOR_SIZE;
    let most = args.len.0.min(LARGEST_BLOCK);
    let refusal = match bytes {
        _ if sectors == 0 => "Block size must be at least 512",
        _ if !bytes.is_power_of_two() => "Block size must be a power of 2",
        _ if sectors > most => "Block size is too large",
        _ => return Ok(sectors),
    };
    let expected = format!(
        "a power of two from 512 to {} bytes, which the row and 1 GiB allow",
        most * SECTOR_SIZE
    );
    Err(args.refuse_last(refusal, expected))
}

impl Dust {
    /// The block of the device that the sector `at` of the row lies in.
    fn block_of(&self, at: Sector) -> u64 {
        self.range.start().0.saturating_add(at.0) / self.block
    }

    /// Where the piece that begins at `at` ends, at `end` at the latest.
    fn piece_end(&self, at: Sector, end: Sector) -> Sector {
        Sector((at.0 / self.block + 1).saturating_mul(self.block)).min(end)
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// Carries out a request that bad blocks may lie in the way of.
    #[cold]
    fn submit_armed(&self, request: Request<'_>) -> IoResult {
        let kind = request.op.kind();
        let failing = match kind {
            OpKind::Read => {
                let last = self.last_piece(request.at, request.end());
                match self.list.lock().any_in(self.block_of(request.at), last) {
                    true => return Err(IoError::IO),
                    false => Vec::new(),
                }
            }
            OpKind::Write | OpKind::WriteZeroes => {
                self.write(request.at, request.end(), request.flags.nowait)?
            }
            // In one piece, however long it is.
            OpKind::Discard => match self.write_block(&mut self.list.lock(), request.at) {
                true => Vec::new(),
                false => return Err(IoError::IO),
            },
            OpKind::Flush => Vec::new(),
        };
        match failing.is_empty() {
            true => self.range.submit(request),
            false => self.submit_around(&failing, request),
        }
    }

    /// The block of the last piece of the sectors from `at` to `end`.
    fn last_piece(&self, at: Sector, end: Sector) -> u64 {
        let boundary = Sector(end.0.saturating_sub(1) / self.block * self.block);
        self.block_of(boundary.max(at))
    }

    /// Has a write from `at` to `end` meet the bad blocks there; gives the pieces that fail.
    fn write(
        &self,
        mut at: Sector,
        end: Sector,
        nowait: bool,
    ) -> Result<Vec<(Sector, Sector)>, IoError> {
        let mut list = self.list.lock();
        let mut failing = Vec::new();
        if !list.any_in(self.block_of(at), self.last_piece(at, end)) {
            return Ok(failing);
        }
        // Each try counts, and what is written of a request that fails may have to wait for the device below.
        if nowait {
            return Err(IoError::WOULD_WAIT);
        }
        while at < end {
            let piece_end = self.piece_end(at, end);
            if !self.write_block(&mut list, at) {
                failing.push((at, piece_end));
            }
            at = piece_end;
        }
        Ok(failing)
    }

    /// Has a write meet the block at `at`: one that is bad refuses it as often as it is said to, then it is mended.
    /// False where it is refused.
    fn write_block(&self, list: &mut List, at: Sector) -> bool {
        if !list.enabled {
            return true;
        }
        let block = self.block_of(at);
        match list.bad.get_mut(&block) {
            None => true,
            Some(0) => {
                list.bad.remove(&block);
                self.list_changed(list);
                list.tell(|| format!("block {block} removed from badblocklist by write"));
                true
            }
            Some(refuses) => {
                *refuses -= 1;
                false
            }
        }
    }

    /// Writes everything but the `failing` pieces, and fails, whatever becomes of that.
    fn submit_around(&self, failing: &[(Sector, Sector)], request: Request<'_>) -> IoResult {
        let mut rest = Some(request);
        for &(at, end) in failing {
            let Some(request) = rest.take() else {
                break;
            };
            let bad = match request.at < at {
                true => {
                    let len = at - request.at;
                    let (good, bad) = request.split_at(len);
                    let _ = self.range.submit(good);
                    bad
                }
                false => request,
            };
            if end < bad.end() {
                let len = end - bad.at;
                rest = Some(bad.split_at(len).1);
            }
        }
        if let Some(good) = rest {
            let _ = self.range.submit(good);
        }
        Err(IoError::IO)
    }

    /// Sees to what follows from a change of the list.
    fn list_changed(&self, list: &List) {
        let armed = list.enabled && !list.bad.is_empty();
        self.armed.store(armed, Ordering::Relaxed);
    }

    /// Reads the number of a block of the device (one past its last is let through, as in the kernel).
    fn block_number(&self, word: &str) -> Result<u64, MessageError> {
        let count = self.range.device().dev.capacity().0 / self.block;
        let expected = format!("the number of a block, 0 to {count}");
        match scan_u64(word) {
            None => Err(MessageError::silent(Errno::INVAL, expected)),
            Some(block) if block > count => Err(MessageError::invalid(
                "dust: selected block value out of range",
                expected,
            )),
            Some(block) => Ok(block),
        }
    }

    fn add(&self, block: u64, refuses: u8) -> Result<String, MessageError> {
        let mut list = self.list.lock();
        if list.bad.contains_key(&block) {
            let line = format!("dust: dust_add_block: block {block} already in badblocklist");
            return Err(list.refuse(line, "a block that is not in the list"));
        }
        list.bad.insert(block, refuses);
        list.tell(|| {
            format!(
                "dust_add_block: badblock added at block {block} with write fail count {refuses}"
            )
        });
        self.list_changed(&list);
        Ok(String::new())
    }

    fn remove(&self, block: u64) -> Result<String, MessageError> {
        let mut list = self.list.lock();
        if list.bad.remove(&block).is_none() {
            let line = format!("dust: dust_remove_block: block {block} not found in badblocklist");
            return Err(list.refuse(line, "a block that is in the list"));
        }
        list.tell(|| format!("dust_remove_block: badblock removed at block {block}"));
        self.list_changed(&list);
        Ok(String::new())
    }

    fn clear(&self) -> String {
        let mut list = self.list.lock();
        let had = !std::mem::take(&mut list.bad).is_empty();
        self.list_changed(&list);
        match had {
            true => "dust_clear_badblocks: badblocks cleared".to_owned(),
            false => "dust_clear_badblocks: no badblocks found".to_owned(),
        }
    }

    fn enable(&self, enabled: bool) -> String {
        let mut list = self.list.lock();
        list.enabled = enabled;
        self.list_changed(&list);
        log::info!(
            "dust: {} read failures on bad sectors",
            if enabled { "enabling" } else { "disabling" }
        );
        String::new()
    }

    /// A message without arguments.
    fn command(&self, word: &str) -> Result<String, MessageError> {
        match word.to_ascii_lowercase().as_str() {
            "addbadblock" | "removebadblock" | "queryblock" => Err(MessageError::invalid(
                format!("dust: {word} requires an additional argument"),
                format!("{word} <block>"),
            )),
            "enable" => Ok(self.enable(true)),
            "disable" => Ok(self.enable(false)),
            "countbadblocks" => {
                let count = self.list.lock().bad.len();
                Ok(format!("countbadblocks: {count} badblock(s) found"))
            }
            "clearbadblocks" => Ok(self.clear()),
            "quiet" => {
                let mut list = self.list.lock();
                list.quiet = !list.quiet;
                Ok(String::new())
            }
            "listbadblocks" => Ok(self.list.lock().lines()),
            _ => Err(unrecognized(word)),
        }
    }
}

impl List {
    fn any_in(&self, first: u64, last: u64) -> bool {
        self.enabled && self.bad.range(first..=last).next().is_some()
    }

    /// Says what has changed, where anybody wants to know.
    fn tell(&self, line: impl FnOnce() -> String) {
        if !self.quiet {
            log::info!("dust: {}", line());
        }
    }

    fn refuse(&self, line: String, expected: &str) -> MessageError {
        match self.quiet {
            true => MessageError::silent(Errno::INVAL, expected),
            false => MessageError::invalid(line, expected),
        }
    }

    fn lines(&self) -> String {
        if self.bad.is_empty() {
            return "No blocks in badblocklist".to_owned();
        }
        self.bad.keys().map(|block| format!("{block}\n")).collect()
    }
}

fn unrecognized(word: &str) -> MessageError {
    MessageError::invalid(
        format!("dust: unrecognized message '{word}' received"),
        "addbadblock <block> [<write_fail_count>], removebadblock <block>, queryblock <block>, \
         countbadblocks, listbadblocks, clearbadblocks, enable, disable or quiet",
    )
}

impl Target for Dust {
    #[inline]
    fn submit(&self, request: Request<'_>) -> IoResult {
        match self.is_armed() {
            false => self.range.submit(request),
            true => self.submit_armed(request),
        }
    }

    fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        match self.is_armed() {
            false => self.range.plan(part, plan),
            true => Err(Unplanned),
        }
    }

    fn args(&self, naming: Naming) -> String {
        format!(
            "{} {} {}",
            naming.of(&self.range),
            self.range.start(),
            self.block * SECTOR_SIZE
        )
    }

    fn status(&self, naming: Naming) -> String {
        let list = self.list.lock();
        let reads = match list.enabled {
            true => "fail_read_on_bad_block",
            false => "bypass",
        };
        let speech = if list.quiet { "quiet" } else { "verbose" };
        format!("{} {reads} {speech}", naming.of(&self.range))
    }

    fn message(&self, words: &[&str], _devices: &dyn DeviceOpener) -> Result<String, MessageError> {
        match *words {
            [word] => self.command(word),
            [word, block] => {
                let block = self.block_number(block)?;
                match word.to_ascii_lowercase().as_str() {
                    "addbadblock" => self.add(block, 0),
                    "removebadblock" => self.remove(block),
                    "queryblock" => {
                        let found = match self.list.lock().bad.contains_key(&block) {
                            true => "found",
                            false => "not found",
                        };
                        Ok(format!(
                            "dust_query_block: block {block} {found} in badblocklist"
                        ))
                    }
                    _ => Err(unrecognized(word)),
                }
            }
            [word, block, count] => {
                let expected = "a number of writes that fail, 0 to 255";
                let Some(_) = scan_u64(block) else {
                    return self.block_number(block).map(|_| String::new());
                };
                let count =
                    scan_u32(count).ok_or_else(|| MessageError::silent(Errno::INVAL, expected))?;
                let count = u8::try_from(count).map_err(|_| {
                    MessageError::invalid("dust: selected write fail count out of range", expected)
                })?;
                let block = self.block_number(block)?;
                match word.eq_ignore_ascii_case("addbadblock") {
                    true => self.add(block, count),
                    false => Err(unrecognized(word)),
                }
            }
            _ => Err(MessageError::invalid(
                format!("dust: invalid number of arguments '{}'", words.len()),
                "a message of one to three words",
            )),
        }
    }

    fn recall(&self) -> Vec<String> {
        let list = self.list.lock();
        let blocks = list.bad.iter();
        let mut messages: Vec<String> = blocks
            .map(|(block, refuses)| format!("addbadblock {block} {refuses}"))
            .collect();
        let switches = [(list.enabled, "enable"), (list.quiet, "quiet")];
        let on = switches.into_iter().filter(|(is_on, _)| *is_on);
        messages.extend(on.map(|(_, message)| message.to_owned()));
        messages
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        visit(&self.range);
    }

    fn limits(&self, stacked: &mut Limits) {
        // As in the kernel: zeroes are written, and so meet bad blocks.
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
