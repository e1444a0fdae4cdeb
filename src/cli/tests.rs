#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::io::Errno;

use super::arguments::{Style, parse};
use super::session::Session;
use super::{Daemon, dispatch};
use crate::control::protocol::client::Client;
use crate::control::protocol::dm_ioctl::payload::{self, ListedDevice, TargetSpec, TargetVersion};
use crate::control::protocol::dm_ioctl::{Command, DevNo, Flags, Header};
use crate::control::protocol::frame::{
    ErrorDetail, Kind, Reply, Request, read_request, write_reply,
};
use crate::control::protocol::json::{JsonReply, MountInfo};
use crate::control::protocol::mount::MountOptions;

const DAEMON: Daemon = Daemon {
    mount: |options: MountOptions| Err(format!("{options:?}")),
    run: |options| u8::try_from(options.command.len()).unwrap_or(u8::MAX),
    check: |file: &Path| Ok(format!("{}: ok\n", file.display())),
    log_writes: |options, _| Err(format!("{options:?}")),
    crash_states: |options, _| Err(format!("{options:?}")),
};

/// What one run printed, returned and sent.
struct Run {
    ok: bool,
    out: String,
    err: String,
    sent: Vec<(Command, Header)>,
}

/// How the peer answers a command: a payload, or a refusal.
type Answers = fn(Command, &mut Header, &[u8]) -> Result<Vec<u8>, (Errno, ErrorDetail)>;

/// A daemon of one connection that answers as `answers` says and tells what it was asked.
fn peer(answers: Answers) -> (UnixStream, Receiver<(Command, Header)>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (told, sent) = channel();
    thread::spawn(move || {
        while let Ok(Some(request)) = read_request(&mut theirs) {
            let reply = match request.kind {
                Kind::Json => hello(),
                Kind::Ioctl => {
                    let (reply, asked) = answer(answers, &request);
                    told.send(asked).unwrap();
                    reply
                }
            };
            write_reply(&mut theirs, &reply).unwrap();
        }
    });
    (ours, sent)
}

fn hello() -> Reply {
    let mount = JsonReply::Mount(MountInfo {
        transport: "classic".into(),
        mountpoint: "/mnt/dm".into(),
        pid: 7,
        version: "0.1.0".into(),
        major: 253,
        socket: "/run/dmfs/x.sock".into(),
        devices: 2,
        ..MountInfo::default()
    });
    Reply {
        kind: Kind::Json,
        command: 0,
        errno: 0,
        payload: serde_json::to_vec(&mount).unwrap(),
        detail: ErrorDetail::default(),
    }
}

fn answer(answers: Answers, request: &Request) -> (Reply, (Command, Header)) {
    let command = Command::try_from(request.command).unwrap();
    let asked = Header::decode_request(&request.payload).unwrap();
    let mut header = asked.clone();
    let (errno, payload, detail) = match answers(command, &mut header, &request.payload) {
        Ok(payload) => (0, header.with_payload(&payload), ErrorDetail::default()),
        Err((errno, detail)) => (errno.raw_os_error(), Vec::new(), detail),
    };
    let reply = Reply {
        kind: Kind::Ioctl,
        command: request.command,
        errno,
        payload,
        detail,
    };
    (reply, (command, asked))
}

fn run(style: Style, words: &[&str], answers: Answers) -> Run {
    let words: Vec<OsString> = words.iter().map(Into::into).collect();
    let arguments = parse(style, words).unwrap();
    let (stream, sent) = peer(answers);
    let client = Client::greet(stream).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut session =
        Session::new(style, arguments.options.clone(), DAEMON, &mut out, &mut err).over(client);
    let ok = dispatch(&mut session, &arguments);
    drop(session);
    Run {
        ok,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
        sent: sent.iter().collect(),
    }
}

fn zero(start: u64) -> TargetSpec {
    TargetSpec {
        start,
        length: 8,
        target: "zero".into(),
        params: String::new(),
    }
}

