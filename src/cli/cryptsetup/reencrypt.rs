//! `reencrypt`, and the opening of volumes that are being reencrypted.

use std::fs::File;

use super::device::{Rows, device_uuid, table_word};
use super::open::Header;
use super::passphrase::read_volume_key;
use super::{Context, Done};
use crate::encrypted::luks::reencrypt::{
    Devices, Keys, Mode, Reencryption, Resilience, Wanted, begin,
};
use crate::encrypted::luks::{
    Id, Luks, Luks2, Sealing, SlotState, Version, check_cipher, default_key_bits, format,
    needed_bytes,
};
use crate::encrypted::{HeaderFile, Kind, Refused, Secret, plain_error};

/// Hash of checksums where none is named.
const RESILIENCE_HASH: &str = "sha256";
/// Steps in which progress is shown.
const STEPS: u64 = 100;

/// The files of a volume that nobody else uses meanwhile.
struct Files {
    header: HeaderFile,
    /// Only where the header is detached.
    data: Option<HeaderFile>,
}

impl Files {
    /// Opens what the command line names.
    fn open(context: &mut Context<'_, '_>) -> Done<Files> {
        let device = context.word(0);
        let data = context.path_of(&device);
        match context.arguments.text("header").map(str::to_owned) {
            Some(header) if header != device => {
                let data = HeaderFile::open_alone(&data)?;
                let header = context.path_of(&header);
                Ok(Files {
                    header: HeaderFile::open(&header, true)?,
                    data: Some(data),
                })
            }
            _ => Ok(Files {
                header: HeaderFile::open_alone(&data)?,
                data: None,
            }),
        }
    }

    fn data(&self) -> &HeaderFile {
        self.data.as_ref().unwrap_or(&self.header)
    }

    fn devices(&self) -> Devices<'_> {
        Devices {
            header: &self.header,
            data: self.data(),
        }
    }
}

/// `open DEVICE NAME` of a volume whose reencryption is under way.
pub fn open(context: &mut Context<'_, '_>, header: Header, under_way: &Reencryption) -> Done {
    let (device, name) = (context.word(0), context.word(1));
    for option in ["persistent", "refresh"] {
        if context.arguments.flag(option) {
            return Err(Refused::invalid(format!(
                "Option --{option} does not go with a volume that is being reencrypted."
            )));
        }
    }
    if context.arguments.text("volume-key-file").is_some() {
        return Err(Refused::invalid(
            "A volume that is being reencrypted has two volume keys: it opens with a passphrase alone.",
        ));
    }
    let Luks::Two(mut luks) = header.luks else {
        return Err(Refused::invalid("LUKS1 cannot be reencrypted here."));
    };
    let keys = unlock(context, &header.device, &luks, under_way)?;
    // The locks of a file end with whichever of its openings ends first.
    drop(header.device);
    if under_way.needs_recovery(&luks) {
        let files = Files::open(context)?;
        luks = load(&files.header, &device)?;
        if let Some(under_way) = Reencryption::of(&luks)? {
            under_way.recover(files.devices(), &mut luks, &keys)?;
        }
    }
    let data = context.path_of(&device);
    let sectors = HeaderFile::open(&data, false)?.sectors();
    let options = context.table_options();
    let rows = match Reencryption::of(&luks)? {
        Some(under_way) => under_way.rows(&luks, &keys, sectors, &options)?,
        // Recovery was all that was left to do.
        None => {
            let key = keys.new.unwrap_or_default();
            Luks::Two(luks.clone()).rows(sectors, &key, &options)?
        }
    };
    let rows = Rows::of(&rows, &table_word(&device));
    let uuid = device_uuid("LUKS2", &luks.header.uuid, &name);
    let readonly = context.arguments.flag("readonly");
    context.make(&name, &uuid, rows, readonly)
}

fn unlock(
    context: &mut Context<'_, '_>,
    device: &HeaderFile,
    luks: &Luks2,
    under_way: &Reencryption,
) -> Done<Keys> {
    let prompt = format!("Enter passphrase for {}: ", context.word(0));
    context.until_right(&prompt, |_, passphrase| {
        under_way.unlock(device, luks, passphrase)
    })
}

