//! `doctor`: what this machine lets dmfs do, and what to do where it does not.

mod machine;

use serde_json::json;

use super::session::{Failure, Outcome, Session};
use crate::control::protocol::socket_path::{check_folder, socket_folder};
use crate::terminal::{Look, Paint};
use machine::{CAP_IPC_LOCK, CAP_SYS_ADMIN, Machine};

#[cfg(test)]
mod tests;

/// What the daemon keeps in memory at most, roughly: what a hardened mount locks.
const RESIDENT: u64 = 64 << 20;
/// Open files below which even an ordinary mount can run short.
const FEW_FILES: u64 = 1024;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As it should be.
    Good,
    /// dmfs works, but not all of it, or not as fast.
    Limited,
    /// dmfs cannot mount.
    Bad,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    name: &'static str,
    state: State,
    /// What is so.
    found: String,
    /// What to do, where something is to be done.
    advice: String,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Limited => "limited",
            State::Bad => "bad",
        }
    }

    fn paint(self) -> Paint {
        match self {
            State::Good => Paint::Good,
            State::Limited => Paint::Warning,
            State::Bad => Paint::Bad,
        }
    }
}

fn good(name: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        name,
        state: State::Good,
        found: found.into(),
        advice: String::new(),
    }
}

fn limited(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        name,
        state: State::Limited,
        found: found.into(),
        advice: advice.into(),
    }
}

fn bad(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        state: State::Bad,
        ..limited(name, found, advice)
    }
}

/// `doctor`
pub fn doctor(session: &mut Session<'_>, _words: &[String]) -> Outcome {
    let mut findings = examine(&Machine::here());
    findings.push(socket());
    let can_mount = findings.iter().all(|finding| finding.state != State::Bad);
    if session.options.json {
        let checks: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "name": finding.name,
                    "state": finding.state.word(),
                    "found": finding.found,
                    "advice": finding.advice,
                })
            })
            .collect();
        session.print_json(&json!({"can_mount": can_mount, "checks": checks}))?;
    } else {
        let text = told(&findings, session.look);
        session.print(&text)?;
    }
    match can_mount {
        true => Ok(()),
        false => Err(Failure::told().final_word()),
    }
}

/// Looks at everything.
fn examine(machine: &Machine) -> Vec<Finding> {
    vec![
        fuse_device(machine),
        mounting(machine),
        other_users(machine),
        transport(machine),
        passthrough(machine),
        restart(machine),
        ring(machine),
        loop_devices(machine),
        open_files(machine),
        locked_memory(machine),
        cgroup(machine),
    ]
}

fn fuse_device(machine: &Machine) -> Finding {
    let name = "/dev/fuse";
    match machine.open(name) {
        Ok(_) => good(name, "opens for reading and writing"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => bad(
            name,
            error.to_string(),
            "as root: chmod 666 /dev/fuse (Debian's package fuse3 does it at each boot)",
        ),
        Err(error) => bad(
            name,
            error.to_string(),
            "as root: modprobe fuse; hand the device into a container: --device /dev/fuse",
        ),
    }
}

/// Whoever may not mount needs fusermount3, or a namespace where he may.
fn mounting(machine: &Machine) -> Finding {
    let name = "mounting";
    if machine.can(CAP_SYS_ADMIN) {
        return good(name, "may mount directly (CAP_SYS_ADMIN)");
    }
    let namespaces = namespaces(machine);
    match (machine.program("fusermount3"), &namespaces) {
        (Some((file, true)), _) => good(name, format!("through {}", file.display())),
        (Some((file, false)), _) => bad(
            name,
            format!("{} is not root's set-user-id program", file.display()),
            "as root: apt-get install --reinstall fuse3; or mount in a namespace of your own: unshare -Urm",
        ),
        (None, Ok(())) => limited(
            name,
            "only in a user namespace (unshare -Urm): there is no fusermount3",
            "as root: apt-get install fuse3",
        ),
        (None, Err(why)) => bad(
            name,
            format!("there is no fusermount3, and {why}"),
            "as root: apt-get install fuse3",
        ),
    }
}

/// Whether an ordinary user may have user namespaces; else what stands in the way.
fn namespaces(machine: &Machine) -> Result<(), String> {
    let locks = [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ),
    ];
    for (file, locked) in locks {
        if machine.read(file).is_ok_and(|value| value == locked) {
            return Err(format!("{file} is {locked}: no user namespaces"));
        }
    }
    Ok(())
}

