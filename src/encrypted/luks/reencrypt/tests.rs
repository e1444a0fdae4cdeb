//! Reencryption on devices that lose power.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::backing::{Crashing, Cuts};
use crate::encrypted::luks::{Format, Luks, Sealing, Version, format};
use crate::encrypted::{Pbkdf, PbkdfKind, read_bytes, write_bytes};
use crate::unit::Sector;

/// Where the data begins, and how much there is of it.
const DATA_AT: u64 = 256 << 10;
const DATA_BYTES: u64 = 48 << 10;
/// Three zones.
const ZONE: u64 = 16 << 10;

const OLD_CIPHER: &str = "aes-cbc-essiv:sha256";
const NEW_CIPHER: &str = "aes-xts-plain64";

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

fn plaintext() -> Vec<u8> {
    (0..DATA_BYTES)
        .map(|at| (at / 512 * 7 + at % 251) as u8)
        .collect()
}

fn keys(mode: Mode) -> Keys {
    let key = |byte: u8, len: usize| Some(Secret::from(vec![byte; len]));
    Keys {
        old: key(1, 16).filter(|_| mode != Mode::Encrypt),
        new: key(2, 32).filter(|_| mode != Mode::Decrypt),
    }
}

/// A volume with `plaintext` on it, as it is before `mode`, under the passphrase `pass`.
fn volume(mode: Mode) -> (Crashing, Luks2) {
    let device = Crashing::new(vec![0; (DATA_AT + DATA_BYTES) as usize]);
    let keys = keys(mode);
    let (cipher, key) = match mode {
        Mode::Encrypt => (NEW_CIPHER, keys.new),
        Mode::Reencrypt | Mode::Decrypt => (OLD_CIPHER, keys.old),
    };
    let wanted = Format {
        version: Version::Two,
        cipher: cipher.into(),
        key: key.clone().unwrap(),
        sector_size: 512,
        uuid: "11111111-2222-3333-4444-555555555555".into(),
        label: String::new(),
        subsystem: String::new(),
        metadata_size: None,
        keyslots_size: None,
        data_offset: Some(Sector(DATA_AT / 512)),
        alignment: None,
        is_detached: false,
        slot: None,
    };
    let pbkdf = pbkdf();
    let sealing = Sealing::new(b"pass", &pbkdf, None);
    let Luks::Two(luks) = format(&device, &wanted, sealing).unwrap().luks else {
        panic!("another version");
    };
    let mut data = plaintext();
    if mode != Mode::Encrypt {
        let cipher = SectorCipher::new(cipher, &key.unwrap(), SectorSize::SMALL).unwrap();
        cipher.encrypt(0, &mut data);
    }
    write_bytes(&device, DATA_AT, &data).unwrap();
    device.settle();
    (device, *luks)
}

fn start(
    device: &Crashing,
    luks: &mut Luks2,
    mode: Mode,
    resilience: Resilience,
    sector_size: u32,
) -> Reencryption {
    let pbkdf = pbkdf();
    let sealing = Sealing::new(b"pass", &pbkdf, None);
    let wanted = Wanted {
        mode,
        cipher: NEW_CIPHER.into(),
        sector_size,
        resilience,
    };
    begin(both(device), luks, &keys(mode), &wanted, &[sealing], &pbkdf).unwrap()
}

fn both(device: &Crashing) -> Devices<'_> {
    Devices {
        header: device,
        data: device,
    }
}

fn load(device: &Crashing) -> Luks2 {
    match Luks::load(device).unwrap().0 {
        Luks::Two(luks) => *luks,
        Luks::One(_) => panic!("another version"),
    }
}

/// What the rows show.
fn mapped(device: &Crashing, rows: &[CryptRow]) -> Vec<u8> {
    let mut shown = Vec::new();
    for row in rows {
        assert_eq!(row.start.to_bytes().0, shown.len() as u64);
        let mut data = read_bytes(device, row.offset.to_bytes().0, row.len.to_bytes().0).unwrap();
        if let Some(cipher) = &row.cipher {
            let option = row
                .options
                .iter()
                .find_map(|option| option.strip_prefix("sector_size:"));
            let size = SectorSize {
                bytes: option.map_or(512, |bytes| bytes.parse().unwrap()),
                counts_large: false,
            };
            let cipher = SectorCipher::new(cipher, &row.key, size).unwrap();
            cipher.decrypt(row.iv_offset, &mut data);
        }
        shown.extend(data);
    }
    shown
}