/// Two devices, `a` with a table and `b` without.
fn two_devices(
    command: Command,
    header: &mut Header,
    buffer: &[u8],
) -> Result<Vec<u8>, (Errno, ErrorDetail)> {
    let missing = Err((Errno::NXIO, ErrorDetail::default()));
    let minor = match (header.name.as_str(), header.dev) {
        ("a", _) => 0,
        ("b", _) => 1,
        ("", dev) if dev.major == 253 && dev.minor < 2 => dev.minor,
        ("", DevNo::NONE) => 0,
        _ if command == Command::GetTargetVersion => 0,
        _ => return missing,
    };
    header.dev = DevNo::new(253, minor);
    header.name = if minor == 0 { "a" } else { "b" }.into();
    if minor == 0 {
        header.uuid = "U-1".into();
        header.flags |= Flags::ACTIVE_PRESENT;
        header.target_count = 2;
    }
    Ok(match command {
        Command::ListDevices => payload::answer_names(
            header,
            &[
                ListedDevice {
                    dev: DevNo::new(253, 0),
                    name: "a".into(),
                    event_nr: 0,
                    uuid: Some("U-1".into()),
                },
                ListedDevice {
                    dev: DevNo::new(253, 1),
                    name: "b".into(),
                    event_nr: 0,
                    uuid: None,
                },
            ],
        ),
        Command::TableStatus if minor == 0 => payload::answer_rows(header, [zero(0), zero(8)]),
        Command::TableStatus => payload::answer_rows(header, []),
        Command::TableDeps => {
            payload::answer_deps(header, &[DevNo::new(253, 1), DevNo::new(999, 3)])
        }
        Command::ListVersions | Command::GetTargetVersion => payload::answer_versions(
            header,
            &[TargetVersion {
                name: "zero".into(),
                version: [1, 2, 0],
            }],
        ),
        Command::TargetMsg => {
            let (sector, text) = payload::read_message(header, buffer).unwrap();
            payload::answer_message(header, &format!("{sector} {text}"))
        }
        _ => Vec::new(),
    })
}

fn dmsetup(words: &[&str]) -> Run {
    run(Style::Dmsetup, words, two_devices)
}

fn commands(run: &Run) -> Vec<Command> {
    run.sent.iter().map(|(command, _)| *command).collect()
}

#[test]
fn create_loads_by_number_and_resumes() {
    let run = run(
        Style::Dmsetup,
        &["create", "a", "--table", "0 8 zero", "-r"],
        |command, header, buffer| {
            if command == Command::TableLoad {
                assert_eq!(payload::read_load(header, buffer).unwrap(), [zero(0)]);
            }
            two_devices(command, header, buffer)
        },
    );
    assert!(run.ok, "{}", run.err);
    assert_eq!(
        commands(&run),
        [Command::DevCreate, Command::TableLoad, Command::DevSuspend]
    );
    let load = &run.sent[1].1;
    assert_eq!((load.name.as_str(), load.dev), ("", DevNo::new(253, 0)));
    assert!(
        load.flags
            .has(Flags::PERSISTENT_DEV | Flags::READONLY | Flags::EXISTS)
    );
    assert!(!run.sent[2].1.flags.has(Flags::SUSPEND));
}

fn refusing_loads(
    command: Command,
    header: &mut Header,
    buffer: &[u8],
) -> Result<Vec<u8>, (Errno, ErrorDetail)> {
    if command != Command::TableLoad {
        return two_devices(command, header, buffer);
    }
    Err((
        Errno::INVAL,
        ErrorDetail {
            messages: vec![
                "table: 253:0: linear: Invalid device sector (-EINVAL)".into(),
                "ioctl: error adding target to table".into(),
            ],
            row: Some(2),
            word: Some(5),
            found: Some("x".into()),
            expected: Some("a sector number".into()),
        },
    ))
}

#[test]
fn a_refused_table_leaves_no_device_and_dmfs_tells_the_place() {
    let line =
        "device-mapper: reload ioctl on a (253:0) failed: Invalid argument\nCommand failed.\n";
    let words = ["create", "a", "--table", "0 8 zero\n8 8 linear /x x"];
    let plain = run(Style::Dmsetup, &words, refusing_loads);
    assert_eq!((plain.ok, plain.err.as_str()), (false, line));
    let expected = [Command::DevCreate, Command::TableLoad, Command::DevRemove];
    assert_eq!(commands(&plain), expected);
    let told = run(Style::Dmfs, &words, refusing_loads);
    let reason =
        "dmfs: row 2, word 5: linear: Invalid device sector: expected a sector number, found 'x'\n";
    assert_eq!(told.err, reason.to_string() + line);
}

