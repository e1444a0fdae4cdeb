//! TrueCrypt and VeraCrypt volumes: from a device and a passphrase to what the volume's crypt devices are made of.
//!
//! A header tells nothing before it is deciphered, so [`search`] derives a key with one hash after the other and tries all
//! chains of ciphers with each.

mod decipher;
mod passphrase;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use zeroize::Zeroizing;

pub use crate::format::tcrypt::{Family, Which};
pub use decipher::{decipher, encipher};
pub use passphrase::{MAX_KEYFILE_BYTES, mix};

use super::bytes::read_bytes;
use super::{CryptRow, Kind, Refused, Secret};
use crate::crypto::KeyDerivation;
use crate::format::Malformed;
use crate::format::tcrypt::{
    BODY_BYTES, CHAINS, Chain, HEADER_BYTES, HEADER_KEY_BYTES, Header, SALT_BYTES, STRETCHINGS,
    Stretching,
};
use crate::io::BlockDev;
use crate::unit::{SECTOR_SIZE, Sector, Sectors};

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Which of the device's headers.
    pub which: Which,
    /// Whether VeraCrypt's are passed over.
    pub only_true_crypt: bool,
    /// VeraCrypt's Personal Iterations Multiplier.
    pub pim: Option<u32>,
    /// Only hashes in whose names this is found.
    pub hash: Option<String>,
    /// Only chains in whose names this is found.
    pub cipher: Option<String>,
}

/// An open volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What its header says.
    pub header: Header,
    /// How the passphrase was stretched.
    pub stretching: &'static Stretching,
    /// Its ciphers.
    pub chain: &'static Chain,
    which: Which,
    /// Bytes of the device that the header was found on.
    device_bytes: u64,
}

/// What came out of a header's bytes.
enum Found {
    Header(Box<(Header, &'static Stretching, &'static Chain)>),
    /// Right key, wrong checksum: with all but one in four billion wrong keys, not even that.
    Damaged(Malformed),
}

/// Looks for the header that `passphrase`, after [`mix`], opens.
///
/// # Errors
/// A wrong passphrase (or no volume at all: that cannot be told apart), a damaged header, what the device answers.
pub fn search(
    device: &dyn BlockDev,
    passphrase: &Secret,
    search: &Search,
) -> Result<Volume, Refused> {
    let device_bytes = device.capacity().to_bytes().0;
    let mut damage = None;
    for place in search.which.places(device_bytes) {
        let bytes = read_bytes(device, place, HEADER_BYTES as u64)?;
        if bytes.len() < HEADER_BYTES {
            continue;
        }
        match try_all(&bytes, passphrase, search)? {
            Some(Found::Header(found)) => {
                let (header, stretching, chain) = *found;
                return Ok(Volume {
                    header,
                    stretching,
                    chain,
                    which: search.which,
                    device_bytes,
                });
            }
            Some(Found::Damaged(why)) => damage = Some(why),
            None => {}
        }
    }
    match damage {
        Some(why) => Err(why.into()),
        None => Err(Refused::new(
            Kind::Passphrase,
            "No device header detected with this passphrase.",
        )),
    }
}

/// Tries all hashes that are asked for, first the few that cost little.
fn try_all(bytes: &[u8], passphrase: &Secret, search: &Search) -> Result<Option<Found>, Refused> {
    let asked = |text: &str, filter: &Option<String>| {
        filter.as_ref().is_none_or(|part| text.contains(part))
    };
    let chains = CHAINS
        .iter()
        .filter(|chain| asked(&chain.name(), &search.cipher));
    let chains: Vec<_> = chains.collect();
    for family in [Family::TrueCrypt, Family::VeraCrypt] {
        if family == Family::VeraCrypt && search.only_true_crypt {
            continue;
        }
        let asked = STRETCHINGS.iter().filter(|stretching| {
            stretching.family == family && asked(stretching.hash, &search.hash)
        });
        let asked: Vec<_> = asked
            .filter_map(|stretching| Some((stretching, stretching.iterations(search.pim)?)))
            .collect();
        let found = asked.par_iter().find_map_any(|&(stretching, iterations)| {
            try_one(bytes, passphrase, stretching, iterations, &chains, search).transpose()
        });
        if let Some(found) = found {
            return found.map(Some);
        }
    }
    Ok(None)
}

