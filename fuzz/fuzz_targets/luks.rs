//! Headers of LUKS as a stranger may have made them: both versions, and the JSON area behind a right checksum.
#![no_main]

use dmfs::format::luks1::{HEADER_BYTES as HEADER_BYTES_1, Luks1, MAGIC};
use dmfs::format::luks2::{Copy, HEADER_BYTES, SIZES, checksum, read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut header = bytes.to_vec();
    header.resize(HEADER_BYTES_1.max(bytes.len()), 0);
    header[..6].copy_from_slice(&MAGIC);
    header[6..8].copy_from_slice(&[0, 1]);
    if let Ok(luks) = Luks1::read(&header) {
        let again = luks.write().expect("what was read can be written");
        assert_eq!(Luks1::read(&again), Ok(luks));
    }
    for copy in [Copy::Primary, Copy::Secondary] {
        let _ = read(bytes, copy);
    }
    json_area(bytes);
});

/// The input as the JSON area of an otherwise right header.
fn json_area(text: &[u8]) {
    let size = SIZES[0] as usize;
    let mut all = vec![0; size];
    all[..6].copy_from_slice(&MAGIC);
    all[6..8].copy_from_slice(&[0, 2]);
    all[8..16].copy_from_slice(&SIZES[0].to_be_bytes());
    all[72..78].copy_from_slice(b"sha256");
    let len = text.len().min(size - HEADER_BYTES);
    all[HEADER_BYTES..HEADER_BYTES + len].copy_from_slice(&text[..len]);
    let sum = checksum(&all);
    all[448..480].copy_from_slice(&sum);
    if let Ok(luks) = read(&all, Copy::Primary) {
        let again = write(&luks, Copy::Primary).expect("what was read can be written");
        let again = read(&again, Copy::Primary).expect("what was written can be read");
        assert_eq!(again.metadata, luks.metadata);
    }
}
