#![allow(clippy::unwrap_used)]
use super::{TreeOptions, render};
use crate::cli::report::{Dep, DeviceRow};
use proptest::prelude::{prop, proptest};

fn device(name: &str, minor: u32, uuid: &str, open_count: i32, deps: &[(u32, u32)]) -> DeviceRow {
    let dep = |&(major, minor): &(u32, u32)| Dep {
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
        open_count,
        deps: deps.iter().map(dep).collect(),
        ..DeviceRow::default()
    }
}

/// The devices of `tree.transcript`, with or without the last.
fn devices(with_long: bool) -> Vec<DeviceRow> {
    let uuid = "CRYPT-LUKS2-11112222333344445555666677778888-pair";
    let mut devices = vec![
        device("base", 0, "BASE-0000", 2, &[(7, 0)]),
        device("crown", 3, "", 0, &[(7, 1), (253, 2), (253, 1)]),
        device("empty", 5, "", 0, &[]),
        device("half", 1, "", 1, &[(253, 0)]),
        device("lone", 4, "", 0, &[]),
        device("pair", 2, uuid, 1, &[(7, 1), (253, 0)]),
    ];
    (devices[1].readonly, devices[4].suspended) = (true, true);
    // A device that never had a table has no block device in the transcript's kernel.
    devices[2].blkdev_name = String::new();
    if with_long {
        devices.insert(1, device(&"c".repeat(86), 6, "", 0, &[(253, 3)]));
    }
    devices
}

#[test]
fn trees_are_dmsetups_to_the_letter() {
    let transcript = include_str!("../../../tests/fixtures/dmsetup/tree.transcript");
    let (before, after) = transcript.split_once("$ dmsetup create ccc").unwrap();
    let mut played = 0;
    for (part, devices) in [(before, devices(false)), (after, devices(true))] {
        for step in part.split("\n$ ").skip(1) {
            let (command, answer) = step.split_once('\n').unwrap();
            let lines = |mark: &str| -> String {
                answer
                    .lines()
                    .filter_map(|line| line.strip_prefix(mark))
                    .map(|line| format!("{line}\n"))
                    .collect()
            };
            let words: Vec<&str> = command.split(' ').collect();
            let options = match words[..] {
                ["dmsetup", "ls", "--tree"] => "",
                ["dmsetup", "ls", "--tree", "-o", options] => options.trim_matches('\''),
                _ => continue,
            };
            match TreeOptions::default().read(options) {
                Ok(options) => assert_eq!(render(&devices, &options), lines("> "), "{command}"),
                Err(why) => {
                    assert_eq!(
                        format!("{why}\nCouldn't process command line.\n"),
                        lines("! "),
                        "{command}"
                    );
                }
            }
            played += 1;
        }
    }
    assert!(played > 25, "{played}");
}

#[test]
fn a_device_that_is_said_to_use_itself_ends() {
    let devices = [
        device("a", 0, "", 0, &[(253, 1)]),
        device("b", 1, "", 0, &[(253, 0), (253, 1)]),
    ];
    assert_eq!(
        render(&devices, &TreeOptions::default()),
        "a (253:0)\n `-b (253:1)\n"
    );
}

proptest! {
    #[test]
    fn no_links_panic(links in prop::collection::vec((0u32..8, 0u32..8), 0..20), width in 0usize..40) {
        let mut devices: Vec<DeviceRow> = (0..6).map(|minor| device("x", minor, "U", 0, &[])).collect();
        for (from, to) in links {
            if let Some(device) = devices.get_mut(from as usize) {
                device.deps.push(Dep { major: 253, minor: to, blkdev_name: String::new() });
            }
        }
        for options in ["compact", "inverted,active,uuid", "inverted,compact,nodevice"] {
            let options = TreeOptions { width: Some(width), ..TreeOptions::default() }.read(options).unwrap();
            render(&devices, &options);
        }
    }
}
