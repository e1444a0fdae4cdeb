//! Key slots: passphrases added, changed and taken away.

use super::open::Header;
use super::passphrase::{Source, read_volume_key};
use super::{Context, Done};
use crate::encrypted::luks::{Sealing, SlotState, Version};
use crate::encrypted::{Refused, Secret};

/// What overwriting the last key slot means.
const LAST_SLOT: &str =
    "This is the last keyslot. Device will become unusable after purging this key.";

impl Context<'_, '_> {
    /// The header to be changed.
    fn header_to_change(&mut self) -> Done<Header> {
        let header = self.header(true)?;
        header.luks.check_requirements()?;
        Ok(header)
    }

    /// The new passphrase: from the file that stands beside the device or in an option, or asked for.
    fn new_passphrase(&mut self, device: &str) -> Done<Secret> {
        let positional = self.word(1);
        let option = self.arguments.text("new-keyfile").map(str::to_owned);
        if !positional.is_empty() && option.is_some() {
            return Err(Refused::invalid(
                "Both --new-keyfile and a key file beside the device are given: expected one.",
            ));
        }
        let file = option.or(Some(positional).filter(|file| !file.is_empty()));
        let source = Source {
            file,
            offset: self.arguments.size("new-keyfile-offset")?.unwrap_or(0),
            size: self.arguments.size("new-keyfile-size")?,
        };
        let prompt = format!("Enter new passphrase for key slot of {device}: ");
        let twice = !self.arguments.flag("batch-mode") || self.arguments.flag("verify-passphrase");
        self.passphrase(&source, &prompt, twice)
    }
}

fn version(header: &Header) -> Version {
    match header.luks.version() {
        1 => Version::One,
        _ => Version::Two,
    }
}

/// `luksAddKey DEVICE [NEW_KEY_FILE]`
pub fn add_key(context: &mut Context<'_, '_>) -> Done {
    let device = context.word(0);
    let mut header = context.header_to_change()?;
    let pbkdf = context.pbkdf(version(&header))?;
    let cipher = context.slot_cipher(header.luks.version() == 2)?;
    let (old_slot, new_slot) = match context.arguments.number("new-key-slot")? {
        Some(new) => (context.arguments.number("key-slot")?, Some(new)),
        // As in cryptsetup before 2.6, where there was no other option for it.
        None => (None, context.arguments.number("key-slot")?),
    };
    let slot = header.luks.free_slot(new_slot)?;
    let unbound = context.arguments.flag("unbound");
    let key = match unbound {
        true => unbound_key(context)?,
        false => match context.volume_key_from_file(&header.luks)? {
            Some(key) => key,
            None => context.unlock(&header, old_slot)?.key,
        },
    };
    let passphrase = context.new_passphrase(&device)?;
    let sealing = Sealing::new(&passphrase, &pbkdf, cipher.as_ref());
    match unbound {
        true => header
            .luks
            .put_unbound(&header.device, slot, &key, sealing)?,
        false => header.luks.put_key(&header.device, slot, &key, sealing)?,
    }
    context.verbose(&format!("Key slot {slot} created.\n"))
}

/// A key that belongs to no data: random, or from a file.
fn unbound_key(context: &mut Context<'_, '_>) -> Done<Secret> {
    let bits: Option<u32> = context.arguments.number("key-size")?;
    let bits = bits.filter(|bits| *bits > 0 && bits.is_multiple_of(8) && *bits <= 4096);
    let bytes = bits.ok_or_else(|| {
        Refused::invalid("Option --key-size must be used with --unbound: a multiple of 8 bits.")
    })? as usize
        / 8;
    match context.arguments.text("volume-key-file") {
        Some(file) => read_volume_key(file, bytes),
        None => Secret::random(bytes)
            .map_err(|error| Refused::invalid(format!("No randomness: {error}."))),
    }
}

