#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use proptest::prelude::{any, proptest};

use super::{Caller, carry_out};
use crate::backing::{BackingStore, OpenOptions};
use crate::control::protocol::dm_ioctl::payload::{
    TargetSpec, load, message, read_deps, read_names, read_rows, read_versions, text,
};
use crate::control::protocol::dm_ioctl::{Command, DevNo, Flags, HEADER_BYTES, Header};
use crate::control::{MountIdentity, Refusal, Registry};
use crate::io::Errno;
use crate::sync::Arc;
use crate::targets::KINDS;

fn registry() -> Arc<Registry> {
    let registry = Registry::new(KINDS, 254, BackingStore::new(253));
    registry.set_mount(MountIdentity {
        path: PathBuf::from("/nowhere/dm"),
        st_dev: u64::MAX,
    });
    registry
}

fn ask_with(
    registry: &Arc<Registry>,
    command: Command,
    header: Header,
    payload: &[u8],
) -> Result<(Header, Vec<u8>), Refusal> {
    let caller = Caller {
        folder: PathBuf::from("/"),
        options: OpenOptions::default(),
        is_there: &|| false,
    };
    let header = Header {
        data_size: (HEADER_BYTES + payload.len()).max(16384) as u32,
        ..header
    };
    let answer = carry_out(
        registry,
        &caller,
        command.number(),
        &header.with_payload(payload),
    )?;
    Ok((Header::decode(&answer).unwrap(), answer))
}

fn ask(
    registry: &Arc<Registry>,
    command: Command,
    header: Header,
) -> Result<(Header, Vec<u8>), Refusal> {
    ask_with(registry, command, header, &[])
}

fn named(name: &str) -> Header {
    Header {
        name: name.into(),
        ..Header::default()
    }
}

fn with_flags(header: Header, flags: Flags) -> Header {
    Header { flags, ..header }
}

fn row(start: u64, length: u64, target: &str, params: &str) -> TargetSpec {
    TargetSpec {
        start,
        length,
        target: target.into(),
        params: params.into(),
    }
}

fn load_rows(registry: &Arc<Registry>, name: &str, rows: &[TargetSpec]) -> Result<Header, Refusal> {
    let header = Header {
        target_count: rows.len() as u32,
        ..named(name)
    };
    ask_with(registry, Command::TableLoad, header, &load(rows).unwrap()).map(|(header, _)| header)
}

fn create(registry: &Arc<Registry>, name: &str, rows: &[TargetSpec]) -> Header {
    ask(registry, Command::DevCreate, named(name)).unwrap();
    load_rows(registry, name, rows).unwrap();
    ask(registry, Command::DevSuspend, named(name)).unwrap().0
}

#[test]
fn a_device_lives_as_dmsetup_makes_it_live() {
    let registry = registry();
    let (created, _) = ask(&registry, Command::DevCreate, named("a")).unwrap();
    assert_eq!(created.dev, DevNo::new(254, 0));
    assert!(!created.flags.has(Flags::ACTIVE_PRESENT));
    let loaded = load_rows(&registry, "a", &[row(0, 8, "zero", "")]).unwrap();
    assert!(loaded.flags.has(Flags::INACTIVE_PRESENT));
    assert_eq!(loaded.target_count, 0);
    let (resumed, _) = ask(&registry, Command::DevSuspend, named("a")).unwrap();
    assert!(
        resumed.flags.has(Flags::ACTIVE_PRESENT) && !resumed.flags.has(Flags::INACTIVE_PRESENT)
    );
    assert_eq!(resumed.target_count, 1);
    let suspend = with_flags(named("a"), Flags::SUSPEND);
    assert!(
        ask(&registry, Command::DevSuspend, suspend)
            .unwrap()
            .0
            .flags
            .has(Flags::SUSPEND)
    );
    let (removed, _) = ask(&registry, Command::DevRemove, named("a")).unwrap();
    assert_eq!(removed.name, "a");
    assert_eq!(
        ask(&registry, Command::DevStatus, named("a"))
            .unwrap_err()
            .errno,
        Errno::NXIO
    );
}

#[test]
fn a_device_is_found_by_exactly_one_key() {
    let registry = registry();
    let uuid = Header {
        uuid: "U".into(),
        ..named("a")
    };
    ask(&registry, Command::DevCreate, uuid).unwrap();
    let by_uuid = Header {
        uuid: "U".into(),
        ..Header::default()
    };
    assert_eq!(
        ask(&registry, Command::DevStatus, by_uuid).unwrap().0.name,
        "a"
    );
    let by_number = Header {
        dev: DevNo::new(254, 0),
        ..Header::default()
    };
    assert_eq!(
        ask(&registry, Command::DevStatus, by_number)
            .unwrap()
            .0
            .uuid,
        "U"
    );
    let both = Header {
        dev: DevNo::new(254, 0),
        ..named("a")
    };
    let refusal = ask(&registry, Command::DevStatus, both).unwrap_err();
    assert_eq!(refusal.errno, Errno::NXIO);
    assert!(refusal.detail.messages[0].starts_with("ioctl: Invalid ioctl structure"));
    assert_eq!(
        ask(&registry, Command::DevStatus, Header::default())
            .unwrap_err()
            .errno,
        Errno::NXIO
    );
}

