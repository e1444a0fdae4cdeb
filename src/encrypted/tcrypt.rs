//! TrueCrypt and VeraCrypt: which passphrase, hash and ciphers a header is under only trying tells.
//!
//! Volumes in XTS mode are read (TrueCrypt 5.0 and later, VeraCrypt). Of a cascade each cipher is a device of its own,
//! on the one below it, as cryptsetup makes them.

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use super::bytes::read_bytes;
use super::{CryptRow, Kind, Refused, Secret};
use crate::crypto::{KeyDerivation, SectorCipher, SectorSize};
use crate::format::tcrypt::{HEADER_BYTES, Maker, SALT_BYTES, Tcrypt, is_decrypted};
use crate::io::BlockDev;
use crate::unit::{Bytes, Sector, Sectors};

/// Where headers lie, bytes from the start, or from the end.
const HIDDEN_AT: u64 = 65536;
const OLD_HIDDEN_BEFORE_END: u64 = 1536;
const SYSTEM_AT: u64 = 31744;
const BACKUP_BEFORE_END: u64 = 131_072;
const HIDDEN_BACKUP_BEFORE_END: u64 = 65536;
/// Bytes of one cipher's key, half of which is that of the tweak.
const CIPHER_KEY: usize = 64;
/// Most bytes of keys.
const MAX_KEYS: usize = 3 * CIPHER_KEY;
/// Longest passphrase of TrueCrypt, and of VeraCrypt; as long is the pool of key files.
const MAX_PASSPHRASE: [usize; 2] = [64, 128];
/// How much of a key file counts, bytes.
pub const MAX_KEY_FILE: usize = 1 << 20;

/// Ciphers, in the order in which data is encrypted: the last lies lowest.
const CHAINS: [&[&str]; 10] = [
    &["aes"],
    &["serpent"],
    &["twofish"],
    &["twofish", "aes"],
    &["serpent", "twofish", "aes"],
    &["aes", "serpent"],
    &["aes", "twofish", "serpent"],
    &["serpent", "twofish"],
    &["camellia"],
    &["serpent", "camellia"],
];

/// How a passphrase becomes keys.
struct Hashing {
    maker: Maker,
    /// Of a volume that a system starts from.
    is_system: bool,
    hash: &'static str,
    iterations: u32,
}

const fn hashing(maker: Maker, is_system: bool, hash: &'static str, iterations: u32) -> Hashing {
    Hashing {
        maker,
        is_system,
        hash,
        iterations,
    }
}

const HASHINGS: [Hashing; 13] = [
    hashing(Maker::TrueCrypt, false, "ripemd160", 2000),
    hashing(Maker::TrueCrypt, true, "ripemd160", 1000),
    hashing(Maker::TrueCrypt, false, "sha512", 1000),
    hashing(Maker::TrueCrypt, false, "whirlpool", 1000),
    hashing(Maker::VeraCrypt, false, "sha512", 500_000),
    hashing(Maker::VeraCrypt, false, "whirlpool", 500_000),
    hashing(Maker::VeraCrypt, false, "sha256", 500_000),
    hashing(Maker::VeraCrypt, true, "sha256", 200_000),
    hashing(Maker::VeraCrypt, false, "blake2s-256", 500_000),
    hashing(Maker::VeraCrypt, true, "blake2s-256", 200_000),
    hashing(Maker::VeraCrypt, false, "ripemd160", 655_331),
    hashing(Maker::VeraCrypt, true, "ripemd160", 327_661),
    hashing(Maker::VeraCrypt, false, "stribog512", 500_000),
];

impl Hashing {
    fn iterations(&self, pim: Option<u32>) -> u32 {
        match (pim, self.is_system) {
            (Some(0), _) => self.iterations,
            (Some(pim), false) => pim.saturating_mul(1000).saturating_add(15_000),
            (Some(pim), true) => pim.saturating_mul(2048),
            (None, _) => self.iterations,
        }
    }
}

