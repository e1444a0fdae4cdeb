#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::Registry;
use crate::backing::{BackingStore, OpenOptions};
use crate::control::transaction::{Caller, load};
use crate::control::{MountIdentity, Refusal};
use crate::device::{Device, Directory, Identity, SuspendOptions};
use crate::io::{
    BlockDev, Errno, Flags, OpKind, Part, Plan, ReadBuf, Request, WaitingRoom, WriteBuf,
};
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

fn create(registry: &Arc<Registry>, name: &str) -> Arc<Device> {
    let identity = Identity {
        name: name.into(),
        uuid: String::new(),
    };
    registry.create(identity, None).unwrap()
}

fn load_row(
    registry: &Arc<Registry>,
    device: &Arc<Device>,
    kind: &str,
    params: &str,
) -> Result<(), Refusal> {
    let row = RowSpec {
        start: Sector(0),
        len: Sectors(8),
        kind: kind.into(),
        params: params.into(),
    };
    let caller = Caller {
        folder: PathBuf::from("/"),
        options: OpenOptions::default(),
        is_there: &|| true,
    };
    load(registry, device, &[row], Access::ReadWrite, &caller)
}

fn make_live(registry: &Arc<Registry>, device: &Arc<Device>, kind: &str, params: &str) {
    load_row(registry, device, kind, params).unwrap();
    registry
        .resume(device, SuspendOptions::default(), &mut || true)
        .unwrap();
}

#[test]
fn names_uuids_and_minors_are_unique() {
    let registry = registry();
    let identity = |name: &str, uuid: &str| Identity {
        name: name.into(),
        uuid: uuid.into(),
    };
    registry.create(identity("a", "U"), Some(7)).unwrap();
    for (name, uuid, minor, errno) in [
        ("a", "", None, Errno::BUSY),
        ("b", "U", None, Errno::BUSY),
        ("b", "", Some(7), Errno::NXIO),
    ] {
        let refusal = registry.create(identity(name, uuid), minor).err().unwrap();
        assert_eq!(refusal.errno, errno);
    }
    assert_eq!(
        registry
            .create(identity("b", ""), None)
            .unwrap()
            .number()
            .minor,
        0
    );
    assert_eq!(
        registry
            .create(identity("c", ""), Some(1 << 20))
            .err()
            .unwrap()
            .errno,
        Errno::INVAL
    );
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    let registry = registry();
    for name in ["", ".", "..", "control", "a/b"] {
        let identity = Identity {
            name: name.into(),
            uuid: String::new(),
        };
        assert_eq!(
            registry.create(identity, None).err().unwrap().errno,
            Errno::INVAL,
            "{name}"
        );
    }
}

#[test]
fn a_device_below_another_is_busy_until_that_goes() {
    let registry = registry();
    let (below, above) = (create(&registry, "below"), create(&registry, "above"));
    make_live(&registry, &below, "zero", "");
    make_live(&registry, &above, "linear", "/nowhere/dm/below 0");
    assert_eq!(above.active().unwrap().devices()[0].number, below.number());
    assert_eq!(
        registry.remove(&below, false).unwrap_err().errno,
        Errno::BUSY
    );
    assert!(registry.remove(&below, true).unwrap());
    assert!(!registry.remove(&above, false).unwrap());
    assert!(
        registry.by_name("below").is_none(),
        "the deferred removal was not carried out"
    );
}

#[test]
fn everything_goes_with_remove_all_whatever_lies_on_what() {
    let registry = registry();
    let mut lower = None;
    for level in 0..5 {
        let device = create(&registry, &format!("level{level}"));
        match lower {
            None => make_live(&registry, &device, "zero", ""),
            Some(minor) => make_live(&registry, &device, "linear", &format!("254:{minor} 0")),
        }
        lower = Some(device.number().minor);
    }
    assert_eq!(registry.remove_all(false), 0);
}

#[test]
fn a_cycle_is_refused() {
    let registry = registry();
    let (a, b) = (create(&registry, "a"), create(&registry, "b"));
    make_live(&registry, &a, "zero", "");
    assert_eq!(
        load_row(&registry, &a, "linear", "/dev/mapper/a 0")
            .unwrap_err()
            .errno,
        Errno::LOOP
    );
    make_live(&registry, &b, "linear", "254:0 0");
    assert_eq!(
        load_row(&registry, &a, "linear", "254:1 0")
            .unwrap_err()
            .errno,
        Errno::LOOP
    );
    assert!(a.state().inactive.is_none());
    assert_eq!(
        a.state().open_count,
        1,
        "a table that was refused let go of its devices"
    );
}

