#![allow(clippy::unwrap_used)]

use proptest::prelude::{any, proptest};

use super::*;
use zeroize::Zeroizing;

fn sample(version: u16) -> Header {
    let mut keys = [0; 256];
    (0_u8..=255).zip(&mut keys).for_each(|(n, key)| *key = n);
    Header {
        family: Family::VeraCrypt,
        version,
        needs: 0x010b,
        hidden_bytes: 0,
        volume_bytes: 36_864,
        data_at: 131_072,
        data_bytes: 36_864,
        flags: 2,
        sector_bytes: 512,
        keys: Keys(Zeroizing::new(keys)),
    }
}

#[test]
fn a_header_comes_back() {
    let header = sample(5);
    let body = header.write();
    assert_eq!(Header::read(&body[..]).unwrap(), header);
    assert!(!format!("{header:?}").contains("254"), "keys are shown");
}

#[test]
fn what_old_versions_leave_out_has_a_default() {
    let header = Header {
        data_at: 0,
        sector_bytes: 0,
        ..sample(2)
    };
    let read = Header::read(&header.write()[..]).unwrap();
    assert_eq!((read.data_at, read.sector_bytes), (512, 512));
}

#[test]
fn a_header_that_ends_early_is_none() {
    let body = sample(5).write();
    for len in 0..BODY_BYTES {
        assert!(Header::read(&body[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_damaged_header_is_refused() {
    let body = sample(5).write();
    for at in 0..BODY_BYTES {
        let mut damaged = *body;
        damaged[at] ^= 0x10;
        let refused = Header::read(&damaged).unwrap_err();
        let field = match at {
            0..4 => "magic",
            192.. => "key CRC-32",
            _ => "header CRC-32",
        };
        // A version before 4 has no checksum over the rest.
        assert!(refused.field == field || at == 4, "byte {at}: {refused}");
    }
    // Before version 4 only the keys are checked.
    let mut old = *sample(3).write();
    old[100] ^= 1;
    assert!(Header::read(&old).is_ok());
    assert_eq!(
        Header::read(&sample(0).write()[..]).unwrap_err().field,
        "version"
    );
}

#[test]
fn keys_lie_where_every_mode_has_them() {
    let keys: Vec<u8> = (0..=255).collect();
    let chain = |mode: Mode, name: &str| {
        let found = CHAINS
            .iter()
            .find(|chain| chain.mode == mode && chain.name() == name);
        *found.unwrap()
    };
    let range = |at: u8, len: u8| (at..at + len).collect::<Vec<u8>>();
    let xts = chain(Mode::Xts, "serpent-twofish-aes");
    assert_eq!(*xts.key(1, &keys), [range(32, 32), range(128, 32)].concat());
    let lrw = chain(Mode::Lrw, "twofish-aes");
    assert_eq!(*lrw.key(1, &keys), [range(64, 32), range(0, 16)].concat());
    let cbc = chain(Mode::Cbc, "cast5");
    assert_eq!(*cbc.key(0, &keys), range(32, 16));
    assert_eq!(
        *cbc.volume_key(0, &keys),
        [range(32, 16), range(0, 24)].concat()
    );
    let inner = chain(Mode::InnerCbc, "serpent-blowfish_le-aes");
    assert_eq!(*inner.key(1, &keys), range(64, 56));
    assert_eq!(*inner.key(2, &keys), range(120, 32));
    for (chain, bits) in [
        (xts, 1536),
        (lrw, 768),
        (cbc, 320),
        (inner, 1216),
        (chain(Mode::Cbc, "aes"), 512),
        (chain(Mode::Cbc, "des3_ede"), 384),
        (chain(Mode::InnerCbc, "blowfish_le"), 640),
        (chain(Mode::InnerCbc, "blowfish_le-aes"), 960),
        (chain(Mode::OuterCbc, "aes-twofish-serpent"), 1024),
        (chain(Mode::Xts, "camellia-serpent-kuznyechik"), 1536),
    ] {
        assert_eq!(
            8 * chain.all_key_bytes(),
            bits,
            "{}-{}",
            chain.name(),
            chain.mode.name()
        );
    }
}

#[test]
fn a_pim_sets_the_iterations() {
    let with = |hash: &str, default: u32, pim: Option<u32>| {
        let found = STRETCHINGS
            .iter()
            .find(|stretching| (stretching.hash, stretching.default_iterations) == (hash, default));
        found.unwrap().iterations(pim)
    };
    assert_eq!(with("sha512", 500_000, None), Some(500_000));
    assert_eq!(with("sha512", 500_000, Some(485)), Some(500_000));
    assert_eq!(with("sha256", 200_000, Some(98)), Some(200_704));
    assert_eq!(with("sha512", 1_000, Some(1)), None, "TrueCrypt has none");
    assert_eq!(with("sha512", 500_000, Some(u32::MAX)), None);
}

#[test]
fn headers_lie_where_they_fit() {
    let at = |hidden, backup, system, size| {
        let which = Which {
            hidden,
            backup,
            system,
        };
        which.places(size)
    };
    assert_eq!(at(false, false, false, 0), [0]);
    assert_eq!(at(true, false, false, 1_000_000), [65_536, 998_464]);
    assert_eq!(at(true, false, false, 1_000), [65_536]);
    assert_eq!(at(false, true, false, 1_000_000), [868_928]);
    assert_eq!(at(true, true, false, 1_000_000), [934_464]);
    assert!(at(false, true, false, 1_000).is_empty());
    assert_eq!(at(false, false, true, 1_000), [31_744]);
}

#[test]
fn data_begin_where_each_version_says() {
    let (xts, lrw) = (
        &CHAINS[0],
        CHAINS.iter().find(|chain| chain.mode == Mode::Lrw).unwrap(),
    );
    let hidden = Which {
        hidden: true,
        ..Which::default()
    };
    let old = Header {
        hidden_bytes: 10_240,
        ..sample(3)
    };
    let none = Which::default();
    assert_eq!(xts.data_sector(&sample(5), none, 1 << 20), Ok(256));
    assert_eq!(xts.data_sector(&sample(2), none, 1 << 20), Ok(1));
    assert_eq!(xts.data_sector(&sample(5), hidden, 1 << 20), Ok(256));
    // 1536 bytes of header and others lie behind it.
    assert_eq!(xts.data_sector(&old, hidden, 40_960), Ok(57));
    assert_eq!(lrw.data_sector(&old, hidden, 40_960), Ok(57));
    assert_eq!(lrw.iv_sector(&old, hidden, 40_960), Ok(0));
    assert!(xts.data_sector(&old, hidden, 11_000).is_err());
    let absurd = Header {
        hidden_bytes: u64::MAX,
        ..old
    };
    assert!(xts.data_sector(&absurd, hidden, 1 << 20).is_err());
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600), size in any::<u64>()) {
        let mut bytes = bytes;
        if bytes.len() > 6 {
            bytes[..6].copy_from_slice(b"VERA\0\x03");
        }
        if let Ok(header) = Header::read(&bytes) {
            for chain in CHAINS {
                let _ = chain.data_sector(&header, Which::default(), size);
            }
        }
    }
}
