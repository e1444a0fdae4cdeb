//! Sectors against published and independently computed vectors, and against themselves.
#![allow(clippy::unwrap_used)]

use proptest::prelude::{ProptestConfig, any, prop, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};
use rustix::io::Errno;

mod peers;
mod vectors;

use super::{CipherSpec, SectorCipher, SectorSize};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn count_up(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}

const fn size(bytes: u32, counts_large: bool) -> SectorSize {
    SectorSize {
        bytes,
        counts_large,
    }
}

/// A cipher string, and a key length that goes with it.
const CIPHERS: &[(&str, usize)] = &[
    ("aes-xts-plain64", 32),
    ("aes-xts-plain64", 48),
    ("aes-xts-plain64", 64),
    ("aes-xts-plain64be", 64),
    ("aes-xts-plain", 64),
    ("aes-cbc-essiv:sha256", 16),
    ("aes-cbc-essiv:sha256", 24),
    ("aes-cbc-essiv:sha256", 32),
    ("capi:essiv(cbc(aes),sha256)-plain64", 32),
    ("capi:xts(aes)-essiv:sha256", 64),
    ("aes-cbc-plain", 16),
    ("aes:4-cbc-plain64", 128),
    ("aes", 32),
    ("aes-cbc-null", 32),
    ("aes-cbc-benbi", 32),
    ("aes-ctr-plain64", 16),
    ("aes-ctr-plain64be", 32),
    ("aes-ctr-benbi", 32),
    ("aes-ecb", 24),
    ("aes-lrw-benbi", 32),
    ("aes-lrw-benbi", 48),
    ("capi:cbc(aes)-eboiv", 32),
    ("capi:xts(aes)-eboiv", 64),
    ("capi:cbc(aes)-elephant", 64),
    ("capi:cbc(aes)-elephant", 32),
    ("serpent-xts-plain64", 64),
    ("serpent-cbc-essiv:sha256", 32),
    ("twofish-xts-plain64", 64),
    ("twofish-cbc-plain64", 24),
    ("xchacha12,aes-adiantum-plain64", 32),
    ("capi:adiantum(xchacha20,aes)-plain64", 32),
    ("capi:adiantum(xchacha20,aes)-plain64be", 32),
    ("serpent-cbc-plain64", 3),
    ("serpent-cbc-plain64", 0),
    ("cipher_null-ecb", 0),
    #[cfg(feature = "legacy")]
    ("camellia-xts-plain64", 64),
    #[cfg(feature = "legacy")]
    ("aria-cbc-plain64", 24),
    #[cfg(feature = "legacy")]
    ("cast6-xts-plain64", 56),
    #[cfg(feature = "legacy")]
    ("kuznyechik-xts-plain64", 64),
    #[cfg(feature = "legacy")]
    ("sm4-xts-plain64", 32),
    #[cfg(feature = "legacy")]
    ("blowfish-cbc-plain64", 56),
    #[cfg(feature = "legacy")]
    ("blowfish-cbc-essiv:md5", 16),
    #[cfg(feature = "legacy")]
    ("cast5-ctr-plain64", 16),
    #[cfg(feature = "legacy")]
    ("des3_ede-cbc-plain64", 24),
];

/// Those whose vectors are only for sectors of 512 bytes.
const SMALL_ONLY: &[(&str, usize)] = &[
    ("aes:64-cbc-lmk", 1024),
    ("aes:64-cbc-lmk", 1040),
    ("aes-cbc-tcw", 64),
    ("serpent-cbc-tcw", 64),
    #[cfg(feature = "legacy")]
    ("blowfish-cbc-tcw", 80),
];