fn other_users(machine: &Machine) -> Finding {
    let name = "allow_other";
    let conf = machine.read("/etc/fuse.conf").unwrap_or_default();
    if machine.can(CAP_SYS_ADMIN) {
        return good(
            name,
            "others, and loop devices, may use mounts of this user",
        );
    }
    match conf.lines().any(|line| line.trim() == "user_allow_other") {
        true => good(name, "user_allow_other stands in /etc/fuse.conf"),
        false => limited(
            name,
            "nobody else, not even root, can enter mounts of this user",
            "as root: echo user_allow_other >> /etc/fuse.conf; then mount with --allow-other",
        ),
    }
}

fn transport(machine: &Machine) -> Finding {
    let (name, switch) = (
        "FUSE over io_uring",
        "/sys/module/fuse/parameters/enable_uring",
    );
    match machine.read(switch) {
        Ok(value) if matches!(value.as_str(), "Y" | "1") => good(name, "switched on"),
        Ok(value) => limited(
            name,
            format!("switched off (enable_uring = {value}): requests come one read at a time"),
            format!(
                "as root: echo 1 > {switch}; to keep it: echo options fuse enable_uring=1 > /etc/modprobe.d/fuse.conf; holds for mounts made after that"
            ),
        ),
        Err(_) => limited(
            name,
            format!(
                "not in this kernel ({}.{})",
                machine.kernel.0, machine.kernel.1
            ),
            "needs Linux 6.14 or later with CONFIG_FUSE_IO_URING",
        ),
    }
}

fn passthrough(machine: &Machine) -> Finding {
    let name = "passthrough";
    if machine.kernel < (6, 9) {
        let (major, minor) = machine.kernel;
        return limited(
            name,
            format!("not in this kernel ({major}.{minor})"),
            "needs Linux 6.9 or later",
        );
    }
    if machine.can(CAP_SYS_ADMIN) && machine.is_first_namespace {
        return good(
            name,
            "the kernel may serve whole files by itself (CAP_SYS_ADMIN)",
        );
    }
    limited(
        name,
        "not for this user: every request goes through dmfs",
        "mount as root, outside of user namespaces",
    )
}

fn restart(machine: &Machine) -> Finding {
    let name = "resend";
    let (major, minor) = machine.kernel;
    match machine.kernel >= (6, 9) {
        true => good(
            name,
            "requests can be asked for again after a daemon's death",
        ),
        false => limited(
            name,
            format!("not in this kernel ({major}.{minor})"),
            "needs Linux 6.9 or later; until then what was in flight when a daemon dies is lost",
        ),
    }
}

fn ring(machine: &Machine) -> Finding {
    let (name, switch) = ("io_uring", "/proc/sys/kernel/io_uring_disabled");
    match machine.read(switch).as_deref() {
        Ok("2") => limited(
            name,
            format!("forbidden ({switch} = 2)"),
            "as root: sysctl kernel.io_uring_disabled=0",
        ),
        Ok("1") if !machine.can(CAP_SYS_ADMIN) => limited(
            name,
            format!("for root and one group only ({switch} = 1)"),
            "as root: sysctl kernel.io_uring_disabled=0, or kernel.io_uring_group=GID",
        ),
        Ok(_) => good(name, "allowed"),
        // The switch came with 6.6; before that io_uring was there from 5.1 on.
        Err(_) if machine.kernel >= (5, 1) => good(name, "allowed"),
        Err(_) => limited(name, "not in this kernel", "needs Linux 5.1 or later"),
    }
}

