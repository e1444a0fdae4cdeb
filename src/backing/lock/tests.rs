#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::{Mounts, device_holder, mounted_on, process_name, unescape};

#[test]
fn mount_points_are_read_back() {
    assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
    assert_eq!(unescape("/a\\04"), Path::new("/a\\04"));
    assert_eq!(unescape("/a\\999"), Path::new("/a\\999"));
    assert_eq!(unescape("0400"), Path::new("0400"));
}

#[test]
fn the_nearest_and_latest_mount_counts() {
    let point = |path: &str, number: &str| (PathBuf::from(path), number.to_owned());
    let mounts = Mounts {
        points: vec![
            point("/", "1:0"),
            point("/a", "2:0"),
            point("/a", "3:0"),
            point("/a/b", "4:0"),
        ],
        number: Some("3:0".into()),
    };
    assert!(mounts.holds(Path::new("/a/c")));
    assert!(!mounts.holds(Path::new("/a/b/c")));
    assert!(!mounts.holds(Path::new("/ab")));
    assert!(!mounts.holds(Path::new("relative")));
}

#[test]
fn holders_have_names() {
    let us = std::process::id();
    assert!(process_name(us).starts_with(&format!("process {us} (")));
    assert!(device_holder(rustix::fs::makedev(4095, 9)).contains("somebody else"));
}

#[test]
fn a_mount_of_the_device_or_of_a_part_of_it_is_named() {
    let mounts = "22 1 8:0 / / rw - ext4 /dev/sda rw\n\
                  23 22 8:17 / /a\\040b rw - ext4 /dev/sdb1 rw\nshort line\n";
    let asked = |numbers: &[&str]| {
        let numbers: Vec<String> = numbers.iter().map(|number| (*number).to_owned()).collect();
        mounted_on(mounts, &numbers)
    };
    assert_eq!(asked(&["8:0"]).unwrap(), "the mount on /");
    assert_eq!(asked(&["8:16", "8:17"]).unwrap(), "the mount on /a b");
    assert_eq!(asked(&["8:1"]), None);
}