/// Which header of a volume, and under what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// The hidden volume's.
    pub is_hidden: bool,
    /// The copy at the device's end.
    pub is_backup: bool,
    /// That of a system's disk.
    pub is_system: bool,
    /// TrueCrypt's alone.
    pub no_veracrypt: bool,
    /// Personal iterations multiplier.
    pub pim: Option<u32>,
}

/// A volume that was opened.
pub struct Opened {
    /// Its header.
    pub header: Tcrypt,
    /// Its hash.
    pub hash: &'static str,
    /// Its ciphers.
    pub chain: &'static [&'static str],
    which: Which,
    keys: Secret,
}

/// Passphrase and key files together, for TrueCrypt and for VeraCrypt.
///
/// # Errors
/// A passphrase that is too long for both.
fn passwords(passphrase: &[u8], key_files: &[Secret]) -> Result<[Option<Secret>; 2], Refused> {
    if passphrase.len() > MAX_PASSPHRASE[1] {
        return Err(Refused::invalid(format!(
            "Maximum TCRYPT passphrase length ({}) exceeded.",
            MAX_PASSPHRASE[1]
        )));
    }
    Ok(MAX_PASSPHRASE.map(|most| {
        if passphrase.len() > most {
            return None;
        }
        if key_files.is_empty() {
            return Some(Secret::from(passphrase.to_vec()));
        }
        // The pool is as long as the passphrase needs it to be.
        let len = if passphrase.len() > MAX_PASSPHRASE[0] {
            most
        } else {
            MAX_PASSPHRASE[0]
        };
        let mut pool = Secret::zeroed(len);
        for file in key_files {
            stir(&mut pool, file);
        }
        for (place, byte) in pool.iter_mut().zip(passphrase) {
            *place = place.wrapping_add(*byte);
        }
        Some(pool)
    }))
}

/// Adds the running CRC of a key file to the pool, byte by byte.
fn stir(pool: &mut [u8], file: &[u8]) {
    let mut crc = u32::MAX;
    let mut at = 0;
    for byte in file.iter().take(MAX_KEY_FILE) {
        let mut next = crc32fast::Hasher::new_with_initial(!crc);
        next.update(&[*byte]);
        crc = !next.finalize();
        for part in crc.to_be_bytes() {
            if let Some(place) = pool.get_mut(at) {
                *place = place.wrapping_add(part);
            }
            at = (at + 1) % pool.len().max(1);
        }
    }
}

/// Opens the header that `which` names.
///
/// # Errors
/// No header there that the passphrase and key files open; a device too small for one.
pub fn open(
    device: &dyn BlockDev,
    which: Which,
    passphrase: &[u8],
    key_files: &[Secret],
) -> Result<Opened, Refused> {
    let len = device.capacity().to_bytes().0;
    let from_end = |bytes: u64| len.checked_sub(bytes);
    let places = match (which.is_hidden, which.is_backup, which.is_system) {
        (false, false, false) => vec![Some(0)],
        // Before TrueCrypt 6.0 it lay at the end.
        (true, false, false) => vec![Some(HIDDEN_AT), from_end(OLD_HIDDEN_BEFORE_END)],
        (false, true, false) => vec![from_end(BACKUP_BEFORE_END)],
        (true, true, false) => vec![from_end(HIDDEN_BACKUP_BEFORE_END)],
        (false, false, true) => vec![Some(SYSTEM_AT)],
        (_, _, true) => {
            return Err(Refused::invalid(
                "A system's header is neither hidden nor a backup: expected one of --tcrypt-hidden, \
                 --tcrypt-backup and --tcrypt-system.",
            ));
        }
    };
    let mut last = Refused::new(Kind::Device, "Device is too small for a TCRYPT header.");
    for place in places.into_iter().flatten() {
        let encrypted = read_bytes(device, place, HEADER_BYTES as u64)?;
        if encrypted.len() < HEADER_BYTES {
            continue;
        }
        match open_header(&encrypted, which, passphrase, key_files) {
            Err(refused) if refused.kind == Kind::Passphrase => last = refused,
            result => return result,
        }
    }
    Err(last)
}

