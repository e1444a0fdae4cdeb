//! Ordinary users, read-only devices, and files that somebody else writes.

use crate::model::read;
use crate::support::mount::{Mount, NOBODY, as_nobody, new_folder, put_programs};
use crate::support::tools::{self, word};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::process::Command;

const MIB: u64 = 1 << 20;

/// What an ordinary user does with a mount at `mnt` in the working folder.
const SESSION: &str = "
    dmfs create d --table \"0 16384 linear $PWD/file 0\"
    test \"$(stat -c %s mnt/d)\" = 8388608
    dd if=/dev/urandom of=noise bs=64k count=3 status=none
    dd if=noise of=mnt/d bs=1000 seek=7 conv=notrunc,fsync status=none
    tail -c +7001 file | head -c 196608 | cmp - noise
    mkfs.ext4 -q -F mnt/d
    e2fsck -f -n mnt/d >/dev/null 2>&1
    dmfs suspend d
    dmfs resume d
    dmsetup table d | grep -q ' linear '
    dmfs remove d
";

#[test]
fn an_ordinary_user_mounts_with_fusermount3() {
    let mount = Mount::of_nobody();
    let file = mount.backing("file", 8 * MIB);
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    mount.shell(&format!("set -e\n{SESSION}")).must();
    let attach = mount.shell("dmfs create z --table '0 8 zero'; dmfs attach z");
    assert!(!attach.status.success());
    assert!(attach.err.contains("root"), "{}", attach.err);
    mount.stop();
}