/// What whoever opens the volume sees, whatever state it is in.
fn opened(device: &Crashing, luks: &Luks2, mode: Mode) -> Vec<u8> {
    let keys = keys(mode);
    let rows = match Reencryption::of(luks).unwrap() {
        Some(reencryption) => reencryption.rows(luks, &keys, device.capacity(), &[]),
        None => {
            let is_new = |key: &Secret| {
                Luks::Two(Box::new(luks.clone()))
                    .is_volume_key(key)
                    .unwrap_or(false)
            };
            let key = keys.new.clone().filter(is_new).or(keys.old.clone());
            Luks::Two(Box::new(luks.clone())).rows(device.capacity(), &key.unwrap_or_default(), &[])
        }
    };
    mapped(device, &rows.unwrap())
}

/// Goes on from whatever a power cut left, to the end.
fn go_on(device: &Crashing, mode: Mode, context: &str) {
    let mut luks = load(device);
    let keys = keys(mode);
    let Some(reencryption) = Reencryption::of(&luks).unwrap() else {
        assert!(
            opened(device, &luks, mode) == plaintext(),
            "{context}: before or after"
        );
        return;
    };
    if reencryption.needs_recovery(&luks) {
        assert!(
            reencryption
                .rows(&luks, &keys, device.capacity(), &[])
                .is_err()
        );
        reencryption
            .recover(both(device), &mut luks, &keys)
            .unwrap();
    }
    assert_eq!(
        opened(device, &luks, mode),
        plaintext(),
        "{context}: half-way"
    );
    let mut luks = load(device);
    if let Some(reencryption) = Reencryption::of(&luks).unwrap() {
        let done = reencryption.run(both(device), &mut luks, &keys, Some(ZONE), &mut |_, _| true);
        assert_eq!(done, Ok(true), "{context}");
    }
    let luks = load(device);
    assert_eq!(Reencryption::of(&luks).unwrap(), None, "{context}");
    two::check_requirements(&luks).unwrap();
    assert_eq!(
        opened(device, &luks, mode),
        plaintext(),
        "{context}: at the end"
    );
}

fn checksum() -> Resilience {
    Resilience::Checksum {
        hash: "sha256".into(),
        block: 0,
    }
}

/// Cuts the power at every flush and between, and goes on from there.
fn cut_everywhere(mode: Mode, resilience: Resilience, sector_size: u32) {
    let (device, mut luks) = volume(mode);
    let reencryption = start(&device, &mut luks, mode, resilience, sector_size);
    if mode == Mode::Encrypt {
        // Before it has begun, the header that was made for it tells of ciphertext that is not there yet.
        device.settle();
    }
    let done = reencryption.run(
        both(&device),
        &mut luks,
        &keys(mode),
        Some(ZONE),
        &mut |_, _| true,
    );
    assert_eq!(done, Ok(true));
    assert_eq!(opened(&device, &load(&device), mode), plaintext());
    let cuts = Cuts {
        n_samples: 1,
        seed: 7,
    };
    let mut hot = Vec::new();
    device.for_each_image(cuts, |image| {
        let context = format!("{mode:?}, cut {} {:?}", image.cut, image.kept);
        let device = image.into_device();
        let luks = load(&device);
        let found = Reencryption::of(&luks).unwrap();
        if found.is_some_and(|reencryption| reencryption.needs_recovery(&luks)) {
            hot.push(device.contents());
        }
        go_on(&device, mode, &context);
    });
    assert!(hot.len() > 6, "no zone was ever hot");
    // Recovery can be cut off, too.
    let device = Crashing::new(hot.swap_remove(hot.len() / 2));
    let mut luks = load(&device);
    reencryption
        .recover(both(&device), &mut luks, &keys(mode))
        .unwrap();
    device.for_each_image(cuts, |image| {
        let context = format!("{mode:?}, recovery, cut {} {:?}", image.cut, image.kept);
        go_on(&image.into_device(), mode, &context);
    });
}

#[test]
fn a_power_cut_loses_nothing_with_checksums() {
    cut_everywhere(Mode::Reencrypt, checksum(), 512);
}

