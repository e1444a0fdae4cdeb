#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::machine::{CAP_SYS_ADMIN, Limit, Machine, effective, maps_everybody, version};
use super::{Finding, State, examine, told};
use crate::terminal::Look;

/// A machine made of `files`, seen by root of the first namespace on Linux 6.14.
fn machine(files: &[(&str, &str)]) -> (TempDir, Machine) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let machine = Machine {
        root: folder.path().to_owned(),
        uid: 0,
        capabilities: u64::MAX,
        is_first_namespace: true,
        kernel: (6, 14),
        open_files: Limit {
            soft: Some(4096),
            hard: None,
        },
        locked_memory: Limit::default(),
        path: "/usr/bin:/bin".into(),
    };
    (folder, machine)
}

const EVERYTHING: [(&str, &str); 5] = [
    ("/dev/fuse", ""),
    ("/dev/loop-control", ""),
    ("/sys/module/fuse/parameters/enable_uring", "Y\n"),
    ("/proc/sys/kernel/io_uring_disabled", "0\n"),
    ("/sys/fs/cgroup/cgroup.controllers", "memory\n"),
];

fn ordinary(machine: Machine) -> Machine {
    Machine {
        uid: 1000,
        capabilities: 0,
        locked_memory: Limit {
            soft: Some(8 << 20),
            hard: Some(8 << 20),
        },
        ..machine
    }
}

fn of<'f>(findings: &'f [Finding], name: &str) -> &'f Finding {
    findings
        .iter()
        .find(|finding| finding.name == name)
        .unwrap()
}

#[test]
fn where_all_is_there_nothing_is_to_be_done() {
    let (_folder, machine) = machine(&EVERYTHING);
    let findings = examine(&machine);
    for finding in &findings {
        assert_eq!(
            (finding.state, finding.advice.as_str()),
            (State::Good, ""),
            "{finding:?}"
        );
    }
    assert!(told(&findings, Look::PLAIN).ends_with("with all it can do.\n"));
}

#[test]
fn without_dev_fuse_nothing_works() {
    let (_folder, machine) = machine(&EVERYTHING[1..]);
    let findings = examine(&machine);
    let found = of(&findings, "/dev/fuse");
    assert_eq!(found.state, State::Bad);
    assert!(found.advice.contains("modprobe fuse"), "{found:?}");
    let text = told(&findings, Look::PLAIN);
    assert!(
        text.ends_with("dmfs cannot mount here: 1 of these stand in the way.\n"),
        "{text}"
    );
}

#[test]
fn an_ordinary_user_needs_fusermount3_or_a_namespace() {
    let (folder, machine) = machine(&EVERYTHING);
    let machine = ordinary(machine);
    assert_eq!(of(&examine(&machine), "mounting").state, State::Limited);
    let lock = folder.path().join("proc/sys/user");
    fs::create_dir_all(&lock).unwrap();
    fs::write(lock.join("max_user_namespaces"), "0\n").unwrap();
    let findings = examine(&machine);
    let found = of(&findings, "mounting");
    assert_eq!(found.state, State::Bad);
    assert!(
        found.found.contains("max_user_namespaces is 0"),
        "{found:?}"
    );
    let helper = folder.path().join("usr/bin");
    fs::create_dir_all(&helper).unwrap();
    let helper = helper.join("fusermount3");
    fs::write(&helper, "").unwrap();
    assert_eq!(of(&examine(&machine), "mounting").state, State::Bad);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755)).unwrap();
    // Only root's program has root's rights.
    let wanted = match rustix::process::geteuid().is_root() {
        true => State::Good,
        false => State::Bad,
    };
    assert_eq!(of(&examine(&machine), "mounting").state, wanted);
}

#[test]
fn other_users_need_a_line_in_fuse_conf() {
    let (folder, machine) = machine(&EVERYTHING);
    let machine = ordinary(machine);
    let conf = folder.path().join("etc");
    fs::create_dir_all(&conf).unwrap();
    fs::write(conf.join("fuse.conf"), "#user_allow_other\n").unwrap();
    assert_eq!(of(&examine(&machine), "allow_other").state, State::Limited);
    fs::write(conf.join("fuse.conf"), "mount_max = 9\nuser_allow_other\n").unwrap();
    assert_eq!(of(&examine(&machine), "allow_other").state, State::Good);
}

#[test]
fn each_thing_that_is_missing_says_what_to_do() {
    let (_folder, machine) = machine(&[
        ("/dev/fuse", ""),
        ("/sys/module/fuse/parameters/enable_uring", "N\n"),
        ("/proc/sys/kernel/io_uring_disabled", "2\n"),
    ]);
    let machine = Machine {
        kernel: (6, 1),
        open_files: Limit {
            soft: Some(256),
            hard: Some(256),
        },
        ..ordinary(machine)
    };
    let findings = examine(&machine);
    for (name, advice) in [
        ("FUSE over io_uring", "enable_uring=1"),
        ("passthrough", "6.9"),
        ("resend", "6.9"),
        ("io_uring", "sysctl"),
        ("loop devices", "modprobe loop"),
        ("open files", "ulimit -Hn"),
        ("locked memory", "LimitMEMLOCK"),
        ("cgroup", "unified"),
    ] {
        let found = of(&findings, name);
        assert_eq!(found.state, State::Limited, "{found:?}");
        assert!(found.advice.contains(advice), "{found:?}");
    }
}

#[test]
fn root_of_a_namespace_of_its_own_gets_no_passthrough() {
    let (_folder, machine) = machine(&EVERYTHING);
    let machine = Machine {
        is_first_namespace: false,
        ..machine
    };
    assert_eq!(of(&examine(&machine), "passthrough").state, State::Limited);
    assert_eq!(of(&examine(&machine), "mounting").state, State::Good);
}

#[test]
fn lines_fit_the_terminal() {
    let (_folder, machine) = machine(&EVERYTHING[..1]);
    let look = Look {
        is_terminal: true,
        colour: false,
        width: Some(72),
    };
    for line in told(&examine(&ordinary(machine)), look).lines() {
        assert!(line.len() <= 72, "{line}");
    }
}

#[test]
fn facts_are_read_from_what_the_kernel_prints() {
    let status = "Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t0000000000200000\n";
    assert_eq!(effective(status), 1 << CAP_SYS_ADMIN);
    assert_eq!(effective("CapEff:\tnonsense"), 0);
    assert!(maps_everybody("         0          0 4294967295\n"));
    assert!(!maps_everybody("         0       1000          1\n"));
    assert_eq!(version("6.18.44-fc-v657"), (6, 18));
    assert_eq!(version("6"), (6, 0));
    assert_eq!(version(""), (0, 0));
}