#[test]
fn ciphertext_of_zeroes_is_as_computed_elsewhere() {
    for (spec, key, sector, bytes, at, wanted) in [
        (
            "aes-xts-plain64",
            64,
            0,
            512,
            0,
            "cd6b103236fbd87dba93e9001e29bc3d",
        ),
        (
            "aes-xts-plain64",
            64,
            1,
            512,
            0,
            "0c22ed7e2168a8500b30154c2ec00d26",
        ),
        (
            "aes-xts-plain64",
            64,
            0,
            4096,
            4080,
            "589e73a5e399579913ecc4921aa2120f",
        ),
        (
            "aes-xts-plain64",
            64,
            8,
            4096,
            0,
            "32557c9efcea00dfdf521bbc053d1a7b",
        ),
        (
            "aes-cbc-plain",
            32,
            1,
            512,
            0,
            "c7b519846a11411cd6ac07cb03f801a8",
        ),
        (
            "aes-cbc-essiv:sha256",
            32,
            1,
            512,
            0,
            "437ae8cf520861f16a0680407b640de9",
        ),
        (
            "capi:cbc(aes)-eboiv",
            32,
            1,
            512,
            0,
            "d17db718e1ac16d214aed4448e5f556c",
        ),
    ] {
        let cipher = SectorCipher::new(spec, &count_up(key), size(bytes, false)).unwrap();
        let mut data = vec![0; bytes as usize];
        cipher.encrypt(sector, &mut data);
        assert_eq!(data[at..at + 16], hex(wanted), "{spec} {sector}");
    }
}