fn load(device: &HeaderFile, path: &str) -> Done<Box<Luks2>> {
    match Luks::load(device) {
        Ok((Luks::Two(luks), _)) => Ok(luks),
        Ok((Luks::One(_), _)) => Err(Refused::invalid(format!(
            "Device {path} is LUKS1, which cannot be reencrypted here: convert it to LUKS2 first."
        ))),
        Err(refused) => Err(Refused::new(
            refused.kind,
            format!("Device {path} is not a valid LUKS2 device."),
        )),
    }
}

/// `reencrypt DEVICE`
pub fn reencrypt(context: &mut Context<'_, '_>) -> Done {
    let device = context.word(0);
    let (mode, resilience) = (mode(context)?, resilience(context)?);
    let hotzone = context.arguments.size("hotzone-size")?;
    let [init_only, resume_only] =
        ["init-only", "resume-only"].map(|flag| context.arguments.flag(flag));
    if init_only && resume_only {
        return Err(Refused::invalid(
            "Options --init-only and --resume-only are mutually exclusive.",
        ));
    }
    let path = context
        .arguments
        .text("header")
        .unwrap_or(&device)
        .to_owned();
    if mode == Mode::Encrypt && !resume_only && !is_luks(context, &path) {
        return encrypt(context, &path, resilience, hotzone, init_only);
    }
    let files = Files::open(context)?;
    let mut luks = load(&files.header, &path)?;
    let (under_way, keys) = match Reencryption::of(&luks)? {
        Some(_) if init_only => {
            return Err(Refused::invalid(
                "LUKS2 reencryption already initialized in metadata.",
            ));
        }
        Some(under_way) => {
            if mode != Mode::Reencrypt && mode != under_way.mode() {
                let name = mode.name();
                return Err(Refused::invalid(format!(
                    "Device {device} is not in LUKS2 {name}ion. Conflicting option --{name}."
                )));
            }
            let keys = unlock(context, &files.header, &luks, &under_way)?;
            (under_way, keys)
        }
        None if resume_only => {
            return Err(Refused::invalid(format!(
                "Device {device} is not in LUKS2 reencryption."
            )));
        }
        None if mode == Mode::Encrypt => {
            return Err(Refused::invalid(format!(
                "Device {path} is already encrypted."
            )));
        }
        None => start(context, &files, &mut luks, mode, resilience)?,
    };
    if init_only {
        return Ok(());
    }
    finish(context, &files, &mut luks, &under_way, &keys, hotzone)
}

fn is_luks(context: &mut Context<'_, '_>, path: &str) -> bool {
    let place = context.path_of(path);
    HeaderFile::open(&place, false).is_ok_and(|device| Luks::load(&device).is_ok())
}

fn mode(context: &Context<'_, '_>) -> Done<Mode> {
    match ["encrypt", "decrypt"].map(|flag| context.arguments.flag(flag)) {
        [false, false] => Ok(Mode::Reencrypt),
        [true, false] => Ok(Mode::Encrypt),
        [false, true] => Ok(Mode::Decrypt),
        [true, true] => Err(Refused::invalid(
            "Options --encrypt and --decrypt are mutually exclusive.",
        )),
    }
}

fn resilience(context: &Context<'_, '_>) -> Done<Resilience> {
    let arguments = &context.arguments;
    match arguments.text("resilience").unwrap_or("checksum") {
        "none" => Ok(Resilience::None),
        "journal" => Ok(Resilience::Journal),
        "checksum" => Ok(Resilience::Checksum {
            hash: arguments
                .text("resilience-hash")
                .unwrap_or(RESILIENCE_HASH)
                .to_owned(),
            block: 0,
        }),
        other => Err(Refused::invalid(format!(
            "Resilience {other} is not supported: expected checksum, journal or none."
        ))),
    }
}

