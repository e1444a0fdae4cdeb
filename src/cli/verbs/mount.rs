//! The verbs about a mount as such: `umount`, `mounts`, `dump`, `counters`, `cache`, `limits`, `attach`,
//! `detach`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::columns::{Column, column, table};
use crate::cli::session::{Failure, Outcome, Session};
use crate::control::protocol::client;
use crate::control::protocol::json::{
    DeviceCounters, JsonReply, JsonRequest, MountInfo, Supervision,
};
use crate::terminal::Paint;

/// How long `umount` waits for the mount to be gone.
const UMOUNT_WAIT: Duration = Duration::from_secs(10);
/// How long `upgrade` waits for the new program to serve.
const UPGRADE_WAIT: Duration = Duration::from_secs(30);

/// An answer to another question than was asked.
pub fn unexpected(reply: &JsonReply) -> Failure {
    Failure::new(format!(
        "dmfs: the daemon answered another question: {reply:?}"
    ))
}

/// `umount MOUNTPOINT`
pub fn umount(session: &mut Session<'_>, words: &[String]) -> Outcome {
    if let [mountpoint] = words {
        session.options.mount = Some(mountpoint.clone());
    }
    let mount = session.mount()?;
    let request = JsonRequest::Unmount {
        force: session.options.force,
        lazy: session.options.lazy,
    };
    match session.ask(&request)? {
        JsonReply::Done {} => wait_until_gone(&mount.mountpoint, mount.pid, session.options.lazy),
        other => Err(unexpected(&other)),
    }
}

