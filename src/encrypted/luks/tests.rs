//! Volumes on devices that fail and lose power.
#![allow(clippy::unwrap_used)]

use super::store::{Health, load};
use super::{Format, Luks, Sealing, SlotState, Version, format, needed_bytes, to_luks1, to_luks2};
use crate::backing::{CrashImage, Crashing, Cuts, Fault, Faulty};
use crate::crypto::Variant;
use crate::encrypted::{Kind, Pbkdf, PbkdfKind, Secret, read_bytes};
use crate::io::{BlockDev, OpKind};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};
use std::time::Duration;

/// Bytes of the test volumes' devices.
const LEN: usize = 2 << 20;

fn pbkdf() -> Pbkdf {
    Pbkdf {
        kind: PbkdfKind::Pbkdf2,
        hash: "sha256".into(),
        time: Duration::ZERO,
        force_iterations: Some(1000),
        memory: 64,
        lanes: 1,
    }
}

fn wanted(version: Version) -> Format {
    Format {
        version,
        cipher: "aes-cbc-essiv:sha256".into(),
        key: Secret::from((0..16).collect::<Vec<u8>>()),
        sector_size: 512,
        uuid: "11111111-2222-3333-4444-555555555555".into(),
        label: String::new(),
        subsystem: String::new(),
        metadata_size: None,
        keyslots_size: None,
        data_offset: Some(Sector(3072)),
        alignment: None,
        is_detached: false,
        slot: None,
    }
}

fn sealing<'s>(passphrase: &'s [u8], pbkdf: &'s Pbkdf) -> Sealing<'s> {
    Sealing {
        passphrase,
        pbkdf,
        cipher: None,
    }
}

/// A volume with the passphrases `one` in slot 0 and `two` in slot 1.
fn volume(version: Version) -> (Crashing, Luks) {
    let device = Crashing::new(vec![0; LEN]);
    let (wanted, pbkdf) = (wanted(version), pbkdf());
    let mut luks = format(&device, &wanted, sealing(b"one", &pbkdf))
        .unwrap()
        .luks;
    luks.put_key(&device, 1, &wanted.key, sealing(b"two", &pbkdf))
        .unwrap();
    device.settle();
    (device, luks)
}

const VERSIONS: [Version; 2] = [Version::One, Version::Two];

/// Which of the passphrases open the volume.
fn open_with(device: &dyn BlockDev, passphrases: &[&[u8]]) -> Vec<bool> {
    let (luks, _) = Luks::load(device).unwrap();
    let key = wanted(Version::One).key;
    passphrases
        .iter()
        .map(|passphrase| match luks.unlock(device, None, passphrase) {
            Ok(unlocked) => {
                // Never a wrong key.
                assert!(unlocked.key.is(&key));
                true
            }
            Err(refused) => {
                assert_eq!(refused.kind, Kind::Passphrase, "{refused}");
                false
            }
        })
        .collect()
}

#[test]
fn slots_open_with_their_passphrases() {
    for version in VERSIONS {
        let (device, mut luks) = volume(version);
        assert_eq!(
            open_with(&device, &[b"one", b"two", b"three", b""]),
            [true, true, false, false]
        );
        assert_eq!(luks.unlock(&device, Some(1), b"two").unwrap().slot, 1);
        assert!(luks.unlock(&device, Some(1), b"one").is_err());
        assert!(luks.unlock(&device, Some(5), b"one").is_err());
        assert_eq!(luks.free_slot(None).unwrap(), 2);
        assert!(
            luks.free_slot(Some(1))
                .unwrap_err()
                .message
                .contains("full")
        );
        assert!(luks.free_slot(Some(99)).is_err());
        assert_eq!(
            [0, 1, 2, 99].map(|slot| luks.slot_state(slot)),
            [
                SlotState::Active,
                SlotState::Active,
                SlotState::Inactive,
                SlotState::Invalid,
            ]
        );
        luks.kill_slot(&device, 0).unwrap();
        assert_eq!(luks.slot_state(1), SlotState::ActiveLast);
        assert_eq!(open_with(&device, &[b"one", b"two"]), [false, true]);
    }
}

