#![allow(clippy::unwrap_used)]

use super::{HEADER_BYTES, Luks1, N_SLOTS, STRIPES, Slot, material_places};
use crate::unit::Sector;
use proptest::prelude::*;

fn sample() -> Luks1 {
    let places = material_places(64);
    let mut luks = Luks1 {
        cipher_name: "aes".into(),
        cipher_mode: "xts-plain64".into(),
        hash: "sha256".into(),
        payload: Sector(4096),
        key_bytes: 64,
        digest: [7; 20],
        digest_salt: [8; 32],
        digest_iterations: 1000,
        uuid: "7eee4179-92ce-42a8-9b55-ab07bc4d02e7".into(),
        slots: places.map(Slot::empty),
    };
    luks.slots[3].is_active = true;
    luks.slots[3].iterations = 1000;
    luks.slots[3].salt = [9; 32];
    luks
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let luks = sample();
    let bytes = luks.write().unwrap();
    assert_eq!(bytes.len(), HEADER_BYTES);
    assert_eq!(bytes[..8], *b"LUKS\xba\xbe\0\x01");
    assert_eq!(Luks1::read(&bytes), Ok(luks));
}

#[test]
fn material_lies_where_cryptsetup_puts_it() {
    // As `luksDump` says of a header with a volume key of 256 bits, and of 512.
    assert_eq!(material_places(32)[..4], [8, 264, 520, 776].map(Sector));
    assert_eq!(material_places(64)[..3], [8, 512, 1016].map(Sector));
    assert_eq!(sample().end(), Sector(8 + 8 * 504));
}

#[test]
fn wrong_fields_are_named() {
    let with = |change: &dyn Fn(&mut Luks1)| {
        let mut luks = sample();
        change(&mut luks);
        luks.validate().unwrap_err().field
    };
    assert_eq!(with(&|luks| luks.hash.clear()), "hash-spec");
    assert_eq!(with(&|luks| luks.key_bytes = 0), "key-bytes");
    assert_eq!(with(&|luks| luks.key_bytes = 513), "key-bytes");
    assert_eq!(with(&|luks| luks.digest_iterations = 0), "mk-digest-iter");
    assert_eq!(
        with(&|luks| luks.slots[3].iterations = 0),
        "key slot 3, iterations"
    );
    assert_eq!(
        with(&|luks| luks.slots[1].stripes = STRIPES + 1),
        "key slot 1, stripes"
    );
    assert_eq!(
        with(&|luks| luks.slots[7].material = Sector(4000)),
        "key slot 7, key-material-offset"
    );
    assert_eq!(
        with(&|luks| luks.slots[2].material = Sector(1000)),
        "key slot 2, key-material-offset"
    );
    let mut detached = sample();
    detached.payload = Sector(0);
    assert_eq!(detached.validate(), Ok(()));
}

#[test]
fn other_bytes_are_no_header() {
    let bytes = sample().write().unwrap();
    for len in 0..HEADER_BYTES {
        assert!(Luks1::read(&bytes[..len]).is_err());
    }
    for (at, byte, field) in [(0, b'l', "magic"), (7, 2, "version")] {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        assert_eq!(Luks1::read(&bytes).unwrap_err().field, field);
    }
}

#[test]
fn a_damaged_byte_is_an_error_or_another_header_that_makes_sense() {
    let bytes = sample().write().unwrap();
    for at in 0..HEADER_BYTES {
        for damage in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= damage;
            if let Ok(luks) = Luks1::read(&bytes) {
                assert_eq!(luks.validate(), Ok(()), "byte {at}");
                // All that the header says comes from its 592 bytes.
                assert_eq!(luks == sample(), at >= 592 || is_past_text(at), "byte {at}");
            }
        }
    }
}

/// Whether the byte lies behind the NUL of a text.
fn is_past_text(at: usize) -> bool {
    [(8, 40, 3), (40, 72, 11), (72, 104, 6), (168, 208, 36)]
        .iter()
        .any(|&(begin, end, len)| (begin + len + 1..end).contains(&at))
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES)) {
        let mut bytes = bytes;
        bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
        if let Ok(luks) = Luks1::read(&bytes) {
            prop_assert_eq!(luks.slots.len(), N_SLOTS);
            prop_assert!(luks.write().is_ok());
        }
    }
}