#[test]
fn a_power_cut_loses_nothing_with_a_journal() {
    cut_everywhere(Mode::Reencrypt, Resilience::Journal, 4096);
}

#[test]
fn a_power_cut_in_the_first_encryption_loses_nothing() {
    cut_everywhere(Mode::Encrypt, checksum(), 512);
}

#[test]
fn a_power_cut_in_the_last_decryption_loses_nothing() {
    cut_everywhere(Mode::Decrypt, Resilience::Journal, 512);
}

#[test]
fn it_can_be_stopped_between_zones_and_opened() {
    for resilience in [Resilience::None, checksum(), Resilience::Journal] {
        let mode = Mode::Reencrypt;
        let (device, mut luks) = volume(mode);
        let reencryption = start(&device, &mut luks, mode, resilience, 4096);
        for zones in 0..3 {
            let mut seen = Vec::new();
            let done = reencryption.run(
                both(&device),
                &mut luks,
                &keys(mode),
                Some(ZONE),
                &mut |done, of| {
                    seen.push((done, of));
                    seen.len() < 2
                },
            );
            let at = zones * ZONE;
            let last = zones == 2;
            assert_eq!(done, Ok(last));
            assert_eq!(seen, [(at, DATA_BYTES), (at + ZONE, DATA_BYTES)]);
            luks = load(&device);
            assert_eq!(opened(&device, &luks, mode), plaintext());
        }
        assert_eq!(Reencryption::of(&luks).unwrap(), None);
        let key = Luks::Two(Box::new(luks))
            .unlock(&device, None, b"pass")
            .unwrap()
            .key;
        assert!(key.is(&[2; 32]));
    }
}

#[test]
fn the_header_is_as_cryptsetup_writes_it() {
    let mode = Mode::Reencrypt;
    let (device, mut luks) = volume(mode);
    let reencryption = start(&device, &mut luks, mode, checksum(), 4096);
    let json: serde_json::Value = serde_json::from_str(&luks.metadata.write().unwrap()).unwrap();
    let segment = |cipher: &str, unit: u32| {
        serde_json::json!({
            "type": "crypt", "offset": "262144", "size": "dynamic", "iv_tweak": "0",
            "encryption": cipher, "sector_size": unit,
        })
    };
    let flagged = |mut segment: serde_json::Value, flag: &str| {
        segment["flags"] = serde_json::json!([flag]);
        segment
    };
    assert_eq!(
        json["segments"],
        serde_json::json!({
            "0": segment(OLD_CIPHER, 512),
            "1": flagged(segment(OLD_CIPHER, 512), "backup-previous"),
            "2": flagged(segment(NEW_CIPHER, 4096), "backup-final"),
        })
    );
    let area = &json["keyslots"]["2"]["area"];
    assert_eq!(
        json["keyslots"]["2"],
        serde_json::json!({
            "type": "reencrypt", "key_size": 1, "mode": "reencrypt", "direction": "forward", "priority": 0,
            "area": {
                "type": "checksum", "hash": "sha256", "sector_size": 4096,
                "offset": area["offset"], "size": area["size"],
            },
        })
    );
    let bound = |id: &str| {
        (
            json["digests"][id]["keyslots"].clone(),
            json["digests"][id]["segments"].clone(),
        )
    };
    let ids = |ids: &[&str]| serde_json::json!(ids);
    assert_eq!(bound("0"), (ids(&["0"]), ids(&["0", "1"])));
    assert_eq!(bound("1"), (ids(&["1"]), ids(&["2"])));
    assert_eq!(bound("2"), (ids(&["2"]), ids(&[])));
    assert_eq!(
        json["config"]["requirements"],
        serde_json::json!({"mandatory": ["online-reencrypt-v2"]})
    );
    assert_eq!(Reencryption::of(&luks).unwrap(), Some(reencryption.clone()));
    // A zone on its way is of both keys, what is before it of the new one, what is behind it of the old one.
    reencryption.set_hot(
        &mut luks,
        segments::Zone {
            at: ZONE,
            len: ZONE,
        },
        DATA_BYTES,
    );
    let json: serde_json::Value = serde_json::from_str(&luks.metadata.write().unwrap()).unwrap();
    let hot = &json["segments"]["1"];
    assert_eq!(
        (&hot["offset"], &hot["size"]),
        (&"278528".into(), &"16384".into())
    );
    assert_eq!(
        (&hot["iv_tweak"], &hot["flags"][0]),
        (&"32".into(), &"in-reencryption".into())
    );
    assert_eq!(json["digests"]["0"]["segments"], ids(&["1", "2", "3"]));
    assert_eq!(json["digests"]["1"]["segments"], ids(&["0", "1", "4"]));
}