#[test]
fn a_changed_passphrase_takes_the_old_one_s_place() {
    for version in VERSIONS {
        let (device, mut luks) = volume(version);
        let (key, pbkdf) = (wanted(version).key, pbkdf());
        let slot = luks
            .change_key(&device, 0, None, &key, sealing(b"new", &pbkdf))
            .unwrap();
        assert_eq!(slot, if version == Version::One { 2 } else { 0 });
        assert_eq!(
            open_with(&device, &[b"one", b"two", b"new"]),
            [false, true, true]
        );
    }
}

#[test]
fn a_full_header_says_so() {
    for (version, n) in [(Version::One, 8), (Version::Two, 23)] {
        let (device, mut luks) = volume(version);
        let (key, pbkdf) = (wanted(version).key, pbkdf());
        let add = |luks: &mut Luks| {
            let slot = luks.free_slot(None)?;
            luks.put_key(&device, slot, &key, sealing(b"more", &pbkdf))
        };
        for _ in 2..n {
            add(&mut luks).unwrap();
        }
        let before = device.contents();
        let full = add(&mut luks).unwrap_err();
        assert!(
            ["All key slots full.", "No space for new keyslot."].contains(&full.message.as_str())
        );
        assert!(device.contents() == before, "something was written");
        // A passphrase can be changed even so.
        luks.change_key(&device, 1, None, &key, sealing(b"new", &pbkdf))
            .unwrap();
        assert_eq!(
            open_with(&device, &[b"one", b"two", b"new"]),
            [true, false, true]
        );
    }
}

/// Does `change` to a volume and hands every image that a power cut could leave to `check`.
fn with_cuts(
    version: Version,
    change: impl Fn(&Crashing, &mut Luks),
    check: impl Fn(&Crashing, usize),
) {
    let (device, mut luks) = volume(version);
    change(&device, &mut luks);
    let n_events = device.n_events();
    assert!(n_events > 1);
    let cuts = Cuts {
        n_samples: 1,
        seed: 1,
    };
    device.for_each_image(cuts, |image: CrashImage| {
        let left = if image.cut == n_events { 0 } else { 1 };
        check(&image.into_device(), left);
    });
}

#[test]
fn a_key_that_is_added_is_there_or_not_whenever_power_goes() {
    for version in VERSIONS {
        let (key, pbkdf) = (wanted(version).key, pbkdf());
        with_cuts(
            version,
            |device, luks| {
                luks.put_key(device, 2, &key, sealing(b"three", &pbkdf))
                    .unwrap()
            },
            |device, left| {
                let opened = open_with(device, &[b"one", b"two", b"three"]);
                assert_eq!(opened[..2], [true, true]);
                assert!(opened[2] || left > 0, "what was acknowledged is lost");
            },
        );
    }
}

#[test]
fn a_passphrase_is_the_old_or_the_new_one_whenever_power_goes() {
    for version in VERSIONS {
        let (key, pbkdf) = (wanted(version).key, pbkdf());
        with_cuts(
            version,
            |device, luks| {
                luks.change_key(device, 0, None, &key, sealing(b"new", &pbkdf))
                    .unwrap();
            },
            |device, left| {
                let opened = open_with(device, &[b"one", b"new", b"two"]);
                assert!(opened[2], "another slot suffers");
                assert!(opened[0] || opened[1], "nothing opens the volume");
                assert!(left > 0 || opened[..2] == [false, true]);
            },
        );
    }
}

