//! `create`: a device, its table and its first resume, or nothing.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::cli::names::{Subject, refuse_slash, to_stored};
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::{Kind, Task};
use crate::control::protocol::concise;
use crate::control::protocol::dm_ioctl::payload::TargetSpec;
use crate::control::protocol::dm_ioctl::{DevNo, Flags};
use crate::control::protocol::json::JsonRequest;
use crate::control::protocol::table_text::{self, TableTextError};

/// What `create` needs to know of one device.
pub struct NewDevice {
    /// Name, as given.
    pub name: String,
    /// Uuid, as given.
    pub uuid: Option<String>,
    /// Number asked for.
    pub dev: Option<DevNo>,
    /// Whether its table is read-only.
    pub readonly: bool,
    /// Its table.
    pub rows: Vec<TargetSpec>,
}

/// `create NAME [FILE]`, `create --concise [DEVICES]`.
pub fn create(session: &mut Session<'_>, words: &[String]) -> Outcome {
    if session.options.concise {
        return create_concise(session, words);
    }
    let (name, file) = match words {
        [] => return Err(Failure::new("Please provide a name for the new device.")),
        [name] => (name, None),
        [name, file] => (name, Some(file.as_str())),
        _ => return Err(Failure::new("Too many command line arguments.")),
    };
    refuse_slash(name).map_err(Failure::new)?;
    to_stored(name, Subject::Name, session.options.mangling).map_err(Failure::new)?;
    let rows = match session.options.notable {
        true => Vec::new(),
        false => read_table(session, file)?,
    };
    let device = NewDevice {
        name: name.clone(),
        uuid: session.options.uuid.clone(),
        dev: session.options.minor.map(|minor| DevNo {
            major: session.options.major.unwrap_or(0),
            minor,
        }),
        readonly: session.options.readonly,
        rows,
    };
    create_device(session, &device)
}

fn create_concise(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let options = &session.options;
    if options.table.is_some()
        || options.notable
        || options.uuid.is_some()
        || options.minor.is_some()
        || options.inactive
    {
        return Err(Failure::new(
            "--concise is incompatible with --[no]table, --minor, --uuid and --inactive.",
        ));
    }
    let text = match words {
        [] => read_stdin()?,
        [text] => text.clone(),
        _ => {
            return Err(Failure::new(
                "dmsetup create --concise takes at most one argument",
            ));
        }
    };
    let devices: Vec<_> = concise::parse(&text).collect();
    session.expect(devices.len());
    for device in devices {
        let device = device.map_err(Failure::new)?;
        let new = NewDevice {
            name: device.name,
            uuid: Some(device.uuid).filter(|uuid| !uuid.is_empty()),
            dev: device
                .minor
                .and_then(|minor| u32::try_from(minor).ok())
                .map(|minor| DevNo { major: 0, minor }),
            readonly: device.readonly || session.options.readonly,
            rows: parse_table(session, &device.table, "")?,
        };
        create_device(session, &new)?;
        session.step();
    }
    Ok(())
}

/// Creates `device`; with a table, loads and resumes it, and removes it again if that fails.
pub fn create_device(session: &mut Session<'_>, device: &NewDevice) -> Outcome {
    let mode = session.options.mangling;
    refuse_slash(&device.name).map_err(Failure::new)?;
    let mut task = Task::new(Kind::Create);
    task.name = to_stored(&device.name, Subject::Name, mode).map_err(Failure::new)?;
    if let Some(uuid) = &device.uuid {
        task.uuid = to_stored(uuid, Subject::Uuid, mode).map_err(Failure::new)?;
    }
    if let Some(dev) = device.dev {
        let major = match dev.major {
            0 => session.mount()?.major,
            major => major,
        };
        task.dev = Some(DevNo { major, ..dev });
    }
    task = task.with(Flags::READONLY, device.readonly);
    let answer = session.run(&task)?;
    let dev = answer.header.dev;
    let made = set_cache(session, &task).and_then(|()| match device.rows.is_empty() {
        true => super::info::when_verbose(session, &answer),
        false => load_and_resume(session, device, &task, dev),
    });
    match made {
        Ok(()) => set_owner(session, &device.name),
        Err(mut failure) => {
            let remove = Task {
                name: task.name,
                ..Task::new(Kind::Remove)
            };
            if let Err(revert) = session.run(&remove) {
                failure.lines.extend(revert.lines);
                failure
                    .lines
                    .push("Failed to revert device creation.".to_string());
            }
            Err(failure)
        }
    }
}