/// The answer comes before the end: what follows the command should find the mount gone.
fn wait_until_gone(mountpoint: &str, pid: u32, lazy: bool) -> Outcome {
    let start = Instant::now();
    while !lazy
        && client::running()
            .iter()
            .any(|client| client.mount.pid == pid)
    {
        if start.elapsed() > UMOUNT_WAIT {
            return Err(Failure::new(format!(
                "dmfs: {mountpoint}: process {pid} still serves the mount after {} seconds",
                UMOUNT_WAIT.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// `mounts`
pub fn mounts(session: &mut Session<'_>, _words: &[String]) -> Outcome {
    let mounts = client::running().into_iter().map(|client| client.mount);
    if session.options.json {
        let mounts: Vec<_> = mounts.collect();
        return session.print_json(&json!(mounts));
    }
    for mount in mounts {
        let supervision = match mount.supervision {
            Supervision::None => String::new(),
            Supervision::Supervised => format!("\tsupervised, {} restarts", mount.restarts),
            Supervision::Lost => "\tits supervisor has died".to_owned(),
        };
        session.print(&format!(
            "{}\tpid {}\t{} devices\tdmfs {}{supervision}\n",
            session.paint(Paint::Name, &mount.mountpoint),
            mount.pid,
            mount.devices,
            mount.version
        ))?;
    }
    Ok(())
}

/// `upgrade [MOUNTPOINT] [--program PATH]`
pub fn upgrade(session: &mut Session<'_>, words: &[String]) -> Outcome {
    if let [mountpoint] = words {
        session.options.mount = Some(mountpoint.clone());
    }
    let program = match &session.options.program {
        Some(program) => Path::new(program).canonicalize(),
        None => std::env::current_exe(),
    };
    let program = program.map_err(|error| Failure::new(format!("dmfs: --program: {error}")))?;
    let before = session.mount()?;
    let program = program.display().to_string();
    let request = JsonRequest::Upgrade {
        program: program.clone(),
    };
    match session.ask(&request)? {
        JsonReply::Done {} => {}
        other => return Err(unexpected(&other)),
    }
    let now = wait_for_successor(&before)?;
    if now.program != program {
        return Err(Failure::new(format!(
            "dmfs: {}: {program} did not come to serving the mount; {} goes on",
            now.mountpoint, now.program
        )));
    }
    session.print(&format!(
        "{}\tpid {}\tdmfs {}\n",
        now.mountpoint, now.pid, now.version
    ))
}

/// Waits until another process than `before` serves its mount.
fn wait_for_successor(before: &MountInfo) -> Result<MountInfo, Failure> {
    let start = Instant::now();
    loop {
        let mounts = client::running().into_iter().map(|client| client.mount);
        let now = mounts
            .into_iter()
            .find(|mount| mount.mountpoint == before.mountpoint && mount.pid != before.pid);
        if let Some(now) = now {
            return Ok(now);
        }
        if start.elapsed() > UPGRADE_WAIT {
            return Err(Failure::new(format!(
                "dmfs: {}: after {} seconds no other program serves the mount",
                before.mountpoint,
                UPGRADE_WAIT.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `dump`
pub fn dump(session: &mut Session<'_>, _words: &[String]) -> Outcome {
    let keys = session.options.showkeys;
    match session.ask(&JsonRequest::Dump { keys })? {
        JsonReply::Dump { toml } => session.print(&toml),
        other => Err(unexpected(&other)),
    }
}

/// `counters [NAME]`
pub fn counters(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let name = words.first().cloned();
    let devices = match session.ask(&JsonRequest::Counters {
        name,
        measure: None,
    })? {
        JsonReply::Counters { devices } => devices,
        other => return Err(unexpected(&other)),
    };
    if session.options.json {
        return session.print_json(&json!(devices));
    }
    if devices.is_empty() {
        return session.print("No devices found\n");
    }
    let rows: Vec<Vec<String>> = devices.iter().map(counters_row).collect();
    session.print(&table(COUNTERS, &rows, session.look))
}

const COUNTERS: &[Column] = &[
    column("Name", 16, 9),
    column("Reads", 10, 8),
    column("RdSectors", 12, 6),
    column("Writes", 10, 8),
    column("WrSectors", 12, 6),
    column("Flushes", 8, 5),
    column("Discards", 9, 4),
    column("Zeroes", 8, 3),
    column("Errors", 7, 7),
    column("InFlight", 8, 7),
];

fn counters_row(device: &DeviceCounters) -> Vec<String> {
    let numbers = [
        device.reads,
        device.sectors_read,
        device.writes,
        device.sectors_written,
        device.flushes,
        device.discards,
        device.write_zeroes,
        device.errors,
        device.in_flight,
    ];
    let numbers = numbers.iter().map(u64::to_string);
    std::iter::once(device.name.clone())
        .chain(numbers)
        .collect()
}

/// `cache [NAME [POLICY]]`
pub fn cache(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let request = JsonRequest::Cache {
        name: words.first().cloned(),
        policy: words.get(1).cloned(),
    };
    let devices = match session.ask(&request)? {
        JsonReply::Cache { devices } => devices,
        other => return Err(unexpected(&other)),
    };
    if session.options.json {
        return session.print_json(&json!(devices));
    }
    if words.len() > 1 {
        return Ok(());
    }
    if devices.is_empty() {
        return session.print("No devices found\n");
    }
    for device in &devices {
        let now = match device.bypassed {
            true => " (open around the daemon)",
            false => "",
        };
        session.print(&format!("{}: {}{now}\n", device.name, device.policy))?;
    }
    Ok(())
}

/// `limits NAME`
pub fn limits(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let name = words.first().cloned().unwrap_or_default();
    let limits = match session.ask(&JsonRequest::Limits { name })? {
        JsonReply::Limits(limits) => limits,
        other => return Err(unexpected(&other)),
    };
    if session.options.json {
        return session.print_json(&json!(limits));
    }
    let lines = [
        ("Name", limits.name),
        ("Sectors", limits.sectors.to_string()),
        ("Logical block size", limits.logical_block_size.to_string()),
        (
            "Physical block size",
            limits.physical_block_size.to_string(),
        ),
        ("Minimum I/O size", limits.io_min.to_string()),
        ("Optimal I/O size", limits.io_opt.to_string()),
        ("Discard sectors", limits.max_discard_sectors.to_string()),
        (
            "Discard granularity",
            limits.discard_granularity.to_string(),
        ),
        (
            "Write zeroes sectors",
            limits.max_write_zeroes_sectors.to_string(),
        ),
        ("Rotational", limits.rotational.to_string()),
    ];
    for (head, value) in lines {
        let head = session.paint(Paint::Faint, &format!("{:<22}", format!("{head}:")));
        session.print(&format!("{head}{value}\n"))?;
    }
    Ok(())
}

/// `attach NAME [--link]`
pub fn attach(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let request = JsonRequest::Attach {
        name: words.first().cloned().unwrap_or_default(),
        link: session.options.link,
        readonly: session.options.readonly,
    };
    match session.ask(&request)? {
        JsonReply::Attached { device, link } if session.options.json => {
            session.print_json(&json!({"device": device, "link": link}))
        }
        JsonReply::Attached { device, .. } => session.print(&(device + "\n")),
        other => Err(unexpected(&other)),
    }
}

/// `detach NAME`
pub fn detach(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let name = words.first().cloned().unwrap_or_default();
    match session.ask(&JsonRequest::Detach { name })? {
        JsonReply::Done {} => Ok(()),
        other => Err(unexpected(&other)),
    }
}
