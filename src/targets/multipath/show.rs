//! Table and status lines. As the kernel's, they end with a space.

use std::fmt::Write;

use super::arguments::Settings;
use super::map::{Map, State};
use crate::target::Naming;

/// The arguments from which the same device can be built.
pub fn arguments(settings: &Settings, map: &Map, naming: Naming) -> String {
    let state = map.state();
    let mut features: Vec<String> = Vec::new();
    if state.queue_if_no_path {
        features.push("queue_if_no_path".into());
    }
    if settings.pg_init_retries > 0 {
        features.extend([
            "pg_init_retries".into(),
            settings.pg_init_retries.to_string(),
        ]);
    }
    if let Some(delay) = settings.pg_init_delay_msecs {
        features.extend(["pg_init_delay_msecs".into(), delay.to_string()]);
    }
    if settings.retain_attached_hw_handler {
        features.push("retain_attached_hw_handler".into());
    }
    if settings.bio {
        features.extend(["queue_mode".into(), "bio".into()]);
    }
    let mut line = format!("{} ", features.len());
    for feature in features {
        line.push_str(&feature);
        line.push(' ');
    }
    match &settings.handler {
        Some(handler) => line.push_str(&format!("1 {handler} ")),
        None => line.push_str("0 "),
    }
    push(&mut line, groups_in_use(map, &state));
    for group in map.groups() {
        let selector = group.selector();
        let (name, words) = (group.selector_name, selector.arguments());
        let (count, of_path) = (group.paths().len(), selector.kind().path_arguments);
        push(&mut line, format_args!("{name} {words} {count} {of_path}"));
        for (index, path) in group.paths().iter().enumerate() {
            push(&mut line, naming.of(path.range()));
            push(&mut line, selector.path_arguments(index));
        }
    }
    line
}

/// What dmsetup status shows.
pub fn status(map: &Map, naming: Naming) -> String {
    let state = map.state();
    let mut line = format!("2 {} 0 0 ", u8::from(state.queue_io));
    push(&mut line, groups_in_use(map, &state));
    for (index, (group, group_state)) in map.groups().iter().zip(&state.groups).enumerate() {
        let letter = match () {
            () if group_state.bypassed => 'D',
            () if state.current == Some(index) => 'A',
            () => 'E',
        };
        let selector = group.selector();
        let (words, count) = (selector.arguments(), group.paths().len());
        let of_path = selector.kind().path_status;
        push(
            &mut line,
            format_args!("{letter} {words} {count} {of_path}"),
        );
        for (index, (path, path_state)) in group.paths().iter().zip(&group_state.paths).enumerate()
        {
            let letter = if path_state.usable { 'A' } else { 'F' };
            let device = naming.of(path.range());
            push(
                &mut line,
                format_args!("{device} {letter} {}", path_state.fail_count),
            );
            let told = selector.path_status(index);
            if !told.is_empty() {
                push(&mut line, told);
            }
        }
    }
    line
}

/// How many groups there are, and which is in use or will be.
fn groups_in_use(map: &Map, state: &State) -> String {
    let count = map.groups().len();
    let number = match state.current.or(state.next) {
        Some(group) => group + 1,
        None => usize::from(count > 0),
    };
    format!("{count} {number}")
}

/// Adds words and a space.
fn push(line: &mut String, words: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(line, "{words} ");
}
