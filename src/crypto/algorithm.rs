//! Ciphers and modes by the kernel's names: `xts(aes)`, `essiv(cbc(aes),sha256)`, `adiantum(xchacha12,aes)`.

use cipher::common::BlockSizeUser;
use cipher::consts::{U8, U16};
use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use super::kernels::{self, Arithmetic};
use super::modes::{Adiantum, Cbc, Ctr, Ecb, Essiv, Lrw, Mode, NoCipher, Rounds, Xts};
use super::secret::hide;
use super::{Hash, Hidden};

/// A cipher in a mode, without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Blocks(Chaining, Block),
    Essiv(Box<Algorithm>, Block, Hash),
    Adiantum(Rounds),
    Null,
}

/// A mode over any block cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chaining {
    Xts,
    Lrw,
    Cbc,
    Ctr,
    Ecb,
}

/// A block cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Aes,
    Serpent,
    Twofish,
    #[cfg(feature = "legacy")]
    Aria,
    #[cfg(feature = "legacy")]
    Blowfish,
    #[cfg(feature = "legacy")]
    Camellia,
    #[cfg(feature = "legacy")]
    Cast5,
    #[cfg(feature = "legacy")]
    Cast6,
    #[cfg(feature = "legacy")]
    Des3Ede,
    #[cfg(feature = "legacy")]
    Kuznyechik,
    #[cfg(feature = "legacy")]
    Sm4,
}

const BLOCKS: &[(&str, Block)] = &[
    ("aes", Block::Aes),
    ("serpent", Block::Serpent),
    ("twofish", Block::Twofish),
    #[cfg(feature = "legacy")]
    ("aria", Block::Aria),
    #[cfg(feature = "legacy")]
    ("blowfish", Block::Blowfish),
    #[cfg(feature = "legacy")]
    ("camellia", Block::Camellia),
    #[cfg(feature = "legacy")]
    ("cast5", Block::Cast5),
    #[cfg(feature = "legacy")]
    ("cast6", Block::Cast6),
    #[cfg(feature = "legacy")]
    ("des3_ede", Block::Des3Ede),
    // Not Linux's own, but what modules for VeraCrypt's volumes call it.
    #[cfg(feature = "legacy")]
    ("kuznyechik", Block::Kuznyechik),
    #[cfg(feature = "legacy")]
    ("sm4", Block::Sm4),
];

/// What can be named, for people.
pub(super) fn known() -> String {
    let blocks: Vec<_> = BLOCKS.iter().map(|(name, _)| *name).collect();
    format!(
        "xts, cbc, ctr, ecb or lrw over {}; adiantum over xchacha12,aes or xchacha20,aes; cipher_null-ecb",
        blocks.join(", ")
    )
}

impl Algorithm {
    /// The algorithm that the kernel calls `name`.
    pub(super) fn parse(name: &str) -> Option<Algorithm> {
        let (template, inside) = name.strip_suffix(')')?.split_once('(')?;
        let chaining = match template {
            "xts" => Chaining::Xts,
            "lrw" => Chaining::Lrw,
            "cbc" => Chaining::Cbc,
            "ctr" => Chaining::Ctr,
            "ecb" if inside == "cipher_null" => return Some(Algorithm::Null),
            "ecb" => Chaining::Ecb,
            "adiantum" => return adiantum(inside),
            "essiv" => return essiv(inside),
            _ => return None,
        };
        let cipher = Block::named(inside)?;
        let is_wide = cipher.block_size() == 16;
        (is_wide || !matches!(chaining, Chaining::Xts | Chaining::Lrw))
            .then_some(Algorithm::Blocks(chaining, cipher))
    }

    /// AES, block by block.
    pub(super) const AES_ECB: Algorithm = Algorithm::Blocks(Chaining::Ecb, Block::Aes);

    /// Bytes of a vector; 0 where there is none.
    pub(super) fn iv_size(&self) -> usize {
        match self {
            Algorithm::Blocks(Chaining::Ecb, _) | Algorithm::Null => 0,
            Algorithm::Blocks(_, cipher) => cipher.block_size(),
            Algorithm::Essiv(inner, _, _) => inner.iv_size(),
            Algorithm::Adiantum(_) => 32,
        }
    }

    /// The block cipher at its heart, where ESSIV can be put over it.
    fn cipher(&self) -> Option<Block> {
        match self {
            Algorithm::Blocks(Chaining::Ecb, _) | Algorithm::Adiantum(_) | Algorithm::Null => None,
            Algorithm::Blocks(_, cipher) | Algorithm::Essiv(_, cipher, _) => Some(*cipher),
        }
    }

