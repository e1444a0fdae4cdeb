//! Any bytes as a log of log-writes: walked to the end or refused, with every entry inside the log; headers come back as
//! they were.
#![no_main]

use dmfs::format::log_writes::{EntryHeader, Superblock, Walk};
use dmfs::unit::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let Ok(superblock) = Superblock::parse(log) else {
        return;
    };
    assert_eq!(superblock.encode(), log[..Superblock::LEN]);
    let Ok(mut walk) = Walk::new(superblock, Bytes(log.len() as u64)) else {
        return;
    };
    while let Some(at) = walk.next_at() {
        let rest = log.get(at.0 as usize..).unwrap_or_default();
        let sector = &rest[..rest.len().min(superblock.sector_size as usize)];
        let Ok(entry) = walk.take(sector) else {
            return;
        };
        assert_eq!(entry.header.encode(), sector[..EntryHeader::LEN]);
        assert!(entry.data_at.0 + entry.data_len.0 <= log.len() as u64);
        assert!(walk.end() > at, "a walk that does not advance");
    }
});
