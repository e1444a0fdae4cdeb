//! `luksDump`.

use zeroize::Zeroizing;

use super::passphrase::write_volume_key;
use super::{Context, Done};
use crate::encrypted::luks::{json_text, text};
use crate::encrypted::{Refused, hex};

/// `luksDump DEVICE`
pub fn luks_dump(context: &mut Context<'_, '_>) -> Done {
    let mut header = context.header(false)?;
    if context.arguments.flag("dump-json-metadata") || context.arguments.flag("json") {
        let json = json_text(&header.luks)?;
        return context.print(&(json + "\n"));
    }
    let unbound = context.arguments.flag("unbound");
    if context.arguments.flag("dump-volume-key") || unbound {
        return volume_key(context, &mut header, unbound);
    }
    let path = header.path.clone();
    context.print(&text(&header.luks, &path))
}

fn volume_key(
    context: &mut Context<'_, '_>,
    header: &mut super::open::Header,
    unbound: bool,
) -> Done {
    if !unbound {
        context.confirm(
            "The header dump with volume key is sensitive information\n\
             that allows access to encrypted partition without a passphrase.\n\
             This dump should be stored encrypted in a safe place.",
        )?;
    }
    let slot: Option<u32> = context.arguments.number("key-slot")?;
    if unbound && slot.is_none() {
        return Err(Refused::invalid(
            "Option --unbound needs a key slot: --key-slot SLOT.",
        ));
    }
    let unlocked = context.unlock(header, slot)?;
    if let Some(file) = context.arguments.text("volume-key-file").map(str::to_owned) {
        write_volume_key(&file, &unlocked.key)?;
        return context.print(&format!("Key stored to file {file}.\n"));
    }
    let luks = &header.luks;
    let rows = luks.rows(crate::unit::Sectors(u64::MAX >> 10), &unlocked.key, &[]);
    let cipher = rows
        .ok()
        .and_then(|mut rows| rows.pop())
        .and_then(|row| row.cipher);
    let cipher = cipher.unwrap_or_default();
    let (name, mode) = cipher.split_once('-').unwrap_or((&cipher, ""));
    let bits = 8 * unlocked.key.len();
    let path = &header.path;
    let bytes = key_lines(&unlocked.key);
    let head = match unbound {
        true => {
            format!("LUKS unbound key information for {path}\nKey bits:\t{bits}\nUnbound Key:\t")
        }
        false => format!(
            "LUKS header information for {path}\n\
             Cipher name:   \t{name}\n\
             Cipher mode:   \t{mode}\n\
             Payload offset:\t{}\n\
             UUID:          \t{}\n\
             MK bits:       \t{bits}\n\
             MK dump:\t",
            luks.data_offset(),
            luks.uuid(),
        ),
    };
    context.print(&head)?;
    context.print(&bytes)?;
    context.print("\n")
}

/// A key as dumps show it, sixteen bytes on a line.
pub fn key_lines(key: &[u8]) -> Zeroizing<String> {
    let digits = hex(key);
    let mut lines = Zeroizing::new(String::with_capacity(4 * key.len()));
    for (index, pair) in digits.as_bytes().chunks(2).enumerate() {
        if index > 0 && index % 16 == 0 {
            lines.push_str("\n\t\t");
        }
        lines.extend(pair.iter().map(|digit| char::from(*digit)));
        lines.push(' ');
    }
    lines
}
