#![allow(clippy::unwrap_used)]

use super::*;
use crate::backing::Crashing;
use crate::format::tcrypt::{Keys, Mode};

/// What a volume takes that TrueCrypt 7 makes: as much in front of its data as behind.
const DEVICE_BYTES: usize = 2 * 131_072 + 8192;

fn sample() -> Header {
    let mut keys = [0; 256];
    (0_u8..=255)
        .zip(&mut keys)
        .for_each(|(n, key)| *key = n ^ 0x5a);
    Header {
        family: Family::TrueCrypt,
        version: 5,
        needs: 0x0700,
        hidden_bytes: 0,
        volume_bytes: 8192,
        data_at: 131_072,
        data_bytes: 8192,
        flags: 0,
        sector_bytes: 512,
        keys: Keys(Zeroizing::new(keys)),
    }
}

fn stretching(hash: &str) -> &'static Stretching {
    STRETCHINGS
        .iter()
        .find(|stretching| stretching.hash == hash)
        .unwrap()
}

/// A header's bytes, enciphered under `passphrase`.
fn sealed(header: &Header, chain: &Chain, hash: &str, passphrase: &[u8]) -> Vec<u8> {
    let salt = [7; SALT_BYTES];
    let mut key = [0; HEADER_KEY_BYTES];
    let derivation = KeyDerivation::Pbkdf2 {
        hash: hash.to_owned(),
        iterations: stretching(hash).default_iterations,
    };
    derivation.derive(passphrase, &salt, &mut key).unwrap();
    let body = encipher(chain, &key, &header.write()).unwrap();
    [&salt[..], &body[..]].concat()
}

fn device(headers: &[(usize, Vec<u8>)]) -> Crashing {
    let mut bytes = vec![0; DEVICE_BYTES];
    for (at, header) in headers {
        bytes[*at..*at + header.len()].copy_from_slice(header);
    }
    Crashing::new(bytes)
}

fn looked_for(which: Which) -> Search {
    Search {
        which,
        only_true_crypt: true,
        hash: Some("sha512".into()),
        ..Search::default()
    }
}

fn secret(text: &str) -> Secret {
    Secret::from(text.as_bytes().to_vec())
}

#[test]
fn every_chain_is_found() {
    for chain in CHAINS {
        let name = (chain.name(), chain.mode.name());
        let device = device(&[(0, sealed(&sample(), chain, "sha512", b"open"))]);
        let search_for = Search {
            cipher: Some(name.0.clone()),
            ..looked_for(Which::default())
        };
        let volume = search(&device, &secret("open"), &search_for).unwrap();
        assert_eq!(volume.header, sample(), "{name:?}");
        assert_eq!((volume.chain.name(), volume.chain.mode.name()), name);
        let rows = volume.rows(device.capacity(), None, &[]);
        assert_eq!(rows.is_ok(), chain.mode.can_be_mapped(), "{name:?}");
    }
}

#[test]
fn each_header_is_found_in_its_place() {
    let aes = &CHAINS[0];
    let of = |text: &str| sealed(&sample(), aes, "sha512", text.as_bytes());
    let end = DEVICE_BYTES;
    let device = device(&[
        (0, of("normal")),
        (31_744, of("system")),
        (65_536, of("hidden")),
        (end - 131_072, of("backup")),
        (end - 65_536, of("hidden backup")),
    ]);
    let which = |hidden, backup, system| Which {
        hidden,
        backup,
        system,
    };
    let all = [
        (which(false, false, false), "normal"),
        (which(false, false, true), "system"),
        (which(true, false, false), "hidden"),
        (which(false, true, false), "backup"),
        (which(true, true, false), "hidden backup"),
    ];
    for (which, right) in all {
        for (_, given) in all {
            let found = search(&device, &secret(given), &looked_for(which));
            match given == right {
                true => assert!(found.is_ok(), "{right}"),
                false => assert_eq!(
                    found.unwrap_err().kind,
                    Kind::Passphrase,
                    "{right}, {given}"
                ),
            }
        }
    }
}

#[test]
fn a_damaged_header_is_told_from_a_wrong_passphrase() {
    let mut bytes = sealed(&sample(), &CHAINS[0], "sha512", b"open");
    bytes[300] ^= 1;
    let refused = search(
        &device(&[(0, bytes)]),
        &secret("open"),
        &looked_for(Which::default()),
    )
    .unwrap_err();
    assert_eq!(refused.kind, Kind::Invalid);
    assert!(refused.message.contains("key CRC-32"), "{refused}");
}

#[test]
fn a_device_without_room_for_a_header_has_none() {
    let short = Crashing::new(vec![0; 512]);
    let which = Which {
        backup: true,
        ..Which::default()
    };
    let refused = search(&short, &secret("open"), &looked_for(which)).unwrap_err();
    assert_eq!(refused.kind, Kind::Passphrase);
}