/// GOST R 34.12-2015, A.1.
#[cfg(feature = "legacy")]
#[test]
fn kuznyechik_is_that_of_its_standard() {
    let key = hex("8899aabbccddeeff0011223344556677 fedcba98765432100123456789abcdef");
    let cipher = SectorCipher::new("kuznyechik-ecb", &key, SectorSize::SMALL).unwrap();
    let mut data = hex("1122334455667700ffeeddccbbaa9988").repeat(32);
    cipher.encrypt(0, &mut data);
    assert_eq!(data[..16], hex("7f679d90bebc24305a468d42b9d4edcd"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a request is cut, and wherever it goes, the bytes are the same; and it decrypts.
    #[test]
    fn pieces_make_the_whole(
        ((spec, key_len), size) in prop_oneof![
            (prop::sample::select(CIPHERS), sizes()),
            (prop::sample::select(SMALL_ONLY), Just(SectorSize::SMALL)),
        ],
        sector in prop_oneof![0..1_u64 << 40, Just(u64::MAX - 1000)],
        n in 1..70_usize,
        seed in any::<u8>(),
    ) {
        let key: Vec<u8> = (0..key_len).map(|i| (i * i) as u8 ^ seed).collect();
        let cipher = SectorCipher::new(spec, &key, size).unwrap();
        let bytes = size.bytes as usize;
        let step = u64::from(size.bytes / 512);
        let sector = sector / step * step;
        let plain: Vec<u8> = (0..n * bytes).map(|i| (i / 7) as u8 ^ seed).collect();
        let mut whole = plain.clone();
        cipher.encrypt(sector, &mut whole);
        let mut to = vec![0; plain.len()];
        cipher.encrypt_to(sector, &plain, &mut to);
        assert!(to == whole, "{spec}: into another place");
        let mut pieces = plain.clone();
        for (i, piece) in pieces.chunks_mut(bytes).enumerate() {
            cipher.encrypt(sector + i as u64 * step, piece);
        }
        assert!(pieces == whole, "{spec}: sector by sector");
        let half = n / 2 * bytes;
        cipher.decrypt(sector, &mut whole[..half]);
        cipher.decrypt(sector + (n / 2) as u64 * step, &mut whole[half..]);
        assert!(whole == plain, "{spec}: back");
        assert!(pieces != plain || spec.starts_with("cipher_null"), "{spec}: nothing done");
    }
}

fn sizes() -> impl Strategy<Value = SectorSize> {
    let bytes = prop::sample::select(&[512, 1024, 2048, 4096][..]);
    (bytes, any::<bool>()).prop_map(|(bytes, large)| size(bytes, large))
}

#[test]
fn strings_are_refused_as_the_kernel_does() {
    for (text, errno, wanted) in [
        ("", Errno::NOENT, "Error allocating crypto tfm"),
        (
            "bogus-cbc-plain",
            Errno::NOENT,
            "Error allocating crypto tfm",
        ),
        (
            "aes-bogus-plain",
            Errno::NOENT,
            "Error allocating crypto tfm",
        ),
        (
            "aes-cbc-essiv:nohash",
            Errno::NOENT,
            "Error allocating crypto tfm",
        ),
        (
            "capi:gcm(aes)-random",
            Errno::NOENT,
            "Error allocating crypto tfm",
        ),
        ("capi:xts(aes", Errno::NOENT, "Error allocating crypto tfm"),
        ("capi:", Errno::NOENT, "Error allocating crypto tfm"),
        ("aes-xts-bogus", Errno::INVAL, "Invalid IV mode"),
        ("aes-cbc-", Errno::INVAL, "Invalid IV mode"),
        ("aes-cbc", Errno::INVAL, "IV mechanism required"),
        ("aes-xts", Errno::INVAL, "IV mechanism required"),
        (
            "aes-cbc-essiv",
            Errno::INVAL,
            "Digest algorithm missing for ESSIV mode",
        ),
        (
            "capi:cbc(aes)-essiv",
            Errno::INVAL,
            "Digest algorithm missing for ESSIV mode",
        ),
        (
            "aes:3-cbc-plain",
            Errno::INVAL,
            "Bad cipher key count specification",
        ),
        (
            "aes:0-cbc-plain",
            Errno::INVAL,
            "Bad cipher key count specification",
        ),
        (
            "aes:x-cbc-plain",
            Errno::INVAL,
            "Bad cipher key count specification",
        ),
        (
            "aes:-cbc-plain",
            Errno::INVAL,
            "Bad cipher key count specification",
        ),
        ("xts(aes)-plain64", Errno::INVAL, "Bad cipher specification"),
    ] {
        let error = CipherSpec::parse(text).unwrap_err();
        assert_eq!((error.errno, error.text), (errno, wanted), "{text}");
        assert!(!error.expected.is_empty(), "{text}");
    }
    let many = CipherSpec::parse("cipher_null:2147483648-ecb").unwrap_err();
    assert_eq!(many.errno, Errno::NOMEM);
    let long = format!("{}-cbc-plain", "a".repeat(200));
    assert_eq!(CipherSpec::parse(&long).unwrap_err().errno, Errno::NOMEM);
}

#[test]
fn keys_of_other_lengths_are_refused() {
    for (spec, lengths) in [
        ("aes-xts-plain64", &[0, 1, 16, 31, 33, 65, 128][..]),
        ("aes-cbc-plain64", &[0, 15, 33, 64]),
        ("aes-lrw-benbi", &[0, 8, 16, 31]),
        ("aes:64-cbc-lmk", &[0, 64, 1023]),
        ("aes-cbc-tcw", &[0, 16, 31, 32]),
        ("capi:cbc(aes)-elephant", &[0, 16, 33]),
        ("xchacha12,aes-adiantum-plain64", &[0, 31, 33]),
        ("cipher_null-ecb", &[1]),
        ("aes:1024-cbc-plain64", &[0, 16]),
        ("aes-cbc-essiv:sha1", &[32]),
    ] {
        for &len in lengths {
            let refused = SectorCipher::new(spec, &vec![1; len], SectorSize::SMALL).err();
            let refused = refused.unwrap_or_else(|| panic!("{spec} takes a key of {len}"));
            assert_eq!(
                refused.text, "Error decoding and setting key",
                "{spec} {len}"
            );
        }
    }
}

#[test]
fn vectors_that_do_not_go_with_the_cipher_are_refused() {
    for (spec, key, bytes) in [
        ("aes:64-cbc-lmk", 1024, 4096),
        ("aes-cbc-tcw", 64, 4096),
        ("aes-ctr-eboiv", 16, 512),
        ("xchacha12,aes-adiantum-eboiv", 32, 512),
    ] {
        let refused = SectorCipher::new(spec, &vec![1; key], size(bytes, false)).err();
        assert_eq!(refused.unwrap().text, "Error creating IV", "{spec}");
    }
    for bytes in [0, 256, 511, 513, 8192] {
        assert!(SectorCipher::new("aes-ecb", &[0; 16], size(bytes, false)).is_err());
    }
}
