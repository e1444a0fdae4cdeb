#![allow(clippy::unwrap_used)]

use super::{Copy, HEADER_BYTES, Header, Luks2, Metadata, SIZES, checksum, read, write};
use proptest::prelude::*;
use serde_json::{Value, json};

const SIZE: u64 = 0x4000;

fn sample_json() -> Value {
    json!({
        "keyslots": {
            "0": {
                "type": "luks2", "key_size": 64, "priority": 2,
                "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
                "area": {"type": "raw", "offset": "32768", "size": "258048",
                    "encryption": "aes-xts-plain64", "key_size": 64},
                "kdf": {"type": "argon2id", "time": 4, "memory": 1024, "cpus": 2,
                    "salt": "cwnz6ocneg68q91o5pgy8hqGJAUa18EJDT98fCc2cl0="}
            },
            "3": {
                "type": "luks2", "key_size": 64,
                "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
                "area": {"type": "raw", "offset": "290816", "size": "258048",
                    "encryption": "aes-xts-plain64", "key_size": 64},
                "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000,
                    "salt": "cwnz6ocneg68q91o5pgy8hqGJAUa18EJDT98fCc2cl0="}
            }
        },
        "tokens": {"1": {"type": "mine", "keyslots": ["3"], "what": {"ever": [1, 2.5, null]}}},
        "segments": {"0": {"type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0",
            "encryption": "aes-xts-plain64", "sector_size": 4096}},
        "digests": {"0": {"type": "pbkdf2", "keyslots": ["0", "3"], "segments": ["0"], "hash": "sha256",
            "iterations": 1000, "salt": "+dXd/p7SJlfPf/glY/ZdQGD0x5B80MqdBcq+FgfcWvk=",
            "digest": "qCh5ETmFnzuatfy7oolSAfEyZSHQ55cQUnqHhS5Rog0="}},
        "config": {"json_size": "12288", "keyslots_size": "16744448", "flags": ["allow-discards"],
            "of the future": true},
        "of the future": {"x": 1}
    })
}

fn header() -> Header {
    Header {
        size: SIZE,
        sequence: 3,
        label: "demo".into(),
        salt: [5; 64],
        uuid: "11111111-2222-3333-4444-555555555555".into(),
        subsystem: String::new(),
        checksum: [0; 32],
    }
}

fn sample() -> Luks2 {
    Luks2 {
        header: header(),
        metadata: serde_json::from_value(sample_json()).unwrap(),
    }
}

/// The bytes of a copy with any JSON text, its checksum right.
fn with_text(text: &[u8]) -> Vec<u8> {
    let mut bytes = header().write(Copy::Primary).unwrap();
    bytes.extend_from_slice(&text[..text.len().min(SIZE as usize - HEADER_BYTES)]);
    bytes.resize(SIZE as usize, 0);
    let sum = checksum(&bytes);
    Header::put_checksum(&mut bytes, &sum);
    bytes
}

fn refused(json: &Value) -> String {
    read(&with_text(json.to_string().as_bytes()), Copy::Primary)
        .unwrap_err()
        .to_string()
}

#[test]
fn both_copies_are_read_as_they_were_written() {
    for copy in [Copy::Primary, Copy::Secondary] {
        let luks = sample();
        let bytes = write(&luks, copy).unwrap();
        assert_eq!(bytes.len() as u64, SIZE);
        let mut again = read(&bytes, copy).unwrap();
        again.header.checksum = [0; 32];
        assert_eq!(again, luks);
        let other = match copy {
            Copy::Primary => Copy::Secondary,
            Copy::Secondary => Copy::Primary,
        };
        assert_eq!(read(&bytes, other).unwrap_err().field, "magic");
    }
}

#[test]
fn what_nobody_knows_is_kept() {
    let text = sample().metadata.write().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), sample_json());
}

