//! Published vectors, through every way to compute them: `vectors.txt` says where each comes from.

use super::super::Arithmetic;
use super::super::algorithm::Algorithm;
use super::super::modes::{Data, Direction, IvBlock, Mode};
use super::hex;

/// Every way. One that the processor lacks is the portable one once more.
pub(super) const WAYS: [Arithmetic; 5] = [
    Arithmetic::Portable,
    Arithmetic::Vectors1,
    Arithmetic::Vectors2,
    Arithmetic::Vectors4,
    Arithmetic::Best,
];

struct Vector {
    algorithm: &'static str,
    key: Vec<u8>,
    iv: Vec<u8>,
    plain: Vec<u8>,
    encrypted: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("vectors.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let [algorithm, key, iv, plain, encrypted] = words[..] else {
                panic!("not of five words: {line}");
            };
            Vector {
                algorithm,
                key: hex(key),
                iv: hex(iv.trim_start_matches('-')),
                plain: hex(plain),
                encrypted: hex(encrypted),
            }
        })
        .collect()
}

/// The vector `n` times side by side, in place and into another place.
fn check(vector: &Vector, mode: &dyn Mode, n: usize, direction: Direction, way: Arithmetic) {
    let (from, wanted) = match direction {
        Direction::Encrypt => (&vector.plain, &vector.encrypted),
        Direction::Decrypt => (&vector.encrypted, &vector.plain),
    };
    let (unit, wanted) = (from.len(), wanted.repeat(n));
    let ivs = || {
        let mut ivs = vec![IvBlock::default(); n * mode.iv_blocks()];
        for iv in ivs.chunks_exact_mut(mode.iv_blocks()) {
            let iv = IvBlock::slice_as_flattened_mut(iv);
            iv[..vector.iv.len()].copy_from_slice(&vector.iv);
        }
        ivs
    };
    let what = || {
        let start = &vector.encrypted[..8];
        format!(
            "{} {start:02x?}, {n} times: {direction:?} by {way:?}",
            vector.algorithm
        )
    };
    let mut data = from.repeat(n);
    mode.transform(direction, &mut ivs(), (&mut data[..]).into(), unit);
    assert!(data == wanted, "{}", what());
    let from = from.repeat(n);
    let mut to = vec![0; from.len()];
    mode.transform(
        direction,
        &mut ivs(),
        Data::new(&from, &mut to).unwrap(),
        unit,
    );
    assert!(to == wanted, "{}, elsewhere", what());
}

#[test]
fn published_vectors_come_out_in_every_way() {
    let vectors = vectors();
    for (algorithm, least) in [
        ("xts(aes)", 14),
        ("ecb(aes)", 3),
        ("cbc(aes)", 3),
        ("ctr(aes)", 3),
        ("lrw(aes)", 7),
        ("essiv(cbc(aes),sha256)", 6),
        ("adiantum(xchacha12,aes)", 11),
        ("adiantum(xchacha20,aes)", 11),
    ] {
        let found = vectors
            .iter()
            .filter(|vector| vector.algorithm == algorithm);
        assert!(found.count() >= least, "of {algorithm} there are fewer");
    }
    for vector in &vectors {
        let algorithm = Algorithm::parse(vector.algorithm).unwrap();
        for way in WAYS {
            let mode = algorithm.keyed(&vector.key, way).unwrap();
            assert_eq!(mode.iv_size(), vector.iv.len(), "{}", vector.algorithm);
            // As many as take one, two, some and all places of the kernels that do units side by side.
            for n in [1, 2, 5, 17, 64] {
                check(vector, &*mode, n, Direction::Encrypt, way);
                check(vector, &*mode, n, Direction::Decrypt, way);
            }
        }
    }
}
