//! TrueCrypt and VeraCrypt volumes: `open --type tcrypt`, and the dump of their headers.

use super::device::{Rows, device_uuid, table_word};
use super::{Context, Done};
use crate::cli::task::Kind as TaskKind;
use crate::encrypted::tcrypt::{MAX_KEY_FILE, Opened, Which, open as open_header};
use crate::encrypted::{HeaderFile, Kind, Refused, Secret, read_key_file};
use std::path::Path;

/// `open --type tcrypt DEVICE NAME`
pub fn open(context: &mut Context<'_, '_>) -> Done {
    let (device, name) = (context.word(0), context.word(1));
    let test_only = context.arguments.flag("test-passphrase");
    if !test_only && context.is_active(&name)? {
        return Err(Refused::new(
            Kind::Busy,
            format!("Device {name} already exists."),
        ));
    }
    let (opened, file) = unlock(context)?;
    if test_only {
        return Ok(());
    }
    let rows = opened.rows(file.sectors(), &context.table_options())?;
    let readonly = context.arguments.flag("readonly");
    let mut below = table_word(&device);
    let mut made: Vec<String> = Vec::new();
    for (index, row) in rows
        .iter()
        .enumerate()
        .map(|(index, row)| (rows.len() - 1 - index, row))
    {
        let part = match index {
            0 => name.clone(),
            index => format!("{name}_{index}"),
        };
        let uuid = device_uuid("TCRYPT", "", &part);
        let table = Rows::of(std::slice::from_ref(row), &below);
        if let Err(refused) = context.make(&part, &uuid, table, readonly) {
            // Nothing half-made stays: the highest goes first.
            for part in made.iter().rev() {
                context.simple(TaskKind::Remove, part)?;
            }
            return Err(refused);
        }
        below = format!("/dev/mapper/{part}");
        made.push(part);
    }
    Ok(())
}

/// `dump DEVICE`
pub fn dump(context: &mut Context<'_, '_>) -> Done {
    let (opened, _) = unlock(context)?;
    let header = &opened.header;
    let text = format!(
        "TCRYPT header information for {}\n\
         Version:       \t{}\n\
         Driver req.:\t{:x}.{:x}\n\
         Sector size:\t{}\n\
         MK offset:\t{}\n\
         PBKDF2 hash:\t{}\n\
         Cipher chain:\t{}\n\
         Cipher mode:\txts-plain64\n\
         MK bits:       \t{}\n",
        context.word(0),
        header.version,
        header.needs >> 8,
        header.needs & 0xff,
        header.sector_size,
        header.data_offset,
        opened.hash,
        opened.chain_name(),
        opened.key_bits(),
    );
    context.print(&text)
}

/// Finds out under what the header is.
fn unlock(context: &mut Context<'_, '_>) -> Done<(Opened, HeaderFile)> {
    let arguments = &context.arguments;
    if arguments.flag("disable-veracrypt") && arguments.text("veracrypt-pim").is_some() {
        return Err(Refused::invalid(
            "Option --disable-veracrypt cannot be combined with --veracrypt-pim: only VeraCrypt has one.",
        ));
    }
    let mut which = Which {
        is_hidden: arguments.flag("tcrypt-hidden"),
        is_backup: arguments.flag("tcrypt-backup"),
        is_system: arguments.flag("tcrypt-system"),
        no_veracrypt: arguments.flag("disable-veracrypt"),
        pim: arguments.number("veracrypt-pim")?,
    };
    // Key files go with the passphrase here, and do not take its place.
    let key_files: Vec<Secret> = arguments
        .texts("key-file")
        .filter(|file| *file != "-")
        .map(|file| read_key_file(Path::new(file), 0, None).map(first_mebibyte))
        .collect::<Done<_>>()?;
    let device = context.word(0);
    let path = context.path_of(&device);
    let file = HeaderFile::open(&path, false)?;
    if context.arguments.flag("veracrypt-query-pim") {
        let typed = context.ask("Enter VeraCrypt PIM: ")?;
        let number = std::str::from_utf8(&typed)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        which.pim =
            Some(number.ok_or_else(|| Refused::invalid("Invalid PIM value: expected a number."))?);
    }
    let prompt = format!("Enter passphrase for {device}: ");
    let opened = context.until_typed_right(&prompt, |_, passphrase| {
        open_header(&file, which, passphrase, &key_files)
    })?;
    Ok((opened, file))
}

fn first_mebibyte(file: Secret) -> Secret {
    match file.len() > MAX_KEY_FILE {
        true => file.part(0..MAX_KEY_FILE),
        false => file,
    }
}
