//! `version`, `targets`, `target-version`, and the udev commands, which have nothing to do here.

use serde_json::{Value, json};

use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::{Kind, Task};
use crate::control::protocol::dm_ioctl::payload::{TargetVersion, read_versions};

/// The library version that scripts find: libdm's, whose behaviour the command line has, and ours.
pub const LIBRARY: &str = concat!("1.02.185 (dmfs ", env!("CARGO_PKG_VERSION"), ")");

/// `version`
pub fn version(session: &mut Session<'_>, _words: &[String]) -> Outcome {
    if session.options.json {
        let driver = driver_version(session)?;
        let own = env!("CARGO_PKG_VERSION");
        return session.print_json(&json!({"dmfs": own, "library": LIBRARY, "driver": driver}));
    }
    session.print(&format!("Library version:   {LIBRARY}\n"))?;
    let driver = driver_version(session)?;
    session.print(&format!("Driver version:    {driver}\n"))
}

fn driver_version(session: &mut Session<'_>) -> Outcome<String> {
    let [major, minor, patch] = session.run(&Task::new(Kind::Version))?.header.version;
    Ok(format!("{major}.{minor}.{patch}"))
}

/// `targets`
pub fn targets(session: &mut Session<'_>, _words: &[String]) -> Outcome {
    let task = Task::new(Kind::ListVersions);
    print_versions(session, &task)
}

/// `target-version TARGET...`
pub fn target_version(session: &mut Session<'_>, target: Option<&str>, _several: bool) -> Outcome {
    let task = Task {
        name: target.unwrap_or_default().to_string(),
        ..Task::new(Kind::TargetVersion)
    };
    print_versions(session, &task)
}

fn print_versions(session: &mut Session<'_>, task: &Task) -> Outcome {
    let answer = session.run(task)?;
    let versions = read_versions(&answer.header, &answer.buffer).map_err(Failure::new)?;
    if session.options.json {
        session.begin_list();
    }
    for TargetVersion { name, version } in versions {
        let [major, minor, patch] = version;
        if session.options.json {
            let value: Value = json!({"name": name, "version": [major, minor, patch]});
            session.list_json(value)?;
        } else {
            session.print(&format!("{name:<16} v{major}.{minor}.{patch}\n"))?;
        }
    }
    Ok(())
}

/// `udevcreatecookie`, `udevcomplete` and their like: there is nothing to wait for.
pub fn udev(_session: &mut Session<'_>, _words: &[String]) -> Outcome {
    Ok(())
}

/// `udevcookies`: the headings of a list that is always empty.
pub fn udevcookies(session: &mut Session<'_>, _words: &[String]) -> Outcome {
    session.print("Cookie       Semid      Value      Last semop time           Last change time\n")
}

/// What the flags in a cookie's upper half are called.
const UDEV_FLAGS: [&str; 7] = [
    "DISABLE_DM_RULES",
    "DISABLE_SUBSYSTEM_RULES",
    "DISABLE_DISK_RULES",
    "DISABLE_OTHER_RULES",
    "LOW_PRIORITY",
    "DISABLE_LIBRARY_FALLBACK",
    "PRIMARY_SOURCE",
];

/// `udevflags COOKIE`: the flags in a cookie, for udev rules.
pub fn udevflags(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let word = words.first().map(String::as_str).unwrap_or_default();
    let cookie = match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    let Some(cookie) = cookie.filter(|&cookie| cookie != 0) else {
        return Err(Failure::new("Incorrect cookie value."));
    };
    for bit in (0..16).filter(|bit| cookie >> (16 + bit) & 1 == 1) {
        let line = match UDEV_FLAGS.get(bit) {
            Some(name) => format!("DM_UDEV_{name}_FLAG='1'\n"),
            None => format!("DM_UDEV_FLAG{bit}='1'\n"),
        };
        session.print(&line)?;
    }
    Ok(())
}