/// Begins to reencrypt or decrypt.
fn start(
    context: &mut Context<'_, '_>,
    files: &Files,
    luks: &mut Luks2,
    mode: Mode,
    resilience: Resilience,
) -> Done<(Reencryption, Keys)> {
    let opened = open_slots(context, files, luks)?;
    let old = opened.first().map(|(_, key)| key.clone());
    let old = old.ok_or_else(|| Refused::invalid("No usable keyslot is available."))?;
    if mode == Mode::Decrypt && files.data.is_none() {
        return Err(Refused::invalid(
            "Decryption needs a detached header (--header): data that would have to be moved is not supported.",
        ));
    }
    let segment = luks.metadata.segments.get(&Id(0)).cloned();
    let segment = segment.ok_or_else(|| Refused::invalid("The volume has no data segment."))?;
    let arguments = &context.arguments;
    let asked = arguments.text("cipher");
    let cipher = asked
        .map(str::to_owned)
        .or(segment.encryption)
        .unwrap_or_default();
    let bits: Option<u32> = arguments.number("key-size")?;
    let bytes = match (bits, asked) {
        (Some(bits), _) if bits == 0 || !bits.is_multiple_of(8) || bits > 4096 => {
            return Err(Refused::invalid("Key size must be a multiple of 8 bits"));
        }
        (Some(bits), _) => bits as usize / 8,
        (None, Some(cipher)) => default_key_bits(cipher) as usize / 8,
        (None, None) => old.len(),
    };
    let new = match (mode, arguments.text("volume-key-file")) {
        (Mode::Decrypt, _) => None,
        (_, Some(file)) => Some(read_volume_key(file, bytes)?),
        (_, None) => {
            let key = Secret::random(bytes);
            Some(key.map_err(|error| Refused::invalid(format!("No randomness: {error}.")))?)
        }
    };
    if mode != Mode::Decrypt {
        check_cipher(&cipher, u32::try_from(bytes).unwrap_or(0))?;
    }
    let wanted = Wanted {
        mode,
        cipher,
        sector_size: arguments
            .number("sector-size")?
            .or(segment.sector_size)
            .unwrap_or(512),
        resilience,
    };
    check_sector(wanted.sector_size)?;
    let grows = mode == Mode::Reencrypt && wanted.sector_size > segment.sector_size.unwrap_or(512);
    if grows && !arguments.flag("force-offline-reencrypt") {
        return Err(Refused::invalid(
            "Encryption sector size increase on offline device is not supported: a file system with smaller blocks \
             could not be used any more. Where there is none, use --force-offline-reencrypt.",
        ));
    }
    let pbkdf = context.pbkdf(Version::Two)?;
    let slot_cipher = context.slot_cipher(true)?;
    let sealings: Vec<_> = opened
        .iter()
        .map(|(passphrase, _)| Sealing::new(passphrase, &pbkdf, slot_cipher.as_ref()))
        .collect();
    let keys = Keys {
        old: Some(old),
        new,
    };
    let under_way = begin(files.devices(), luks, &keys, &wanted, &sealings, &pbkdf)?;
    Ok((under_way, keys))
}

fn check_sector(bytes: u32) -> Done {
    match bytes {
        512 | 1024 | 2048 | 4096 => Ok(()),
        other => Err(Refused::invalid(format!(
            "Unsupported encryption sector size: expected 512, 1024, 2048 or 4096, found {other}."
        ))),
    }
}