#[test]
fn every_damaged_byte_is_noticed() {
    let bytes = write(&sample(), Copy::Primary).unwrap();
    let fine = read(&bytes, Copy::Primary).unwrap();
    let text_end = HEADER_BYTES + sample().metadata.write().unwrap().len() + 16;
    for at in (0..text_end).chain((text_end..bytes.len()).step_by(97)) {
        for damage in [1, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= damage;
            match read(&bytes, Copy::Primary) {
                Err(_) => {}
                // The room for longer checksums is no part of anything.
                Ok(luks) => {
                    assert!((480..512).contains(&at), "byte {at}");
                    assert_eq!(luks, fine);
                }
            }
        }
    }
    for len in (0..bytes.len()).step_by(509) {
        assert!(read(&bytes[..len], Copy::Primary).is_err());
    }
}

/// Changes the member at `path`, as `keyslots.0.kdf.time`; null takes it away.
fn changed(path: &str, to: Value) -> Value {
    let mut json = sample_json();
    let mut at = &mut json;
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for name in parents.split('.').filter(|name| !name.is_empty()) {
        at = &mut at[name];
    }
    let object = at.as_object_mut().unwrap();
    match to.is_null() {
        true => drop(object.remove(last)),
        false => drop(object.insert(last.into(), to)),
    }
    json
}

#[test]
fn hostile_members_are_named() {
    for (path, to) in [
        ("config.json_size", json!("12289")),
        ("config.keyslots_size", json!("18446744073709551615")),
        ("config.keyslots_size", json!("4095")),
        ("keyslots.0.key_size", json!(0)),
        ("keyslots.0.key_size", json!(513)),
        ("keyslots.0.priority", json!(3)),
        ("keyslots.0.kdf", Value::Null),
        ("keyslots.0.kdf.type", json!("scrypt")),
        ("keyslots.0.kdf.memory", json!(4_194_305)),
        ("keyslots.0.kdf.memory", json!(8)),
        ("keyslots.0.kdf.cpus", json!(5)),
        ("keyslots.0.kdf.time", json!(0)),
        ("keyslots.0.kdf.salt", json!("AAAA")),
        ("keyslots.3.kdf.iterations", json!(0)),
        ("keyslots.3.kdf.hash", Value::Null),
        ("keyslots.0.af.stripes", json!(4001)),
        ("keyslots.0.af.type", json!("none")),
        ("keyslots.0.area.offset", json!("0")),
        ("keyslots.0.area.offset", json!("18446744073709551615")),
        ("keyslots.0.area.offset", json!("290816")),
        ("keyslots.0.area.size", json!("4096")),
        ("keyslots.0.area.encryption", json!("")),
        ("digests.0.keyslots", json!(["7"])),
        ("digests.0.keyslots", json!(["0", "0"])),
        ("digests.0.segments", json!(["1"])),
        ("digests.0.digest", json!("AAAA")),
        ("digests.0.iterations", json!(0)),
        ("segments.0.sector_size", json!(513)),
        ("segments.0.sector_size", json!(8192)),
        ("segments.0.offset", json!("1")),
        ("segments.0.size", json!("0")),
        ("segments.0.size", json!("-512")),
        ("segments.0.iv_tweak", Value::Null),
        ("tokens.1.type", json!("")),
        ("tokens.1.keyslots", json!(["9"])),
    ] {
        let why = refused(&changed(path, to.clone()));
        let object = path.rsplit_once('.').map_or(path, |(object, _)| object);
        let section = object.split('.').next().unwrap();
        assert!(why.contains(section), "{path} = {to}: {why}");
    }
    for (path, to) in [
        ("keyslots", Value::Null),
        ("keyslots", json!([])),
        ("keyslots.0.key_size", json!("64")),
        ("keyslots.0.key_size", json!(-1)),
        ("keyslots.0.key_size", json!(4_294_967_296_u64)),
        ("keyslots.0.area.offset", json!(32768)),
        ("keyslots.0.area.offset", json!("032768")),
        ("keyslots.0.area.offset", json!("+32768")),
        ("keyslots.00", json!({})),
        ("keyslots.0.kdf.salt", json!("not base64")),
        ("digests.0.keyslots", json!("0")),
    ] {
        let why = refused(&changed(path, to.clone()));
        assert!(why.starts_with("JSON area: "), "{path} = {to}: {why}");
    }
}