#[test]
fn tables_and_status_come_back() {
    let registry = registry();
    create(&registry, "below", &[row(0, 16, "zero", "")]);
    create(
        &registry,
        "a",
        &[
            row(0, 8, "linear", "254:0 8"),
            row(8, 8, "striped", "2 4 254:0 0 254:0 4"),
        ],
    );
    let (header, answer) = ask(
        &registry,
        Command::TableStatus,
        with_flags(named("a"), Flags::STATUS_TABLE),
    )
    .unwrap();
    let rows = read_rows(&header, &answer).unwrap();
    let lines: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {}", row.target, row.params))
        .collect();
    assert_eq!(lines, ["linear 254:0 8", "striped 2 4 254:0 0 254:0 4"]);
    let (header, answer) = ask(&registry, Command::TableStatus, named("a")).unwrap();
    assert_eq!(
        read_rows(&header, &answer).unwrap()[1].params,
        "2 254:0 254:0 1 AA"
    );
    let (header, answer) = ask(&registry, Command::TableDeps, named("a")).unwrap();
    assert_eq!(read_deps(&header, &answer).unwrap(), [DevNo::new(254, 0)]);
}

#[test]
fn an_answer_that_does_not_fit_says_so() {
    let registry = registry();
    let rows: Vec<_> = (0..2000).map(|at| row(at, 1, "zero", "")).collect();
    create(&registry, "a", &rows);
    let (header, _) = ask(&registry, Command::TableStatus, named("a")).unwrap();
    assert!(header.flags.has(Flags::BUFFER_FULL));
    assert_eq!(header.target_count, 2000);
}

#[test]
fn a_refused_table_leaves_nothing() {
    let registry = registry();
    ask(&registry, Command::DevCreate, named("a")).unwrap();
    let refusal = load_rows(
        &registry,
        "a",
        &[row(0, 8, "zero", ""), row(9, 8, "zero", "")],
    )
    .unwrap_err();
    assert_eq!(refusal.errno, Errno::INVAL);
    assert_eq!(
        refusal.detail.messages[0],
        "table: 254:0: zero: Gap in table (-EINVAL)"
    );
    assert_eq!(
        (refusal.detail.row, refusal.detail.word),
        (Some(2), Some(1))
    );
    let (header, _) = ask(&registry, Command::DevStatus, named("a")).unwrap();
    assert!(!header.flags.has(Flags::INACTIVE_PRESENT));
}

#[test]
fn the_list_is_in_order_of_names() {
    let registry = registry();
    for name in ["b", "c", "a"] {
        ask(&registry, Command::DevCreate, named(name)).unwrap();
    }
    let (header, answer) = ask(&registry, Command::ListDevices, Header::default()).unwrap();
    let names: Vec<_> = read_names(&header, &answer)
        .unwrap()
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn versions_are_told() {
    let registry = registry();
    let (header, answer) = ask(&registry, Command::ListVersions, Header::default()).unwrap();
    assert_eq!(read_versions(&header, &answer).unwrap().len(), KINDS.len());
    let (header, answer) = ask(&registry, Command::GetTargetVersion, named("linear")).unwrap();
    assert_eq!(
        read_versions(&header, &answer).unwrap()[0].version,
        [1, 4, 0]
    );
    assert_eq!(
        ask(&registry, Command::GetTargetVersion, named("x"))
            .unwrap_err()
            .errno,
        Errno::INVAL
    );
}

#[test]
fn messages_meet_the_kernels_checks() {
    let registry = registry();
    ask(&registry, Command::DevCreate, named("empty")).unwrap();
    create(&registry, "a", &[row(0, 8, "zero", "")]);
    let say = |name: &str, sector: u64, words: &str| {
        let refusal = ask_with(
            &registry,
            Command::TargetMsg,
            named(name),
            &message(sector, words),
        )
        .unwrap_err();
        assert_eq!(refusal.errno, Errno::INVAL);
        refusal.detail.messages[0].clone()
    };
    assert_eq!(say("empty", 0, "hello"), "ioctl: The device has no table.");
    assert_eq!(
        say("a", 8, "hello"),
        "ioctl: Target message sector outside device."
    );
    assert_eq!(
        say("a", 0, "hello"),
        "ioctl: Target type does not support messages"
    );
    assert_eq!(say("a", 0, " "), "ioctl: Empty message received.");
    assert!(say("a", 0, "@nonsense").contains("Unsupported message sent to DM core"));
    ask_with(
        &registry,
        Command::TargetMsg,
        named("a"),
        &message(0, "@cancel_deferred_remove"),
    )
    .unwrap();
}

#[test]
fn a_rename_of_nothing_says_what() {
    let registry = registry();
    let refusal = ask_with(&registry, Command::DevRename, named("a"), &text("b")).unwrap_err();
    assert_eq!(refusal.errno, Errno::NXIO);
    assert_eq!(
        refusal.detail.messages[0],
        "ioctl: Unable to rename non-existent device, a to b"
    );
}

#[test]
fn a_wait_ends_when_the_caller_has_gone() {
    let registry = registry();
    create(&registry, "a", &[row(0, 8, "zero", "")]);
    let (now, _) = ask(&registry, Command::DevStatus, named("a")).unwrap();
    let header = Header {
        event_nr: now.event_nr,
        ..named("a")
    };
    assert_eq!(
        ask(&registry, Command::DevWait, header).unwrap_err().errno,
        Errno::INTR
    );
}

proptest! {
    #[test]
    fn no_buffer_panics(command in 0u32..20, mut buffer in proptest::collection::vec(any::<u8>(), 0..600)) {
        let registry = registry();
        let caller = Caller { folder: PathBuf::from("/"), options: OpenOptions::default(), is_there: &|| false };
        let _ = carry_out(&registry, &caller, command, &buffer);
        if buffer.len() >= HEADER_BYTES {
            // A version that passes lets the rest of the buffer be looked at.
            buffer[..16].copy_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
            let _ = carry_out(&registry, &caller, command, &buffer);
        }
    }
}