/// Made by other programs: the header by AES-XTS and PBKDF2 of OpenSSL, the pool in Python.
#[test]
fn a_header_made_elsewhere_opens() {
    let body = "\
        96151269899e21b289f9a4db041da279d073e4811a9e0b5747c98253177ea8efe82c7dd30854769ae6dc61d700365b77fa8586754a204487\
        376b025637b17e6211a4fd1d0323a1e13cd67f4f09647a02450788878e6e7f4cd8a075cfec7b7afb714535cfcffadf53cc8fedf27e7b1c08\
        2f0d3b96cc074fa00529786ed56f5b9dcccbe90c59e84c83a2e9ae76230cfc575c416fcf21ac4d2963106a15bda7f635357a855ab0dbdad0\
        2a0239560c96a08866f7e35f2de8cb22864197b35f9079539ee83c4bfe969a60d7c5eabfa8eb59cb051734275bf38090b87c62e25ecdfdc4\
        0227a6ad0738039c0b7a235f56a8f8cd1924505eccaf2ef4749dcb902df727b1b1910768f0f8c77fe89c2ae8768ccba9637f7230e1affa8d\
        0e98efa85dcc34c7bbe84288e70eee8bcaf4e98bd1e65230400791cf0413d115459d7cdbdc13f7df57680ae76cfe143a5d11fe2345d98c4f\
        9c93f034df598a5b933b899882a96c14ec9cf8f248f561666ad4c3b96feab1f88b63d9bdf29622871b68ece58d2c92ffc6f3cce9859102a3\
        171fadd9610e6d2bc24a2cdd868f36eb0f2f96fca2b82837c69146169fcc6ee43a59eccccbfb7b63f0f43167132c6410c02bcb74a0967f9a";
    let digits = body
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    let body = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap());
    let header: Vec<u8> = (0..64).chain(body).collect();
    let keyfile = Secret::from((0..100).collect::<Vec<u8>>());
    let passphrase = mix(b"correct horse", &[keyfile], false).unwrap();
    let search_for = Search {
        pim: Some(1),
        hash: Some("sha512".into()),
        ..Search::default()
    };
    let volume = search(&device(&[(0, header)]), &passphrase, &search_for).unwrap();
    assert_eq!(volume.header.family, Family::VeraCrypt);
    assert_eq!(
        (volume.header.needs, volume.header.volume_bytes),
        (0x010b, 36_864)
    );
    assert_eq!(volume.key()[..3], [3, 10, 17]);
    let too_small = volume.rows(Sectors(300), None, &[]).unwrap_err();
    assert_eq!(too_small.kind, Kind::Device);
}

#[test]
fn key_files_are_mixed_as_they_were_elsewhere() {
    let keyfile = || Secret::from((0..100).collect::<Vec<u8>>());
    let mixed = mix(b"correct horse", &[keyfile()], false).unwrap();
    assert_eq!(mixed[..4], [0xd8, 0x8a, 0xf2, 0x34]);
    assert_eq!((mixed.len(), mixed[63]), (64, 0x98));
    // A long passphrase has a long pool, but not TrueCrypt's.
    let long = mix(&[b'x'; 70], &[keyfile()], false).unwrap();
    assert_eq!((long.len(), long[0], long[127]), (128, 0x5d, 0x75));
    assert_eq!(mix(&[b'x'; 70], &[], false).unwrap().len(), 70);
    for (len, only_true_crypt, most) in [(129, false, 128), (65, true, 64)] {
        let refused = mix(&vec![b'x'; len], &[], only_true_crypt).unwrap_err();
        assert_eq!(
            refused.message,
            format!("Maximum TCRYPT passphrase length ({most}) exceeded.")
        );
    }
}

#[test]
fn a_chain_is_a_row_on_each_other() {
    let chain = |mode: Mode, name: &str| {
        let found = CHAINS
            .iter()
            .find(|chain| chain.mode == mode && chain.name() == name);
        found.unwrap()
    };
    let volume = |chain: &'static Chain| Volume {
        header: sample(),
        stretching: stretching("sha512"),
        chain,
        which: Which::default(),
        device_bytes: DEVICE_BYTES as u64,
    };
    let all = Sectors(DEVICE_BYTES as u64 / SECTOR_SIZE);
    let rows = volume(chain(Mode::Xts, "twofish-aes"))
        .rows(all, None, &["allow_discards".into()])
        .unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.cipher.as_deref().unwrap(),
                row.offset.0,
                row.iv_offset,
                row.len.0,
                row.key.len(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("aes-xts-plain64", 256, 256, 16, 64),
            ("twofish-xts-plain64", 0, 256, 16, 64)
        ]
    );
    assert!(rows.iter().all(|row| row.options == ["allow_discards"]));
    let row = &volume(chain(Mode::Cbc, "aes"))
        .rows(all, None, &[])
        .unwrap()[0];
    assert_eq!(
        (row.cipher.as_deref(), row.key.len()),
        (Some("aes-cbc-tcw"), 64)
    );
    // A system's partition is all of its device, counted from the disk's start.
    let row = &volume(chain(Mode::Xts, "aes"))
        .rows(Sectors(50), Some(Sector(2048)), &[])
        .unwrap()[0];
    assert_eq!((row.offset.0, row.iv_offset, row.len.0), (0, 2048, 50));
}
