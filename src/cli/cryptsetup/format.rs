//! `luksFormat`, and what it shares with all that makes key slots.

use std::fs::File;
use std::time::Duration;

use super::passphrase::{Source, read_volume_key};
use super::{Context, Done};
use crate::encrypted::luks::{
    Format, Sealing, Version, check_cipher, default_key_bits, format as make, needed_bytes,
};
use crate::encrypted::{
    DEFAULT_MEMORY, HeaderFile, Kind, Pbkdf, PbkdfKind, Refused, Secret, is_uuid, new_uuid,
    plain_error, processors,
};
use crate::unit::{Sector, Sectors};

/// cryptsetup's defaults.
const CIPHER: &str = "aes-xts-plain64";
const HASH: &str = "sha256";
const ITER_TIME: u64 = 2000;
const LANES: u32 = 4;

/// `luksFormat DEVICE [KEY_FILE]`
pub fn format(context: &mut Context<'_, '_>) -> Done {
    let version = match context.kind.as_deref() {
        None | Some("luks" | "luks2") => Version::Two,
        Some("luks1") => Version::One,
        Some(other) => {
            return Err(Refused::invalid(format!(
                "Unrecognized metadata device type {other}: expected luks1 or luks2."
            )));
        }
    };
    if context.arguments.text("integrity").is_some() {
        return Err(Refused::invalid(
            "Authenticated volumes (--integrity) need an integrity target, which is not there yet.",
        ));
    }
    let device = context.word(0);
    let header = context.arguments.text("header").map(str::to_owned);
    if context.arguments.text("align-payload").is_some()
        && context.arguments.text("offset").is_some()
    {
        return Err(Refused::invalid(
            "Options --align-payload and --offset cannot be combined.",
        ));
    }
    let pbkdf = context.pbkdf(version)?;
    let data = context.path_of(&device);
    let data = HeaderFile::open(&data, false)?;
    let wanted = context.wanted(version, header.is_some(), &data)?;
    context.confirm(&format!(
        "This will overwrite data on {device} irrevocably."
    ))?;
    let passphrase = first_passphrase(context, &device)?;
    let path = header.clone().unwrap_or_else(|| device.clone());
    if header.is_some() && !context.path_of(&path).exists() {
        let made = File::create_new(&path);
        made.map_err(|error| {
            Refused::new(
                Kind::Device,
                format!("Cannot create header file {path}: {}.", plain_error(&error)),
            )
        })?;
    }
    let place = context.path_of(&path);
    let mut on = HeaderFile::open(&place, true)?;
    let needed = needed_bytes(&wanted)?;
    let is_short = on.sectors().to_bytes().0 < needed;
    if is_short && !on.is_file() {
        return Err(Refused::new(
            Kind::Device,
            format!("Device {path} is too small: the header needs {needed} bytes."),
        ));
    }
    if is_short {
        on.grow(needed)?;
    }
    let cipher = context.slot_cipher(version == Version::Two)?;
    let sealing = Sealing::new(&passphrase, &pbkdf, cipher.as_ref());
    let made = make(&on, &wanted, sealing)?;
    for warning in &made.warnings {
        context.warn(warning);
    }
    let length = if is_short && header.is_none() {
        on.sectors()
    } else {
        data.sectors()
    };
    if made.luks.data_offset().0 >= length.0 {
        context.warn(&format!(
            "Device {device} is too small for activation, there is no remaining space for data."
        ));
    }
    let slot = wanted.slot.unwrap_or(0);
    context.verbose(&format!("Key slot {slot} created.\n"))
}

fn first_passphrase(context: &mut Context<'_, '_>, device: &str) -> Done<Secret> {
    let positional = context.word(1);
    let option = context.key_file()?;
    if !positional.is_empty() && option.file.is_some() {
        return Err(Refused::invalid(
            "Both --key-file and a key file beside the device are given: expected one.",
        ));
    }
    let file = match positional.is_empty() {
        true => option.file.clone(),
        false => Some(positional),
    };
    let source = Source { file, ..option };
    let twice =
        !context.arguments.flag("batch-mode") || context.arguments.flag("verify-passphrase");
    let prompt = format!("Enter passphrase for {device}: ");
    context.passphrase(&source, &prompt, twice)
}

