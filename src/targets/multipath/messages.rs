//! Messages: paths fail and come back, groups are chosen, and what becomes of requests without a path.

use super::map::{Map, PathPlace};
use crate::io::Errno;
use crate::target::{Access, DeviceOpener, MessageError, scan_u32};

/// What can be said.
const EXPECTED: &str = "queue_if_no_path, fail_if_no_path, fail_path <dev>, reinstate_path <dev>, \
                        switch_group <n>, disable_group <n> or enable_group <n>";

/// Carries out a message.
///
/// # Errors
/// EBUSY while the device is suspended; EINVAL, or the errno of a device that is not found.
pub fn answer(map: &Map, words: &[&str], devices: &dyn DeviceOpener) -> Result<(), MessageError> {
    if map.is_suspended() {
        return Err(MessageError::silent(
            Errno::BUSY,
            "a device that is not suspended",
        ));
    }
    let said = |word: &str, verb: &str| word.eq_ignore_ascii_case(verb);
    match *words {
        [word] if said(word, "queue_if_no_path") => map.set_queue_if_no_path(true),
        [word] if said(word, "fail_if_no_path") => map.set_queue_if_no_path(false),
        [word, number] if said(word, "switch_group") => {
            map.switch_to(group(map, number, "switch_pg_num")?);
        }
        [word, number] if said(word, "disable_group") => {
            map.bypass(group(map, number, "bypass_pg")?, true);
        }
        [word, number] if said(word, "enable_group") => {
            map.bypass(group(map, number, "bypass_pg")?, false);
        }
        [word, device] if said(word, "fail_path") => {
            for place in places(map, device, devices)? {
                map.fail(place);
            }
        }
        [word, device] if said(word, "reinstate_path") => {
            for place in places(map, device, devices)? {
                map.reinstate(place);
            }
        }
        [word, _] => {
            let line = format!("multipath: Unrecognised multipath message received: {word}");
            return Err(MessageError::invalid(line, EXPECTED));
        }
        _ => {
            let line = format!(
                "multipath: Invalid multipath message arguments. Expected 2 arguments, got {}.",
                words.len()
            );
            return Err(MessageError::invalid(line, EXPECTED));
        }
    }
    Ok(())
}

/// The messages that bring a map that is as new to where this one is: paths that have failed, groups that are avoided.
pub fn recall(map: &Map) -> Vec<String> {
    let failed = map.failed().into_iter().filter_map(|place| map.path(place));
    let failed = failed.map(|path| format!("fail_path {}", path.range().device().number));
    let groups = map.state().groups;
    let bypassed = (1..).zip(groups).filter(|(_, group)| group.bypassed);
    let bypassed = bypassed.map(|(number, _)| format!("disable_group {number}"));
    failed.chain(bypassed).collect()
}

/// The group with the number that `word` gives, counted from 0.
fn group(map: &Map, word: &str, supplied_to: &str) -> Result<usize, MessageError> {
    let count = map.groups().len();
    let number = scan_u32(word).and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| (1..=count).contains(number))
        .map(|number| number - 1)
        .ok_or_else(|| {
            let line = format!("multipath: invalid PG number supplied to {supplied_to}");
            MessageError::invalid(line, format!("the number of a group (1 to {count})"))
        })
}

/// Every place at which the device that `word` names is a path.
fn places(
    map: &Map,
    word: &str,
    devices: &dyn DeviceOpener,
) -> Result<Vec<PathPlace>, MessageError> {
    let device = devices
        .open(word, Access::ReadOnly)
        .map_err(|error| MessageError {
            errno: error.errno,
            line: Some(format!("multipath: message: error getting device {word}")),
            expected: Some(format!("a device that is there ({})", error.reason)),
            secret: false,
        })?;
    let mut places = Vec::new();
    for (group, paths) in map.groups().iter().map(|group| group.paths()).enumerate() {
        for (path, _) in paths
            .iter()
            .enumerate()
            .filter(|(_, path)| path.range().device().number == device.number)
        {
            places.push(PathPlace { group, path });
        }
    }
    if places.is_empty() {
        return Err(MessageError::silent(Errno::INVAL, "a path of this device"));
    }
    Ok(places)
}