#[test]
fn a_killed_slot_is_gone_and_others_are_not_whenever_power_goes() {
    for version in VERSIONS {
        with_cuts(
            version,
            |device, luks| luks.kill_slot(device, 0).unwrap(),
            |device, left| {
                let opened = open_with(device, &[b"one", b"two"]);
                assert!(opened[1], "another slot suffers");
                assert!(left > 0 || !opened[0], "what was killed lives");
            },
        );
    }
}

#[test]
fn one_damaged_copy_does_no_harm_and_is_repaired() {
    let (device, _) = volume(Version::Two);
    let whole = device.contents();
    for (place, health) in [
        (5000, Health::SecondaryOnly),
        (16384 + 5000, Health::PrimaryOnly),
    ] {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        let device = Crashing::new(bytes);
        let (mut luks, found) = Luks::load(&device).unwrap();
        assert_eq!(found, health);
        assert_eq!(open_with(&device, &[b"one"]), [true]);
        luks.save(&device).unwrap();
        assert_eq!(load(&device).unwrap().1, Health::Both);
    }
    // Of two whole copies the newer one holds.
    let (device, mut luks) = volume(Version::Two);
    let old = read_bytes(&device, 0, 16384).unwrap();
    luks.kill_slot(&device, 0).unwrap();
    let mut bytes = device.contents();
    bytes[..16384].copy_from_slice(&old);
    let device = Crashing::new(bytes);
    let (luks, health) = Luks::load(&device).unwrap();
    assert_eq!(
        (luks.used_slots(), health),
        (vec![1], Health::SecondaryOnly)
    );
}

#[test]
fn a_device_that_fails_leaves_a_volume_that_opens() {
    for version in VERSIONS {
        let (key, pbkdf) = (wanted(version).key, pbkdf());
        for nth in 0.. {
            let (device, mut luks) = volume(version);
            let device = Arc::new(device);
            let faulty = Faulty::new(device.clone());
            faulty.fail(Fault::from(nth));
            let done = luks.put_key(&faulty, 2, &key, sealing(b"three", &pbkdf));
            let opened = open_with(&*device, &[b"one", b"two", b"three"]);
            assert_eq!(opened[..2], [true, true], "operation {nth}");
            if done.is_ok() {
                assert!(opened[2] && faulty.count(OpKind::Write) > 0);
                break;
            }
        }
    }
}

#[test]
fn what_cannot_be_made_leaves_the_device_alone() {
    let device = Crashing::new(vec![7; LEN]);
    let pbkdf = pbkdf();
    for version in VERSIONS {
        let good = wanted(version);
        for (bad, why) in [
            (
                Format {
                    cipher: "rot13-xts-plain64".into(),
                    ..good.clone()
                },
                "rot13",
            ),
            (
                Format {
                    key: Secret::zeroed(5),
                    ..good.clone()
                },
                "key of 40 bits",
            ),
            (
                Format {
                    sector_size: 513,
                    ..good.clone()
                },
                "sector size",
            ),
            (
                Format {
                    data_offset: Some(Sector(8)),
                    keyslots_size: Some(65536),
                    ..good.clone()
                },
                "too small",
            ),
            (
                Format {
                    slot: Some(99),
                    ..good.clone()
                },
                "invalid",
            ),
        ] {
            let refused = format(&device, &bad, sealing(b"x", &pbkdf)).err().unwrap();
            assert!(refused.message.contains(why), "{refused}");
        }
        let short = Crashing::new(vec![7; 65536]);
        let refused = format(&short, &good, sealing(b"x", &pbkdf)).err().unwrap();
        assert_eq!(refused.kind, Kind::Device);
        assert!(short.contents().iter().all(|byte| *byte == 7));
        assert!(needed_bytes(&good).unwrap() > 65536);
    }
    assert!(
        device.contents().iter().all(|byte| *byte == 7),
        "something was written"
    );
}

