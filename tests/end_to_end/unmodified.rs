//! `dmfs run`: stock tools that drive a mount instead of the kernel's device mapper. The scripts lie in
//! `tests/unmodified`.

use crate::support::loop_device::LoopDevice;
use crate::support::mount::{Said, as_nobody, new_folder, put_programs};
use crate::support::tools;
use dmfs::targets::KINDS;
use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where `dmfs run` is tried: a folder with the programs, the scripts and a runtime directory.
struct Place {
    folder: TempDir,
    user: bool,
}

impl Place {
    fn of_root() -> Place {
        let (folder, _) = new_folder();
        put_programs(folder.path());
        Place {
            folder,
            user: false,
        }
    }

    /// Of an ordinary user, without a namespace.
    fn of_nobody() -> Place {
        let (folder, _) = new_folder();
        put_programs(folder.path());
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unmodified");
        for script in fs::read_dir(scripts).unwrap() {
            let script = script.unwrap();
            fs::copy(script.path(), folder.path().join(script.file_name())).unwrap();
        }
        for path in [folder.path(), &folder.path().join("run")] {
            chown(path, Some(65534), Some(65534)).unwrap();
        }
        Place { folder, user: true }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file of `bytes` that the user owns.
    fn image(&self, bytes: u64) -> PathBuf {
        let path = self.path().join("image");
        File::create(&path).unwrap().set_len(bytes).unwrap();
        if self.user {
            chown(&path, Some(65534), Some(65534)).unwrap();
        }
        path
    }

    /// `dmfs run WORDS`, with a `/dev/mapper` of its own.
    fn command(&self, words: &[&str]) -> Command {
        let enter = "mkdir -p /dev/mapper && mount -t tmpfs none /dev/mapper && exec \"$@\"";
        let under = ["unshare", "-m", "sh", "-c", enter, "sh"].map(str::to_owned);
        match self.user {
            true => self.command_under(&as_nobody(), words),
            false => self.command_under(&under, words),
        }
    }

    /// `dmfs run WORDS`, started by the words of `under`.
    fn command_under(&self, under: &[String], words: &[&str]) -> Command {
        let dmfs = self.path().join("dmfs");
        let mode = if self.user { "--user" } else { "--root" };
        let (tool, others) = under.split_first().unwrap();
        let mut command = tools::command(tool);
        command
            .args(others)
            .arg(dmfs)
            .args(["run", mode])
            .args(words)
            .current_dir(self.path())
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env_remove("DMFS_MOUNT")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Said {
        Place::said(self.command(words))
    }

    fn said(mut command: Command) -> Said {
        let output = command.output().unwrap();
        Said {
            status: output.status,
            out: tools::text(&output.stdout),
            err: tools::text(&output.stderr),
        }
    }

    /// A script of `tests/unmodified` with what it is to do and on what.
    fn script(&self, name: &str, what: &str, on: &str) {
        let scripts = match self.user {
            true => self.path().to_owned(),
            false => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unmodified"),
        };
        let script = scripts.join(name);
        let words = ["--", "bash", tools::word(&script), tools::word(self.path())];
        let words = [&words[..], &[what, on]].concat();
        let under = match self.user {
            true => as_nobody(),
            // What is mounted is nobody else's to keep; lvm looks for devices on the file system of /dev alone.
            false => ["unshare", "-m"].map(str::to_owned).to_vec(),
        };
        let said = Place::said(self.command_under(&under, &words));
        let (out, err) = (&said.out, &said.err);
        assert!(
            said.status.success(),
            "{name} {what}: {}\n{out}{err}",
            said.status
        );
        // The mount has gone with the command.
        let left = fs::read_dir(self.path().join("run/dmfs")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        let is_wanted = |name: &OsString| name == "locks";
        assert!(left.iter().all(is_wanted), "{name} {what} leaves {left:?}");
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn root_finds_block_devices() {
    let place = Place::of_root();
    let image = place.image(200 << 20);
    let device = LoopDevice::attach(&image, &[]);
    place.script("root.sh", "nodes", device.word());
    place.script("root.sh", "lvm-make", device.word());
    // A reboot: other daemon, other numbers, same volumes.
    place.script("root.sh", "lvm-find", device.word());
    place.script("root.sh", "striped", device.word());
    drop(device);
    tools::shell(&format!(
        "printf 'label: gpt\\nstart=2048,size=4096\\nstart=8192,size=8192\\n' | sfdisk -q {}",
        image.display()
    ));
    let device = LoopDevice::attach(&image, &[]);
    place.script("root.sh", "kpartx", device.word());
}

#[test]
fn an_ordinary_user_is_told_that_files_are_block_devices() {
    let place = Place::of_nobody();
    let image = place.image(96 << 20);
    place.script("user.sh", "files", tools::word(&image));
    let image = place.image(0);
    File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(96 << 20)
        .unwrap();
    place.script("user.sh", "lvm-make", tools::word(&image));
    place.script("user.sh", "lvm-find", tools::word(&image));
}

#[test]
fn cryptsetup_encrypts_for_root_and_for_an_ordinary_user() {
    // Between two runs lies a reboot: another daemon, other numbers, the same volumes.
    let runs = ["crypt-make", "crypt-find", "plain-make", "plain-find"];
    let place = Place::of_root();
    let image = place.image(64 << 20);
    let device = LoopDevice::attach(&image, &[]);
    for what in runs {
        place.script("root.sh", what, device.word());
    }
    drop(device);
    place.script("root.sh", "crypt-file", tools::word(&image));
    let place = Place::of_nobody();
    let image = place.image(64 << 20);
    for what in runs.into_iter().chain(["crypt-killed"]) {
        place.script("user.sh", what, tools::word(&image));
    }
}

#[test]
fn dmsetup_prints_what_our_own_prints() {
    // Each device has a number of its own.
    let number = Regex::new(r"\b7([:,] ?)\d+|(low,LOW|high,),\d+|7 +\d+ L").unwrap();
    for place in [Place::of_root(), Place::of_nobody()] {
        let image = place.image(8 << 20);
        let verbs = format!(
            "make() {{
                $1 create low --uuid LOW --table '0 8192 striped 2 16 {image} 0 {image} 8192'
                $1 create high --table '0 100 zero
100 400 linear /dev/mapper/low 60
500 12 error
512 64 unstriped 2 16 1 /dev/mapper/low 0'
            }}
            tell() {{
                for verb in version targets ls 'ls --tree -o ascii' table status info 'info -c' deps \
                    'table --concise' 'status --target striped' 'target-version linear' 'info nothing' \
                    'ls --target zero' 'info -c -o name,uuid,attr,open,segments,events -S name=low'; do
                    echo \"== $verb\"
                    $1 $verb 2>&1
                done
            }}
            change() {{
                $1 suspend high
                $1 load high --table '0 16 zero'
                $1 info -c --noheadings -o suspended,tables_loaded high
                $1 table --inactive
                $1 clear high
                $1 resume high
                $1 message high 0 nonsense 2>&1
                $1 setgeometry high 10 16 63 0
                $1 rename high higher
                $1 rename low --setuuid OTHER 2>&1
                $1 load higher --table '0 16 nonsense' 2>&1
                $1 wipe_table higher
                $1 table
                timeout 1 $1 wait higher 0
                $1 wait higher 99 2>&1 >/dev/null
                $1 mknodes
                $1 remove higher low
                $1 remove higher 2>&1
            }}
            for tool in /usr/sbin/dmsetup {ours}; do
                (make $tool; tell $tool; change $tool; $tool ls) >$(basename $(dirname $tool)).txt
            done
            exit 0",
            image = image.display(),
            ours = place.path().join("dmsetup").display(),
        );
        let versions = format!("crypt={}", version_of("crypt"));
        let said = place.run(&["--target-versions", &versions, "--", "bash", "-c", &verbs]);
        assert!(said.status.success(), "{}", said.err);
        let of = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
        let folder = place.path().file_name().unwrap().to_str().unwrap();
        let (theirs, ours) = (of("sbin.txt"), of(&format!("{folder}.txt")));
        // Libraries have versions of their own.
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines();
            let lines = lines.filter(|line| !line.starts_with("Library version"));
            lines
                .map(|line| number.replace_all(line, "7:N").into_owned())
                .collect()
        };
        assert!(theirs.len() > 1500, "{theirs}");
        assert_eq!(lines(&theirs), lines(&ours));
    }
}

/// What our own programs say; others are told an older one of crypt.
fn version_of(kind: &str) -> String {
    let kind = KINDS.iter().find(|there| there.name == kind).unwrap();
    let [major, minor, patch] = kind.version;
    format!("{major}.{minor}.{patch}")
}

#[test]
fn a_command_ends_as_it_would_alone() {
    let place = Place::of_nobody();
    let code = |words: &[&str]| place.run(words).status.code();
    assert_eq!(code(&["--", "true"]), Some(0));
    assert_eq!(code(&["--", "sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["--", "no-such-command"]), Some(127));
    assert_eq!(code(&["--", place.path().to_str().unwrap()]), Some(126));
    assert_eq!(
        place
            .run(&["--", "sh", "-c", "kill -USR1 $$"])
            .status
            .signal(),
        Some(10)
    );
    // Output, input, arguments and environment are the command's.
    let said = place.run(&[
        "--",
        "sh",
        "-c",
        "echo \"$1\"; echo err >&2; cat",
        "sh",
        "-x  y",
    ]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("-x  y\n", "err\n"));
    // A deep tree, all of it supervised.
    let nest = "if [ $0 -gt 0 ]; then sh -c \"$1\" $(($0 - 1)) \"$1\"; else dmsetup version; fi";
    assert!(
        place
            .run(&["--", "sh", "-c", nest, "30", nest])
            .out
            .contains("4.48.0")
    );
}

#[test]
fn what_cannot_be_run_is_told() {
    let place = Place::of_nobody();
    let refused = |words: &[&str], text: &str| {
        let said = place.run(words);
        assert_eq!(said.status.code(), Some(125), "{words:?}: {}", said.err);
        assert!(said.err.contains(text), "{words:?}: {}", said.err);
    };
    refused(&[], "expected -- COMMAND");
    refused(&["ls"], "expected -- before the command, found 'ls'");
    refused(&["--root", "--", "ls"], "incompatible");
    refused(
        &["--mount", "/nowhere", "--", "ls"],
        "no dmfs mount at /nowhere",
    );
    refused(
        &["--target-versions", "crypt=1", "--", "ls"],
        "expected TYPE=1.2.3",
    );
    // A process tree has one supervisor.
    let dmfs = place.path().join("dmfs");
    let nested = format!("{} run --user -- true", dmfs.display());
    refused(&["--", "sh", "-c", &nested], "the outer one");
}

/// As in a container whose seccomp profile forbids the call, and on a kernel that does not have it.
#[test]
fn where_nothing_can_be_trapped_it_is_told() {
    let place = Place::of_nobody();
    let refuse = place.path().join("refuse.py");
    fs::write(
        &refuse,
        "import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number = {'x86_64': 317, 'aarch64': 277, 'riscv64': 277}[os.uname().machine]
step = lambda code, yes, no, k: struct.pack('HBBI', code, yes, no, k)
# Loads the number of the call; that of seccomp fails with the errno.
steps = step(0x20, 0, 0, 0) + step(0x15, 0, 1, number)
steps += step(0x06, 0, 0, 0x50000 | int(sys.argv[1])) + step(0x06, 0, 0, 0x7fff0000)
room = ctypes.create_string_buffer(steps, len(steps))
program = struct.pack('HxxxxxxP', len(steps) // 8, ctypes.addressof(room))
assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0
os.execvp(sys.argv[2], sys.argv[2:])
",
    )
    .unwrap();
    let ran = place.path().join("ran");
    for (errno, text) in [
        (libc::EPERM, "trapping system calls is forbidden here"),
        (libc::EACCES, "trapping system calls is forbidden here"),
        (libc::ENOSYS, "this kernel cannot tell of system calls"),
    ] {
        let (script, errno) = (tools::word(&refuse).to_owned(), errno.to_string());
        let python = ["/usr/bin/python3".to_owned(), script, errno];
        // Root needs not give up what the mount's helper is to gain.
        let under = [python.to_vec(), as_nobody()].concat();
        let words = ["--", "touch", tools::word(&ran)];
        let said = Place::said(place.command_under(&under, &words));
        assert_eq!(said.status.code(), Some(125), "{text}: {}", said.err);
        assert!(said.err.contains(text), "{text}: {}", said.err);
        assert!(!ran.exists(), "{text}");
        // The mount that was meant for the command has gone.
        let left = fs::read_dir(place.path().join("run/dmfs")).unwrap();
        assert_eq!(left.count(), 0, "{text}");
    }
}

#[test]
fn signals_and_stops_reach_the_command() {
    let place = Place::of_nobody();
    let ready = place.path().join("ready");
    let script = format!(
        "trap 'echo got; exit 3' TERM; kill -STOP $$; touch {}; while :; do sleep 0.05; done",
        ready.display()
    );
    let mut child: Child = place
        .command(&["--", "bash", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        stat.rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .chars()
            .next()
            .unwrap()
    };
    wait_until("the stop of the command stops `dmfs run`", || {
        state() == 'T'
    });
    assert!(!ready.exists());
    kill_process(pid, Signal::CONT).unwrap();
    wait_until("both go on", || ready.exists());
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output_of();
    assert_eq!(output, (Some(3), "got\n".to_owned()));
}

/// The exit status and standard output of a child.
trait Ended {
    fn wait_with_output_of(&mut self) -> (Option<i32>, String);
}

impl Ended for Child {
    fn wait_with_output_of(&mut self) -> (Option<i32>, String) {
        let mut out = String::new();
        std::io::Read::read_to_string(self.stdout.as_mut().unwrap(), &mut out).unwrap();
        (self.wait().unwrap().code(), out)
    }
}

#[test]
fn who_waits_for_an_event_holds_up_nobody() {
    let place = Place::of_nobody();
    let script = "
        dmsetup create a --table '0 8 zero'
        # Waits for an event, and is killed.
        dmsetup wait a & waits=$!
        sleep 0.3
        dmsetup info -c --noheadings -o name
        kill -KILL $waits; wait $waits
        # Waits for one that comes.
        dmsetup wait a 0 & waits=$!
        # It looks the name up first, which the rename must not forestall.
        sleep 2
        dmsetup rename a b; dmsetup rename b a
        wait $waits; echo waited $?
        # A signal that is caught interrupts.
        python3 -c '
import signal, subprocess, os
signal.signal(signal.SIGALRM, lambda *_: None)
signal.alarm(1)
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(\"/dev/mapper/control\", os.O_RDWR)
room = ctypes.create_string_buffer(struct.pack(\"<3I4IIIIQ128s129s7x\", 4, 0, 0, 312, 312, 0, 0, 0, 2, 0, 0, b\"a\", b\"\"), 312)
done = libc.ioctl(fd, ctypes.c_ulong(0xc138fd08), room)
print(\"interrupted\", ctypes.get_errno())
'
        dmsetup remove a";
    let said = place.run(&["--", "bash", "-c", script]);
    assert!(said.status.success(), "{}{}", said.out, said.err);
    assert_eq!(said.out, "a\nwaited 0\ninterrupted 4\n", "{}", said.err);
}

#[test]
fn nonsense_leaves_the_mount_as_it_was() {
    for place in [Place::of_root(), Place::of_nobody()] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unmodified/malformed.py");
        let here = place.path().join("nonsense.py");
        fs::copy(script, &here).unwrap();
        for seed in ["1", "2"] {
            let line = format!(
                "dmsetup create keeps --table '0 8 zero' && python3 {} {seed} && dmsetup table keeps && dmsetup remove_all && dmsetup ls",
                here.display()
            );
            let said = place.run(&["--", "sh", "-c", &line]);
            assert!(
                said.status.success(),
                "seed {seed}: {}{}",
                said.out,
                said.err
            );
            assert_eq!(said.out, "0 8 zero \nNo devices found\n", "seed {seed}");
        }
    }
}