    /// The algorithm under `key`; `None` where it is of no length that the algorithm takes.
    pub(super) fn keyed(&self, key: &[u8], arithmetic: Arithmetic) -> Option<Hidden<dyn Mode>> {
        match self {
            Algorithm::Blocks(chaining, cipher) => cipher.keyed(*chaining, key, arithmetic),
            Algorithm::Essiv(inner, cipher, hash) => {
                let of_vectors = cipher.keyed(Chaining::Ecb, &hash.digest(key), arithmetic)?;
                Some(hide(Essiv::new(inner.keyed(key, arithmetic)?, of_vectors)))
            }
            Algorithm::Adiantum(rounds) => Some(hide(Adiantum::new(*rounds, key.try_into().ok()?))),
            Algorithm::Null => key.is_empty().then(|| hide(NoCipher)),
        }
    }

    /// Lengths of key, bytes, for people.
    pub(super) fn key_lengths(&self) -> String {
        match self {
            Algorithm::Blocks(Chaining::Xts, cipher) => {
                format!("twice {}", cipher.key_lengths())
            }
            Algorithm::Blocks(Chaining::Lrw, cipher) => {
                format!("16 more than {}", cipher.key_lengths())
            }
            Algorithm::Blocks(_, cipher) => cipher.key_lengths().into(),
            Algorithm::Essiv(inner, _, _) => inner.key_lengths(),
            Algorithm::Adiantum(_) => "32".into(),
            Algorithm::Null => "no".into(),
        }
    }
}

fn adiantum(inside: &str) -> Option<Algorithm> {
    match inside {
        "xchacha12,aes" => Some(Algorithm::Adiantum(Rounds::Twelve)),
        "xchacha20,aes" => Some(Algorithm::Adiantum(Rounds::Twenty)),
        _ => None,
    }
}

fn essiv(inside: &str) -> Option<Algorithm> {
    let (inner, hash) = inside.rsplit_once(',')?;
    let inner = Algorithm::parse(inner)?;
    let cipher = inner.cipher()?;
    let hash = Hash::named(hash)?;
    Some(Algorithm::Essiv(Box::new(inner), cipher, hash))
}

/// What of a cipher crate is asked for.
trait Cipher: BlockCipherEncrypt + BlockCipherDecrypt + KeyInit + Send + Sync + 'static {}
impl<C: BlockCipherEncrypt + BlockCipherDecrypt + KeyInit + Send + Sync + 'static> Cipher for C {}

impl Block {
    fn named(name: &str) -> Option<Block> {
        let found = BLOCKS.iter().find(|(known, _)| *known == name);
        found.map(|&(_, block)| block)
    }

    fn block_size(self) -> usize {
        match self {
            Block::Aes | Block::Serpent | Block::Twofish => 16,
            #[cfg(feature = "legacy")]
            Block::Aria | Block::Camellia | Block::Cast6 | Block::Kuznyechik | Block::Sm4 => 16,
            #[cfg(feature = "legacy")]
            Block::Blowfish | Block::Cast5 | Block::Des3Ede => 8,
        }
    }

    /// Whether a key may have `len` bytes.
    fn takes_key(self, len: usize) -> bool {
        match self {
            Block::Aes | Block::Twofish => matches!(len, 16 | 24 | 32),
            Block::Serpent => len <= 32,
            #[cfg(feature = "legacy")]
            Block::Aria | Block::Camellia => matches!(len, 16 | 24 | 32),
            #[cfg(feature = "legacy")]
            Block::Blowfish => (4..=56).contains(&len),
            #[cfg(feature = "legacy")]
            Block::Cast5 => (5..=16).contains(&len),
            #[cfg(feature = "legacy")]
            Block::Cast6 => matches!(len, 16 | 20 | 24 | 28 | 32),
            #[cfg(feature = "legacy")]
            Block::Des3Ede => len == 24,
            #[cfg(feature = "legacy")]
            Block::Kuznyechik => len == 32,
            #[cfg(feature = "legacy")]
            Block::Sm4 => len == 16,
        }
    }

