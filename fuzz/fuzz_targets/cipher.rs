//! A cipher string, and a key behind a line's end: read, keyed with each size of sector, and there and back.
#![no_main]

use dmfs::crypto::{Arithmetic, CipherSpec, SectorCipher, SectorSize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let (text, key) = bytes.split_at(end.unwrap_or(bytes.len()));
    let key = key.get(1..).unwrap_or_default();
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let _ = CipherSpec::check_authenticated(text);
    let spec = match CipherSpec::parse(text) {
        Ok(spec) => spec,
        Err(error) => {
            assert!(!error.text.is_empty() && !error.expected.is_empty());
            return;
        }
    };
    assert_eq!(spec.text(), text);
    assert!(!spec.key_lengths().is_empty());
    for bytes in [512, 4096, 4095] {
        for counts_large in [false, true] {
            let size = SectorSize {
                bytes,
                counts_large,
            };
            let best = SectorCipher::keyed(&spec, key, size);
            let other = SectorCipher::computed(Arithmetic::Portable, &spec, key, size);
            match (best, other) {
                (Ok(best), Ok(other)) => there_and_back(&best, &other, bytes as usize),
                (Err(best), Err(other)) => assert_eq!(best.to_string(), other.to_string()),
                _ => panic!("a key is good in one way to compute alone"),
            }
        }
    }
});

fn there_and_back(best: &SectorCipher, other: &SectorCipher, size: usize) {
    for sector in [0, u64::MAX / 4096 * 8] {
        let plain = vec![0x5a; 2 * size];
        let mut data = plain.clone();
        best.encrypt(sector, &mut data);
        let mut again = vec![0; data.len()];
        other.encrypt_to(sector, &plain, &mut again);
        assert!(data == again, "two ways to compute differ");
        best.decrypt(sector, &mut data);
        assert!(data == plain, "what was encrypted does not come back");
    }
}