fn loop_devices(machine: &Machine) -> Finding {
    let name = "loop devices";
    match machine.open("/dev/loop-control") {
        Ok(_) => good(name, "/dev/loop-control opens: attach and detach work"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => limited(
            name,
            format!("/dev/loop-control: {error}"),
            "mount as root, where block devices are needed; files need none of this",
        ),
        Err(error) => limited(
            name,
            format!("/dev/loop-control: {error}"),
            "as root: modprobe loop; hand /dev/loop-control and /dev/loop* into a container",
        ),
    }
}

fn open_files(machine: &Machine) -> Finding {
    let name = "open files";
    // A daemon raises what holds to what may be.
    let most = machine.open_files.hard;
    let found = format!("{} at once", amount(most));
    match most {
        Some(few) if few < FEW_FILES => limited(
            name,
            found,
            format!(
                "as root: ulimit -Hn {FEW_FILES}, or LimitNOFILE= in a unit: each backing file takes a few"
            ),
        ),
        _ => good(name, found),
    }
}

fn locked_memory(machine: &Machine) -> Finding {
    let name = "locked memory";
    let most = machine.locked_memory.soft;
    if machine.can(CAP_IPC_LOCK) {
        return good(name, "any amount (CAP_IPC_LOCK)");
    }
    let found = format!("{} bytes", amount(most));
    match most {
        Some(few) if few < RESIDENT => limited(
            name,
            found,
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in a unit: only hardened mounts lock their memory",
        ),
        _ => good(name, found),
    }
}

fn cgroup(machine: &Machine) -> Finding {
    let (name, folder) = ("cgroup", "/sys/fs/cgroup");
    match machine.read(&format!("{folder}/cgroup.controllers")) {
        Err(_) => limited(
            name,
            format!("no unified hierarchy at {folder}"),
            "boot with systemd.unified_cgroup_hierarchy=1, or as root: mount -t cgroup2 none /sys/fs/cgroup; a daemon that shares its memory limit with its writers can hang with them",
        ),
        Ok(_) if machine.uid == 0 && machine.may_write(folder) => {
            good(name, "a daemon can have a group of its own")
        }
        Ok(_) => limited(
            name,
            "a daemon of this user stays in the group that it is started in",
            "systemd-run --user --scope -p MemoryMax=infinity dmfs mount ...: needed for loop devices under memory limits only",
        ),
    }
}

/// Where commands meet their daemon.
fn socket() -> Finding {
    let (name, folder) = ("control socket", socket_folder());
    let shown = folder.display();
    match check_folder(&folder) {
        Ok(()) => good(name, format!("in {shown}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            good(name, format!("in {shown}, which the first mount makes"))
        }
        Err(error) => bad(
            name,
            format!("{shown}: {error}"),
            "take the folder away, or set XDG_RUNTIME_DIR to a folder of your own",
        ),
    }
}

fn amount(limit: Option<u64>) -> String {
    limit.map_or("unlimited".to_owned(), |limit| limit.to_string())
}

/// The findings in lines, and what they come to.
fn told(findings: &[Finding], look: Look) -> String {
    let widest = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
    let names = widest(|finding| finding.name.len());
    let states = widest(|finding| finding.state.word().len());
    let indent = states + names + 4;
    let mut text = String::new();
    for finding in findings {
        let state = format!("{:<states$}", finding.state.word());
        let name = format!("{:<names$}", finding.name);
        text += &format!(
            "{}  {}  {}\n",
            look.paint(finding.state.paint(), &state),
            look.paint(Paint::Name, &name),
            look.wrap(&finding.found, indent)
        );
        if !finding.advice.is_empty() {
            let advice = look.wrap(&finding.advice, indent);
            text += &format!("{:indent$}{}\n", "", look.paint(Paint::Faint, &advice));
        }
    }
    let count = |state| {
        findings
            .iter()
            .filter(|finding| finding.state == state)
            .count()
    };
    text += &match (count(State::Bad), count(State::Limited)) {
        (0, 0) => "dmfs works here, with all it can do.\n".to_owned(),
        (0, limited) => format!("dmfs works here; {limited} of these could be better.\n"),
        (bad, _) => format!("dmfs cannot mount here: {bad} of these stand in the way.\n"),
    };
    text
}
