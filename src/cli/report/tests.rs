#![allow(clippy::unwrap_used)]
use super::{Dep, DeviceRow, Report, ReportKind, ReportOptions, check_units};
use crate::cli::names::{Mangling, SplitName};
use proptest::prelude::{any, prop_assert, proptest};

/// A command of a transcript with what dmsetup answered.
struct Step<'t> {
    command: &'t str,
    out: String,
    err: String,
}

fn steps(transcript: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("$ dmsetup ") {
            steps.push(Step {
                command,
                out: String::new(),
                err: String::new(),
            });
        } else if let Some((step, line)) = steps.last_mut().zip(line.strip_prefix("> ")) {
            step.out.push_str(&format!("{line}\n"));
        } else if let Some((step, line)) = steps.last_mut().zip(line.strip_prefix("! ")) {
            step.err.push_str(&format!("{line}\n"));
        }
    }
    steps
}

fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in command.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words
}

/// Reads the options of a report; none where the command is about something else.
fn options(words: &[String]) -> Option<(ReportOptions, Vec<&str>)> {
    let mut options = ReportOptions::default();
    let mut names = Vec::new();
    let mut columns = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-c" | "-C" | "--columns" => columns = true,
            "-o" => options.fields = Some(words.next()?.clone()),
            "-O" | "--sort" => options.sort = Some(words.next()?.clone()),
            "-S" => options.select = Some(words.next()?.clone()),
            "--separator" => options.separator = Some(words.next()?.clone()),
            "--noheadings" => options.noheadings = true,
            "--nameprefixes" => options.nameprefixes = true,
            "--unquoted" => options.unquoted = true,
            "--rows" => options.rows = true,
            word if word.starts_with('-') => return None,
            word => names.push(word),
        }
    }
    columns.then_some((options, names))
}

fn device(name: &str, minor: u32, uuid: &str, deps: &[(u32, u32)]) -> DeviceRow {
    let blkdev = |&(major, minor): &(u32, u32)| Dep {
        major,
        minor,
        blkdev_name: format!("{}{minor}", if major == 7 { "loop" } else { "dm-" }),
    };
    DeviceRow {
        name: name.into(),
        uuid: uuid.into(),
        major: 253,
        minor,
        blkdev_name: format!("dm-{minor}"),
        read_ahead: 256,
        live: true,
        segments: 1,
        deps: deps.iter().map(blkdev).collect(),
        ..DeviceRow::default()
    }
}

/// The devices of `report.transcript`.
fn report_devices() -> Vec<DeviceRow> {
    let mut devices = vec![
        device("base", 0, "", &[(7, 0)]),
        device(
            "empty",
            3,
            "CRYPT-LUKS2-11112222333344445555666677778888-empty",
            &[],
        ),
        device("side", 2, "", &[(253, 0), (7, 1)]),
        device("top", 1, "LVM-0123456789", &[(253, 0)]),
        device("vg--0-lv--1-real", 4, "LVM-abcdef", &[]),
    ];
    devices[0].open_count = 2;
    (devices[1].live, devices[1].segments) = (false, 0);
    (devices[2].suspended, devices[2].readonly) = (true, true);
    devices[3].inactive = true;
    devices
}

/// The devices of `select.transcript`.
fn select_devices() -> Vec<DeviceRow> {
    let mut devices = vec![
        device("base", 0, "AAA", &[(7, 0)]),
        device("empty", 3, "", &[]),
        device("top1", 1, "LVM-1", &[(253, 0)]),
        device("top2", 2, "LVM-2", &[(253, 0)]),
    ];
    devices[0].open_count = 2;
    (devices[1].live, devices[1].segments) = (false, 0);
    (devices[3].suspended, devices[3].segments) = (true, 2);
    devices
}

/// The texts of help are our own: what a transcript lists of them is compared elsewhere.
fn without_help(text: &str) -> String {
    let start = text.rfind(" \n").map_or(0, |at| at + 2);
    text[start..].replace("{selection help}\n", "")
}

fn play(transcript: &str, devices: &[DeviceRow]) -> usize {
    let mut played = 0;
    for step in steps(transcript) {
        let words = words(step.command);
        let (command, words) = words.split_first().unwrap();
        let Some((options, names)) = options(words) else {
            continue;
        };
        // There are no statistics here; with their fields dmsetup prints nothing where there are none.
        let skip = step.out.starts_with("No devices")
            || ["-o all", "region_id"]
                .iter()
                .any(|o| step.command.contains(o));
        // The transcript's kernel has no block device for a device that never had a table.
        if command != "info" || skip || step.err.contains("resolve") || step.err.contains("exist") {
            continue;
        }
        let rows: Vec<DeviceRow> = match names.is_empty() {
            true => devices.to_vec(),
            false => names
                .iter()
                .map(|name| devices.iter().find(|d| d.name == *name).unwrap().clone())
                .collect(),
        };
        let (out, err) = match Report::new(ReportKind::Devices, &options) {
            Ok(report) => (
                report.devices(&rows, devices).unwrap(),
                report.help().unwrap_or_default().into(),
            ),
            Err(why) => (String::new(), format!("{why}\n")),
        };
        assert_eq!(out, step.out, "{}", step.command);
        assert_eq!(
            without_help(&err),
            without_help(&step.err),
            "{}",
            step.command
        );
        played += 1;
    }
    played
}

