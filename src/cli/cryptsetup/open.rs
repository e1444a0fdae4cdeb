//! `open`: a volume becomes a device.

use super::device::{Rows, device_uuid, table_word};
use super::passphrase::read_volume_key;
use super::{Context, Done, plain, reencrypt, tcrypt};
use crate::encrypted::luks::reencrypt::Reencryption;
use crate::encrypted::luks::{Health, Luks, SlotState, Unlocked};
use crate::encrypted::{HeaderFile, Kind, Refused, Secret};

/// Options of the command line, and those of the table.
const TABLE_OPTIONS: [(&str, &str); 5] = [
    ("allow-discards", "allow_discards"),
    ("perf-same_cpu_crypt", "same_cpu_crypt"),
    ("perf-submit_from_crypt_cpus", "submit_from_crypt_cpus"),
    ("perf-no_read_workqueue", "no_read_workqueue"),
    ("perf-no_write_workqueue", "no_write_workqueue"),
];

/// A header that was read, and where it lies.
pub struct Header {
    /// The device that holds it.
    pub device: HeaderFile,
    /// Its path as given.
    pub path: String,
    /// The header.
    pub luks: Luks,
}

/// `open DEVICE NAME`
pub fn open(context: &mut Context<'_, '_>) -> Done {
    let kind = context.kind.clone().unwrap_or_else(|| "luks".to_owned());
    let needs_name = !context.arguments.flag("test-passphrase");
    if needs_name && context.word(1).is_empty() {
        return Err(Refused::invalid(
            "Command requires device and mapped name as arguments.",
        ));
    }
    match kind.as_str() {
        "luks" | "luks1" | "luks2" => open_luks(context),
        "plain" => plain::open(context),
        "tcrypt" => tcrypt::open(context),
        other => Err(Refused::invalid(format!(
            "Unrecognized metadata device type {other}: expected luks, luks1, luks2, plain or tcrypt."
        ))),
    }
}

impl Context<'_, '_> {
    /// Reads the LUKS header of the device that the first word names, or of `--header`.
    ///
    /// # Errors
    /// No such device, no header on it, or one of another version than `--type` says.
    pub fn header(&mut self, is_writable: bool) -> Done<Header> {
        let path = match self.arguments.text("header") {
            Some(path) => path.to_owned(),
            None => self.word(0),
        };
        let place = self.path_of(&path);
        let device = HeaderFile::open(&place, is_writable)?;
        let luks = self.read_header(&device, &path)?;
        Ok(Header { device, path, luks })
    }

    /// Reads the LUKS header on `device`, which is called `path`.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn read_header(&mut self, device: &HeaderFile, path: &str) -> Done<Luks> {
        let (luks, health) = Luks::load(device).map_err(|why| {
            let detail = match why.message.contains("magic") {
                true => String::new(),
                false => format!(" {}", why.message),
            };
            Refused::new(
                why.kind,
                format!("Device {path} is not a valid LUKS device.{detail}"),
            )
        })?;
        let wanted = match self.kind.as_deref() {
            Some("luks1") => Some(1),
            Some("luks2") => Some(2),
            _ => None,
        };
        if let Some(version) = wanted.filter(|version| *version != luks.version()) {
            return Err(Refused::invalid(format!(
                "Device {path} is not a valid LUKS{version} device."
            )));
        }
        if health != Health::Both && self.arguments.flag("verbose") {
            self.warn(&format!("One copy of the header of {path} is damaged."));
        }
        Ok(luks)
    }

    /// Options of the table that the command line asks for.
    pub fn table_options(&self) -> Vec<String> {
        let asked = TABLE_OPTIONS
            .iter()
            .filter(|(option, _)| self.arguments.flag(option));
        asked.map(|(_, option)| (*option).to_owned()).collect()
    }

    /// The volume key in a file, if one is named and the key is this volume's.
    ///
    /// # Errors
    /// Another key.
    pub fn volume_key_from_file(&self, luks: &Luks) -> Done<Option<Secret>> {
        let Some(file) = self.arguments.text("volume-key-file") else {
            return Ok(None);
        };
        let bytes = match (luks.key_bytes(), self.arguments.number::<u32>("key-size")?) {
            (0, None) => {
                return Err(Refused::invalid(
                    "Cannot determine volume key size for LUKS without keyslots, please use --key-size option.",
                ));
            }
            (0, Some(bits)) => bits / 8,
            (bytes, _) => bytes,
        };
        let key = read_volume_key(file, bytes as usize)?;
        match luks.is_volume_key(&key)? {
            true => Ok(Some(key)),
            false => Err(Refused::new(
                Kind::Passphrase,
                "Volume key does not match the volume.",
            )),
        }
    }

    /// Opens a key slot with a passphrase.
    ///
    /// # Errors
    /// A slot that holds nothing; no right passphrase.
    pub fn unlock(&mut self, header: &Header, slot: Option<u32>) -> Done<Unlocked> {
        if let Some(slot) = slot {
            match header.luks.slot_state(slot) {
                SlotState::Invalid | SlotState::Inactive => {
                    return Err(Refused::new(
                        Kind::Invalid,
                        "No usable keyslot is available.",
                    ));
                }
                SlotState::Active | SlotState::ActiveLast | SlotState::Unbound => {}
            }
        } else if header.luks.used_slots().is_empty() {
            return Err(Refused::invalid("No usable keyslot is available."));
        }
        let prompt = format!("Enter passphrase for {}: ", self.word(0));
        let unlocked = self.until_right(&prompt, |_, passphrase| {
            header.luks.unlock(&header.device, slot, passphrase)
        })?;
        self.verbose(&format!("Key slot {} unlocked.\n", unlocked.slot))?;
        Ok(unlocked)
    }
}

