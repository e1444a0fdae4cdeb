//! Sectors against OpenSSL and the crate `xts-mode`, at random: every length of key, size of sector and way to compute.

use cipher::KeyInit;
use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use proptest::prelude::{ProptestConfig, any, prop, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use super::super::{CipherSpec, Hash, SectorCipher};
use super::sizes;
use super::vectors::WAYS;

/// Someone else's cipher under a key.
enum Peer {
    OpenSsl(CipherCtx),
    /// XTS of AES-192, which OpenSSL has not.
    Xts(Box<xts_mode::Xts128<aes::Aes192>>),
}

impl Peer {
    fn of_openssl(cipher: &CipherRef, key: &[u8]) -> Peer {
        let mut context = CipherCtx::new().unwrap();
        let iv = vec![0; cipher.iv_length()];
        let iv = (!iv.is_empty()).then_some(&iv[..]);
        context.encrypt_init(Some(cipher), Some(key), iv).unwrap();
        Peer::OpenSsl(context)
    }

    fn encrypt(&mut self, iv: [u8; 16], sector: &mut [u8]) {
        match self {
            Peer::OpenSsl(context) => {
                let iv = &iv[..context.iv_length()];
                let iv = (!iv.is_empty()).then_some(iv);
                context.encrypt_init(None, None, iv).unwrap();
                context.set_padding(false);
                // It asks for room for one block more than it fills.
                let mut out = vec![0; sector.len() + 16];
                let written = context.cipher_update(sector, Some(&mut out)).unwrap();
                assert_eq!(written, sector.len());
                sector.copy_from_slice(&out[..written]);
            }
            Peer::Xts(xts) => xts.encrypt_sector(sector, iv.into()),
        }
    }
}

/// A cipher of ours and the same of theirs.
struct Pair {
    spec: &'static str,
    key_len: usize,
    /// OpenSSL's; none for AES-192 in XTS, which only the other crate has.
    theirs: Option<fn() -> &'static CipherRef>,
}

const fn pair(spec: &'static str, key_len: usize, theirs: fn() -> &'static CipherRef) -> Pair {
    Pair {
        spec,
        key_len,
        theirs: Some(theirs),
    }
}

/// Vectors are sector numbers in 64 bits, big-endian for those that count; ESSIV's are made here.
const PAIRS: &[Pair] = &[
    pair("aes-xts-plain64", 32, Cipher::aes_128_xts),
    Pair {
        spec: "aes-xts-plain64",
        key_len: 48,
        theirs: None,
    },
    pair("aes-xts-plain64", 64, Cipher::aes_256_xts),
    pair("aes-cbc-plain64", 16, Cipher::aes_128_cbc),
    pair("aes-cbc-plain64", 24, Cipher::aes_192_cbc),
    pair("aes-cbc-plain64", 32, Cipher::aes_256_cbc),
    pair("aes-cbc-essiv:sha256", 16, Cipher::aes_128_cbc),
    pair("aes-cbc-essiv:sha256", 24, Cipher::aes_192_cbc),
    pair("aes-cbc-essiv:sha256", 32, Cipher::aes_256_cbc),
    pair("aes-ctr-plain64be", 16, Cipher::aes_128_ctr),
    pair("aes-ctr-plain64be", 24, Cipher::aes_192_ctr),
    pair("aes-ctr-plain64be", 32, Cipher::aes_256_ctr),
    pair("aes-ecb", 16, Cipher::aes_128_ecb),
    pair("aes-ecb", 24, Cipher::aes_192_ecb),
    pair("aes-ecb", 32, Cipher::aes_256_ecb),
    #[cfg(feature = "legacy")]
    pair("camellia-cbc-plain64", 32, Cipher::camellia256_cbc),
    #[cfg(feature = "legacy")]
    pair("des3_ede-cbc-plain64", 24, Cipher::des_ede3_cbc),
];

impl Pair {
    fn peer(&self, key: &[u8]) -> Peer {
        if let Some(theirs) = self.theirs {
            return Peer::of_openssl(theirs(), key);
        }
        let (data, tweak) = key.split_at(key.len() / 2);
        let new = |key| aes::Aes192::new_from_slice(key).unwrap();
        Peer::Xts(Box::new(xts_mode::Xts128::new(new(data), new(tweak))))
    }

    /// The vector of a sector under `key`.
    fn iv(&self, sector: u64, key: &[u8]) -> [u8; 16] {
        let mut iv = [0; 16];
        if self.spec.ends_with("plain64be") {
            iv[8..].copy_from_slice(&sector.to_be_bytes());
        } else {
            iv[..8].copy_from_slice(&sector.to_le_bytes());
        }
        if self.spec.contains("essiv") {
            let salt = Hash::named("sha256").unwrap().digest(key);
            Peer::of_openssl(Cipher::aes_256_ecb(), &salt).encrypt([0; 16], &mut iv);
        }
        iv
    }

    fn encrypt(&self, key: &[u8], sector: u64, step: u64, data: &mut [u8]) {
        let mut peer = self.peer(key);
        for (i, data) in data.chunks_exact_mut(512 * step as usize).enumerate() {
            let sector = sector.wrapping_add(i as u64 * step);
            peer.encrypt(self.iv(sector, key), data);
        }
    }
}

/// Bytes, mostly of few sectors; of many where several cores share the work.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        10 => 1..40_usize,
        4 => 40..300_usize,
        1 => 1500..2048_usize,
        1 => Just(2048_usize),
    ]
    .prop_map(|sectors| sectors * 512)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sectors_are_as_other_libraries_encrypt_them(
        pair in prop::sample::select((0..PAIRS.len()).collect::<Vec<_>>()),
        size in sizes(),
        len in lengths(),
        sector in prop_oneof![0..1_u64 << 40, Just(u64::MAX - 2047)],
        shift in 0..64_usize,
        other_shift in 0..64_usize,
        seed in any::<u64>(),
    ) {
        let (pair, step) = (&PAIRS[pair], u64::from(size.bytes / 512));
        // Numbers as OpenSSL's side counts them.
        let size = super::SectorSize { counts_large: false, ..size };
        let len = len.next_multiple_of(size.bytes as usize).min(1 << 20);
        let mut state = seed | 1;
        let mut random = |len: usize| -> Vec<u8> {
            let next = || {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 56) as u8
            };
            std::iter::repeat_with(next).take(len).collect()
        };
        let key = random(pair.key_len);
        let plain = random(shift + len);
        let plain = &plain[shift..];
        let mut wanted = plain.to_vec();
        pair.encrypt(&key, sector, step, &mut wanted);
        let spec = CipherSpec::parse(pair.spec).unwrap();
        for way in WAYS {
            let what = format!("{} {}, {len} bytes in sectors of {} by {way:?}", pair.spec, pair.key_len, size.bytes);
            let cipher = SectorCipher::computed(way, &spec, &key, size).unwrap();
            let mut memory = vec![0; len + other_shift];
            let to = &mut memory[other_shift..];
            cipher.encrypt_to(sector, plain, to);
            assert!(to == wanted, "{what}: elsewhere");
            cipher.decrypt(sector, to);
            assert!(to == plain, "{what}: back");
            cipher.encrypt(sector, to);
            assert!(to == wanted, "{what}: in place");
        }
    }
}

/// What is compared with AES-192 in XTS is what OpenSSL would say, too, if it had it.
#[test]
fn the_peers_agree_with_each_other() {
    let key: Vec<u8> = (0..64).collect();
    let (mut one, mut other) = ([3; 512], [3; 512]);
    let new = |key: &[u8]| aes::Aes256::new_from_slice(key).unwrap();
    let xts = xts_mode::Xts128::new(new(&key[..32]), new(&key[32..]));
    xts.encrypt_sector(&mut one, [7; 16].into());
    Peer::of_openssl(Cipher::aes_256_xts(), &key).encrypt([7; 16], &mut other);
    assert_eq!(one, other);
}
