//! The table line, read as the kernel reads it: features, handler, groups of paths.

use std::time::Duration;

use super::map::{Group, Map};
use super::selectors;
use crate::io::{DevRef, Errno};
use crate::sync::Arc;
use crate::target::{BuildArgs, BuildError};
use crate::unit::Sector;

/// What of the table line does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `queue_mode bio`; the other modes are one.
    pub bio: bool,
    /// `retain_attached_hw_handler`, said or implied.
    pub retain_attached_hw_handler: bool,
    /// Tries to initialise a group; 0 where not said.
    pub pg_init_retries: u32,
    /// Milliseconds between them, where said.
    pub pg_init_delay_msecs: Option<u32>,
    /// The hardware handler.
    pub handler: Option<String>,
}

/// What the kernel accepts at most of groups, paths and words.
const MOST: u32 = 1024;

/// The word that asks for a path checker, before its seconds.
pub const CHECK: &str = "dmfs:check=";

/// How often failed paths are looked at, if that is asked for.
///
/// # Errors
/// EINVAL for a word of ours that says something else.
pub fn read_check(args: &mut BuildArgs<'_>) -> Result<Option<Duration>, BuildError> {
    let Some(word) = args.peek().filter(|word| word.starts_with("dmfs:")) else {
        return Ok(None);
    };
    args.skip(1);
    let seconds = word
        .strip_prefix(CHECK)
        .and_then(|seconds| seconds.parse().ok());
    let seconds = seconds.filter(|seconds| (1..=86_400).contains(seconds));
    let refuse = || args.refuse_last("Invalid dmfs argument", "dmfs:check=<seconds> (1 to 86400)");
    seconds
        .map(Duration::from_secs)
        .map(Some)
        .ok_or_else(refuse)
}

/// Reads all arguments and opens the paths.
///
/// # Errors
/// The kernel's texts.
pub fn read(args: &mut BuildArgs<'_>) -> Result<(Settings, Arc<Map>), BuildError> {
    let mut settings = Settings::default();
    let queue_if_no_path = read_features(args, &mut settings)?;
    settings.retain_attached_hw_handler |= settings.bio;
    read_handler(args, &mut settings)?;
    let count = args.number(
        0..=MOST,
        "invalid number of priority groups",
        "a number of priority groups",
    )?;
    let initial = args.number(
        0..=MOST,
        "invalid initial priority group number",
        "the number of the group to use first",
    )?;
    if (count == 0) != (initial == 0) {
        return Err(args.refuse_last(
            "invalid initial priority group",
            "the number of a group, from 1; 0 where there is no group",
        ));
    }
    let mut groups = Vec::new();
    while args.left() > 0 {
        groups.push(read_group(args, &settings)?);
    }
    if groups.len() != count as usize {
        return Err(args.refuse(
            "priority group count mismatch",
            format!("{count} priority groups, not {}", groups.len()),
        ));
    }
    let initial = (initial as usize).checked_sub(1);
    let map = Map::new(groups, initial, queue_if_no_path, args.events.clone());
    Ok((settings, Arc::new(map)))
}

/// Reads features; says whether requests are to wait for a path.
fn read_features(args: &mut BuildArgs<'_>, settings: &mut Settings) -> Result<bool, BuildError> {
    let what = "a number of feature words";
    let mut left = args.group(0..=8, "invalid number of feature args", what)?;
    let mut queue_if_no_path = false;
    while left > 0 {
        let unrecognised = "Unrecognised multipath feature request";
        let word = args.word(unrecognised, what)?.to_ascii_lowercase();
        left -= 1;
        match word.as_str() {
            "queue_if_no_path" => queue_if_no_path = true,
            "retain_attached_hw_handler" => settings.retain_attached_hw_handler = true,
            "pg_init_retries" if left > 0 => {
                let text = "pg_init_retries must be between 1 and 50";
                settings.pg_init_retries = args.number(1..=50, text, "a number of tries")?;
                left -= 1;
            }
            "pg_init_delay_msecs" if left > 0 => {
                let text = "pg_init_delay_msecs must be between 0 and 60000";
                let delay = args.number(0..=60_000, text, "milliseconds")?;
                settings.pg_init_delay_msecs = Some(delay);
                left -= 1;
            }
            "queue_mode" if left > 0 => {
                let (text, expected) = ("Unknown 'queue_mode' requested", "one of bio, rq, mq");
                settings.bio = match args.word(text, expected)?.to_ascii_lowercase().as_str() {
                    "bio" => true,
                    "rq" | "mq" => false,
                    _ => return Err(args.refuse_last(text, expected)),
                };
                left -= 1;
            }
            _ => {
                return Err(args.refuse_last(
                    unrecognised,
                    "queue_if_no_path, retain_attached_hw_handler, pg_init_retries <1..50>, \
                     pg_init_delay_msecs <0..60000> or queue_mode <bio|rq|mq>",
                ));
            }
        }
    }
    Ok(queue_if_no_path)
}

fn read_handler(args: &mut BuildArgs<'_>, settings: &mut Settings) -> Result<(), BuildError> {
    let text = "invalid number of hardware handler args";
    let what = "a number of hardware handler words";
    let count = args.group(0..=MOST, text, what)?;
    let words = args.words(count, text, what)?;
    if settings.bio && count > 0 {
        log::warn!("multipath: bio-based multipath doesn't allow hardware handler args");
    } else {
        settings.handler = words.first().cloned();
    }
    Ok(())
}

fn read_group(args: &mut BuildArgs<'_>, settings: &Settings) -> Result<Group, BuildError> {
    args.check_count(
        |left| left >= 2,
        "not enough priority group arguments",
        "a path selector and the number of its arguments",
    )?;
    let unknown = "unknown path selector type";
    let expected = format!("one of {}", selectors::names().join(", "));
    let name = args.word(unknown, &expected)?;
    let kind = selectors::find(name).ok_or_else(|| args.refuse_last(unknown, expected))?;
    let count = args.group(
        0..=MOST,
        "invalid number of path selector args",
        "a number of arguments of the path selector",
    )?;
    let mut selector = (kind.create)(args, count)?;
    let count = args.number(1..=MOST, "invalid number of paths", "a number of paths")?;
    let of_path = args.number(
        0..=MOST,
        "invalid number of selector args",
        "a number of selector arguments for each path",
    )? as usize;
    let mut paths = Vec::new();
    for _ in 0..count {
        args.check_count(
            |left| left > of_path,
            "not enough path parameters",
            &format!("a device and {of_path} arguments for each of {count} paths"),
        )?;
        let device = args.device("error getting device")?;
        if let Some(handler) = &settings.handler {
            return Err(BuildError {
                errno: Errno::NODEV,
                ..args.refuse_last(
                    "error attaching hardware handler",
                    format!("no hardware handler, as {handler} is for SCSI devices"),
                )
            });
        }
        paths.push(DevRef::new(device, Sector(0), args.len));
        selector.add_path(args, of_path)?;
    }
    Ok(Group::new(kind.name, selector, paths))
}
