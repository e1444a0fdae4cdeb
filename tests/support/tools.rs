//! Programs of other projects that tests run: mkfs, losetup, fio, qemu-img, ...
//!
//! A missing tool fails the test and names the Debian package that has it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// Where a tool comes from.
const PACKAGES: [(&str, &str); 26] = [
    ("blkdiscard", "util-linux"),
    ("blockdev", "util-linux"),
    ("cache_check", "thin-provisioning-tools"),
    ("cmp", "diffutils"),
    ("cp", "coreutils"),
    ("cryptsetup", "cryptsetup-bin"),
    ("dd", "coreutils"),
    ("debugfs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("fallocate", "util-linux"),
    ("fio", "fio"),
    ("fusermount3", "fuse3"),
    ("losetup", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "util-linux"),
    ("python3", "python3"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("setpriv", "util-linux"),
    ("sfdisk", "fdisk"),
    ("sgdisk", "gdisk"),
    ("sh", "dash"),
    ("sync", "coreutils"),
    ("umount", "util-linux"),
    ("unshare", "util-linux"),
    ("xxd", "xxd"),
];

/// A command for `tool`, with the system folders in its path.
pub fn command(tool: &str) -> Command {
    let mut command = Command::new(tool);
    command.env("PATH", path_variable());
    command.env("LC_ALL", "C");
    command
}

/// `PATH` with the folders that an ordinary user's lacks.
pub fn path_variable() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

/// Runs `tool` and gives back what it said, whatever its exit status.
pub fn output(tool: &str, args: &[impl AsRef<OsStr>]) -> Output {
    command(tool)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{}", missing(tool, &error)))
}

/// Runs `tool`, which must succeed; its standard output.
pub fn run(tool: &str, args: &[impl AsRef<OsStr>]) -> String {
    let output = output(tool, args);
    let words: Vec<_> = args.iter().map(|word| word.as_ref()).collect();
    assert!(
        output.status.success(),
        "{tool} {words:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a shell line, which must succeed; its standard output.
pub fn shell(line: &str) -> String {
    run("sh", &["-ec", line])
}

/// Bytes of a program's output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A path as a word of a command line.
pub fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What to say when `tool` cannot be started.
pub fn missing(tool: &str, error: &std::io::Error) -> String {
    let package = PACKAGES
        .iter()
        .find(|(name, _)| *name == tool)
        .map_or("the Debian package that holds it", |(_, package)| *package);
    format!("{tool} cannot be started ({error}): install {package}")
}
