//! `remove` and `remove_all`.

use super::slots::wipe_table;
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::{Kind, Task};
use crate::control::protocol::dm_ioctl::Flags;

/// `remove DEVICE...`; `--force` first makes all I/O fail, so that users fall off.
pub fn remove(session: &mut Session<'_>, device: Option<&str>, _several: bool) -> Outcome {
    if session.options.force
        && device.is_some()
        && let Err(failure) = wipe_table(session, device, false)
    {
        session.tell(&failure);
    }
    let deferred = session.options.deferred;
    let task = session
        .task(Kind::Remove, device)?
        .with(Flags::DEFERRED_REMOVE, deferred);
    session.run(&task).map(drop)
}

/// `remove_all`: every device that nobody has open, over and over until none can go; with `--force`
/// the rest gets `error` tables and is tried again.
pub fn remove_all(session: &mut Session<'_>, _words: &[String]) -> Outcome {
    let deferred = session.options.deferred;
    let task = Task::new(Kind::RemoveAll).with(Flags::DEFERRED_REMOVE, deferred);
    session.run(&task)?;
    if !session.options.force || session.list()?.is_empty() {
        return Ok(());
    }
    // A device that cannot be wiped is counted below.
    let _ = session.for_all(true, |session, name| wipe_table(session, Some(name), true));
    session.run(&task)?;
    match session.list()?.len() {
        0 => Ok(()),
        left => {
            let line = Failure::new(format!("Unable to remove {left} device(s)."));
            session.tell(&line);
            Ok(())
        }
    }
}