fn try_one(
    bytes: &[u8],
    passphrase: &Secret,
    stretching: &'static Stretching,
    iterations: u32,
    chains: &[&'static Chain],
    search: &Search,
) -> Result<Option<Found>, Refused> {
    let (salt, body) = bytes.split_at(SALT_BYTES.min(bytes.len()));
    let Some(body) = body.first_chunk::<BODY_BYTES>() else {
        return Ok(None);
    };
    let mut key = Zeroizing::new([0; HEADER_KEY_BYTES]);
    let derivation = KeyDerivation::Pbkdf2 {
        hash: stretching.hash.to_owned(),
        iterations,
    };
    derivation.derive(passphrase, salt, &mut key[..])?;
    for chain in chains {
        // A cipher that nobody here has cannot be tried.
        let Ok(body) = decipher(chain, &key[..], body) else {
            continue;
        };
        match Header::family_of(&body[..]) {
            None => continue,
            Some(Family::VeraCrypt) if search.only_true_crypt => continue,
            Some(_) => {}
        }
        return Ok(Some(match Header::read(&body[..]) {
            Ok(header) => Found::Header(Box::new((header, stretching, chain))),
            Err(why) => Found::Damaged(why),
        }));
    }
    Ok(None)
}

impl Volume {
    /// The row of each crypt device, that which is next to the disk first, the volume itself last: each lies on the one
    /// before. The data device is `data` long; `partition` is where a system's partition begins on its disk, if the data
    /// device is that partition.
    ///
    /// # Errors
    /// A mode that no crypt device has; a header that does not fit the device.
    pub fn rows(
        &self,
        data: Sectors,
        partition: Option<Sector>,
        options: &[String],
    ) -> Result<Vec<CryptRow>, Refused> {
        let chain = self.chain;
        if !chain.mode.can_be_mapped() {
            return Err(Refused::invalid(
                "Kernel does not support activation for this TCRYPT legacy mode.",
            ));
        }
        let (at, len, iv) = match partition {
            Some(start) => (Sector(0), data, start.0),
            None => {
                let (at, len) = self.extent(data)?;
                (
                    at,
                    len,
                    chain.iv_sector(&self.header, self.which, self.device_bytes)?,
                )
            }
        };
        let next_to_disk = chain.ciphers.len() - 1;
        let layers = chain.ciphers.iter().enumerate().rev();
        let rows = layers.map(|(index, cipher)| CryptRow {
            start: Sector(0),
            len,
            cipher: Some(format!("{cipher}-{}", chain.mode.name())),
            key: Secret::from(chain.volume_key(index, &self.header.keys.0[..]).to_vec()),
            iv_offset: iv,
            offset: if index == next_to_disk { at } else { Sector(0) },
            options: options.to_vec(),
        });
        Ok(rows.collect())
    }

    /// First sector and length of the data.
    fn extent(&self, data: Sectors) -> Result<(Sector, Sectors), Refused> {
        let header = &self.header;
        let at = self
            .chain
            .data_sector(header, self.which, self.device_bytes)?;
        let bytes = match self.which.hidden && !self.which.system {
            true => header.hidden_bytes,
            false => header.volume_bytes,
        };
        if !u64::from(header.sector_bytes).is_multiple_of(SECTOR_SIZE) {
            return Err(Refused::invalid(format!(
                "Activation is not supported for {} sector size.",
                header.sector_bytes
            )));
        }
        let len = bytes / SECTOR_SIZE;
        if len == 0 || at.checked_add(len).is_none_or(|end| end > data.0) {
            return Err(Refused::new(
                Kind::Device,
                format!(
                    "The header tells of {len} sectors from sector {at} on, but the device has {data}."
                ),
            ));
        }
        Ok((Sector(at), Sectors(len)))
    }

    /// Whether it is that of an encrypted system.
    pub fn is_system(&self) -> bool {
        self.which.system
    }

    /// First sector of the data, of a volume whose header lies on the same device.
    ///
    /// # Errors
    /// A header that does not fit the device.
    pub fn data_sector(&self) -> Result<u64, Refused> {
        Ok(self
            .chain
            .data_sector(&self.header, self.which, self.device_bytes)?)
    }

    /// The keys of all ciphers, as a dump shows them.
    pub fn key(&self) -> Secret {
        let keys = &self.header.keys.0[..];
        let all = (0..self.chain.ciphers.len()).map(|index| self.chain.volume_key(index, keys));
        let mut key = Zeroizing::new(Vec::with_capacity(self.chain.all_key_bytes()));
        all.for_each(|part| key.extend_from_slice(&part));
        Secret::from(std::mem::take(&mut *key))
    }
}

#[cfg(test)]
mod tests;
