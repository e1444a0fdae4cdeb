//! Encrypted devices: what a key is told to and what it is not, keyrings, a key that outlives its daemon.

use crate::files::wait_until;
use crate::support::mount::{Mount, Said};
use crate::support::tools::run;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::FileExt;

const KEY: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f91";
/// What no output may hold.
const PART: &str = "5c6d7e8f";

fn told(said: &Said) -> String {
    format!("{}{}", said.out, said.err)
}

fn row(mount: &Mount, key: &str) -> String {
    let file = mount.backing("c.img", 1 << 20);
    format!("0 1024 crypt aes-xts-plain64 {key} 0 {} 8", file.display())
}

#[test]
fn a_key_is_shown_to_those_who_ask_for_it_alone() {
    let mount = Mount::start();
    let row = row(&mount, KEY);
    mount.dmfs_fed(&["create", "c"], &row).must();
    let device = mount.open("c");
    device.write_all_at(&[7; 4096], 8192).unwrap();
    device.sync_all().unwrap();
    let zeroes = "0".repeat(KEY.len());
    for words in [
        &["table", "c"][..],
        &["table", "--json"],
        &["table", "--concise"],
        &["status"],
        &["explain", "c", "3"],
        &["explain", "c", "3", "--json"],
        &["graph"],
        &["ls", "--tree"],
        &["info", "--json"],
        &["dump"],
        &["limits", "c"],
    ] {
        let said = mount.dmfs(words);
        assert!(!told(&said).contains(PART), "{words:?}: {}", told(&said));
        said.must();
    }
    let hidden = format!("0 1024 crypt aes-xts-plain64 {zeroes} 0 ");
    assert!(mount.dmfs(&["table", "c"]).must().starts_with(&hidden));
    assert!(mount.dmsetup(&["table", "c"]).must().starts_with(&hidden));
    let shown = mount.dmfs(&["table", "--showkeys", "c"]).must();
    assert_eq!(shown.trim_end(), row);
    assert!(mount.dmfs(&["dump"]).must().contains("--showkeys"));
    assert!(mount.dmfs(&["dump", "--showkeys"]).must().contains(KEY));
    // What lies below is ciphertext.
    let below = fs::read(mount.folder().join("c.img")).unwrap();
    let place = 8 * 512 + 8192;
    assert_ne!(below[place..place + 4096], [7; 4096]);
    drop(device);
    assert!(!mount.log().contains(PART));
    mount.stop();
}

#[test]
fn what_is_refused_tells_no_key() {
    let mount = Mount::start();
    let good = row(&mount, KEY);
    for bad in [
        good.replace(KEY, &format!("{KEY}zz")),
        good.replace(KEY, &KEY[2..]),
        good.replace("aes-xts-plain64 ", ""),
        good.replace("c.img", "nonesuch.img"),
        format!("{good} 1 {KEY}"),
    ] {
        let said = mount.dmfs_fed(&["create", "bad"], &bad);
        assert!(!told(&said).contains(PART), "{}", told(&said));
        said.must_fail();
    }
    mount.dmfs_fed(&["create", "c"], &good).must();
    for message in [
        &["key", "set", KEY][..],
        &["kei", "set", KEY],
        &["key", "set", KEY, "more"],
    ] {
        let said = mount.dmfs(&[&["message", "c", "0"], message].concat());
        assert!(!told(&said).contains(PART), "{}", told(&said));
        said.must_fail();
    }
    mount.dmfs(&["suspend", "c"]).must();
    let said = mount.dmfs(&["message", "c", "0", "key", "set", &KEY[..62]]);
    assert!(!told(&said).contains(PART), "{}", told(&said));
    said.must_fail();
    mount.dmfs(&["resume", "c"]).must();
    assert!(!mount.log().contains(PART), "{}", mount.log());
    mount.stop();
}

#[test]
fn a_key_comes_from_the_kernels_keyring() {
    let name = format!("dmfs-test-{}", std::process::id());
    let key: String = KEY.chars().take(32).collect();
    let number = run("keyctl", &["add", "user", &name, &key, "@u"]);
    let mount = Mount::start();
    let by_name = row(&mount, &format!(":32:user:{name}"));
    mount.dmfs_fed(&["create", "c"], &by_name).must();
    assert_eq!(mount.dmfs(&["table", "c"]).must().trim_end(), by_name);
    let device = mount.open("c");
    device.write_all_at(b"something", 0).unwrap();
    device.sync_all().unwrap();
    let below = |name: &str| fs::read(mount.folder().join(name)).unwrap();
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let file = mount.backing("d.img", 1 << 20);
    let by_digits = format!("0 1024 crypt aes-xts-plain64 {hex} 0 {} 8", file.display());
    mount.dmfs_fed(&["create", "d"], &by_digits).must();
    let other = mount.open("d");
    other.write_all_at(&[0; 512], 0).unwrap();
    other.write_all_at(b"something", 0).unwrap();
    other.sync_all().unwrap();
    device.write_all_at(&[0; 512 - 9], 9).unwrap();
    device.sync_all().unwrap();
    assert_eq!(below("c.img")[4096..4608], below("d.img")[4096..4608]);
    let wrong = by_name.replace(":32:", ":16:");
    mount.dmfs_fed(&["create", "w"], &wrong).must_fail();
    run("keyctl", &["unlink", number.trim(), "@u"]);
    let said = mount.dmfs_fed(&["create", "w"], &by_name);
    assert!(
        said.err.contains("Required key not available"),
        "{}",
        said.err
    );
    drop((device, other));
    mount.stop();
}

#[test]
fn keys_set_and_wiped_outlive_the_daemon() {
    let mount = Mount::start_with(&["--supervised"]);
    mount.dmfs_fed(&["create", "c"], &row(&mount, KEY)).must();
    let other = KEY.replace("a1", "b7");
    let message = |words: &[&str]| mount.dmfs(&[&["message", "c", "0", "key"], words].concat());
    mount.dmfs(&["suspend", "c"]).must();
    message(&["set", &other]).must();
    kill_daemon(&mount);
    assert!(
        mount
            .dmfs(&["table", "--showkeys", "c"])
            .must()
            .contains(&other)
    );
    message(&["wipe"]).must();
    kill_daemon(&mount);
    // It has no key still, rather than one of zeroes.
    mount.dmfs(&["resume", "c"]).must_fail();
    message(&["set", KEY]).must();
    mount.dmfs(&["resume", "c"]).must();
    mount.stop();
}

/// Kills the daemon and waits for its successor.
fn kill_daemon(mount: &Mount) {
    let supervisor = mount.pid();
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let daemon = || {
        let text = fs::read_to_string(&children).unwrap_or_default();
        text.split_whitespace().next_back().map(str::to_owned)
    };
    let before = daemon().unwrap();
    let pid = Pid::from_raw(before.parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    wait_until(|| daemon().is_some_and(|now| now != before));
    mount.dmfs(&["ls"]).must();
}
