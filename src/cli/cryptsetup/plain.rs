//! Plain mode.

use std::path::Path;

use super::device::{Rows, device_uuid, table_word};
use super::{Context, Done};
use crate::encrypted::plain::{DEFAULTS, Plain, hashed_key};
use crate::encrypted::{HeaderFile, Kind, Refused, read_key_file};
use crate::unit::{Bytes, Sector, Sectors};

/// `open --type plain DEVICE NAME`
pub fn open(context: &mut Context<'_, '_>) -> Done {
    let (device, name) = (context.word(0), context.word(1));
    if context.arguments.flag("test-passphrase") {
        return Err(Refused::invalid(
            "Option --test-passphrase is allowed only for open of LUKS, TCRYPT and BITLK devices.",
        ));
    }
    if context.is_active(&name)? {
        return Err(Refused::new(
            Kind::Busy,
            format!("Device {name} already exists."),
        ));
    }
    warn_of_defaults(context);
    let arguments = &context.arguments;
    let (hash, cipher, bits) = DEFAULTS;
    let cipher = arguments.text("cipher").unwrap_or(cipher).to_owned();
    let bits: u32 = arguments.number("key-size")?.unwrap_or(bits);
    if !bits.is_multiple_of(8) || bits == 0 || bits > 8192 {
        return Err(Refused::invalid("Key size must be a multiple of 8 bits"));
    }
    let key_bytes = bits as usize / 8;
    let size = match (arguments.number("size")?, arguments.size("device-size")?) {
        (Some(_), Some(_)) => {
            return Err(Refused::invalid(
                "Options --size and --device-size cannot be combined.",
            ));
        }
        (Some(sectors), None) => Some(Sectors(sectors)),
        (None, Some(bytes)) if !Bytes(bytes).is_whole_sectors() => {
            return Err(Refused::invalid(
                "Device size must be multiple of 512 bytes sector.",
            ));
        }
        (None, bytes) => bytes.map(|bytes| Bytes(bytes).whole_sectors()),
    };
    let mut plain = Plain {
        cipher,
        key: Default::default(),
        offset: Sector(arguments.number("offset")?.unwrap_or(0)),
        skip: arguments.number("skip")?.unwrap_or(0),
        size: size.filter(|size| !size.is_zero()),
        sector_size: arguments.number("sector-size")?.unwrap_or(512),
        iv_large_sectors: arguments.flag("iv-large-sectors"),
        options: context.table_options(),
    };
    let hash = arguments.text("hash").unwrap_or(hash).to_owned();
    let from_file = arguments.text("key-file").map(str::to_owned);
    let data = context.path_of(&device);
    let sectors = HeaderFile::open(&data, false)?.sectors();
    plain.row(sectors)?;
    plain.key = match from_file {
        // All of the key is in a file, whatever --keyfile-size says. Standard input as a key file is a passphrase of its own length, and is hashed.
        Some(file) if file != "-" => {
            let source = context.key_file()?;
            read_key_file(Path::new(&file), source.offset, Some(key_bytes as u64))?
        }
        _ => {
            let twice = context.arguments.flag("verify-passphrase");
            let source = context.key_file()?;
            let prompt = format!("Enter passphrase for {device}: ");
            let given = context.passphrase(&source, &prompt, twice)?;
            hashed_key(&hash, &given, key_bytes)?
        }
    };
    let row = plain.row(sectors)?;
    let readonly = context.arguments.flag("readonly");
    let rows = Rows::of(&[row], &table_word(&device));
    context.make(&name, &device_uuid("PLAIN", "", &name), rows, readonly)
}

/// What nobody says is not written anywhere, and not the same in every version of cryptsetup.
fn warn_of_defaults(context: &mut Context<'_, '_>) {
    let arguments = &context.arguments;
    let needed = match arguments.text("key-file") {
        Some(file) if file != "-" => &["cipher", "key-size"][..],
        _ => &["cipher", "key-size", "hash"][..],
    };
    let missing: Vec<_> = needed
        .iter()
        .filter(|option| arguments.text(option).is_none())
        .map(|option| format!("--{option}"))
        .collect();
    if !missing.is_empty() && !arguments.flag("batch-mode") {
        let (hash, cipher, bits) = DEFAULTS;
        context.warn(&format!(
            "WARNING: without {} the defaults of cryptsetup up to 2.6 are used ({cipher}, {bits} bits, {hash}); \
             other versions have others.",
            missing.join(", ")
        ));
    }
}