/// `luksRemoveKey DEVICE [KEY_FILE]`
pub fn remove_key(context: &mut Context<'_, '_>) -> Done {
    let device = context.word(0);
    let mut header = context.header_to_change()?;
    let positional = context.word(1);
    let prompt = "Enter passphrase to be deleted: ";
    let unlocked = match positional.is_empty() {
        true => context.until_right(prompt, |_, passphrase| {
            header.luks.unlock(&header.device, None, passphrase)
        })?,
        false => {
            let source = Source {
                file: Some(positional),
                ..context.key_file()?
            };
            let given = context.passphrase(&source, prompt, false)?;
            header.luks.unlock(&header.device, None, &given)?
        }
    };
    if header.luks.slot_state(unlocked.slot) == SlotState::ActiveLast {
        context.confirm(LAST_SLOT)?;
    }
    header.luks.kill_slot(&header.device, unlocked.slot)?;
    context.verbose(&format!(
        "Key slot {} of {device} removed.\n",
        unlocked.slot
    ))
}

/// `luksChangeKey DEVICE [NEW_KEY_FILE]`
pub fn change_key(context: &mut Context<'_, '_>) -> Done {
    let device = context.word(0);
    let mut header = context.header_to_change()?;
    let pbkdf = context.pbkdf(version(&header))?;
    let cipher = context.slot_cipher(header.luks.version() == 2)?;
    let slot = context.arguments.number("key-slot")?;
    let prompt = "Enter passphrase to be changed: ";
    let unlocked = context.until_right(prompt, |_, passphrase| {
        header.luks.unlock(&header.device, slot, passphrase)
    })?;
    let passphrase = context.new_passphrase(&device)?;
    let sealing = Sealing::new(&passphrase, &pbkdf, cipher.as_ref());
    let to = header
        .luks
        .change_key(&header.device, unlocked.slot, slot, &unlocked.key, sealing)?;
    context.verbose(&format!("Key slot {} changed, now {to}.\n", unlocked.slot))
}

/// `luksConvertKey DEVICE`
pub fn convert_key(context: &mut Context<'_, '_>) -> Done {
    let mut header = context.header_to_change()?;
    if header.luks.version() != 2 {
        return Err(Refused::invalid(format!(
            "Device {} is not a valid LUKS2 device.",
            header.path
        )));
    }
    let pbkdf = context.pbkdf(Version::Two)?;
    let cipher = context.slot_cipher(true)?;
    let asked = context.arguments.number("key-slot")?;
    let prompt = "Enter passphrase for keyslot to be converted: ";
    let (unlocked, passphrase) = context.until_right(prompt, |_, passphrase| {
        let unlocked = header.luks.unlock(&header.device, asked, passphrase)?;
        Ok((unlocked, passphrase.clone()))
    })?;
    let sealing = Sealing::new(&passphrase, &pbkdf, cipher.as_ref());
    header
        .luks
        .change_key(&header.device, unlocked.slot, None, &unlocked.key, sealing)
        .map(drop)
}

/// `luksKillSlot DEVICE SLOT`
pub fn kill_slot(context: &mut Context<'_, '_>) -> Done {
    let number = context.word(1);
    let slot: u32 = number
        .parse()
        .map_err(|_| Refused::invalid(format!("Key slot: expected a number, found '{number}'.")))?;
    let mut header = context.header_to_change()?;
    let state = header.luks.slot_state(slot);
    match state {
        SlotState::Invalid => return Err(Refused::invalid("Keyslot is invalid.")),
        SlotState::Inactive => {
            return Err(Refused::invalid(format!("Keyslot {slot} is not active.")));
        }
        SlotState::Active | SlotState::ActiveLast | SlotState::Unbound => {}
    }
    // Who says yes to everything needs no passphrase, unless a file with one is named.
    let batch =
        context.arguments.flag("batch-mode") && context.arguments.text("key-file").is_none();
    if !batch && state != SlotState::Unbound {
        if state == SlotState::ActiveLast {
            context.confirm(LAST_SLOT)?;
        }
        let others: Vec<u32> = header
            .luks
            .used_slots()
            .into_iter()
            .filter(|other| *other != slot || state == SlotState::ActiveLast)
            .collect();
        context.until_right("Enter any remaining passphrase: ", |_, passphrase| {
            let opens = |other: &u32| {
                header
                    .luks
                    .unlock(&header.device, Some(*other), passphrase)
                    .is_ok()
            };
            match others.iter().any(opens) {
                true => Ok(()),
                false => Err(Refused::passphrase()),
            }
        })?;
    }
    header.luks.kill_slot(&header.device, slot)?;
    context.verbose(&format!("Key slot {slot} removed.\n"))
}