#[test]
fn a_cycle_through_an_inactive_table_is_refused() {
    let registry = registry();
    let (a, b) = (create(&registry, "a"), create(&registry, "b"));
    make_live(&registry, &a, "zero", "");
    make_live(&registry, &b, "zero", "");
    load_row(&registry, &a, "linear", "254:1 0").unwrap();
    assert_eq!(
        load_row(&registry, &b, "linear", "254:0 0")
            .unwrap_err()
            .errno,
        Errno::LOOP
    );
}

#[test]
fn the_stack_has_a_greatest_depth() {
    let registry = registry();
    let bottom = create(&registry, "bottom");
    make_live(&registry, &bottom, "zero", "");
    let mut refused = None;
    for level in 1..=super::MAX_STACK_DEPTH as u32 + 1 {
        let device = create(&registry, &format!("level{level}"));
        if let Err(refusal) = load_row(
            &registry,
            &device,
            "linear",
            &format!("254:{} 0", level - 1),
        ) {
            refused = Some((level, refusal.errno));
            break;
        }
        registry
            .resume(&device, SuspendOptions::default(), &mut || true)
            .unwrap();
    }
    assert_eq!(refused.map(|(_, errno)| errno), Some(Errno::LOOP));
}

/// A request descends by recursion, and the waiting room's stacks are the smallest. Where one does not suffice the
/// process dies.
#[test]
fn a_request_through_the_deepest_stack_fits_a_waiting_thread() {
    let registry = registry();
    let mut top = create(&registry, "level0");
    make_live(&registry, &top, "striped", "2 4 mem:1M 0 mem:1M 64");
    for level in 1..super::MAX_STACK_DEPTH {
        top = create(&registry, &format!("level{level}"));
        let below = format!("254:{}", level - 1);
        make_live(&registry, &top, "linear", &format!("{below} 0"));
    }
    let room = WaitingRoom::new("test", 1, Duration::from_secs(60)).unwrap();
    let (sender, receiver) = mpsc::channel();
    room.submit(Box::new(move || {
        let mut buffer = [0xff; 4096];
        let requests = [
            Request::read(Sector(0), ReadBuf::new(&mut buffer)),
            Request::write(Sector(0), WriteBuf::new(&[1; 4096])),
            Request::write_zeroes(Sector(0), Sectors(8), true),
            Request::flush(),
        ];
        let results = requests.map(|request| top.submit(request));
        sender.send(results).unwrap();
    }));
    assert_eq!(receiver.recv().unwrap(), [Ok(()); 4]);
}

#[test]
fn a_name_moves_and_a_uuid_is_set_once() {
    let registry = registry();
    let (a, _b) = (create(&registry, "a"), create(&registry, "b"));
    assert_eq!(registry.rename(&a, "b").unwrap_err().errno, Errno::BUSY);
    assert_eq!(registry.rename(&a, "a").unwrap_err().errno, Errno::BUSY);
    registry.rename(&a, "c").unwrap();
    assert!(registry.by_name("a").is_none());
    assert_eq!(registry.by_name("c").unwrap().id(), a.id());
    registry.set_uuid(&a, "U").unwrap();
    assert_eq!(registry.set_uuid(&a, "V").unwrap_err().errno, Errno::INVAL);
    assert_eq!(registry.by_uuid("U").unwrap().id(), a.id());
}

#[test]
fn a_new_table_changes_the_length_at_once() {
    let registry = registry();
    let device = create(&registry, "a");
    make_live(&registry, &device, "zero", "");
    assert_eq!(device.capacity(), Sectors(8));
}

#[test]
fn a_device_over_a_device_plans_what_the_one_below_plans() {
    let folder = tempfile::TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = folder.path().join("disk");
    std::fs::File::create(&path).unwrap().set_len(4096).unwrap();
    let registry = registry();
    let (below, above) = (create(&registry, "below"), create(&registry, "above"));
    make_live(
        &registry,
        &below,
        "linear",
        &format!("{} 0", path.display()),
    );
    make_live(&registry, &above, "linear", "/nowhere/dm/below 0");
    let mut plan = Plan::new(OpKind::Flush, Flags::default());
    let whole = Part::whole(Sector(0), Sectors::ZERO);
    assert_eq!(above.clone().plan(whole, &mut plan), Ok(()));
    assert_eq!(plan.n_pieces(), 1);
    assert_eq!(below.counters().of(OpKind::Flush).in_flight, 1);
}