/// Sets the cache policy asked for, before there is anything to cache.
fn set_cache(session: &mut Session<'_>, create: &Task) -> Outcome {
    let Some(policy) = session.options.cache.clone() else {
        return Ok(());
    };
    let request = JsonRequest::Cache {
        name: Some(create.name.clone()),
        policy: Some(policy),
    };
    session.ask(&request).map(drop)
}

/// Gives the device's file the owner and permissions asked for (`-U`, `-G`, `-M`).
fn set_owner(session: &mut Session<'_>, name: &str) -> Outcome {
    let (uid, gid, mode) = (
        session.options.uid,
        session.options.gid,
        session.options.mode,
    );
    if uid.is_none() && gid.is_none() && mode.is_none() {
        return Ok(());
    }
    let path = super::rows::file_of(session, name)?;
    let owned = match (uid, gid) {
        (None, None) => Ok(()),
        _ => chown(&path, uid, gid),
    };
    owned
        .and_then(|()| match mode {
            Some(mode) => fs::set_permissions(&path, fs::Permissions::from_mode(mode)),
            None => Ok(()),
        })
        .map_err(|error| Failure::new(format!("{path}: {error}")))
}

fn load_and_resume(
    session: &mut Session<'_>,
    device: &NewDevice,
    create: &Task,
    dev: DevNo,
) -> Outcome {
    let load = Task::on(Kind::Reload, dev)
        .with(Flags::READONLY, device.readonly)
        .with_rows(&device.rows)
        .map_err(Failure::new)?;
    session
        .run(&load)
        .map_err(|failure| naming(failure, &load, create))?;
    let resume = Task::on(Kind::Resume, dev);
    let answer = session
        .run(&resume)
        .map_err(|failure| naming(failure, &resume, create))?;
    super::info::when_verbose(session, &answer)
}

/// The failure of a step that addressed the half-made device by number, told with its name.
fn naming(mut failure: Failure, step: &Task, create: &Task) -> Failure {
    let named = Task {
        name: create.name.clone(),
        uuid: create.uuid.clone(),
        ..step.clone()
    };
    let (bare, full) = (step.failure(""), named.failure(""));
    for line in &mut failure.lines {
        if let Some(why) = line.strip_prefix(&bare) {
            *line = full.clone() + why;
        }
    }
    failure
}

/// The table of `--table`, of `file` or of standard input.
pub fn read_table(session: &Session<'_>, file: Option<&str>) -> Outcome<Vec<TargetSpec>> {
    if let Some(text) = &session.options.table {
        return parse_table(session, text, "");
    }
    match file {
        Some(file) => match fs::read_to_string(file) {
            Ok(text) => parse_table(session, &text, file),
            Err(error) => Err(cannot_open(session, file, &error)),
        },
        None => parse_table(session, &read_stdin()?, "on stdin"),
    }
}

fn cannot_open(session: &Session<'_>, file: &str, error: &std::io::Error) -> Failure {
    let mut failure = Failure::new(format!("Couldn't open '{file}' for reading."));
    if session.is_dmfs() {
        failure.lines.insert(0, format!("dmfs: {file}: {error}"));
    }
    failure
}

fn read_stdin() -> Outcome<String> {
    let mut text = String::new();
    match std::io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(format!("Read from stdin aborted: {error}"))),
    }
}

/// Reads a table's text; `table` names it in errors.
pub fn parse_table(session: &Session<'_>, text: &str, table: &str) -> Outcome<Vec<TargetSpec>> {
    let rows = table_text::parse(text, table).map_err(|error| malformed(session, &error))?;
    let specs = rows.into_iter().map(|row| TargetSpec {
        start: row.start,
        length: row.length,
        target: row.target,
        params: row.params,
    });
    Ok(specs.collect())
}

fn malformed(session: &Session<'_>, error: &TableTextError) -> Failure {
    let mut failure = Failure::new(error);
    if session.is_dmfs() {
        failure.lines.insert(
            0,
            format!("dmfs: line {}: {}", error.line_number, error.detail),
        );
    }
    failure
}