    fn key_lengths(self) -> &'static str {
        match self {
            Block::Aes | Block::Twofish => "16, 24 or 32",
            Block::Serpent => "0 to 32",
            #[cfg(feature = "legacy")]
            Block::Aria | Block::Camellia => "16, 24 or 32",
            #[cfg(feature = "legacy")]
            Block::Blowfish => "4 to 56",
            #[cfg(feature = "legacy")]
            Block::Cast5 => "5 to 16",
            #[cfg(feature = "legacy")]
            Block::Cast6 => "16, 20, 24, 28 or 32",
            #[cfg(feature = "legacy")]
            Block::Des3Ede => "24",
            #[cfg(feature = "legacy")]
            Block::Kuznyechik => "32",
            #[cfg(feature = "legacy")]
            Block::Sm4 => "16",
        }
    }

    fn keyed(
        self,
        chaining: Chaining,
        key: &[u8],
        arithmetic: Arithmetic,
    ) -> Option<Hidden<dyn Mode>> {
        let len = match chaining {
            Chaining::Xts if key.len().is_multiple_of(2) => key.len() / 2,
            Chaining::Xts => return None,
            Chaining::Lrw => key.len().checked_sub(16)?,
            Chaining::Cbc | Chaining::Ctr | Chaining::Ecb => key.len(),
        };
        if !self.takes_key(len) {
            return None;
        }
        if self == Block::Aes
            && let Some(mode) = kernels::aes(arithmetic, chaining, key)
        {
            return Some(mode);
        }
        match (self, len) {
            (Block::Aes, 16) => wide::<aes::Aes128>(chaining, key),
            (Block::Aes, 24) => wide::<aes::Aes192>(chaining, key),
            (Block::Aes, _) => wide::<aes::Aes256>(chaining, key),
            (Block::Serpent, _) => serpent_keyed(chaining, key),
            (Block::Twofish, _) => wide::<super::twofish::Twofish>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Aria, 16) => wide::<aria::Aria128>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Aria, 24) => wide::<aria::Aria192>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Aria, _) => wide::<aria::Aria256>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Camellia, 16) => wide::<camellia::Camellia128>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Camellia, 24) => wide::<camellia::Camellia192>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Camellia, _) => wide::<camellia::Camellia256>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Cast6, _) => wide::<cast6::Cast6>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Kuznyechik, _) => wide::<kuznyechik::Kuznyechik>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Sm4, _) => wide::<sm4::Sm4>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Blowfish, _) => narrow::<blowfish::Blowfish>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Cast5, _) => narrow::<cast5::Cast5>(chaining, key),
            #[cfg(feature = "legacy")]
            (Block::Des3Ede, _) => narrow::<des::TdesEde3>(chaining, key),
        }
    }
}

/// Serpent takes a key of any length as one of 32 bytes: a bit that is set follows it, then zeroes.
fn serpent_keyed(chaining: Chaining, key: &[u8]) -> Option<Hidden<dyn Mode>> {
    let padded = |key: &[u8], into: &mut [u8]| {
        into[..key.len()].copy_from_slice(key);
        if let Some(next) = into.get_mut(key.len()) {
            *next = 1;
        }
    };
    let mut keys = Zeroizing::new([0; 64]);
    let keys = match chaining {
        Chaining::Xts => {
            let (data, tweak) = key.split_at(key.len() / 2);
            padded(data, &mut keys[..32]);
            padded(tweak, &mut keys[32..]);
            &keys[..]
        }
        Chaining::Lrw => {
            let (data, tweak) = key.split_last_chunk::<16>()?;
            padded(data, &mut keys[..32]);
            keys[32..48].copy_from_slice(tweak);
            &keys[..48]
        }
        Chaining::Cbc | Chaining::Ctr | Chaining::Ecb => {
            padded(key, &mut keys[..32]);
            &keys[..32]
        }
    };
    wide::<serpent::Serpent>(chaining, keys)
}

/// A cipher of 16-byte blocks in any mode.
fn wide<C: Cipher + BlockSizeUser<BlockSize = U16>>(
    chaining: Chaining,
    key: &[u8],
) -> Option<Hidden<dyn Mode>> {
    match chaining {
        Chaining::Xts => {
            let (data, tweak) = key.split_at(key.len() / 2);
            let (data, tweak) = (
                C::new_from_slice(data).ok()?,
                C::new_from_slice(tweak).ok()?,
            );
            Some(hide(Xts::new(data, tweak)))
        }
        Chaining::Lrw => {
            let (data, tweak) = key.split_last_chunk()?;
            Some(hide(Lrw::new(C::new_from_slice(data).ok()?, tweak)))
        }
        Chaining::Cbc | Chaining::Ctr | Chaining::Ecb => any::<C>(chaining, key),
    }
}

/// A cipher of 8-byte blocks; XTS and LRW are not defined for it.
#[cfg(feature = "legacy")]
fn narrow<C: Cipher + BlockSizeUser<BlockSize = U8>>(
    chaining: Chaining,
    key: &[u8],
) -> Option<Hidden<dyn Mode>> {
    any::<C>(chaining, key)
}

fn any<C: Cipher>(chaining: Chaining, key: &[u8]) -> Option<Hidden<dyn Mode>> {
    let cipher = C::new_from_slice(key).ok()?;
    match chaining {
        Chaining::Cbc => Some(hide(Cbc::new(cipher))),
        Chaining::Ctr => Some(hide(Ctr::new(cipher))),
        Chaining::Ecb => Some(hide(Ecb::new(cipher))),
        Chaining::Xts | Chaining::Lrw => None,
    }
}
