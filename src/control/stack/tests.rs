#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::PathBuf;

use super::{MOST_TOLD, explain, stack};
use crate::backing::{BackingStore, OpenOptions};
use crate::control::protocol::stack::{Below, Explanation, Part};
use crate::control::transaction::{Caller, load};
use crate::control::{MountIdentity, Registry};
use crate::device::{Device, Identity, SuspendOptions};
use crate::io::Errno;
use crate::sync::Arc;
use crate::table::RowSpec;
use crate::target::Access;
use crate::targets::KINDS;
use crate::unit::{Sector, Sectors};

fn registry() -> Arc<Registry> {
    let registry = Registry::new(KINDS, 254, BackingStore::new(253));
    registry.set_mount(MountIdentity {
        path: PathBuf::from("/nowhere/dm"),
        st_dev: u64::MAX,
    });
    registry
}

fn load_table(registry: &Arc<Registry>, device: &Arc<Device>, table: &str) {
    let rows: Vec<RowSpec> = table
        .lines()
        .map(|line| {
            let mut words = line.splitn(4, ' ');
            RowSpec {
                start: Sector(words.next().unwrap().parse().unwrap()),
                len: Sectors(words.next().unwrap().parse().unwrap()),
                kind: words.next().unwrap().to_owned(),
                params: words.next().unwrap_or_default().to_owned(),
            }
        })
        .collect();
    let caller = Caller {
        folder: PathBuf::from("/"),
        options: OpenOptions::default(),
        is_there: &|| true,
    };
    load(registry, device, &rows, Access::ReadWrite, &caller).unwrap();
}

fn make(registry: &Arc<Registry>, name: &str, table: &str) -> Arc<Device> {
    let identity = Identity {
        name: name.into(),
        uuid: String::new(),
    };
    let device = registry.create(identity, None).unwrap();
    load_table(registry, &device, table);
    registry
        .resume(&device, SuspendOptions::default(), &mut || true)
        .unwrap();
    device
}

fn told(registry: &Registry, device: &Arc<Device>, at: u64, len: u64) -> Explanation {
    explain(registry, device, Sector(at), Sectors(len), false).unwrap()
}

#[test]
fn a_request_is_followed_down_to_file_and_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk.img");
    File::create(&file).unwrap().set_len(1 << 20).unwrap();
    let registry = registry();
    make(
        &registry,
        "low",
        &format!(
            "0 100 linear {0} 8\n100 100 linear {0} 1000",
            file.display()
        ),
    );
    let high = make(
        &registry,
        "high",
        "0 10 zero\n10 150 linear /dev/mapper/low 20",
    );

    let told = told(&registry, &high, 8, 100);
    let shown: Vec<(&str, u32, u64, u64, u64)> = told
        .pieces
        .iter()
        .map(|piece| {
            (
                piece.device.as_str(),
                piece.depth,
                piece.row,
                piece.at,
                piece.sectors,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("high", 0, 1, 8, 2),
            ("high", 0, 2, 10, 98),
            ("low", 1, 1, 20, 80),
            ("low", 1, 2, 100, 18),
        ]
    );
    assert_eq!(told.pieces[0].note, "reads give zeroes, writes are dropped");
    assert!(told.pieces[0].requests.is_empty());
    let down = &told.pieces[1].requests[0];
    assert_eq!((down.kind, down.at, down.sectors), (Below::Mapped, 20, 98));
    assert_eq!(down.pieces, [2, 3]);
    let first = &told.pieces[2].requests[0];
    assert_eq!(
        (first.kind, first.at, first.byte),
        (Below::File, 28, 28 * 512)
    );
    assert_eq!(first.path, file.display().to_string());
    assert_eq!(told.pieces[3].requests[0].byte, 1000 * 512);
}

#[test]
fn chunks_of_one_stripe_go_in_one_request() {
    let registry = registry();
    let device = make(&registry, "s", "0 64 striped 2 8 mem:65536 0 mem:65536 4");
    let told = told(&registry, &device, 4, 20);
    assert_eq!(told.pieces.len(), 1);
    let requests = &told.pieces[0].requests;
    let parts = |at: usize| {
        let parts = requests[at].parts.iter();
        parts
            .map(|part| (part.at, part.sectors))
            .collect::<Vec<_>>()
    };
    assert_eq!(requests.len(), 2);
    assert_eq!((requests[0].at, requests[0].sectors), (4, 12));
    assert_eq!(parts(0), [(4, 4), (16, 8)]);
    assert_eq!((requests[1].at, requests[1].sectors), (4, 8));
    assert_eq!(requests[1].parts, [Part { at: 8, sectors: 8 }]);
    assert_eq!(requests[0].kind, Below::Memory);
}

