#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use rustix::io::Errno;

use super::payload::{self, ListedDevice, TargetSpec, TargetVersion};
use super::{AbiError, Command, DevNo, Flags, HEADER_BYTES, Header, MAX_BYTES, MIN_BYTES, VERSION};

fn row(start: u64, length: u64, target: &str, params: &str) -> TargetSpec {
    TargetSpec {
        start,
        length,
        target: target.to_string(),
        params: params.to_string(),
    }
}

fn request(command_payload: &[u8], edit: impl FnOnce(&mut Header)) -> (Header, Vec<u8>) {
    let mut header = Header {
        data_size: (HEADER_BYTES + command_payload.len()) as u32,
        ..Header::default()
    };
    edit(&mut header);
    let buffer = header.with_payload(command_payload);
    (Header::decode_request(&buffer).unwrap(), buffer)
}

fn offering(room: usize) -> Header {
    Header {
        data_size: (HEADER_BYTES + room) as u32,
        ..Header::default()
    }
}

#[test]
fn header_bytes_are_the_kernels() {
    let header = Header {
        data_size: 0x4000,
        data_start: 312,
        target_count: 2,
        open_count: -1,
        flags: Flags::PERSISTENT_DEV | Flags::EXISTS,
        event_nr: 7,
        dev: DevNo::new(253, 300),
        name: "vg-lv".to_string(),
        uuid: "LVM-x".to_string(),
        ..Header::default()
    };
    let bytes = header.with_payload(&[]);
    assert_eq!(bytes.len(), 312);
    assert_eq!(bytes[..12], [4, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[12..16], [0, 0x40, 0, 0]);
    assert_eq!(bytes[16..20], [0x38, 1, 0, 0]);
    assert_eq!(bytes[24..28], [0xff; 4]);
    assert_eq!(bytes[28..32], [0xc, 0, 0, 0]);
    assert_eq!(bytes[32..36], [7, 0, 0, 0]);
    // 300 = 0x12c: the low byte stays, the rest moves above the major number 0xfd.
    assert_eq!(bytes[40..48], [0x2c, 0xfd, 0x10, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[48..54], b"vg-lv\0");
    assert_eq!(&bytes[176..182], b"LVM-x\0");
    assert_eq!(Header::decode_request(&bytes).unwrap(), header);
}

#[test]
fn wrong_version_and_size_are_refused_with_einval() {
    let mut bytes = Header::default().with_payload(&[]);
    bytes[0] = 5;
    assert_eq!(
        Header::decode_request(&bytes),
        Err(AbiError::Version([5, 48, 0]))
    );
    bytes[0] = 4;
    bytes[4] = 49;
    assert_eq!(
        Header::decode_request(&bytes).unwrap_err().errno(),
        Errno::INVAL
    );
    bytes[4] = 27;
    assert!(
        Header::decode_request(&bytes).is_ok(),
        "an older minor is served"
    );
    bytes[12..16].copy_from_slice(&304_u32.to_le_bytes());
    assert_eq!(Header::decode_request(&bytes), Err(AbiError::DataSize(304)));
    assert_eq!(
        Header::decode_request(&bytes[..MIN_BYTES - 1])
            .unwrap_err()
            .errno(),
        Errno::FAULT
    );
}

#[test]
fn request_flags_only_answers_carry_are_cleared_and_offers_clamped() {
    let mut header = offering(0);
    header.flags = Flags::OUT_ONLY | Flags::NOFLUSH | Flags::PATHS;
    header.data_size = u32::MAX;
    let header = Header::decode_request(&header.with_payload(&[])).unwrap();
    assert_eq!(header.flags, Flags::NOFLUSH | Flags::PATHS);
    assert_eq!(header.data_size as usize, MAX_BYTES);
}

#[test]
fn names_without_nul_are_cut_to_their_field() {
    let mut bytes = Header::default().with_payload(&[]);
    bytes[48..176].fill(b'n');
    bytes[176..305].fill(b'u');
    let header = Header::decode_request(&bytes).unwrap();
    assert_eq!((header.name.len(), header.uuid.len()), (127, 128));
    bytes[48] = 0xff;
    assert_eq!(
        Header::decode_request(&bytes).unwrap_err().errno(),
        Errno::INVAL
    );
}

#[test]
fn commands_are_numbered_in_order() {
    for (at, command) in Command::ALL.into_iter().enumerate() {
        assert_eq!(command.number() as usize, at);
        assert_eq!(Command::try_from(command.number()), Ok(command));
    }
    assert_eq!(Command::try_from(18).unwrap_err().errno(), Errno::NOTTY);
}

#[test]
fn addresses_are_checked_as_the_kernel_does() {
    let named = Header {
        name: "a".into(),
        ..Header::default()
    };
    let both = Header {
        uuid: "u".into(),
        ..named.clone()
    };
    let none = Header::default();
    assert!(both.check_address(Command::DevCreate).is_ok());
    assert!(both.check_address(Command::ListDevices).is_ok());
    let text = both
        .check_address(Command::TableLoad)
        .unwrap_err()
        .to_string();
    assert_eq!(text, "ioctl: only supply one of name or uuid, cmd(9)");
    assert!(
        none.check_address(Command::TableLoad).is_ok(),
        "a device number may follow"
    );
    assert_eq!(
        none.check_address(Command::DevCreate).unwrap_err().errno(),
        Errno::INVAL
    );
}

#[test]
fn load_refusals_have_the_kernels_texts() {
    let payload = payload::load(&[row(0, 8, "zero", ""), row(8, 8, "error", "")]).unwrap();
    let refusal = |edit: &dyn Fn(&mut Header, &mut Vec<u8>)| {
        let (mut header, mut buffer) = request(&payload, |header| header.target_count = 2);
        edit(&mut header, &mut buffer);
        payload::read_load(&header, &buffer)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal(&|header, _| header.target_count = 0),
        "ioctl: populate_table: no targets specified"
    );
    assert_eq!(
        refusal(&|header, _| header.target_count = 3),
        "ioctl: row 3: Target spec extends beyond end of parameters"
    );
    assert_eq!(
        refusal(&|header, _| header.data_start = 304),
        "ioctl: row 1: populate_table: next target spec (offset 304) overlaps 'struct dm_ioctl'"
    );
    assert_eq!(
        refusal(&|_, buffer| buffer[312 + 20] = 49),
        "ioctl: row 2: Next dm_target_spec (offset 49) is not 8-byte aligned"
    );
    assert_eq!(
        refusal(&|_, buffer| buffer[312 + 20] = 40),
        "ioctl: row 2: populate_table: next target spec (offset 40) overlaps previous 'struct dm_target_spec'"
    );
    assert_eq!(
        refusal(&|_, buffer| {
            let end = buffer.len();
            buffer[end - 8..].fill(b'x');
        }),
        "ioctl: row 2: populate_table: target parameters not NUL-terminated"
    );
}

#[test]
fn huge_target_count_allocates_no_more_than_the_buffer_holds() {
    let payload = payload::load(&[row(0, 8, "zero", "")]).unwrap();
    let (header, buffer) = request(&payload, |header| header.target_count = u32::MAX);
    assert!(payload::read_load(&header, &buffer).is_err());
}

#[test]
fn hundred_thousand_rows_fit_one_load() {
    let rows: Vec<_> = (0..100_000)
        .map(|at| {
            row(
                at * 8,
                8,
                "linear",
                &format!("/some/longer/folder/backing-file.img {at}"),
            )
        })
        .collect();
    let payload = payload::load(&rows).unwrap();
    let (header, buffer) = request(&payload, |header| header.target_count = 100_000);
    assert_eq!(payload::read_load(&header, &buffer).unwrap(), rows);
}

#[test]
fn rows_that_do_not_fit_set_buffer_full_and_keep_the_first() {
    let rows = vec![
        row(0, 8, "zero", ""),
        row(8, 8, "striped", "2 7:1 7:2 1 AA"),
    ];
    // The second row needs 48 + 40 + 15 bytes and, as in the kernel, one more.
    for (room, kept) in [(0, 0), (40, 0), (41, 0), (42, 1), (103, 1), (104, 2)] {
        let mut header = offering(room);
        let payload = payload::answer_rows(&mut header, rows.clone());
        assert_eq!(
            header.flags.has(Flags::BUFFER_FULL),
            kept < 2,
            "room {room}"
        );
        assert_eq!(header.target_count, 2);
        let buffer = header.with_payload(&payload);
        assert_eq!(
            payload::read_rows(&header, &buffer).unwrap(),
            rows[..kept],
            "room {room}"
        );
    }
}

#[test]
fn status_rows_link_from_the_first_spec() {
    let mut header = offering(4096);
    let rows = [
        row(0, 8, "zero", ""),
        row(8, 8, "zero", "x"),
        row(16, 8, "zero", ""),
    ];
    let payload = payload::answer_rows(&mut header, rows.clone());
    let next = |at: usize| payload::u32_at(&payload, at + 20).unwrap();
    assert_eq!([next(0), next(48), next(96)], [48, 96, 144]);
    assert_eq!(header.data_size as usize, HEADER_BYTES + 96 + 41);
    assert_eq!(
        payload::read_rows(&header, &header.with_payload(&payload)).unwrap(),
        rows
    );
}

#[test]
fn an_empty_table_keeps_the_offer_and_has_no_rows() {
    let mut header = offering(4096);
    let payload = payload::answer_rows(&mut header, []);
    assert_eq!((payload.len(), header.target_count), (0, 0));
    assert_eq!(header.data_size as usize, HEADER_BYTES + 4096);
    assert_eq!(
        payload::read_rows(&header, &header.with_payload(&payload)).unwrap(),
        []
    );
}

#[test]
fn lists_are_all_or_nothing() {
    let devices = [
        ListedDevice {
            dev: DevNo::new(253, 1),
            name: "a".into(),
            event_nr: 3,
            uuid: None,
        },
        ListedDevice {
            dev: DevNo::new(253, 0),
            name: "base".into(),
            event_nr: 0,
            uuid: Some("CRYPT-1".into()),
        },
    ];
    // 8 + 4 + "a" padded to 16, then events and flags; 12 + "base" padded to 24, 8, 8.
    for (room, fits) in [(63, false), (64, true)] {
        let mut header = offering(room);
        let payload = payload::answer_names(&mut header, &devices);
        assert_eq!(header.flags.has(Flags::BUFFER_FULL), !fits);
        if fits {
            let buffer = header.with_payload(&payload);
            assert_eq!(payload::read_names(&header, &buffer).unwrap(), devices);
        }
    }
    let mut header = offering(4096);
    let payload = payload::answer_names(&mut header, &[]);
    assert_eq!(
        payload::read_names(&header, &header.with_payload(&payload)).unwrap(),
        []
    );
}

#[test]
fn deps_and_versions_survive() {
    let mut header = offering(24);
    let deps = [DevNo::new(7, 1), DevNo::new(253, 1_048_575)];
    let payload = payload::answer_deps(&mut header, &deps);
    assert_eq!(
        payload::read_deps(&header, &header.with_payload(&payload)).unwrap(),
        deps
    );
    let mut small = offering(23);
    assert!(payload::answer_deps(&mut small, &deps).is_empty());
    assert!(small.flags.has(Flags::BUFFER_FULL));

    let versions = [
        TargetVersion {
            name: "zero".into(),
            version: [1, 2, 0],
        },
        TargetVersion {
            name: "unstriped".into(),
            version: [1, 1, 0],
        },
    ];
    let mut header = offering(4096);
    let payload = payload::answer_versions(&mut header, &versions);
    assert_eq!(
        payload::read_versions(&header, &header.with_payload(&payload)).unwrap(),
        versions
    );
}

#[test]
fn messages_and_renames_are_checked() {
    let (header, buffer) = request(&payload::message(9, "@stats_list"), |_| {});
    assert_eq!(
        payload::read_message(&header, &buffer).unwrap(),
        (9, "@stats_list".to_string())
    );
    let open = &buffer[..buffer.len() - 1];
    let why = payload::read_message(&header, open)
        .unwrap_err()
        .to_string();
    assert_eq!(why, "ioctl: Invalid target message parameters.");

    let (header, buffer) = request(&payload::text("new"), |_| {});
    assert_eq!(payload::read_rename(&header, &buffer).unwrap(), "new");
    for (length, uuid, fits) in [
        (127, false, true),
        (128, false, false),
        (128, true, true),
        (129, true, false),
        (0, false, false),
    ] {
        let (header, buffer) = request(&payload::text(&"x".repeat(length)), |header| {
            header.flags.set(Flags::UUID, uuid);
        });
        assert_eq!(
            payload::read_rename(&header, &buffer).is_ok(),
            fits,
            "{length} {uuid}"
        );
    }
}

#[test]
fn geometry_is_four_numbers_in_range() {
    let parse = |text: &str| {
        let (header, buffer) = request(&payload::text(text), |_| {});
        payload::read_geometry(&header, &buffer).map_err(|error| error.to_string())
    };
    let geometry = parse("1024 16 63 2048").unwrap();
    assert_eq!(
        (
            geometry.cylinders,
            geometry.heads,
            geometry.sectors,
            geometry.start
        ),
        (1024, 16, 63, 2048)
    );
    assert_eq!(
        parse("1 2 3").unwrap_err(),
        "ioctl: Unable to interpret geometry settings."
    );
    assert_eq!(
        parse("1 2 3 4 5").unwrap_err(),
        "ioctl: Unable to interpret geometry settings."
    );
    assert_eq!(
        parse("65536 2 3 4").unwrap_err(),
        "ioctl: Geometry exceeds range limits."
    );
}

#[test]
fn replies_travel_only_with_their_flag() {
    let mut header = offering(64);
    let payload = payload::answer_message(&mut header, "0: 0+8 8 - -");
    let buffer = header.with_payload(&payload);
    assert_eq!(
        payload::read_reply(&header, &buffer).unwrap().unwrap(),
        "0: 0+8 8 - -"
    );
    let mut header = offering(64);
    assert!(payload::answer_message(&mut header, "").is_empty());
    assert_eq!(
        payload::read_reply(&header, &header.with_payload(&[])).unwrap(),
        None
    );
    let mut header = offering(4);
    assert!(payload::answer_message(&mut header, "long").is_empty());
    assert!(header.flags.has(Flags::BUFFER_FULL));
}

fn any_header() -> impl Strategy<Value = Header> {
    (
        (
            MIN_BYTES as u32..MAX_BYTES as u32,
            any::<u32>(),
            any::<u32>(),
            any::<i32>(),
        ),
        (any::<u32>(), any::<u32>(), 0_u32..4096, 0_u32..1 << 20),
        ("[ -~]{0,127}", "[ -~]{0,128}"),
    )
        .prop_map(|(sizes, words, texts)| Header {
            version: VERSION,
            data_size: sizes.0,
            data_start: sizes.1,
            target_count: sizes.2,
            open_count: sizes.3,
            flags: Flags(words.0) & !Flags::OUT_ONLY,
            event_nr: words.1,
            dev: DevNo::new(words.2, words.3),
            name: texts.0,
            uuid: texts.1,
        })
}

fn any_rows() -> impl Strategy<Value = Vec<TargetSpec>> {
    let one = (any::<u64>(), any::<u64>(), "[a-z-]{0,15}", "[ -~]{0,80}");
    vec(
        one.prop_map(|(start, length, target, params)| row(start, length, &target, &params)),
        1..20,
    )
}

proptest! {
    #[test]
    fn headers_survive(header in any_header()) {
        prop_assert_eq!(Header::decode_request(&header.with_payload(&[])), Ok(header));
    }

    #[test]
    fn loads_survive(rows in any_rows()) {
        let payload = payload::load(&rows).unwrap();
        let (header, buffer) = request(&payload, |header| header.target_count = rows.len() as u32);
        prop_assert_eq!(payload::read_load(&header, &buffer), Ok(rows));
    }

    #[test]
    fn answers_survive_or_are_marked_full(rows in any_rows(), room in 0_usize..4000) {
        let mut header = offering(room);
        let payload = payload::answer_rows(&mut header, rows.clone());
        prop_assert!(payload.len() <= room);
        let found = payload::read_rows(&header, &header.with_payload(&payload)).unwrap();
        prop_assert_eq!(found.len() < rows.len(), header.flags.has(Flags::BUFFER_FULL));
        prop_assert_eq!(&found[..], &rows[..found.len()]);
    }

    #[test]
    fn hostile_bytes_never_panic(
        header in any_header(),
        start in prop::sample::select(vec![0_u32, 305, 312, 320, 400, u32::MAX]),
        count in 0_u32..5,
        tail in vec(any::<u8>(), 0..200),
    ) {
        let header = Header { data_start: start, target_count: count, flags: Flags::DATA_OUT, ..header };
        let buffer = header.with_payload(&tail);
        let _ = payload::read_load(&header, &buffer);
        let _ = payload::read_message(&header, &buffer);
        let _ = payload::read_rename(&header, &buffer);
        let _ = payload::read_geometry(&header, &buffer);
        let _ = payload::read_rows(&header, &buffer);
        let _ = payload::read_deps(&header, &buffer);
        let _ = payload::read_names(&header, &buffer);
        let _ = payload::read_versions(&header, &buffer);
        let _ = payload::read_reply(&header, &buffer);
        let _ = Header::decode_request(&tail);
    }
}