#[test]
fn segments_tile_the_data() {
    let segment = |offset: &str, size: &str| {
        json!({"type": "crypt", "offset": offset, "size": size, "iv_tweak": "0",
            "encryption": "aes-xts-plain64", "sector_size": 512})
    };
    let with = |segments: Value| {
        let text = changed("segments", segments).to_string();
        read(&with_text(text.as_bytes()), Copy::Primary).map(drop)
    };
    let first = segment("4096", "8192");
    assert!(with(json!({"0": first, "1": segment("12288", "dynamic")})).is_ok());
    assert!(with(json!({"0": first, "1": segment("12800", "dynamic")})).is_err());
    assert!(with(json!({"0": first, "2": segment("12288", "dynamic")})).is_err());
    assert!(
        with(json!({"0": segment("4096", "dynamic"), "1": segment("8192", "dynamic")})).is_err()
    );
    assert!(with(json!({"0": segment("18446744073709551104", "512"), "1": first})).is_err());
}

#[test]
fn the_area_ends_with_zeroes() {
    let text = sample_json().to_string();
    for (bytes, why) in [
        (text.clone() + "\0x", "something follows the text"),
        (text + " ,", "trailing characters"),
        ("{".repeat(4000), "key must be a string"),
        ("[".repeat(8000), ""),
        (String::new(), "EOF"),
    ] {
        let said = read(&with_text(bytes.as_bytes()), Copy::Primary)
            .unwrap_err()
            .message;
        assert!(said.contains(why), "{said}");
    }
    let full = vec![b' '; SIZE as usize];
    let said = read(&with_text(&full), Copy::Primary).unwrap_err().message;
    assert_eq!(said, "no NUL ends the text");
}

#[test]
fn a_text_that_does_not_fit_is_not_written() {
    let mut luks = sample();
    luks.metadata
        .rest
        .insert("much".into(), json!("x".repeat(SIZE as usize)));
    let why = write(&luks, Copy::Primary).unwrap_err().to_string();
    assert!(why.contains("no space left"), "{why}");
    luks = sample();
    luks.header.label = "x".repeat(48);
    assert_eq!(write(&luks, Copy::Primary).unwrap_err().field, "label");
}

#[test]
fn sizes_are_the_specification_s() {
    for size in SIZES {
        let mut luks = sample();
        luks.header.size = size;
        luks.metadata.config.json_size.0 = size - HEADER_BYTES as u64;
        // The key slots of the sample begin behind the smallest headers.
        luks.metadata.keyslots.clear();
        luks.metadata.tokens.clear();
        luks.metadata.digests.clear();
        let bytes = write(&luks, Copy::Secondary).unwrap();
        assert_eq!(read(&bytes, Copy::Secondary).unwrap().header.size, size);
    }
}

/// A member somewhere in the tree, and what to put there.
fn put_somewhere(json: &mut Value, way: &[usize], to: &Value) {
    let Some((&first, rest)) = way.split_first() else {
        *json = to.clone();
        return;
    };
    match json {
        Value::Object(members) if !members.is_empty() => {
            let index = first % members.len();
            if let Some(member) = members.values_mut().nth(index) {
                put_somewhere(member, rest, to);
            }
        }
        Value::Array(members) if !members.is_empty() => {
            let index = first % members.len();
            put_somewhere(&mut members[index], rest, to);
        }
        leaf => *leaf = to.clone(),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(|number| Value::from(number.to_string())),
        prop_oneof![
            Just("dynamic"),
            Just("crypt"),
            Just("linear"),
            Just("reencrypt"),
            Just("raw")
        ]
        .prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["0"])),
    ]
}

proptest! {
    #[test]
    fn any_change_of_the_tree_does_no_harm(
        way in proptest::collection::vec(0_usize..8, 0..6),
        to in any_value(),
    ) {
        let mut json = sample_json();
        put_somewhere(&mut json, &way, &to);
        let bytes = with_text(json.to_string().as_bytes());
        if let Ok(luks) = read(&bytes, Copy::Primary) {
            prop_assert!(luks.metadata.validate(SIZE).is_ok());
            let again = write(&luks, Copy::Primary).unwrap();
            prop_assert_eq!(read(&again, Copy::Primary).unwrap().metadata, luks.metadata);
        }
    }

    #[test]
    fn any_text_does_no_harm(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Metadata::read(&text);
        let _ = read(&with_text(&text), Copy::Primary);
    }
}
