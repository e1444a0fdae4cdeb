//! `luksUUID`, `isLuks` and `config`.

use super::{Context, Done};
use crate::encrypted::luks::{Id, Luks};
use crate::encrypted::{Refused, is_uuid};

/// `luksUUID DEVICE [--uuid UUID]`
pub fn uuid(context: &mut Context<'_, '_>) -> Done {
    let Some(wanted) = context.arguments.text("uuid").map(str::to_owned) else {
        let header = context.header(false)?;
        return context.print(&format!("{}\n", header.luks.uuid()));
    };
    if !is_uuid(&wanted) {
        return Err(Refused::invalid("Wrong LUKS UUID format provided."));
    }
    context.confirm("Do you really want to change UUID of device?")?;
    let mut header = context.header(true)?;
    header.luks.check_requirements()?;
    match &mut header.luks {
        Luks::One(luks) => luks.uuid = wanted,
        Luks::Two(luks) => luks.header.uuid = wanted,
    }
    header.luks.save(&header.device)
}

/// `isLuks DEVICE`
pub fn is_luks(context: &mut Context<'_, '_>) -> Done {
    match context.header(false) {
        Ok(_) => Ok(()),
        Err(refused) if context.arguments.flag("verbose") => Err(refused),
        Err(refused) => Err(Refused {
            message: String::new(),
            ..refused
        }),
    }
}

/// `config DEVICE`
pub fn config(context: &mut Context<'_, '_>) -> Done {
    let arguments = &context.arguments;
    let priority = match arguments.text("priority") {
        None => None,
        Some("normal") => Some(None),
        Some("prefer") => Some(Some(2)),
        Some("ignore") => Some(Some(0)),
        Some(other) => {
            return Err(Refused::invalid(format!(
                "Option --priority can be only ignore/normal/prefer, not {other}."
            )));
        }
    };
    let slot: Option<u32> = arguments.number("key-slot")?;
    let label = arguments.text("label").map(str::to_owned);
    let subsystem = arguments.text("subsystem").map(str::to_owned);
    if priority.is_none() && label.is_none() && subsystem.is_none() {
        return Err(Refused::invalid(
            "Nothing to configure: expected --priority with --key-slot, --label or --subsystem.",
        ));
    }
    if priority.is_some() && slot.is_none() {
        return Err(Refused::invalid(
            "Keyslot is not specified for priority: --key-slot SLOT.",
        ));
    }
    let mut header = context.header(true)?;
    header.luks.check_requirements()?;
    let Luks::Two(luks) = &mut header.luks else {
        return Err(Refused::invalid(format!(
            "Device {} is not a valid LUKS2 device.",
            header.path
        )));
    };
    if let (Some(priority), Some(slot)) = (priority, slot) {
        let keyslot = luks.metadata.keyslots.get_mut(&Id(slot));
        let keyslot =
            keyslot.ok_or_else(|| Refused::invalid(format!("Keyslot {slot} is not active.")))?;
        keyslot.priority = priority;
    }
    if let Some(label) = label {
        luks.header.label = label;
    }
    if let Some(subsystem) = subsystem {
        luks.header.subsystem = subsystem;
    }
    header.luks.save(&header.device)
}