/// Opens an encrypted header.
fn open_header(
    encrypted: &[u8],
    which: Which,
    passphrase: &[u8],
    key_files: &[Secret],
) -> Result<Opened, Refused> {
    let passwords = passwords(passphrase, key_files)?;
    let wanted: Vec<&Hashing> = HASHINGS
        .iter()
        .filter(|hashing| which.is_system || !hashing.is_system)
        .filter(|hashing| hashing.maker == Maker::TrueCrypt || !which.no_veracrypt)
        // Whoever says a multiplier says that it is VeraCrypt's.
        .filter(|hashing| which.pim.is_none_or(|pim| pim == 0) || hashing.maker == Maker::VeraCrypt)
        .collect();
    let try_it = |hashing: &&Hashing| {
        let password = passwords.get(hashing.maker as usize)?.as_ref()?;
        let kdf = KeyDerivation::Pbkdf2 {
            hash: hashing.hash.to_owned(),
            iterations: hashing.iterations(which.pim),
        };
        let mut key = Secret::zeroed(MAX_KEYS);
        kdf.derive(password, encrypted.get(..SALT_BYTES)?, &mut key)
            .ok()?;
        CHAINS.iter().find_map(|chain| {
            let header = decrypted(encrypted, &key, chain)?;
            (is_decrypted(&header) == Some(hashing.maker)).then_some((hashing.hash, *chain, header))
        })
    };
    // TrueCrypt's cost next to nothing.
    let (cheap, costly): (Vec<_>, Vec<_>) = wanted
        .iter()
        .copied()
        .partition(|hashing| hashing.maker == Maker::TrueCrypt);
    let found = cheap.iter().find_map(try_it);
    let found = found.or_else(|| costly.par_iter().find_map_any(try_it));
    let Some((hash, chain, header)) = found else {
        return Err(Refused::new(
            Kind::Passphrase,
            "Device is not a valid TCRYPT device or no key available with this passphrase.",
        ));
    };
    Ok(Opened {
        header: Tcrypt::read(&header)?,
        hash,
        chain,
        which,
        keys: header.part(256..HEADER_BYTES),
    })
}

/// The key of the cipher number `index` of a chain of `n`: all first halves come first.
fn key_of(keys: &[u8], index: usize, n: usize) -> Option<Secret> {
    const HALF: usize = CIPHER_KEY / 2;
    let mut key = Secret::zeroed(CIPHER_KEY);
    let (first, second) = key.split_at_mut(HALF);
    first.copy_from_slice(keys.get(index * HALF..(index + 1) * HALF)?);
    second.copy_from_slice(keys.get((n + index) * HALF..(n + index + 1) * HALF)?);
    Some(key)
}

fn xts(name: &str) -> String {
    format!("{name}-xts-plain64")
}

/// The header decrypted with a chain's keys, whether they are right or not.
fn decrypted(encrypted: &[u8], keys: &[u8], chain: &[&str]) -> Option<Secret> {
    let mut header = Secret::from(encrypted.get(..HEADER_BYTES)?.to_vec());
    let mut body = Secret::zeroed(HEADER_BYTES);
    let len = HEADER_BYTES - SALT_BYTES;
    body.get_mut(..len)?
        .copy_from_slice(header.get(SALT_BYTES..)?);
    for (index, name) in chain.iter().enumerate().rev() {
        let key = key_of(keys, index, chain.len())?;
        let cipher = SectorCipher::new(&xts(name), &key, SectorSize::SMALL).ok()?;
        // The unit ends before the sector does: its blocks are the same, what follows does not count.
        cipher.decrypt(0, &mut body);
    }
    header
        .get_mut(SALT_BYTES..)?
        .copy_from_slice(body.get(..len)?);
    Some(header)
}

