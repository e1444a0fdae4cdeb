//! What a daemon with keys in it shows of them: nothing to a debugger of its own user, nothing to swap, and no digits that
//! were only on their way.

use crate::support::mount::{Mount, NOBODY};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, chown};

/// No other program writes these digits anywhere.
const KEY: &str = "c0ffee11d15ea5ed5eed5a1adba5eba11ab0dea1deadc0de0ddba11cafe0b0b5";

/// The owner of what `/proc` shows of the daemon: root where it may neither be traced nor dumped (proc(5)).
fn owner(mount: &Mount) -> u32 {
    let file = format!("/proc/{}/environ", mount.pid());
    fs::metadata(file).unwrap().uid()
}

/// KiB that the daemon has locked.
fn locked(mount: &Mount) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmLck:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// A mapping of the daemon, and whether it is locked and left out of core dumps.
struct Mapping {
    start: u64,
    len: usize,
    is_hidden: bool,
}

fn mappings(mount: &Mount) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{}/smaps", mount.pid())).unwrap();
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        let bounds = first.split_once('-');
        if let Some((start, end)) = bounds.and_then(|(a, b)| number(a).zip(number(b))) {
            // What is mapped from a device cannot be read, and the vvar page need not be.
            let readable = rest.starts_with('r') && !rest.contains("[v");
            let len = if readable { (end - start) as usize } else { 0 };
            mappings.push(Mapping {
                start,
                len,
                is_hidden: false,
            });
        } else if first == "VmFlags:" {
            let flags: Vec<_> = rest.split(' ').collect();
            mappings.last_mut().unwrap().is_hidden = flags.contains(&"lo") && flags.contains(&"dd");
        }
    }
    mappings
}

/// Where in the daemon's memory `pattern` stands.
fn places(mount: &Mount, pattern: &[u8]) -> Vec<(u64, bool)> {
    let memory = File::open(format!("/proc/{}/mem", mount.pid())).unwrap();
    let mut found = Vec::new();
    for mapping in mappings(mount) {
        let mut bytes = vec![0; mapping.len];
        // Page by page: some may be gone meanwhile, or unreadable.
        for (page, at) in bytes.chunks_mut(4096).zip((mapping.start..).step_by(4096)) {
            let _ = memory.read_exact_at(page, at);
        }
        let starts = bytes.windows(pattern.len()).enumerate();
        let starts = starts.filter(|(_, window)| *window == pattern);
        found.extend(starts.map(|(i, _)| (mapping.start + i as u64, mapping.is_hidden)));
    }
    found
}

#[test]
fn keys_are_locked_in_memory_and_nowhere_else_in_it() {
    let mount = Mount::of_nobody();
    assert_eq!(owner(&mount), NOBODY);
    let before = locked(&mount);
    let file = mount.backing("c.img", 1 << 20);
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    let row = format!("0 1024 crypt aes-xts-plain64 {KEY} 0 {} 8", file.display());
    mount.dmfs_fed(&["create", "c"], &row).must();
    assert_eq!(owner(&mount), 0, "the daemon can be traced");
    // The key of the table, and the cipher's schedules.
    assert!(locked(&mount) >= before + 8, "nothing is locked");
    let write = "dd if=/dev/zero of=mnt/c bs=512 count=1 conv=notrunc,fsync status=none";
    mount.shell(write).must();
    mount.dmfs(&["suspend", "c"]).must();
    mount.dmfs(&["message", "c", "0", "key", "set", KEY]).must();
    mount.dmfs(&["resume", "c"]).must();
    assert!(
        mount
            .dmfs(&["table", "--showkeys", "c"])
            .must()
            .contains(KEY)
    );
    let digits = places(&mount, KEY.as_bytes());
    assert!(
        digits.is_empty(),
        "digits of the key are left at {digits:x?}"
    );
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    let pairs = KEY.as_bytes().chunks(2);
    let key: Vec<u8> = pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect();
    // (Single round keys can be left on the stack of a thread that has just used them.)
    let found = places(&mount, &key);
    assert!(!found.is_empty(), "this test looks in the wrong place");
    let open = found.iter().filter(|(_, is_hidden)| !is_hidden);
    assert_eq!(
        open.count(),
        0,
        "the key is in memory that is not locked: {found:x?}"
    );
    mount.dmfs(&["remove", "c"]).must();
    assert_eq!(locked(&mount), before);
    assert!(
        places(&mount, &key).is_empty(),
        "the key outlives its device"
    );
    mount.stop();
}