/// The passphrases that shall open the volume afterwards, too, and its key: of all its key slots, or of `--key-slot`.
fn open_slots(
    context: &mut Context<'_, '_>,
    files: &Files,
    luks: &Luks2,
) -> Done<Vec<(Secret, Secret)>> {
    let asked: Option<u32> = context.arguments.number("key-slot")?;
    let luks = Luks::Two(Box::new(luks.clone()));
    let is_bound = |slot: &u32| {
        matches!(
            luks.slot_state(*slot),
            SlotState::Active | SlotState::ActiveLast
        )
    };
    let slots: Vec<u32> = luks.used_slots().into_iter().filter(is_bound).collect();
    let slots = match asked {
        Some(slot) if slots.contains(&slot) => vec![slot],
        Some(slot) => return Err(Refused::invalid(format!("Keyslot {slot} is not active."))),
        None => slots,
    };
    if slots.len() > 1 && context.arguments.text("key-file").is_some() {
        return Err(Refused::invalid(
            "Key file can be used only with --key-slot or with exactly one key slot active.",
        ));
    }
    let device = context.word(0);
    let one = slots.len() == 1;
    let mut opened = Vec::new();
    for slot in slots {
        let prompt = match one {
            true => format!("Enter passphrase for {device}: "),
            false => format!("Enter passphrase for key slot {slot}: "),
        };
        opened.push(context.until_right(&prompt, |_, passphrase| {
            let unlocked = luks.unlock(&files.header, Some(slot), passphrase)?;
            Ok((passphrase.clone(), unlocked.key))
        })?);
    }
    Ok(opened)
}

/// `reencrypt --encrypt --header FILE DEVICE`: a new header for data that is not encrypted.
fn encrypt(
    context: &mut Context<'_, '_>,
    path: &str,
    resilience: Resilience,
    hotzone: Option<u64>,
    init_only: bool,
) -> Done {
    let device = context.word(0);
    if path == device {
        return Err(Refused::invalid(
            "Encryption needs a detached header (--header): data that would have to be moved is not supported.",
        ));
    }
    let place = context.path_of(&device);
    let data = HeaderFile::open_alone(&place)?;
    let pbkdf = context.pbkdf(Version::Two)?;
    let wanted = context.wanted(Version::Two, true, &data)?;
    check_sector(wanted.sector_size)?;
    context.confirm(&format!(
        "This will encrypt the data on {device}, with the header in {path}."
    ))?;
    let source = context.key_file()?;
    let twice = !context.arguments.flag("batch-mode");
    let passphrase =
        context.passphrase(&source, &format!("Enter passphrase for {device}: "), twice)?;
    let place = context.path_of(path);
    if !place.exists() {
        File::create_new(&place).map_err(|error| {
            let why = plain_error(&error);
            Refused::new(
                Kind::Device,
                format!("Cannot create header file {path}: {why}."),
            )
        })?;
    }
    let mut header = HeaderFile::open(&place, true)?;
    let needed = needed_bytes(&wanted)?;
    if header.sectors().to_bytes().0 < needed {
        header.grow(needed)?;
    }
    let slot_cipher = context.slot_cipher(true)?;
    let sealing = Sealing::new(&passphrase, &pbkdf, slot_cipher.as_ref());
    let Luks::Two(mut luks) = format(&header, &wanted, sealing)?.luks else {
        return Err(Refused::invalid("Only LUKS2 can be encrypted in place."));
    };
    let files = Files {
        header,
        data: Some(data),
    };
    let keys = Keys {
        old: None,
        new: Some(wanted.key.clone()),
    };
    let wanted = Wanted {
        mode: Mode::Encrypt,
        cipher: wanted.cipher.clone(),
        sector_size: wanted.sector_size,
        resilience,
    };
    let under_way = begin(files.devices(), &mut luks, &keys, &wanted, &[], &pbkdf)?;
    match init_only {
        true => Ok(()),
        false => finish(context, &files, &mut luks, &under_way, &keys, hotzone),
    }
}

/// Does all that is left, and shows how far it has come.
fn finish(
    context: &mut Context<'_, '_>,
    files: &Files,
    luks: &mut Luks2,
    under_way: &Reencryption,
    keys: &Keys,
    hotzone: Option<u64>,
) -> Done {
    context.session.task_label = format!("reencrypt {}", context.word(0));
    context.session.expect(STEPS as usize);
    let mut shown = 0;
    let session = &*context.session;
    under_way.run(files.devices(), luks, keys, hotzone, &mut |done, of| {
        let reached = (u128::from(done) * u128::from(STEPS) / u128::from(of.max(1))) as u64;
        (shown..reached).for_each(|_| session.step());
        shown = reached.max(shown);
        true
    })?;
    context.verbose("Finished.\n")
}