impl Opened {
    /// Where the data begins, on a device that is `data` long.
    fn data_offset(&self, data: Sectors) -> Option<Sector> {
        let header = &self.header;
        if self.which.is_hidden && header.version <= 3 {
            let hidden = header.hidden_size.checked_add(OLD_HIDDEN_BEFORE_END)?;
            let begin = data.to_bytes().0.checked_sub(hidden)?;
            return Some(Sector(Bytes(begin).whole_sectors().0));
        }
        Some(Sector(Bytes(header.data_offset).whole_sectors().0))
    }

    /// Name of the chain, as cryptsetup has it.
    pub fn chain_name(&self) -> String {
        self.chain.join("-")
    }

    /// Bits of the volume's keys.
    pub fn key_bits(&self) -> usize {
        8 * CIPHER_KEY * self.chain.len()
    }

    /// The rows that map the volume, on a device that is `data` long, from the lowest device up: the first lies on the
    /// volume's own device, each other one on the one before it.
    ///
    /// # Errors
    /// A volume that ends behind its device.
    pub fn rows(&self, data: Sectors, options: &[String]) -> Result<Vec<CryptRow>, Refused> {
        let small = || Refused::new(Kind::Device, "Device is too small for its volume.");
        let offset = self.data_offset(data).ok_or_else(small)?;
        let bytes = match self.which.is_hidden && self.header.hidden_size > 0 {
            true => self.header.hidden_size,
            false => self.header.volume_size,
        };
        let len = Bytes(bytes).whole_sectors();
        let end = offset.checked_add(len);
        if len.is_zero() || end.is_none_or(|end| end.0 > data.0) {
            return Err(Refused::new(
                Kind::Device,
                format!(
                    "Device is too small: the volume has {len} sectors from sector {offset}, the device {data}."
                ),
            ));
        }
        let lowest = self.chain.len() - 1;
        let row = |(index, name): (usize, &&str)| {
            let key = key_of(&self.keys, index, self.chain.len());
            Ok(CryptRow {
                start: Sector(0),
                len,
                cipher: Some(xts(name)),
                key: key.ok_or_else(|| Refused::invalid("The header has too few keys."))?,
                iv_offset: offset.0,
                offset: if index == lowest { offset } else { Sector(0) },
                options: options.to_vec(),
            })
        };
        self.chain.iter().enumerate().rev().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Opened, Which, decrypted, key_of, open, passwords, xts};
    use crate::backing::Crashing;
    use crate::crypto::{KeyDerivation, SectorCipher, SectorSize};
    use crate::encrypted::{Kind, Secret};
    use crate::format::tcrypt::{HEADER_BYTES, Maker, SALT_BYTES, Tcrypt};
    use crate::unit::{Sector, Sectors};

    const LEN: usize = 512 << 10;

    fn header(hidden_size: u64) -> Tcrypt {
        Tcrypt {
            maker: Maker::TrueCrypt,
            version: 5,
            needs: 0x0700,
            hidden_size,
            volume_size: 65536,
            data_offset: 131_072,
            data_size: 65536,
            flags: 0,
            sector_size: 512,
        }
    }

    /// A device with a header at `place`, under `password` and a chain.
    fn device(
        place: usize,
        header: &Tcrypt,
        hash: &str,
        password: &[u8],
        chain: &[&str],
    ) -> Crashing {
        let salt = [3; SALT_BYTES];
        let kdf = KeyDerivation::Pbkdf2 {
            hash: hash.into(),
            iterations: if hash == "ripemd160" { 2000 } else { 1000 },
        };
        let mut key = [0; 192];
        kdf.derive(password, &salt, &mut key).unwrap();
        let keys = std::array::from_fn(|index| index as u8);
        let plain = header.write(&salt, &keys);
        let mut body = plain[SALT_BYTES..].to_vec();
        body.resize(HEADER_BYTES, 0);
        for (index, name) in chain.iter().enumerate() {
            let key = key_of(&key, index, chain.len()).unwrap();
            let cipher = SectorCipher::new(&xts(name), &key, SectorSize::SMALL).unwrap();
            cipher.encrypt(0, &mut body);
        }
        let mut bytes = vec![0; LEN];
        bytes[place..place + SALT_BYTES].copy_from_slice(&salt);
        let end = place + HEADER_BYTES;
        bytes[place + SALT_BYTES..end].copy_from_slice(&body[..HEADER_BYTES - SALT_BYTES]);
        Crashing::new(bytes)
    }