#[test]
fn answers_that_do_not_fit_are_asked_for_again() {
    let run = run(Style::Dmsetup, &["table", "a"], |_, header, _| {
        header.name = "a".into();
        let rows = (0..2000).map(|at| zero(at * 8));
        Ok(payload::answer_rows(header, rows))
    });
    assert_eq!(run.out.lines().count(), 2000);
    let rooms: Vec<u32> = run
        .sent
        .iter()
        .map(|(_, header)| header.data_size)
        .collect();
    assert_eq!(rooms, [16 << 10, 32 << 10, 64 << 10, 128 << 10]);
}

#[test]
fn all_devices_are_listed_with_their_names() {
    assert_eq!(dmsetup(&["ls"]).out, "a\t(253:0)\nb\t(253:1)\n");
    assert_eq!(
        dmsetup(&["ls", "-o", "blkdevname"]).out,
        "a\t(dm-0)\nb\t(253:1)\n"
    );
    assert_eq!(dmsetup(&["ls", "--target", "zero"]).out, "a\t(253, 0)\n");
    assert_eq!(
        dmsetup(&["status"]).out,
        "a: 0 8 zero \na: 8 8 zero \nb: \n"
    );
    assert_eq!(dmsetup(&["table", "b"]).out, "\n");
    assert_eq!(
        dmsetup(&["table", "--concise"]).out,
        "a,U-1,0,rw,0 8 zero ,8 8 zero ;b,,1,rw\n"
    );
    assert_eq!(
        dmsetup(&["deps", "a"]).out,
        "2 dependencies\t: (253, 1) (999, 3)\n"
    );
    assert_eq!(dmsetup(&["targets"]).out, "zero             v1.2.0\n");
    assert_eq!(dmsetup(&["message", "a", "9", "x", "y"]).out, "9 x y\n");
}

#[test]
fn flags_go_out_as_libdm_sends_them() {
    let flags = |words: &[&str]| dmsetup(words).sent.last().unwrap().1.flags & !Flags::EXISTS;
    let suspend = Flags::SUSPEND | Flags::SKIP_LOCKFS | Flags::NOFLUSH;
    assert_eq!(flags(&["suspend", "--noflush", "--nolockfs", "a"]), suspend);
    assert_eq!(
        flags(&["remove", "--deferred", "a"]),
        Flags::DEFERRED_REMOVE
    );
    assert_eq!(
        flags(&["table", "--inactive", "a"]),
        Flags::STATUS_TABLE | Flags::QUERY_INACTIVE_TABLE
    );
    assert_eq!(flags(&["status", "--noflush", "a"]), Flags::NOFLUSH);
    assert_eq!(flags(&["rename", "a", "--setuuid", "U"]), Flags::UUID);
    let paths = run(Style::Dmfs, &["table", "a"], two_devices).sent[0]
        .1
        .flags;
    assert!(paths.has(Flags::PATHS), "dmfs asks for paths");
    assert_eq!(dmsetup(&["wait", "a", "5"]).sent[0].1.event_nr, 5);
}

#[test]
fn a_missing_device_is_told_in_the_words_of_each_verb() {
    let told = |words: &[&str]| {
        let run = dmsetup(words);
        assert!(!run.ok);
        run.err
    };
    assert_eq!(
        told(&["info", "nope"]),
        "Device does not exist.\nCommand failed.\n"
    );
    assert_eq!(
        told(&["table", "nope"]),
        "device-mapper: table ioctl on nope  failed: No such device or address\nCommand failed.\n"
    );
    assert_eq!(
        told(&["info", "/nosuch/x"]),
        "Device /nosuch/x not found\nCommand failed.\n"
    );
    assert_eq!(told(&["remove"]), "No device specified.\nCommand failed.\n");
    assert_eq!(told(&["mangle", "nope"]), "Command failed.\n");
}

#[test]
fn wrong_words_are_answered_with_usage() {
    let bogus = dmsetup(&["bogus"]);
    assert!(
        !bogus.ok && bogus.err.starts_with("Unknown command.\nUsage:\n"),
        "{}",
        bogus.err
    );
    let renamed = dmsetup(&["rename"]);
    assert!(
        renamed
            .err
            .starts_with("Incorrect number of arguments.\nUsage:\n"),
        "{}",
        renamed.err
    );
    assert!(!dmsetup(&["mounts"]).ok, "dmsetup has no such command");
    let told = run(Style::Dmfs, &["attach"], two_devices).err;
    assert_eq!(
        told,
        "Incorrect number of arguments.\nUsage: dmfs attach NAME\n"
    );
    let told = run(Style::Dmfs, &["bogus"], two_devices).err;
    assert_eq!(told, "Unknown command.\n'dmfs help' lists the commands.\n");
}