#[test]
fn what_somebody_else_changed_is_refused() {
    let mode = Mode::Reencrypt;
    let (device, mut luks) = volume(mode);
    let reencryption = start(&device, &mut luks, mode, checksum(), 512);
    let unlocked = reencryption.unlock(&device, &luks, b"pass").unwrap();
    assert!(unlocked == keys(mode));
    let wrong = reencryption.unlock(&device, &luks, b"word").err().unwrap();
    assert_eq!(wrong.kind, Kind::Passphrase);
    // The new side shall be plain, so that whoever changed it can read it.
    let mut changed = luks.clone();
    let last = changed.metadata.segments.get_mut(&Id(2)).unwrap();
    last.encryption = Some("cipher_null-ecb".into());
    let found = Reencryption::of(&changed).unwrap().unwrap();
    let refused = found.unlock(&device, &changed, b"pass").err().unwrap();
    assert!(refused.message.contains("digest"), "{refused}");
    // What is neither whole nor ours.
    for (change, said) in [
        (
            Box::new(|luks: &mut Luks2| drop(luks.metadata.segments.remove(&Id(1))))
                as Box<dyn Fn(&mut Luks2)>,
            "backup-previous",
        ),
        (
            Box::new(|luks| luks.metadata.config.requirements = None),
            "do not go together",
        ),
        (
            Box::new(|luks| reencrypt_slot(luks).area.kind = "datashift".into()),
            "datashift",
        ),
        (
            Box::new(|luks| {
                drop(
                    reencrypt_slot(luks)
                        .rest
                        .insert("direction".into(), "backward".into()),
                )
            }),
            "data shift",
        ),
        (
            Box::new(|luks| {
                drop(
                    reencrypt_slot(luks)
                        .rest
                        .insert("mode".into(), "other".into()),
                )
            }),
            "mode",
        ),
        (
            Box::new(|luks| {
                drop(
                    reencrypt_slot(luks)
                        .area
                        .rest
                        .insert("sector_size".into(), 3.into()),
                )
            }),
            "blocks",
        ),
    ] {
        let mut changed = luks.clone();
        change(&mut changed);
        let refused = Reencryption::of(&changed).unwrap_err();
        assert!(refused.message.contains(said), "{refused}");
    }
}

fn reencrypt_slot(luks: &mut Luks2) -> &mut Keyslot {
    let slots = luks.metadata.keyslots.values_mut();
    slots
        .into_iter()
        .find(|slot| slot.kind == "reencrypt")
        .unwrap()
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_written() {
    let mode = Mode::Reencrypt;
    let (device, mut luks) = volume(mode);
    let before = device.contents();
    let wanted = Wanted {
        mode,
        cipher: "rot13-xts-plain64".into(),
        sector_size: 512,
        resilience: checksum(),
    };
    let pbkdf = pbkdf();
    let sealings = [Sealing::new(b"pass", &pbkdf, None)];
    let mut refuse = |wanted: &Wanted| {
        let begun = begin(
            both(&device),
            &mut luks,
            &keys(mode),
            wanted,
            &sealings,
            &pbkdf,
        );
        begun.unwrap_err()
    };
    let refused = refuse(&wanted);
    assert!(refused.message.contains("rot13-xts-plain64"), "{refused}");
    let wanted = Wanted {
        cipher: NEW_CIPHER.into(),
        resilience: Resilience::Checksum {
            hash: "md4".into(),
            block: 0,
        },
        ..wanted
    };
    let refused = refuse(&wanted);
    assert!(refused.message.contains("md4"), "{refused}");
    assert!(device.contents() == before);
    let reencryption = start(&device, &mut luks, mode, checksum(), 4096);
    let zone = reencryption.run(
        both(&device),
        &mut luks,
        &keys(mode),
        Some(512),
        &mut |_, _| true,
    );
    assert!(zone.unwrap_err().message.contains("4096"));
}