    fn truecrypt(which: Which) -> Which {
        Which {
            no_veracrypt: true,
            ..which
        }
    }

    #[test]
    fn every_chain_is_found() {
        for chain in super::CHAINS {
            for hash in ["sha512", "ripemd160", "whirlpool"] {
                let device = device(0, &header(0), hash, b"pass", chain);
                let which = truecrypt(Which::default());
                let opened = open(&device, which, b"pass", &[]).unwrap();
                assert_eq!((opened.chain, opened.hash), (chain, hash));
                let rows = opened.rows(Sectors(1024), &[]).unwrap();
                assert_eq!(rows.len(), chain.len());
                assert_eq!(
                    (rows[0].offset, rows[0].iv_offset, rows[0].len),
                    (Sector(256), 256, Sectors(128))
                );
                assert!(
                    rows[1..]
                        .iter()
                        .all(|row| row.offset == Sector(0) && row.iv_offset == 256)
                );
                assert!(
                    rows[0]
                        .cipher
                        .as_ref()
                        .unwrap()
                        .starts_with(chain.last().unwrap())
                );
                let refused = open(&device, which, b"Pass", &[]).err().unwrap();
                assert_eq!(refused.kind, Kind::Passphrase);
            }
        }
    }

    #[test]
    fn hidden_and_backup_headers_have_their_places() {
        for (place, which) in [
            (
                65536,
                Which {
                    is_hidden: true,
                    ..Which::default()
                },
            ),
            (
                LEN - 131_072,
                Which {
                    is_backup: true,
                    ..Which::default()
                },
            ),
            (
                LEN - 65536,
                Which {
                    is_hidden: true,
                    is_backup: true,
                    ..Which::default()
                },
            ),
        ] {
            let device = device(place, &header(32768), "sha512", b"pass", &["aes"]);
            let opened: Opened = open(&device, truecrypt(which), b"pass", &[]).unwrap();
            let len = if which.is_hidden { 64 } else { 128 };
            assert_eq!(
                opened.rows(Sectors(1024), &[]).unwrap()[0].len,
                Sectors(len)
            );
            assert!(open(&device, truecrypt(Which::default()), b"pass", &[]).is_err());
            assert_eq!(
                opened.rows(Sectors(256), &[]).unwrap_err().kind,
                Kind::Device
            );
        }
        let small = Crashing::new(vec![0; 512]);
        let which = truecrypt(Which {
            is_backup: true,
            ..Which::default()
        });
        assert_eq!(
            open(&small, which, b"x", &[]).err().unwrap().kind,
            Kind::Device
        );
    }

    #[test]
    fn key_files_and_passphrases_mix() {
        let file = Secret::from(b"a key file".to_vec());
        let [truecrypt, veracrypt] = passwords(b"pass", std::slice::from_ref(&file)).unwrap();
        assert_eq!(truecrypt.as_ref().unwrap().len(), 64);
        assert!(veracrypt.unwrap().is(&truecrypt.unwrap()));
        let [none, long] = passwords(&[b'x'; 100], std::slice::from_ref(&file)).unwrap();
        assert_eq!((none, long.unwrap().len()), (None, 128));
        assert!(passwords(&[b'x'; 129], &[]).is_err());
        let [plain, _] = passwords(b"pass", &[]).unwrap();
        assert!(plain.unwrap().is(b"pass"));
    }

    #[test]
    fn short_bytes_are_no_header() {
        assert!(decrypted(&[0; 100], &[0; 192], &["aes"]).is_none());
        assert!(decrypted(&[0; 512], &[0; 10], &["aes"]).is_none());
    }
}