#[test]
fn json_is_a_list_when_there_may_be_several() {
    let value = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&run(Style::Dmfs, words, two_devices).out).unwrap()
    };
    assert_eq!(value(&["info", "--json"])[1]["name"], "b");
    assert_eq!(value(&["info", "a", "--json"])["uuid"], "U-1");
    assert_eq!(value(&["table", "--json", "a"])["rows"][1]["start"], 8);
    assert_eq!(value(&["ls", "--json"]).as_array().unwrap().len(), 2);
    assert_eq!(
        value(&["deps", "--json", "a"])["dependencies"][0]["blkdevname"],
        "dm-1"
    );
    assert_eq!(value(&["targets", "--json"])[0]["version"][1], 2);
    assert_eq!(
        value(&["ls", "--tree", "--json"])[0]["uses"][0]["name"],
        "b"
    );
}

#[test]
fn mount_hands_its_words_to_the_daemon() {
    let run = run(
        Style::Dmfs,
        &["mount", "/m", "--concise", "a,,,,"],
        two_devices,
    );
    assert!(
        run.err
            .contains("mountpoint: \"/m\", concise: Some(\"a,,,,\")"),
        "{}",
        run.err
    );
}

#[test]
fn every_verb_lists_options_that_exist() {
    for verb in super::definitions::VERBS {
        for option in verb.options {
            let known = super::definitions::OPTIONS
                .iter()
                .any(|known| known.long == *option);
            assert!(known, "{}: --{option}", verb.name);
        }
    }
}

#[test]
fn every_verb_has_a_man_page_and_a_line_in_the_docs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let made = run(Style::Dmfs, &["generate", "man", path], two_devices);
    assert!(made.ok, "{}", made.err);
    let docs = include_str!("../../docs/cli.md");
    for verb in super::definitions::VERBS {
        let page =
            std::fs::read_to_string(folder.path().join(format!("dmfs-{}.8", verb.name))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{}", verb.name);
        assert!(page.contains(".SH EXAMPLES\ndmfs "), "{page}");
        let listed = docs.contains(&format!("`{}", verb.name));
        assert!(
            listed || verb.name.starts_with("udev"),
            "{} is not in docs/cli.md",
            verb.name
        );
    }
    let page = std::fs::read_to_string(folder.path().join("dmfs.8")).unwrap();
    assert!(page.contains("dmfs\\-create"), "{page}");
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let made = run(
            Style::Dmfs,
            &["generate", "completions", shell],
            two_devices,
        );
        for verb in ["create", "remove_all", "umount", "splitname"] {
            assert!(made.out.contains(verb), "{shell}: {verb}");
        }
    }
    let refused = run(Style::Dmfs, &["generate", "completions", "sh"], two_devices);
    assert!(
        refused
            .err
            .contains("expected bash, elvish, fish, powershell or zsh, found 'sh'")
    );
}

#[test]
fn a_selection_chooses_the_devices_of_any_verb() {
    assert_eq!(
        dmsetup(&["status", "-S", "name=a"]).out,
        "a: 0 8 zero \na: 8 8 zero \n"
    );
    let sent = dmsetup(&["suspend", "-S", "name=b"]).sent;
    let last = sent.last().unwrap();
    assert_eq!((last.0, last.1.name.as_str()), (Command::DevSuspend, "b"));
}

#[test]
fn a_report_shows_what_was_found_before_a_failure() {
    let run = dmsetup(&["info", "-c", "--noheadings", "-o", "name", "a", "nope"]);
    assert_eq!((run.ok, run.out.as_str()), (false, "a\n"));
    assert_eq!(run.err, "Device does not exist.\nCommand failed.\n");
}

#[test]
fn help_of_a_verb_shows_its_options() {
    let help = run(Style::Dmfs, &["help", "suspend"], two_devices).out;
    assert!(
        help.contains("dmfs suspend [OPTIONS] DEVICE...") && help.contains("--noflush"),
        "{help}"
    );
    let help = run(Style::Dmfs, &["suspend", "--help"], two_devices).out;
    assert!(help.contains("--nolockfs"), "{help}");
    let example = "\nExample: dmfs suspend --noflush disk\n";
    assert!(help.ends_with(example), "{help}");
}
