//! `rename`, `mangle`, `splitname`, `mknodes`: what devices are called.

use crate::cli::names::{
    MangleStep, Mangling, SplitName, Subject, mangle_step, new_name_to_stored, to_stored,
};
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::{Kind, Task};
use crate::control::protocol::dm_ioctl::Flags;
use crate::control::protocol::dm_ioctl::payload::text;

/// `rename DEVICE NEW_NAME`, `rename DEVICE --setuuid UUID`
pub fn rename(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let (device, new) = match words {
        [device, new] => (Some(device.as_str()), Some(new)),
        [new] => (None, Some(new)),
        _ => (None, None),
    };
    let task = session.task(Kind::Rename, device)?;
    let mode = session.options.mangling;
    let new = new.ok_or_else(|| Failure::new("Non empty new name is required."))?;
    let new = match session.options.setuuid {
        true => to_stored(new, Subject::NewUuid, mode),
        false => new_name_to_stored(new, mode),
    };
    let new = new.map_err(Failure::new)?;
    let task = task
        .with(Flags::UUID, session.options.setuuid)
        .carrying(text(&new));
    session.run(&task).map(drop)
}

/// `mangle [DEVICE...]`: devices are addressed by their names as they are stored.
pub fn mangle(session: &mut Session<'_>, device: Option<&str>, _several: bool) -> Outcome {
    let mode = std::mem::replace(&mut session.options.mangling, Mangling::None);
    let outcome = match session.means_all(device) {
        true => session.for_all(false, |session, name| mangle_one(session, Some(name), mode)),
        false => mangle_one(session, device, mode),
    };
    session.options.mangling = mode;
    outcome
}

fn mangle_one(session: &mut Session<'_>, device: Option<&str>, mode: Mangling) -> Outcome {
    let task = session.task(Kind::Info, device)?;
    let answer = session.run(&task)?;
    if !answer.exists {
        return Err(Failure::told());
    }
    let (name, uuid) = (&answer.header.name, &answer.header.uuid);
    match mangle_step(name, uuid, mode).map_err(Failure::new)? {
        MangleStep::Keep(line) => session.print(&(line + "\n")),
        MangleStep::Rename { line, new_name } => {
            session.print(&(line + "\n"))?;
            let rename = Task {
                name: name.clone(),
                ..Task::new(Kind::Rename)
            };
            session.run(&rename.carrying(text(&new_name))).map(drop)
        }
    }
}

/// `splitname NAME [SUBSYSTEM]`
pub fn splitname(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let (name, subsystem) = match words {
        [name, subsystem, ..] => (name, subsystem.as_str()),
        [name] => (name, "LVM"),
        [] => return Err(Failure::told()),
    };
    session.split_name = Some(SplitName::new(name, subsystem));
    Ok(())
}

/// `mknodes [DEVICE...]`: nodes are always there; a device that is missing is no failure, as in dmsetup.
pub fn mknodes(session: &mut Session<'_>, device: Option<&str>, _several: bool) -> Outcome {
    match device {
        None => session.list().map(drop),
        Some(_) => {
            let task = session.task(Kind::Info, device)?;
            session.run(&task).map(drop)
        }
    }
}
