//! Any bytes as a deciphered header of TrueCrypt or VeraCrypt: read, written again, its keys and places looked up.
#![no_main]

use dmfs::format::tcrypt::{BODY_BYTES, CHAINS, Header, Which};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (size, body) = bytes.split_at(bytes.len().min(8));
    let size = size.try_into().map_or(0, u64::from_le_bytes);
    let _ = Header::read(body);
    // Checksums are not guessed: they are made right for what is there.
    let Some(body) = body.first_chunk::<BODY_BYTES>() else {
        return;
    };
    let mut body = *body;
    body[..4].copy_from_slice(if size % 2 == 0 { b"TRUE" } else { b"VERA" });
    let keys = crc32fast::hash(&body[192..]);
    body[8..12].copy_from_slice(&keys.to_be_bytes());
    let fields = crc32fast::hash(&body[..188]);
    body[188..192].copy_from_slice(&fields.to_be_bytes());
    let Ok(header) = Header::read(&body) else {
        return;
    };
    let again = Header::read(&header.write()[..]).expect("what was read can be written");
    assert_eq!(again, header);
    for chain in CHAINS {
        for index in 0..chain.ciphers.len() {
            assert!(!chain.volume_key(index, &header.keys.0[..]).is_empty());
        }
        for hidden in [false, true] {
            let which = Which {
                hidden,
                ..Which::default()
            };
            let _ = chain.data_sector(&header, which, size);
            let _ = chain.iv_sector(&header, which, size);
        }
    }
});
