//! Volumes of TrueCrypt and VeraCrypt.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::device::{Rows, device_uuid, table_word};
use super::dump::key_lines;
use super::passphrase::Source;
use super::{Context, Done};
use crate::cli::task::Kind as TaskKind;
use crate::encrypted::tcrypt::{Family, MAX_KEYFILE_BYTES, Search, Volume, Which, mix, search};
use crate::encrypted::{HeaderFile, Kind, Refused, Secret, read_key_file};

use crate::unit::Sector;

/// A device that is read as a volume.
struct Opened {
    volume: Volume,
    /// Path of the header's device, as given.
    path: String,
    /// Where the partition begins whose disk holds the header of an encrypted system.
    partition: Option<Sector>,
}

/// `open --type tcrypt DEVICE NAME`
pub fn open(context: &mut Context<'_, '_>) -> Done {
    let (device, name) = (context.word(0), context.word(1));
    let arguments = &context.arguments;
    for option in ["persistent", "refresh", "unbound"] {
        if arguments.flag(option) {
            return Err(Refused::invalid(format!(
                "Option --{option} is not allowed with TCRYPT devices."
            )));
        }
    }
    if arguments.flag("tcrypt-hidden") && arguments.flag("allow-discards") {
        return Err(Refused::invalid(
            "Option --tcrypt-hidden cannot be combined with --allow-discards.",
        ));
    }
    let test_only = arguments.flag("test-passphrase");
    if !test_only && context.is_active(&name)? {
        return Err(Refused::new(
            Kind::Busy,
            format!("Device {name} already exists."),
        ));
    }
    let data = context.path_of(&device);
    let sectors = HeaderFile::open(&data, false)?.sectors();
    let opened = read(context)?;
    if test_only {
        return Ok(());
    }
    let partition = match opened.partition {
        None if opened.volume.is_system() => {
            let header_elsewhere = context
                .arguments
                .text("header")
                .is_some_and(|header| header != device);
            let what = match header_elsewhere {
                true => "device as a system partition",
                false => "whole encrypted area",
            };
            context.warn(&format!(
                "Cannot determine TCRYPT system partition offset, activating {what}."
            ));
            match header_elsewhere {
                true => Some(Sector(opened.volume.data_sector()?)),
                false => None,
            }
        }
        found => found,
    };
    let rows = opened
        .volume
        .rows(sectors, partition, &context.table_options())?;
    let readonly = context.arguments.flag("readonly");
    let mut made: Vec<String> = Vec::new();
    for (row, number) in rows.iter().zip((0..rows.len()).rev()) {
        let layer = match number {
            0 => name.clone(),
            number => format!("{name}_{number}"),
        };
        let below = match made.last() {
            None => table_word(&device),
            Some(below) => format!("/dev/mapper/{below}"),
        };
        let rows = Rows::of(std::slice::from_ref(row), &below);
        if let Err(refused) =
            context.make(&layer, &device_uuid("TCRYPT", "", &layer), rows, readonly)
        {
            // All of the chain or nothing.
            for part in made.iter().rev() {
                context.simple(TaskKind::Remove, part)?;
            }
            return Err(refused);
        }
        made.push(layer);
    }
    Ok(())
}

/// `tcryptDump DEVICE`
pub fn dump(context: &mut Context<'_, '_>) -> Done {
    if context.arguments.flag("dump-volume-key") {
        context.confirm(
            "The header dump with volume key is sensitive information\n\
             that allows access to encrypted partition without a passphrase.\n\
             This dump should be stored encrypted in a safe place.",
        )?;
    }
    let Opened { volume, path, .. } = read(context)?;
    let (header, chain) = (&volume.header, volume.chain);
    let bits = 8 * chain.all_key_bytes();
    if context.arguments.flag("dump-volume-key") {
        let at = volume.data_sector()?;
        context.print(&format!(
            "TCRYPT header information for {path}\n\
             Cipher chain:  \t{}\n\
             Cipher mode:   \t{}\n\
             Payload offset:\t{at}\n\
             MK bits:       \t{bits}\n\
             MK dump:\t",
            chain.name(),
            chain.mode.name(),
        ))?;
        context.print(&key_lines(&volume.key()))?;
        return context.print("\n");
    }
    let family = match header.family {
        Family::TrueCrypt => "TCRYPT",
        Family::VeraCrypt => "VERACRYPT",
    };
    let mut text = format!("{family} header information for {path}\n");
    text += &format!("Version:       \t{}\n", header.version);
    text += &format!(
        "Driver req.:\t{:x}.{:x}\n",
        header.needs >> 8,
        header.needs & 0xff
    );
    text += &format!("Sector size:\t{}\n", header.sector_bytes);
    text += &format!("MK offset:\t{}\n", header.data_at);
    text += &format!("PBKDF2 hash:\t{}\n", volume.stretching.hash);
    text += &format!("Cipher chain:\t{}\n", chain.name());
    text += &format!("Cipher mode:\t{}\n", chain.mode.name());
    text += &format!("MK bits:       \t{bits}\n");
    context.print(&text)
}