#[test]
fn versions_convert_both_ways() {
    let (device, luks) = volume(Version::One);
    let luks = to_luks2(&device, &luks).unwrap();
    assert_eq!((luks.version(), luks.data_offset()), (2, Sector(3072)));
    assert_eq!(
        open_with(&device, &[b"one", b"two", b"no"]),
        [true, true, false]
    );
    let luks = to_luks1(&device, &luks).unwrap();
    assert_eq!((luks.version(), luks.data_offset()), (1, Sector(3072)));
    assert_eq!(
        open_with(&device, &[b"one", b"two", b"no"]),
        [true, true, false]
    );
    assert!(to_luks1(&device, &luks).is_err());
    let (device, mut luks) = volume(Version::Two);
    let argon = Pbkdf {
        kind: PbkdfKind::Argon2(Variant::Argon2id),
        force_iterations: Some(4),
        ..pbkdf()
    };
    luks.put_key(&device, 2, &wanted(Version::Two).key, sealing(b"x", &argon))
        .unwrap();
    let refused = to_luks1(&device, &luks).unwrap_err();
    assert!(refused.message.contains("keyslot 2"), "{refused}");
}

#[test]
fn rows_map_the_data() {
    for version in VERSIONS {
        let (_, luks) = volume(version);
        let key = wanted(version).key;
        let rows = luks
            .rows(Sectors(4096), &key, &["allow_discards".into()])
            .unwrap();
        assert_eq!((rows[0].len, rows[0].offset), (Sectors(1024), Sector(3072)));
        let params = rows[0].params("/data");
        let hex = "000102030405060708090a0b0c0d0e0f";
        assert_eq!(
            *params,
            format!("aes-cbc-essiv:sha256 {hex} 0 /data 3072 1 allow_discards")
        );
        let small = luks.rows(Sectors(3072), &key, &[]).unwrap_err();
        assert_eq!(small.kind, Kind::Device);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let (device, luks) = volume(Version::Two);
    let Luks::Two(luks) = luks else {
        panic!("another version")
    };
    let key = wanted(Version::Two).key;
    let with = |json: &str, to: serde_json::Value| {
        let mut tree = serde_json::to_value(&luks.metadata).unwrap();
        *tree.pointer_mut(json).unwrap() = to;
        let mut luks = luks.clone();
        luks.metadata = serde_json::from_value(tree).unwrap();
        let mut luks = Luks::Two(luks);
        luks.save(&device).unwrap();
        let (luks, _) = Luks::load(&device).unwrap();
        luks.rows(Sectors(4096), &key, &[]).unwrap_err().message
    };
    let mut config = serde_json::to_value(&luks.metadata.config).unwrap();
    config["requirements"] = serde_json::json!({"mandatory": ["of-the-future"]});
    assert!(with("/config", config.clone()).contains("of-the-future"));
    config["requirements"] = serde_json::json!({"mandatory": ["online-reencrypt-v2"]});
    assert!(with("/config", config).contains("reencryption"));
    let mut segment = serde_json::to_value(&luks.metadata.segments[&super::Id(0)]).unwrap();
    segment["integrity"] =
        serde_json::json!({"type": "hmac(sha256)", "journal_encryption": "none"});
    assert!(with("/segments/0", segment).contains("authenticated (hmac(sha256))"));
}

#[test]
fn an_erased_volume_opens_no_more() {
    for version in VERSIONS {
        let (device, mut luks) = volume(version);
        luks.erase(&device).unwrap();
        assert!(luks.used_slots().is_empty());
        assert_eq!(open_with(&device, &[b"one", b"two"]), [false, false]);
    }
}

#[test]
fn flags_are_kept_in_the_header() {
    let (device, mut luks) = volume(Version::Two);
    let options = ["allow_discards", "no_read_workqueue"].map(str::to_owned);
    luks.set_persistent_options(&device, &options).unwrap();
    let (again, _) = Luks::load(&device).unwrap();
    assert_eq!(again.persistent_options(), options);
    assert!(
        volume(Version::One)
            .1
            .set_persistent_options(&device, &options)
            .is_err()
    );
}
