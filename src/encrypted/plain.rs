//! Plain mode: no header. The key is what a key file holds, or the hash of a passphrase.

use super::keyslot::hash_named;
use super::luks::rest_of;
use super::{CryptRow, Kind, Refused, Secret};
use crate::unit::{Sector, Sectors};

/// Hash, cipher and bits of the key where nobody says (cryptsetup 2.x; since 2.7 they are aes-xts-plain64 and sha256).
pub const DEFAULTS: (&str, &str, u32) = ("ripemd160", "aes-cbc-essiv:sha256", 256);

/// What a plain volume is made of.
#[derive(Clone, Debug)]
pub struct Plain {
    /// Cipher as dm-crypt names it.
    pub cipher: String,
    /// Key.
    pub key: Secret,
    /// Where the data begins.
    pub offset: Sector,
    /// What vectors count from.
    pub skip: u64,
    /// Length; what there is where it is not said.
    pub size: Option<Sectors>,
    /// Bytes of an encrypted unit.
    pub sector_size: u32,
    /// Vectors count encrypted units.
    pub iv_large_sectors: bool,
    /// Optional arguments.
    pub options: Vec<String>,
}

/// The key of `len` bytes that a passphrase stands for: the hash `spec` of it, `NAME` or `NAME:BYTES`, or with `plain`
/// itself. A hash that is too short is continued with that of an `A` and the passphrase, of two, and so on, as in
/// the programs that plain mode comes from.
///
/// # Errors
/// An unknown hash; more bytes of it than it has, or than the key.
pub fn hashed_key(spec: &str, passphrase: &[u8], len: usize) -> Result<Secret, Refused> {
    let (name, bytes) = match spec.split_once(':') {
        Some((name, bytes)) => {
            let wrong = || Refused::invalid(format!("Hash length {bytes} is no number."));
            (name, Some(bytes.parse::<usize>().map_err(|_| wrong())?))
        }
        None => (spec, None),
    };
    if let Some(bytes) = bytes.filter(|bytes| *bytes > len) {
        return Err(Refused::invalid(format!(
            "Hash length {bytes} is longer than the key of {len} bytes."
        )));
    }
    let mut key = Secret::zeroed(len);
    let wanted = bytes.unwrap_or(len);
    let part = key.get_mut(..wanted).unwrap_or_default();
    if name == "plain" {
        for (place, byte) in part.iter_mut().zip(passphrase) {
            *place = *byte;
        }
        return Ok(key);
    }
    let hash = hash_named(name)?;
    for (round, piece) in part.chunks_mut(hash.digest_len()).enumerate() {
        let mut input = Secret::from(vec![b'A'; round + passphrase.len()]);
        input
            .get_mut(round..)
            .unwrap_or_default()
            .copy_from_slice(passphrase);
        piece.copy_from_slice(hash.digest(&input).get(..piece.len()).unwrap_or_default());
    }
    Ok(key)
}

impl Plain {
    /// The row that maps the volume, on a device that is `data` long.
    ///
    /// # Errors
    /// A device that is too short; a cipher or key that there is not.
    pub fn row(&self, data: Sectors) -> Result<CryptRow, Refused> {
        let rest = rest_of(data, self.offset)?;
        let len = self.size.unwrap_or(rest);
        if len.is_zero() || len.0 > rest.0 {
            return Err(Refused::new(
                Kind::Device,
                format!(
                    "Device is too small: {len} sectors from sector {} are asked for, {rest} are there.",
                    self.offset
                ),
            ));
        }
        if !matches!(self.sector_size, 512 | 1024 | 2048 | 4096) {
            return Err(Refused::invalid("Unsupported encryption sector size."));
        }
        if !len.to_bytes().0.is_multiple_of(u64::from(self.sector_size)) {
            return Err(Refused::new(
                Kind::Device,
                "Device size is not aligned to requested sector size.",
            ));
        }
        let per_unit = u64::from(self.sector_size) / 512;
        if !self.skip.is_multiple_of(per_unit) && self.iv_large_sectors {
            return Err(Refused::invalid(
                "The IV offset is not a multiple of the sector size.",
            ));
        }
        let mut options = self.options.clone();
        if self.sector_size != 512 {
            options.push(format!("sector_size:{}", self.sector_size));
            if self.iv_large_sectors {
                options.push("iv_large_sectors".to_owned());
            }
        }
        Ok(CryptRow {
            start: Sector(0),
            len,
            cipher: Some(self.cipher.clone()),
            key: self.key.clone(),
            iv_offset: self.skip,
            offset: self.offset,
            options,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Plain, hashed_key};
    use crate::encrypted::{Secret, hex};
    use crate::unit::{Sector, Sectors};

    #[test]
    fn keys_are_cryptsetup_s() {
        // The table of the recorded plain volume.
        let key = hashed_key("ripemd160", b"correct horse", 32).unwrap();
        let recorded = "424573ebba1ce1abc618a416178f79ad83442dfccd852f665c5536c935adea5c";
        assert_eq!(*hex(&key), recorded);
        let key = hashed_key("plain", b"abc", 5).unwrap();
        assert!(key.is(b"abc\0\0"));
        let key = hashed_key("sha256:16", b"", 32).unwrap();
        assert_eq!(
            *hex(&key),
            format!("e3b0c44298fc1c149afbf4c8996fb924{}", "0".repeat(32))
        );
    }

    #[test]
    fn what_makes_no_key_is_named() {
        for spec in ["md4", "sha256:33", "sha256:x", "sha1:"] {
            assert!(hashed_key(spec, b"x", 32).is_err(), "{spec}");
        }
    }

    #[test]
    fn rows_lie_inside_the_device() {
        let plain = Plain {
            cipher: "aes-xts-plain64".into(),
            key: Secret::zeroed(64),
            offset: Sector(8),
            skip: 3,
            size: None,
            sector_size: 512,
            iv_large_sectors: false,
            options: Vec::new(),
        };
        let row = plain.row(Sectors(100)).unwrap();
        assert_eq!((row.len, row.iv_offset), (Sectors(92), 3));
        assert!(plain.row(Sectors(8)).is_err());
        let longer = Plain {
            size: Some(Sectors(93)),
            ..plain.clone()
        };
        assert!(longer.row(Sectors(100)).is_err());
        let large = Plain {
            sector_size: 4096,
            ..plain
        };
        assert!(large.row(Sectors(100)).is_err());
        let params = large.row(Sectors(104)).unwrap().params("/a b");
        assert!(
            params.ends_with(" 3 /a\\ b 8 1 sector_size:4096"),
            "{}",
            *params
        );
    }
}
