//! What is packaged: the unit starts, is ready and stops as systemd would have it; what the package lists is there.
#![allow(clippy::unwrap_used, reason = "what fails here fails its test")]

#[path = "support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::mount::{is_mounted, new_folder, put_programs};
use support::tools;
use toml::{Table, Value};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The values of each key of the unit, in order.
fn unit() -> HashMap<String, Vec<String>> {
    let text = fs::read_to_string(repository().join("packaging/dmfs@.service")).unwrap();
    let mut keys: HashMap<String, Vec<String>> = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with(['#', '['])) {
        if let Some((key, value)) = line.split_once('=') {
            keys.entry(key.to_owned())
                .or_default()
                .push(value.to_owned());
        }
    }
    keys
}

/// The next message of the daemon to its service manager.
fn told(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let count = manager.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[test]
fn the_unit_starts_is_ready_and_stops() {
    let unit = unit();
    assert_eq!(unit["Type"], ["notify"]);
    assert_eq!(unit["KillMode"], ["mixed"]);
    let (folder, _) = new_folder();
    put_programs(folder.path());
    let place = folder.path().display().to_string();
    fs::create_dir(folder.path().join("etc")).unwrap();
    let example = fs::read_to_string(repository().join("mounts/quickstart.toml")).unwrap();
    fs::write(folder.path().join("etc/disks.toml"), example).unwrap();
    // As on a system where all of this lies in the folder of this test.
    let here = |line: &str| {
        line.trim_start_matches('-')
            .replace("/usr/bin/dmfs", &format!("{place}/dmfs"))
            .replace("/etc/dmfs", &format!("{place}/etc"))
            .replace("/mnt/dmfs", &format!("{place}/mounts"))
            .replace("%i", "disks")
    };
    let command = |line: &str| {
        let line = here(line);
        let mut words = line.split(' ');
        let mut command = tools::command(words.next().unwrap());
        command.args(words).stdin(Stdio::null()).current_dir("/");
        command.env("XDG_RUNTIME_DIR", folder.path().join("run"));
        command
    };
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mountpoint = PathBuf::from(here("/mnt/dmfs/%i"));

    assert!(Path::new(&here(&unit["AssertPathExists"][0])).exists());
    assert!(
        command(&unit["ExecStartPre"][0])
            .status()
            .unwrap()
            .success()
    );
    let start = || Daemon {
        process: command(&unit["ExecStart"][0])
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
        mountpoint: &mountpoint,
    };
    let mut daemon = start();
    let ready = told(&manager);
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    assert!(
        ready.contains(&format!("MAINPID={}\n", daemon.process.id())),
        "{ready}"
    );
    assert!(
        ready.contains(&format!("STATUS=serves {}\n", mountpoint.display())),
        "{ready}"
    );
    assert!(
        mountpoint.join("joined").exists(),
        "not ready: no device is there"
    );
    let listed = command(&format!(
        "/usr/bin/dmfs ls --mount {}",
        mountpoint.display()
    ));
    let listed = { listed }.output().unwrap();
    assert!(
        tools::text(&listed.stdout).contains("joined"),
        "not ready: {listed:?}"
    );

    let pid = Pid::from_raw(daemon.process.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let stopping = told(&manager);
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    assert!(daemon.process.wait().unwrap().success());
    assert!(!is_mounted(&mountpoint));
    // After a clean end there is nothing to take away; a dead mount goes.
    assert!(
        !command(&unit["ExecStopPost"][0])
            .status()
            .unwrap()
            .success()
    );
    assert!(unit["ExecStopPost"][0].starts_with('-'));
    let mut daemon = start();
    assert!(told(&manager).starts_with("READY=1\n"));
    daemon.process.kill().unwrap();
    daemon.process.wait().unwrap();
    assert!(is_mounted(&mountpoint));
    assert!(
        command(&unit["ExecStopPost"][0])
            .status()
            .unwrap()
            .success()
    );
    assert!(!is_mounted(&mountpoint));
}

/// A daemon that does not outlive its test, nor does its mount.
struct Daemon<'m> {
    process: Child,
    mountpoint: &'m Path,
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if is_mounted(self.mountpoint) {
            let _ = tools::command("umount")
                .arg("-l")
                .arg(self.mountpoint)
                .status();
        }
    }
}

fn package() -> Table {
    let text = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let cargo: Table = text.parse().unwrap();
    cargo["package"]["metadata"]["deb"]
        .as_table()
        .unwrap()
        .clone()
}

/// Whether something is at `path`, whose file may have a `*`.
fn exists(path: &str) -> bool {
    let path = repository().join(path);
    let name = path.file_name().unwrap().to_str().unwrap();
    let Some((before, behind)) = name.split_once('*') else {
        return path.exists();
    };
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .any(|name| name.starts_with(before) && name.ends_with(behind))
}

#[test]
fn what_the_package_lists_is_there_or_is_made() {
    let package = package();
    let script = fs::read_to_string(repository().join("packaging/build-deb")).unwrap();
    for asset in package["assets"].as_array().unwrap() {
        let words: Vec<&str> = asset
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        let [from, to, mode] = words[..] else {
            panic!("{asset}: expected where from, where to, mode");
        };
        assert!(to.starts_with("usr/") && to.ends_with('/'), "{asset}");
        assert!(matches!(mode, "755" | "644"), "{asset}");
        match from.strip_prefix("target/package/") {
            Some("man/*.8") => assert!(script.contains("generate man \"$made/man\"")),
            Some(made) => assert!(
                script.contains(&format!("\"$made/{made}\"")),
                "{made} is not made"
            ),
            None if from == "target/release/dmfs" => assert_eq!(mode, "755"),
            None => assert!(exists(from), "{from}"),
        }
    }
    let units = &package["systemd-units"];
    assert_eq!(units["unit-scripts"], Value::from("packaging"));
    assert!(exists("packaging/dmfs@.service"));
}

#[test]
fn the_script_names_what_is_missing() {
    let mut command = Command::new(repository().join("packaging/build-deb"));
    let said = command.env("PATH", "/nonexistent").output().unwrap();
    assert!(!said.status.success());
    assert!(
        tools::text(&said.stderr).contains("cargo install cargo-deb"),
        "{said:?}"
    );
}