fn open_luks(context: &mut Context<'_, '_>) -> Done {
    let (device, name) = (context.word(0), context.word(1));
    let test_only = context.arguments.flag("test-passphrase");
    let persistent = context.arguments.flag("persistent");
    if persistent && test_only {
        return Err(Refused::invalid(
            "Option --persistent is not allowed with --test-passphrase.",
        ));
    }
    if context.arguments.flag("unbound") && !test_only {
        return Err(Refused::invalid(
            "Option --unbound is allowed only for open with --test-passphrase.",
        ));
    }
    let refresh = context.arguments.flag("refresh");
    if !test_only && context.is_active(&name)? != refresh {
        return Err(match refresh {
            true => super::device::not_active(&name),
            false => Refused::new(Kind::Busy, format!("Device {name} already exists.")),
        });
    }
    let mut header = context.header(persistent)?;
    if !test_only {
        if let Luks::Two(luks) = &header.luks
            && let Some(under_way) = Reencryption::of(luks)?
        {
            return reencrypt::open(context, header, &under_way);
        }
        header.luks.check_requirements()?;
    }
    if context.arguments.flag("token-only") || context.arguments.text("token-id").is_some() {
        return Err(Refused::invalid(
            "No token could be used to unlock keyslot: there is none that dmfs knows to use.",
        ));
    }
    let data = context.path_of(&device);
    // Before anybody types a passphrase: whether the volume could be mapped.
    let mapped = match test_only {
        true => None,
        false => Some(HeaderFile::open(&data, false)?.sectors()),
    };
    if let Some(sectors) = mapped {
        header.luks.rows(sectors, &Secret::default(), &[])?;
    }
    let key = match context.volume_key_from_file(&header.luks)? {
        Some(key) => key,
        None => {
            let slot = context.arguments.number("key-slot")?;
            context.unlock(&header, slot)?.key
        }
    };
    let Some(sectors) = mapped else {
        return Ok(());
    };
    let mut options = context.table_options();
    if persistent {
        header
            .luks
            .set_persistent_options(&header.device, &options)?;
    } else if !refresh {
        for option in header.luks.persistent_options() {
            if !options.contains(&option) {
                options.push(option);
            }
        }
    }
    let rows = header.luks.rows(sectors, &key, &options)?;
    // Its lock would stand in the daemon's way.
    let luks = header.luks;
    drop(header.device);
    let rows = Rows::of(&rows, &table_word(&device));
    let readonly = context.arguments.flag("readonly");
    if refresh {
        return context.reload(&name, &rows, readonly);
    }
    let kind = format!("LUKS{}", luks.version());
    let uuid = device_uuid(&kind, luks.uuid(), &name);
    context.make(&name, &uuid, rows, readonly)
}
