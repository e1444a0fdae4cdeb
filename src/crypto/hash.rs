//! Hashes by name.

use sha1::Digest;
use zeroize::Zeroizing;

/// A hash function.
#[derive(Clone, Copy)]
pub struct Hash {
    name: &'static str,
    len: usize,
    digest: fn(&[u8], &mut [u8]),
}

impl PartialEq for Hash {
    fn eq(&self, other: &Hash) -> bool {
        self.name == other.name
    }
}

impl Eq for Hash {}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn digest<D: Digest>(data: &[u8], into: &mut [u8]) {
    let mut digest = D::digest(data);
    into.copy_from_slice(&digest);
    zeroize::Zeroize::zeroize(&mut digest[..]);
}

const fn hash<D: Digest>(name: &'static str, len: usize) -> Hash {
    Hash {
        name,
        len,
        digest: digest::<D>,
    }
}

/// Names are the kernel's; those that cryptsetup has others for come again.
static HASHES: &[Hash] = &[
    hash::<blake2::Blake2b<cipher::consts::U20>>("blake2b-160", 20),
    hash::<blake2::Blake2b256>("blake2b-256", 32),
    hash::<blake2::Blake2b<cipher::consts::U48>>("blake2b-384", 48),
    hash::<blake2::Blake2b512>("blake2b-512", 64),
    hash::<blake2::Blake2s<cipher::consts::U16>>("blake2s-128", 16),
    hash::<blake2::Blake2s<cipher::consts::U20>>("blake2s-160", 20),
    hash::<blake2::Blake2s<cipher::consts::U28>>("blake2s-224", 28),
    hash::<blake2::Blake2s256>("blake2s-256", 32),
    hash::<md5::Md5>("md5", 16),
    #[cfg(feature = "legacy")]
    hash::<ripemd::Ripemd160>("rmd160", 20),
    #[cfg(feature = "legacy")]
    hash::<ripemd::Ripemd160>("ripemd160", 20),
    hash::<sha1::Sha1>("sha1", 20),
    hash::<sha2::Sha224>("sha224", 28),
    hash::<sha2::Sha256>("sha256", 32),
    hash::<sha2::Sha384>("sha384", 48),
    hash::<sha2::Sha512>("sha512", 64),
    hash::<sha3::Sha3_224>("sha3-224", 28),
    hash::<sha3::Sha3_256>("sha3-256", 32),
    hash::<sha3::Sha3_384>("sha3-384", 48),
    hash::<sha3::Sha3_512>("sha3-512", 64),
    #[cfg(feature = "legacy")]
    hash::<whirlpool::Whirlpool>("wp512", 64),
    #[cfg(feature = "legacy")]
    hash::<whirlpool::Whirlpool>("whirlpool", 64),
];

impl Hash {
    /// The hash that the kernel or cryptsetup calls `name`.
    pub fn named(name: &str) -> Option<Hash> {
        HASHES.iter().find(|hash| hash.name == name).copied()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of a digest.
    pub fn digest_len(&self) -> usize {
        self.len
    }

    /// The digest of `data`, overwritten when dropped.
    pub fn digest(&self, data: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut into = Zeroizing::new(vec![0; self.len]);
        (self.digest)(data, &mut into);
        into
    }
}

#[cfg(test)]
mod tests {
    use super::HASHES;

    #[test]
    fn digests_are_as_long_as_told() {
        for hash in HASHES {
            let digest = hash.digest(b"abc");
            assert_eq!(digest.len(), hash.digest_len(), "{hash:?}");
            assert!(digest.iter().any(|byte| *byte != 0), "{hash:?}");
        }
    }
}
