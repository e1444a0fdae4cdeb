//! Headers as a whole: copied, put back, converted, repaired, erased.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Context, Done};
use crate::encrypted::luks::{Health, Luks, to_luks1, to_luks2};
use crate::encrypted::{HeaderFile, Kind, Refused, flush, plain_error, read_bytes, write_bytes};

/// Longest header with key slots, bytes.
const MAX_HEADER: u64 = 256 << 20;

/// `luksHeaderBackup DEVICE --header-backup-file FILE`
pub fn backup(context: &mut Context<'_, '_>) -> Done {
    let file = backup_file(context)?;
    let header = context.header(false)?;
    let bytes = read_bytes(&header.device, 0, header.luks.header_bytes())?;
    let failed = |error: std::io::Error| {
        Refused::invalid(format!(
            "Cannot write header backup file {file}: {}.",
            plain_error(&error)
        ))
    };
    if Path::new(&file).exists() {
        return Err(Refused::invalid(format!(
            "Requested header backup file {file} already exists."
        )));
    }
    let mut made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&file)
        .map_err(failed)?;
    let written = made.write_all(&bytes).and_then(|()| made.sync_all());
    written.map_err(|error| {
        // What is there of it would pass for a backup.
        let _ = fs::remove_file(&file);
        failed(error)
    })
}

fn backup_file(context: &Context<'_, '_>) -> Done<String> {
    let file = context.arguments.text("header-backup-file");
    let file = file.ok_or_else(|| Refused::invalid("Option --header-backup-file is required."))?;
    Ok(file.to_owned())
}

/// `luksHeaderRestore DEVICE --header-backup-file FILE`
pub fn restore(context: &mut Context<'_, '_>) -> Done {
    let file = backup_file(context)?;
    let from = HeaderFile::open(Path::new(&file), false)?;
    let (backup, _) = Luks::load(&from)
        .map_err(|_| Refused::invalid("Backup file does not contain valid LUKS header."))?;
    let len = backup.header_bytes();
    if len > MAX_HEADER || from.sectors().to_bytes().0 < len {
        return Err(Refused::invalid(
            "Backup file does not contain all of its header.",
        ));
    }
    let path = context.arguments.text("header").map(str::to_owned);
    let path = path.unwrap_or_else(|| context.word(0));
    let place = context.path_of(&path);
    let device = HeaderFile::open(&place, true)?;
    let what = match Luks::load(&device) {
        Ok((there, _))
            if there.uuid() == backup.uuid() && there.data_offset() == backup.data_offset() =>
        {
            "already contains LUKS header. Replacing header will destroy existing keyslots."
        }
        Ok((there, _)) if there.data_offset() != backup.data_offset() => {
            return Err(Refused::invalid(
                "Data offset differs on device and backup, restore failed.",
            ));
        }
        Ok(_) => {
            "contains the LUKS header of another volume. Replacing it will destroy that volume."
        }
        Err(_) => "does not contain LUKS header. Replacing header can destroy data on that device.",
    };
    context.confirm(&format!("Device {path} {what}"))?;
    if device.sectors().to_bytes().0 < len {
        return Err(Refused::new(
            Kind::Device,
            format!("Device {path} is too small."),
        ));
    }
    let bytes = read_bytes(&from, 0, len)?;
    write_bytes(&device, 0, &bytes)?;
    flush(&device)
}

/// `convert DEVICE --type luks1|luks2`
pub fn convert(context: &mut Context<'_, '_>) -> Done {
    let wanted = context.kind.take();
    let path = context.word(0);
    let header = context.header(true)?;
    header.luks.check_requirements()?;
    match wanted.as_deref() {
        Some("luks1" | "luks2") => {}
        _ => {
            return Err(Refused::invalid(
                "Option --type luks1 or luks2 is required.",
            ));
        }
    }
    let to_2 = wanted.as_deref() == Some("luks2");
    context.confirm(&format!(
        "This operation will convert {path} to LUKS{} format.\n",
        if to_2 { 2 } else { 1 }
    ))?;
    match to_2 {
        true => to_luks2(&header.device, &header.luks),
        false => to_luks1(&header.device, &header.luks),
    }
    .map(drop)
}

/// `repair DEVICE`
pub fn repair(context: &mut Context<'_, '_>) -> Done {
    let path = context.arguments.text("header").map(str::to_owned);
    let path = path.unwrap_or_else(|| context.word(0));
    let place = context.path_of(&path);
    let device = HeaderFile::open(&place, true)?;
    let luks = context.read_header(&device, &path)?;
    let (mut luks, health) = match luks {
        Luks::One(_) => {
            return context.verbose("No known problems detected for LUKS header.\n");
        }
        luks => match Luks::load(&device) {
            Ok((_, health)) => (luks, health),
            Err(refused) => return Err(refused),
        },
    };
    if health == Health::Both {
        return context.verbose("No known problems detected for LUKS header.\n");
    }
    luks.save(&device)?;
    context.verbose("The damaged copy of the header is written anew.\n")
}

/// `luksErase DEVICE`
pub fn erase(context: &mut Context<'_, '_>) -> Done {
    let path = context.word(0);
    let mut header = context.header(true)?;
    context.confirm(&format!(
        "This operation will erase all keyslots on device {path}.\n\
         Device will become unusable after this operation."
    ))?;
    header.luks.erase(&header.device)
}
