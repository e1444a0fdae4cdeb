//! Appends entries to the log and counts them. What fails ends logging, not the device.

use super::held::Held;
use crate::format::log_writes::{EntryHeader, LogError, Superblock, Walk};
use crate::io::{DevRef, IoResult, ReadBuf, Request, WriteBuf};
use crate::unit::{Bytes, SECTOR_SIZE, Sector};

/// Entries of one write to the log: each takes two pieces of memory, of which a system call takes 1024.
const MOST_AT_ONCE: usize = 256;

/// The end of a log.
#[derive(Debug)]
pub(super) struct Writer {
    /// Bytes in a sector of the log.
    sector_size: u32,
    n_entries: u64,
    /// Where the next entry goes; the start where nothing has been logged.
    next: Sector,
    enabled: bool,
    /// The log is a daemon's that died, and nothing has been added yet.
    gap: bool,
}

/// The mark behind the entries of a daemon that died: what it held back is missing.
const GAP_MARK: &str = "dmfs-log-writes-gap";

impl Writer {
    /// A new log.
    pub fn begin(sector_size: u32) -> Writer {
        Writer {
            sector_size,
            n_entries: 0,
            next: place(Bytes(sector_size.into())),
            gap: false,
            enabled: true,
        }
    }

    /// Goes on with what is on the log device, or begins a log where there is none.
    pub fn go_on(log: &DevRef, sector_size: u32) -> Writer {
        let mut writer = Writer::begin(sector_size);
        match find_end(log, sector_size) {
            Ok(Some((n_entries, next))) => {
                (writer.n_entries, writer.next, writer.gap) = (n_entries, next, true);
            }
            Ok(None) => {}
            Err(why) => {
                log::error!("log-writes: the log cannot be gone on with: {why}");
                writer.enabled = false;
            }
        }
        writer
    }

    /// False once something went wrong.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// `<logged_entries> <highest_allocated_log_sector>[ logging_disabled]`
    pub fn status(&self) -> String {
        let disabled = match self.enabled {
            true => "",
            false => " logging_disabled",
        };
        format!("{} {}{disabled}", self.n_entries, self.next.0 - 1)
    }

    /// Appends a mark, and counts it.
    pub fn mark(&mut self, text: &str, log: &DevRef) {
        let (header, text) = EntryHeader::mark(text, self.sector_size);
        self.write(&[(&header, text, &[])], log);
        self.count(log);
    }

    /// Appends `entries`.
    pub fn append(&mut self, entries: impl IntoIterator<Item = Held>, log: &DevRef) {
        let mut entries = entries.into_iter();
        loop {
            let batch: Vec<Held> = entries.by_ref().take(MOST_AT_ONCE).collect();
            if batch.is_empty() {
                return;
            }
            let data: Vec<[&[u8]; 1]> = batch.iter().map(|held| [&held.data[..]]).collect();
            let batch = batch.iter().zip(&data);
            let batch: Vec<Piece<'_>> = batch
                .map(|(held, data)| (&held.header, &[][..], &data[..]))
                .collect();
            self.write(&batch, log);
        }
    }

    /// Appends an entry whose data need not be kept.
    pub fn append_borrowed(
        &mut self,
        header: &EntryHeader,
        data: Option<WriteBuf<'_>>,
        log: &DevRef,
    ) {
        let data = data.map(WriteBuf::into_pieces).unwrap_or_default();
        self.write(&[(header, &[], &data)], log);
    }

    /// Makes room for an entry, and says whether there is some.
    fn make_room(&mut self, header: &EntryHeader, log: &DevRef) -> bool {
        let sectors = header.payload().saturating_add(1);
        let sectors = sectors.saturating_mul(u64::from(self.sector_size) / SECTOR_SIZE);
        self.next = Sector(self.next.0.saturating_add(sectors));
        if self.next.0 < log.len().0 {
            self.n_entries = self.n_entries.saturating_add(1);
            return true;
        }
        log::error!("log-writes: Ran out of space on the logdev");
        self.enabled = false;
        false
    }

    fn write(&mut self, batch: &[Piece<'_>], log: &DevRef) {
        if std::mem::take(&mut self.gap) {
            self.mark(GAP_MARK, log);
        }
        let at = self.next;
        let room = batch.iter();
        let room = room.take_while(|(header, ..)| self.enabled && self.make_room(header, log));
        let count = room.count();
        let batch = batch.get(..count).unwrap_or_default();
        if batch.is_empty() {
            return;
        }
        let sector = self.sector_size as usize;
        let mut headers = vec![0; sector * batch.len()];
        for ((header, text, _), bytes) in batch.iter().zip(headers.chunks_exact_mut(sector)) {
            let filled = header.encode().into_iter().chain(text.iter().copied());
            bytes
                .iter_mut()
                .zip(filled)
                .for_each(|(to, from)| *to = from);
        }
        let mut pieces = Vec::with_capacity(2 * batch.len());
        for ((.., data), header) in batch.iter().zip(headers.chunks_exact(sector)) {
            pieces.push(header);
            pieces.extend(data.iter().filter(|piece| !piece.is_empty()));
        }
        let written = log.submit(Request::write(at, WriteBuf::from_pieces(pieces)));
        self.note(written);
    }

    /// Writes down how many entries there are.
    pub fn count(&mut self, log: &DevRef) {
        if !self.enabled {
            return;
        }
        let superblock = Superblock {
            n_entries: self.n_entries,
            sector_size: self.sector_size,
        };
        let mut sector = vec![0; self.sector_size as usize];
        sector[..Superblock::LEN].copy_from_slice(&superblock.encode());
        let written = log.submit(Request::write(Sector(0), WriteBuf::new(&sector)));
        self.note(written);
    }

    fn note(&mut self, written: IoResult) {
        if let Err(error) = written {
            log::error!("log-writes: Error writing log block: {error}; nothing is logged any more");
            self.enabled = false;
        }
    }
}

/// Header, text that follows it in its sector, data.
type Piece<'a> = (&'a EntryHeader, &'a [u8], &'a [&'a [u8]]);

fn place(bytes: Bytes) -> Sector {
    Sector(0) + bytes.whole_sectors()
}

/// How many entries the log has and where it ends; `None` where there is no log.
fn find_end(log: &DevRef, sector_size: u32) -> Result<Option<(u64, Sector)>, String> {
    let read = |at: Sector| {
        let mut sector = vec![0; sector_size as usize];
        let request = Request::read(at, ReadBuf::new(&mut sector));
        let done = log.submit(request).map_err(|error| error.to_string());
        done.map(|()| sector)
    };
    let wrong = |error: LogError| error.to_string();
    let first = read(Sector(0))?;
    if first.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let superblock = Superblock::parse(&first).map_err(wrong)?;
    if superblock.sector_size != sector_size {
        return Err(format!(
            "sector size: expected {sector_size}, found {}",
            superblock.sector_size
        ));
    }
    let mut walk = Walk::new(superblock, log.len().to_bytes()).map_err(wrong)?;
    while let Some(at) = walk.next_at() {
        walk.take(&read(place(at))?).map_err(wrong)?;
    }
    Ok(Some((superblock.n_entries, place(walk.end()))))
}
