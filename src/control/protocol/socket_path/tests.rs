#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{check_folder, folder_for, outer_uid, prepare_folder, socket_path};

#[test]
fn folders_follow_the_runtime_directory() {
    let run = Some(OsStr::new("/run/user/7"));
    assert_eq!(folder_for(7, run), PathBuf::from("/run/user/7/dmfs"));
    assert_eq!(folder_for(7, None), PathBuf::from("/tmp/dmfs-7"));
    assert_eq!(folder_for(0, None), PathBuf::from("/run/dmfs"));
    assert_eq!(
        folder_for(0, Some(OsStr::new("here"))),
        PathBuf::from("/run/dmfs")
    );
}

#[test]
fn mountpoints_are_escaped_and_never_collide() {
    let folder = Path::new("/run/dmfs");
    let name = |mountpoint: &str| socket_path(folder, Path::new(mountpoint));
    assert_eq!(
        name("/mnt/a b"),
        PathBuf::from("/run/dmfs/%2Fmnt%2Fa%20b.sock")
    );
    assert_ne!(name("/mnt/a"), name("/mnt%2Fa"));
    assert_ne!(name("/mnt/a-b"), name("/mnt/a/b"));
}

#[test]
fn long_mountpoints_fit_a_socket_address() {
    let long = "/x".repeat(100);
    let (one, two) = (long.clone() + "1", long + "2");
    for folder in [
        "/run/dmfs",
        "/run/user/1000/some/deeper/folder/of/sockets/dmfs",
    ] {
        let path = |mountpoint: &str| socket_path(Path::new(folder), Path::new(mountpoint));
        assert!(path(&one).as_os_str().len() < 108);
        assert_ne!(path(&one), path(&two));
        let between = "/y".repeat(24);
        assert!(path(&between).as_os_str().len() < 108);
    }
}

#[test]
fn only_a_private_folder_is_trusted() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("dmfs");
    prepare_folder(&folder).unwrap();
    assert_eq!(
        fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
        0o700
    );
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let error = check_folder(&folder).unwrap_err().to_string();
    assert!(error.contains("mode 0755, expected 0700"), "{error}");
    let link = base.path().join("link");
    symlink(&folder, &link).unwrap();
    assert!(
        check_folder(&link).is_err(),
        "a link may lead to a folder of someone else"
    );
}

#[test]
fn root_of_a_user_namespace_is_who_made_it() {
    assert_eq!(outer_uid(0, "         0          0 4294967295\n"), 0);
    assert_eq!(outer_uid(0, "         0       1000          1\n"), 1000);
    assert_eq!(outer_uid(7, "0 1000 1\n1 100000 65536\n"), 100_006);
    assert_eq!(outer_uid(5, ""), 5);
}