/// Asks for the passphrase, and reads the header that the options mean.
fn read(context: &mut Context<'_, '_>) -> Done<Opened> {
    let search_for = search_of(context)?;
    let path = context.arguments.text("header").map(str::to_owned);
    let path = path.unwrap_or_else(|| context.word(0));
    let place = context.path_of(&path);
    // The header of an encrypted system lies on the disk, not on the partition.
    let partition = match search_for.which.system {
        true => partition_of(&place),
        false => None,
    };
    let (place, partition) = match partition {
        Some((disk, start)) => (disk, Some(start)),
        None => (place, None),
    };
    let device = HeaderFile::open(&place, false)?;
    let (keyfiles, source) = key_files(context)?;
    let only_true_crypt = search_for.only_true_crypt;
    let prompt = format!("Enter passphrase for {}: ", context.word(0));
    let volume = context.until(&source, &prompt, |context, passphrase| {
        let mut search_for = search_for.clone();
        if context.arguments.flag("veracrypt-query-pim") {
            search_for.pim = Some(ask_pim(context)?);
        }
        let mixed = mix(passphrase, &keyfiles, only_true_crypt)?;
        search(&device, &mixed, &search_for)
    })?;
    Ok(Opened {
        volume,
        path,
        partition,
    })
}

/// What the options ask for.
fn search_of(context: &Context<'_, '_>) -> Done<Search> {
    let arguments = &context.arguments;
    let only_true_crypt = arguments.flag("disable-veracrypt");
    let pim = arguments.number::<u32>("veracrypt-pim")?;
    let asks = arguments.flag("veracrypt-query-pim");
    for (given, option) in [
        (pim.is_some(), "veracrypt-pim"),
        (asks, "veracrypt-query-pim"),
    ] {
        if given && only_true_crypt {
            return Err(Refused::invalid(format!(
                "Option --{option} is supported only for VeraCrypt compatible devices."
            )));
        }
    }
    if pim.is_some() && asks {
        return Err(Refused::invalid(
            "The options --veracrypt-pim and --veracrypt-query-pim are mutually exclusive.",
        ));
    }
    Ok(Search {
        which: Which {
            hidden: arguments.flag("tcrypt-hidden"),
            backup: arguments.flag("tcrypt-backup"),
            system: arguments.flag("tcrypt-system"),
        },
        only_true_crypt,
        pim: pim.map(checked_pim).transpose()?.filter(|pim| *pim > 0),
        hash: arguments.text("hash").map(str::to_owned),
        cipher: arguments.text("cipher").map(str::to_owned),
    })
}

/// The contents of the key files, and where the passphrase comes from: `-` among them means standard input.
fn key_files(context: &Context<'_, '_>) -> Done<(Vec<Secret>, Source)> {
    let mut source = Source::default();
    let mut files = Vec::new();
    for file in context.arguments.texts("key-file") {
        match file {
            "-" => source.file = Some(file.to_owned()),
            file => files.push(start_of(file)?),
        }
    }
    Ok((files, source))
}

/// What of a key file counts.
fn start_of(file: &str) -> Done<Secret> {
    let len = fs::metadata(file).map_or(0, |found| found.len());
    let size = (len > MAX_KEYFILE_BYTES as u64).then_some(MAX_KEYFILE_BYTES as u64);
    read_key_file(Path::new(file), 0, size)
}

fn ask_pim(context: &mut Context<'_, '_>) -> Done<u32> {
    let given = context.ask("Enter VeraCrypt PIM: ")?;
    let text = std::str::from_utf8(&given).unwrap_or_default();
    match text.trim().parse::<u64>() {
        Err(_) => Err(Refused::invalid("Invalid PIM value: parse error.")),
        Ok(0) => Err(Refused::invalid("Invalid PIM value: 0.")),
        Ok(pim) => checked_pim(u32::try_from(pim).unwrap_or(u32::MAX)),
    }
}

fn checked_pim(pim: u32) -> Done<u32> {
    // VeraCrypt's own limit: more would not fit a count of 32 bits.
    const MOST: u32 = 2_097_151;
    match pim > MOST {
        true => Err(Refused::invalid("Invalid PIM value: outside of range.")),
        false => Ok(pim),
    }
}

/// The disk that a partition is on, and where it begins.
fn partition_of(path: &Path) -> Option<(PathBuf, Sector)> {
    let found = fs::metadata(path)
        .ok()
        .filter(|found| found.file_type().is_block_device())?;
    let number = |rdev: u64| format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev));
    let folder = PathBuf::from(format!("/sys/dev/block/{}", number(found.rdev())))
        .canonicalize()
        .ok()?;
    if !folder.join("partition").exists() {
        return None;
    }
    let start = fs::read_to_string(folder.join("start"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let disk = folder.parent()?.file_name()?;
    Some((Path::new("/dev").join(disk), Sector(start)))
}