#[test]
fn an_ordinary_user_mounts_in_a_namespace_without_fusermount3() {
    let (folder, _) = new_folder();
    let at = folder.path();
    put_programs(at);
    File::create(at.join("file"))
        .unwrap()
        .set_len(8 * MIB)
        .unwrap();
    // A path that has what the session needs, and no fusermount3.
    let tools = at.join("tools");
    fs::create_dir(&tools).unwrap();
    for tool in [
        "cat",
        "cmp",
        "dd",
        "e2fsck",
        "grep",
        "head",
        "mkfs.ext4",
        "mountpoint",
        "sh",
        "sleep",
        "stat",
        "tail",
        "timeout",
    ] {
        let found = tools::shell(&format!("command -v {tool}"));
        std::os::unix::fs::symlink(found.trim(), tools.join(tool)).unwrap();
    }
    for path in [at, &at.join("run"), &at.join("mnt"), &at.join("file")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let script = format!(
        "set -e
        dmfs mount mnt >log 2>&1 &
        timeout 30 sh -c 'until dmfs ls >/dev/null 2>&1; do sleep 0.05; done' || {{ cat log; exit 1; }}
        {SESSION}
        kill $!
        wait $!
        ! mountpoint -q mnt
        "
    );
    // The tools that lead there come from the system's path, which the session does not have.
    let found = |tool: &str| {
        tools::shell(&format!("command -v {tool}"))
            .trim()
            .to_owned()
    };
    let mut words = as_nobody();
    words[0] = found("setpriv");
    words.push(found("unshare"));
    words.extend(["-Urm", "sh", "-c"].map(str::to_owned));
    words.push(script);
    let said = Command::new(&words[0])
        .args(&words[1..])
        .current_dir(at)
        .env_clear()
        .env("LC_ALL", "C")
        .env("XDG_RUNTIME_DIR", at.join("run"))
        .env("PATH", format!("{}:{}", at.display(), tools.display()))
        .env("HOME", at)
        .output();
    let said = said.unwrap_or_else(|error| panic!("{}", tools::missing("setpriv", &error)));
    assert!(
        said.status.success(),
        "{}{}\n{}",
        tools::text(&said.stdout),
        tools::text(&said.stderr),
        fs::read_to_string(at.join("log")).unwrap_or_default()
    );
}

#[test]
fn another_users_mount_cannot_be_commanded() {
    let mount = Mount::start();
    mount.create("d", "0 8 zero\n");
    for path in [mount.folder(), &mount.runtime()] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let mut words = as_nobody();
    words.push(word(&mount.folder().join("dmfs")).to_owned());
    words.extend(["remove", "d"].map(str::to_owned));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let said = mount.environment(&mut command).output().unwrap();
    assert!(!said.status.success());
    assert!(!tools::text(&said.stderr).is_empty());
    assert_eq!(mount.dmfs(&["ls"]).must().lines().count(), 1);
    let socket = fs::read_dir(mount.runtime().join("dmfs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "sock"))
        .unwrap();
    assert_eq!(fs::metadata(socket).unwrap().mode() & 0o777, 0o600);
    mount.stop();
}

#[test]
fn a_read_only_device_is_read_and_not_written() {
    let mount = Mount::start();
    let file = mount.backing("file", MIB);
    fs::write(&file, vec![7; MIB as usize]).unwrap();
    mount
        .dmfs_fed(
            &["create", "--readonly", "d"],
            &format!("0 2048 linear {} 0\n", file.display()),
        )
        .must();
    let info = mount.dmsetup(&["info", "d"]).must();
    assert!(info.contains("ACTIVE (READ-ONLY)"), "{info}");
    let device = File::open(mount.device("d")).unwrap();
    assert_eq!(read(&device, 0, 512), vec![7; 512]);
    let written = File::options()
        .write(true)
        .open(mount.device("d"))
        .and_then(|device| device.write_all_at(&[1; 512], 0));
    assert!(written.is_err());
    assert!(fs::read(&file).unwrap().iter().all(|&byte| byte == 7));
    drop(device);
    mount.stop();
}

#[test]
fn a_file_that_cannot_be_written_makes_a_read_only_table_or_none() {
    let mount = Mount::of_nobody();
    let file = mount.backing("file", MIB);
    fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    let table = format!("0 2048 linear {} 0\n", file.display());
    let refused = mount.dmfs_fed(&["create", "d"], &table);
    assert!(!refused.status.success());
    assert!(refused.err.contains(word(&file)), "{}", refused.err);
    assert!(refused.err.contains("Permission denied"), "{}", refused.err);
    mount
        .dmfs_fed(&["create", "--readonly", "d"], &table)
        .must();
    mount
        .shell("head -c 512 mnt/d | cmp - /dev/zero 2>&1 | grep -q EOF")
        .must();
    mount.stop();
}

#[test]
fn a_second_writer_is_refused_and_the_first_is_named() {
    let first = Mount::start();
    let file = first.backing("file", MIB);
    let table = format!("0 2048 linear {} 0\n", file.display());
    first.create("d", &table);
    // Within one mount a file may be used twice, as a block device may.
    first.create("twice", &table);
    let second = Mount::start();
    let refused = second.dmfs_fed(&["create", "d"], &table);
    assert!(!refused.status.success());
    assert!(refused.err.contains(word(&file)), "{}", refused.err);
    assert!(
        refused.err.contains(&first.pid().to_string()),
        "the holder (process {}) is not named: {}",
        first.pid(),
        refused.err
    );
    assert_eq!(second.dmfs(&["ls"]).must(), "No devices found\n");
    first.dmfs(&["remove", "d"]).must();
    assert!(!second.dmfs_fed(&["create", "d"], &table).status.success());
    first.dmfs(&["remove", "twice"]).must();
    second.create("d", &table);
    second.stop();
    first.stop();
}

#[test]
fn a_closed_fuse_device_is_explained() {
    // As an ordinary user without fusermount3 and outside a namespace there is no way in.
    let (folder, at) = new_folder();
    put_programs(folder.path());
    for path in [folder.path(), &folder.path().join("run"), &at] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut words = as_nobody();
    words.push(word(&folder.path().join("dmfs")).to_owned());
    words.extend(["mount", word(&at)].map(str::to_owned));
    let setpriv = tools::shell("command -v setpriv");
    let said = Command::new(setpriv.trim())
        .args(&words[1..])
        .env_clear()
        .env("XDG_RUNTIME_DIR", folder.path().join("run"))
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert!(!said.status.success());
    let error = tools::text(&said.stderr);
    assert!(error.contains("fusermount3"), "{error}");
}
