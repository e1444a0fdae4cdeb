//! Every level against the safe modes, at random.
#![allow(clippy::unwrap_used)]

use cipher::KeyInit;
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::{Aes, Level};
use crate::crypto::algorithm::Chaining;
use crate::crypto::modes::{Cbc, Ctr, Data, Direction, Ecb, IvBlock, Mode, Xts};

fn safe<C>(chaining: Chaining, key: &[u8]) -> Box<dyn Mode>
where
    C: KeyInit
        + cipher::BlockCipherEncrypt
        + cipher::BlockCipherDecrypt
        + cipher::common::BlockSizeUser<BlockSize = cipher::consts::U16>
        + Send
        + Sync
        + 'static,
{
    let new = |key| C::new_from_slice(key).unwrap();
    match chaining {
        Chaining::Xts => {
            let (data, tweak) = key.split_at(key.len() / 2);
            Box::new(Xts::new(new(data), new(tweak)))
        }
        Chaining::Cbc => Box::new(Cbc::new(new(key))),
        Chaining::Ctr => Box::new(Ctr::new(new(key))),
        Chaining::Ecb => Box::new(Ecb::new(new(key))),
        Chaining::Lrw => unreachable!(),
    }
}

const MODES: [Chaining; 4] = [Chaining::Xts, Chaining::Cbc, Chaining::Ctr, Chaining::Ecb];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn all_levels_agree_with_the_safe_modes(
        chaining in prop::sample::select(&MODES[..]),
        len in prop::sample::select(&[16_usize, 24, 32][..]),
        unit in prop::sample::select(&[16_usize, 512, 1024, 2048, 4096][..]),
        n in 1..65_usize,
        shift in 0..16_usize,
        seed in any::<u64>(),
        near_the_end in any::<bool>(),
    ) {
        let n = n.min(1 + (64 << 10) / unit);
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        let key_len = if chaining == Chaining::Xts { 2 * len } else { len };
        let key: Vec<u8> = (0..key_len).map(|_| next()).collect();
        let safe = match len {
            16 => safe::<aes::Aes128>(chaining, &key),
            24 => safe::<aes::Aes192>(chaining, &key),
            _ => safe::<aes::Aes256>(chaining, &key),
        };
        let ivs: Vec<IvBlock> = (0..n)
            .map(|_| {
                let mut iv = [0; 16];
                iv.fill_with(&mut next);
                if near_the_end {
                    iv[1..15].fill(0xff);
                }
                iv.into()
            })
            .collect();
        let plain: Vec<u8> = (0..n * unit + shift).map(|_| next()).collect();
        let plain = &plain[shift..];
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let mut wanted = plain.to_vec();
            safe.transform(direction, &mut ivs.clone(), (&mut wanted[..]).into(), unit);
            for &level in Level::available() {
                let kernel = Aes::new(level, chaining, &key).unwrap();
                assert_eq!((kernel.iv_size(), kernel.block_size()), (safe.iv_size(), safe.block_size()));
                let mut in_place = plain.to_vec();
                kernel.transform(direction, &mut ivs.clone(), (&mut in_place[..]).into(), unit);
                assert!(in_place == wanted, "{level:?} {chaining:?} {direction:?} {unit} x {n}");
                let mut other = vec![0; plain.len() + 7];
                let to = &mut other[7..];
                let data = Data::new(plain, to).unwrap();
                kernel.transform(direction, &mut ivs.clone(), data, unit);
                assert!(other[7..] == wanted, "{level:?} {chaining:?} {direction:?}: elsewhere");
            }
        }
    }
}

#[test]
fn keys_of_other_lengths_are_none() {
    for &level in Level::available() {
        for len in [0, 15, 17, 31, 33] {
            assert!(Aes::new(level, Chaining::Cbc, &vec![0; len]).is_none());
        }
    }
}