#[test]
fn reports_are_dmsetups_to_the_letter() {
    let transcript = include_str!("../../../tests/fixtures/dmsetup/report.transcript");
    assert!(play(transcript, &report_devices()) > 50);
}

#[test]
fn selections_are_dmsetups_to_the_letter() {
    let transcript = include_str!("../../../tests/fixtures/dmsetup/select.transcript");
    assert!(play(transcript, &select_devices()) > 60);
}

#[test]
fn names_are_split_into_columns() {
    let transcript = include_str!("../../../tests/fixtures/dmsetup/splitname.transcript");
    let mut played = 0;
    for step in steps(transcript) {
        let mut words = words(step.command);
        words[0] = "-c".into();
        let Some((options, names)) = options(&words) else {
            continue;
        };
        let ([name] | [name, _]) = names[..] else {
            continue;
        };
        if name.contains('/') || step.err.contains("Special") {
            continue;
        }
        let split = SplitName::new(name, names.get(1).unwrap_or(&"LVM"));
        let report = Report::new(ReportKind::SplitName, &options).unwrap();
        match report.split_name(&split) {
            Ok(out) => assert_eq!(out, step.out, "{}", step.command),
            Err(why) => assert_eq!(format!("{why}\nCommand failed.\n"), step.err),
        }
        played += 1;
    }
    assert!(played > 20);
}

#[test]
fn help_lists_the_fields_that_dmsetup_lists() {
    let ids = |text: &str| -> Vec<String> {
        let listed = text
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        listed.map(str::to_owned).collect()
    };
    let transcript = include_str!("../../../tests/fixtures/dmsetup/report.transcript");
    let theirs = steps(transcript)
        .into_iter()
        .find(|step| step.command == "info -c -o help")
        .unwrap();
    let options = ReportOptions {
        fields: Some("help".into()),
        ..ReportOptions::default()
    };
    let report = Report::new(ReportKind::Devices, &options).unwrap();
    let statistics: Vec<String> = ids(theirs
        .err
        .split("Statistics Fields")
        .nth(1)
        .unwrap()
        .split("Special")
        .next()
        .unwrap());
    let theirs: Vec<String> = ids(&theirs.err)
        .into_iter()
        .filter(|id| !statistics.contains(id))
        .collect();
    assert_eq!(ids(report.help().unwrap()), theirs);
}

#[test]
fn json_is_one_document_with_typed_values() {
    let options = ReportOptions {
        fields: Some("name,minor,devnos_used,uuid".into()),
        json: true,
        ..ReportOptions::default()
    };
    let devices = report_devices();
    let report = Report::new(ReportKind::Devices, &options).unwrap();
    let document: serde_json::Value =
        serde_json::from_str(&report.devices(&devices, &devices).unwrap()).unwrap();
    let first = &document["report"][0]["device"][2];
    assert_eq!(first["name"], "side");
    assert_eq!(first["minor"], 2);
    assert_eq!(first["devnos_used"][1], "7:1");
    let nothing = report.devices(&[], &[]).unwrap();
    assert_eq!(nothing, "{\"report\":[{\"device\":[]}]}\n");
}

#[test]
fn sorting_twice_by_a_field_is_told() {
    let options = ReportOptions {
        sort: Some("name,-name".into()),
        ..ReportOptions::default()
    };
    let report = Report::new(ReportKind::Devices, &options).unwrap();
    assert_eq!(
        report.warnings(),
        ["dm_report: Ignoring duplicate sort field: name."]
    );
}

#[test]
fn names_that_cannot_be_shown_fail_the_report() {
    let devices = [device("e f", 0, "", &[])];
    let report = Report::new(ReportKind::Devices, &ReportOptions::default()).unwrap();
    assert!(
        report
            .devices(&devices, &devices)
            .unwrap_err()
            .0
            .contains("blacklisted")
    );
    let options = ReportOptions {
        mangling: Mangling::None,
        ..ReportOptions::default()
    };
    let report = Report::new(ReportKind::Devices, &options).unwrap();
    assert!(
        report
            .devices(&devices, &devices)
            .unwrap()
            .contains("\ne f ")
    );
}

#[test]
fn units_are_a_letter_behind_a_number() {
    assert!(check_units("k").is_ok() && check_units("4m").is_ok());
    assert_eq!(check_units("x").unwrap_err().0, "Invalid --units argument.");
    assert!(check_units("").is_err());
}

#[test]
fn parentheses_end_somewhere() {
    let options = ReportOptions {
        select: Some("(".repeat(100_000)),
        ..ReportOptions::default()
    };
    let why = Report::new(ReportKind::Devices, &options).err().unwrap();
    assert!(why.0.starts_with("Syntax error: too many parentheses"));
}

proptest! {
    #[test]
    fn no_option_panics(fields in any::<String>(), sort in any::<String>(), select in any::<String>()) {
        let options = ReportOptions {
            fields: Some(fields), sort: Some(sort), select: Some(select), ..ReportOptions::default()
        };
        let _ = Report::new(ReportKind::Devices, &options);
    }

    #[test]
    fn no_selection_panics(select in "(name|open|minor|[()!#,=~<>&|'\"]|[a-z0-9.% \u{e9}]){0,25}") {
        let devices = select_devices();
        let options = ReportOptions { select: Some(select), ..ReportOptions::default() };
        if let Ok(report) = Report::new(ReportKind::Devices, &options) {
            prop_assert!(report.devices(&devices, &devices).is_ok());
        }
    }
}