#[test]
fn a_boundary_of_the_target_cuts_the_request() {
    let registry = registry();
    let device = make(&registry, "u", "0 32 unstriped 2 8 1 mem:65536 0");
    let told = told(&registry, &device, 6, 10);
    let shown: Vec<_> = told
        .pieces
        .iter()
        .map(|piece| (piece.at, piece.sectors, piece.requests[0].at))
        .collect();
    assert_eq!(shown, [(6, 2, 14), (8, 8, 24)]);
}

#[test]
fn what_is_not_on_the_device_is_refused() {
    let registry = registry();
    let device = make(&registry, "z", "0 8 zero");
    for (at, len) in [(8, 1), (u64::MAX, 1), (0, 0), (0, 9), (7, u64::MAX)] {
        let refused = explain(&registry, &device, Sector(at), Sectors(len), false).unwrap_err();
        assert_eq!(refused.errno, Errno::INVAL, "{at} {len}");
        assert!(refused.detail.expected.is_some());
    }
    let refused = explain(&registry, &device, Sector(0), Sectors(1), true).unwrap_err();
    assert_eq!(refused.errno, Errno::NXIO);
}

#[test]
fn the_inactive_table_and_a_suspended_device_are_told() {
    let registry = registry();
    let low = make(&registry, "low", "0 8 zero");
    let high = make(&registry, "high", "0 8 linear /dev/mapper/low 0");
    load_table(&registry, &high, "0 4 error");
    let told_of = explain(&registry, &high, Sector(3), Sectors(1), true).unwrap();
    assert_eq!(told_of.pieces[0].target, "error");
    assert_eq!(told_of.device_sectors, 4);
    assert!(!told(&registry, &high, 0, 1).suspended);
    low.suspend(SuspendOptions::default(), &mut || true)
        .unwrap();
    assert!(told(&registry, &high, 0, 1).suspended);
}

#[test]
fn a_long_tale_is_cut_short() {
    let registry = registry();
    let device = make(
        &registry,
        "s",
        "0 65536 striped 2 1 mem:33554432 0 mem:33554432 0",
    );
    let told = told(&registry, &device, 0, 65536);
    assert!(told.left_off);
    let parts: usize = told.pieces[0]
        .requests
        .iter()
        .map(|request| request.parts.len())
        .sum();
    assert!(parts < MOST_TOLD, "{parts}");
}

#[test]
fn a_stack_of_the_deepest_kind_is_followed_to_its_end() {
    let registry = registry();
    make(&registry, "d0", "0 8 linear mem:4096 0");
    let mut top = None;
    for depth in 1..128 {
        let table = format!("0 8 linear /dev/mapper/d{} 0", depth - 1);
        top = Some(make(&registry, &format!("d{depth}"), &table));
    }
    let told = told(&registry, &top.unwrap(), 3, 2);
    assert_eq!(told.pieces.len(), 128);
    let text = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), told);
}

#[test]
fn the_stack_names_devices_rows_and_what_is_below() {
    let registry = registry();
    make(
        &registry,
        "low",
        "0 8 linear mem:65536 0\n8 8 linear mem:65536 64\n16 8 error",
    );
    make(&registry, "high", "0 8 linear /dev/mapper/low 0");
    let stack = stack(&registry);
    let high = &stack.devices[0];
    let low = &stack.devices[1];
    assert_eq!((high.name.as_str(), high.sectors), ("high", 8));
    assert_eq!(high.rows[0].uses, std::slice::from_ref(&low.number));
    assert_eq!((low.open_count, low.suspended), (1, false));
    let rows: Vec<_> = low
        .rows
        .iter()
        .map(|rows| {
            (
                rows.target.as_str(),
                rows.rows,
                rows.sectors,
                rows.uses.len(),
            )
        })
        .collect();
    assert_eq!(rows[2], ("error", 1, 8, 0));
    assert_eq!(rows[0].0, "linear");
    assert!(stack.below.iter().all(|below| below.kind == Below::Memory));
}
