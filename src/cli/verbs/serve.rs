//! `mount` and `check`: the verbs that are the daemon's work; the program hands its functions in.

use std::path::PathBuf;

use crate::cli::session::{Failure, Outcome, Session};
use crate::control::protocol::mount::{MetricsAddress, MountOptions, Transport};
use crate::control::protocol::run::{Mode, RunOptions};

/// `mount [FILE] MOUNTPOINT`, `mount [FILE] MOUNTPOINT --concise DEVICES`
pub fn mount(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let mut words = words.to_vec();
    let mut concise = None;
    if session.options.concise {
        let at = session
            .options
            .concise_word
            .unwrap_or(words.len().saturating_sub(1));
        if words.len() < 2 || at >= words.len() {
            return Err(Failure::new(
                "dmfs: --concise: expected DEVICES beside MOUNTPOINT",
            ));
        }
        concise = Some(words.remove(at));
    }
    let (file, mountpoint) = match words.as_slice() {
        [mountpoint] => (None, mountpoint),
        [file, mountpoint] => (Some(PathBuf::from(file)), mountpoint),
        _ => return Err(Failure::new("dmfs: mount: expected [FILE] MOUNTPOINT")),
    };
    let options = &session.options;
    let transport = options.transport.as_deref().map(transport).transpose()?;
    let metrics = options
        .metrics
        .as_deref()
        .map(MetricsAddress::parse)
        .transpose();
    let metrics = metrics.map_err(|why| Failure::new(format!("dmfs: option --metrics: {why}")))?;
    let mount = MountOptions {
        file,
        mountpoint: PathBuf::from(mountpoint),
        concise,
        cache: options.cache.clone(),
        block_devices: options.block_devices,
        background: options.background,
        supervised: options.supervised,
        allow_other: options.allow_other,
        transport,
        harden: options.harden,
        metrics,
        verbose: options.verbose,
    };
    session.flush();
    let serve = session.daemon.mount;
    serve(mount).map_err(|why| prefixed(&why))
}

fn transport(name: &str) -> Outcome<Transport> {
    Transport::named(name).ok_or_else(|| {
        let names = Transport::NAMES.join(", ");
        Failure::new(format!(
            "dmfs: option --transport: expected one of {names}, found '{name}'"
        ))
    })
}

/// `run [--root|--user] -- COMMAND...`
pub fn run(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let refuse = |text: &str| Err(Failure::new(format!("dmfs: run: {text}")).final_word());
    // As `env` and `timeout` do where it is their own failure.
    session.status = Some(125);
    if let Some(word) = words.first() {
        return refuse(&format!("expected -- before the command, found '{word}'"));
    }
    if session.command.is_empty() {
        return refuse("expected -- COMMAND...");
    }
    let options = &session.options;
    let mode = match (options.root, options.user) {
        (true, true) => return refuse("--root and --user are incompatible"),
        (true, false) => Some(Mode::Root),
        (false, true) => Some(Mode::User),
        (false, false) => None,
    };
    let versions = match target_versions(options.target_versions.as_deref().unwrap_or_default()) {
        Ok(versions) => versions,
        Err(error) => return refuse(&error),
    };
    let options = RunOptions {
        mode,
        mount: options.mount.clone(),
        versions,
        command: session.command.clone(),
    };
    session.flush();
    let run = session.daemon.run;
    session.status = Some(run(options));
    Ok(())
}

/// `TYPE=MAJOR.MINOR.PATCH[,...]`
fn target_versions(text: &str) -> Result<Vec<(String, [u32; 3])>, String> {
    let items = text.split(',').filter(|item| !item.is_empty());
    let version = |item: &str| {
        let (name, version) = item.split_once('=')?;
        let numbers: Option<Vec<u32>> = version.split('.').map(|word| word.parse().ok()).collect();
        Some((name.to_owned(), numbers?.try_into().ok()?))
    };
    items
        .map(|item| {
            version(item).ok_or_else(|| {
                format!("option --target-versions: expected TYPE=1.2.3, found '{item}'")
            })
        })
        .collect()
}

/// `check FILE`
pub fn check(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let file = PathBuf::from(words.first().map(String::as_str).unwrap_or_default());
    let check = session.daemon.check;
    match check(&file) {
        Ok(text) => session.print(&text),
        Err(errors) => Err(prefixed(&errors)),
    }
}

/// Each line of an error with the program's name before it.
pub(super) fn prefixed(text: &str) -> Failure {
    let lines: Vec<String> = text.lines().map(|line| format!("dmfs: {line}")).collect();
    Failure {
        lines,
        ..Failure::default()
    }
}