impl Context<'_, '_> {
    /// The key derivation that the options ask for.
    ///
    /// # Errors
    /// What there is not, or makes no sense.
    pub fn pbkdf(&self, version: Version) -> Done<Pbkdf> {
        let arguments = &self.arguments;
        let default = match version {
            Version::One => "pbkdf2",
            Version::Two => "argon2id",
        };
        let name = arguments.text("pbkdf").unwrap_or(default);
        let kind = PbkdfKind::named(name).ok_or_else(|| {
            Refused::invalid("Password-based key derivation function (PBKDF) can be only pbkdf2 or argon2i/argon2id.")
        })?;
        if version == Version::One && kind != PbkdfKind::Pbkdf2 {
            return Err(Refused::invalid("LUKS1 has no key derivation but pbkdf2."));
        }
        let force_iterations = arguments.number("pbkdf-force-iterations")?;
        if force_iterations.is_some() && arguments.text("iter-time").is_some() {
            return Err(Refused::invalid(
                "PBKDF forced iterations cannot be combined with iteration time option.",
            ));
        }
        let pbkdf = Pbkdf {
            kind,
            hash: arguments.text("hash").unwrap_or(HASH).to_owned(),
            time: Duration::from_millis(arguments.number("iter-time")?.unwrap_or(ITER_TIME)),
            force_iterations,
            memory: arguments.number("pbkdf-memory")?.unwrap_or(DEFAULT_MEMORY),
            lanes: arguments
                .number("pbkdf-parallel")?
                .unwrap_or_else(|| LANES.min(processors())),
        };
        pbkdf.check()?;
        Ok(pbkdf)
    }

    /// Bytes of a volume key.
    fn key_bytes(&self, cipher: &str) -> Done<usize> {
        let bits = self.arguments.number("key-size")?;
        let bits: u32 = bits.unwrap_or_else(|| default_key_bits(cipher));
        match bits > 0 && bits.is_multiple_of(8) && bits <= 4096 {
            true => Ok(bits as usize / 8),
            false => Err(Refused::invalid("Key size must be a multiple of 8 bits")),
        }
    }

    /// Cipher and key of new key slots, where the options say so.
    ///
    /// # Errors
    /// One without the other; what there is not.
    pub fn slot_cipher(&self, is_luks2: bool) -> Done<Option<(String, u32)>> {
        let cipher = self.arguments.text("keyslot-cipher");
        let bits: Option<u32> = self.arguments.number("keyslot-key-size")?;
        match (cipher, bits) {
            (None, None) => Ok(None),
            _ if !is_luks2 => Err(Refused::invalid("A cipher of key slots is of LUKS2 only.")),
            (Some(cipher), Some(bits)) if bits.is_multiple_of(8) && bits > 0 && bits <= 4096 => {
                check_cipher(cipher, bits / 8)?;
                Ok(Some((cipher.to_owned(), bits / 8)))
            }
            _ => Err(Refused::invalid(
                "Both keyslot cipher and key size options must be specified for a LUKS2 keyslot.",
            )),
        }
    }

    /// The volume that the options ask for.
    pub fn wanted(&self, version: Version, is_detached: bool, data: &HeaderFile) -> Done<Format> {
        let arguments = &self.arguments;
        let luks2 = [
            "label",
            "subsystem",
            "luks2-metadata-size",
            "luks2-keyslots-size",
        ];
        if version == Version::One
            && let Some(option) = luks2.iter().find(|option| arguments.text(option).is_some())
        {
            return Err(Refused::invalid(format!(
                "Option --{option} is of LUKS2 only."
            )));
        }
        let cipher = arguments.text("cipher").unwrap_or(CIPHER);
        let cipher = match cipher.contains('-') || cipher.starts_with("capi:") {
            true => cipher.to_owned(),
            // As cryptsetup completes it.
            false => format!("{cipher}-cbc-plain"),
        };
        let bytes = self.key_bytes(&cipher)?;
        check_cipher(&cipher, u32::try_from(bytes).unwrap_or(0))?;
        let key = match arguments.text("volume-key-file") {
            Some(file) => read_volume_key(file, bytes)?,
            None => Secret::random(bytes)
                .map_err(|error| Refused::invalid(format!("No randomness: {error}.")))?,
        };
        let uuid = match arguments.text("uuid") {
            Some(uuid) if is_uuid(uuid) => uuid.to_owned(),
            Some(_) => return Err(Refused::invalid("Wrong LUKS UUID format provided.")),
            None => {
                new_uuid().map_err(|error| Refused::invalid(format!("No randomness: {error}.")))?
            }
        };
        Ok(Format {
            version,
            cipher,
            key,
            sector_size: match (arguments.number("sector-size")?, version) {
                (Some(size), _) => size,
                (None, Version::One) => 512,
                (None, Version::Two) => natural_sector(data),
            },
            uuid,
            label: arguments.text("label").unwrap_or_default().to_owned(),
            subsystem: arguments.text("subsystem").unwrap_or_default().to_owned(),
            metadata_size: arguments.size("luks2-metadata-size")?,
            keyslots_size: arguments.size("luks2-keyslots-size")?,
            data_offset: arguments.number("offset")?.map(Sector),
            alignment: arguments.number("align-payload")?.map(Sectors),
            is_detached,
            slot: arguments.number("key-slot")?,
        })
    }
}

/// The unit of encryption that goes best with a device: its physical blocks, if all of it is whole ones.
fn natural_sector(data: &HeaderFile) -> u32 {
    let block = data.physical_block_size();
    let fits = data
        .sectors()
        .to_bytes()
        .0
        .is_multiple_of(u64::from(block.max(1)));
    match block {
        1024 | 2048 | 4096 if fits => block,
        block if block > 4096 && data.sectors().to_bytes().0.is_multiple_of(4096) => 4096,
        _ => 512,
    }
}
