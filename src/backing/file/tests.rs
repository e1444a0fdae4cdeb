#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::test_runner::Config;
use tempfile::TempDir;

use crate::backing::{Access, Backing, BackingStore, OpenOptions};
use crate::io::{BlockDev, Extent, ReadBuf, Request, WriteBuf};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

/// Folders on a disk's file system and on one in memory.
fn folders() -> Vec<TempDir> {
    let disk = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    vec![disk, TempDir::new_in("/dev/shm").unwrap()]
}

fn disk(folder: &Path, sectors: u64, direct: bool) -> Arc<Backing> {
    let path = folder.join("disk");
    File::create(&path).unwrap().set_len(sectors * 512).unwrap();
    let store = BackingStore::new(240);
    store
        .open(&path, Access::ReadWrite, OpenOptions { direct })
        .unwrap()
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|i| ((i * 31 + seed * 7 + i / 512) % 251) as u8)
        .collect()
}

fn contents(dev: &dyn BlockDev) -> Vec<u8> {
    let mut bytes = vec![0; dev.capacity().to_bytes().0 as usize];
    dev.submit(Request::read(Sector(0), ReadBuf::new(&mut bytes)))
        .unwrap();
    bytes
}

#[test]
fn what_is_written_is_read() {
    for folder in folders() {
        for direct in [false, true] {
            let disk = disk(folder.path(), 64, direct);
            let data = pattern(5 * 512, 1);
            // Pieces of odd lengths, at an odd address, in one request.
            let (a, rest) = data.split_at(700);
            let (b, c) = rest.split_at(1);
            let pieces = WriteBuf::from_pieces(vec![a, &[], b, c]);
            disk.submit(Request::write(Sector(3), pieces)).unwrap();
            let durable = pattern(1024, 2);
            disk.submit(Request::write(Sector(20), WriteBuf::new(&durable)).durable())
                .unwrap();
            let durable = WriteBuf::from_pieces(vec![&durable[..3], &durable[3..]]);
            disk.submit(Request::write(Sector(40), durable).durable())
                .unwrap();
            disk.submit(Request::flush()).unwrap();

            let mut expected = vec![0; 64 * 512];
            expected[3 * 512..8 * 512].copy_from_slice(&data);
            expected[20 * 512..22 * 512].copy_from_slice(&pattern(1024, 2));
            expected[40 * 512..42 * 512].copy_from_slice(&pattern(1024, 2));
            assert!(contents(&*disk) == expected);
            let (mut a, mut b) = (vec![1; 100], vec![1; 412]);
            let pieces = ReadBuf::from_pieces(vec![&mut a, &mut [], &mut b]);
            disk.submit(Request::read(Sector(4), pieces)).unwrap();
            assert!([a, b].concat() == data[512..1024]);
            assert!(std::fs::read(disk.path()).unwrap() == expected);
        }
    }
}

#[test]
fn more_pieces_than_one_call_takes() {
    let folder = TempDir::new().unwrap();
    let disk = disk(folder.path(), 64, false);
    let data = pattern(64 * 512, 5);
    let pieces = data.chunks(10).collect();
    disk.submit(Request::write(Sector(0), WriteBuf::from_pieces(pieces)))
        .unwrap();
    let mut back = vec![0; data.len()];
    let pieces = back.chunks_mut(7).collect();
    disk.submit(Request::read(Sector(0), ReadBuf::from_pieces(pieces)))
        .unwrap();
    assert!(back == data);
}

#[test]
fn discards_and_zeroes_clear_their_range_alone() {
    for folder in folders() {
        for (direct, may_unmap) in [(false, false), (false, true), (true, false), (true, true)] {
            let disk = disk(folder.path(), 256, direct);
            assert!(disk.limits().discards() && disk.limits().writes_zeroes());
            let mut expected = pattern(256 * 512, 9);
            disk.submit(Request::write(Sector(0), WriteBuf::new(&expected)))
                .unwrap();
            disk.submit(Request::discard(Sector(9), Sectors(55)).durable())
                .unwrap();
            let zeroes = Request::write_zeroes(Sector(101), Sectors(99), may_unmap);
            disk.submit(zeroes.durable()).unwrap();
            expected[9 * 512..64 * 512].fill(0);
            expected[101 * 512..200 * 512].fill(0);
            assert!(contents(&*disk) == expected);
            assert_eq!(std::fs::metadata(disk.path()).unwrap().len(), 256 * 512);
        }
    }
}

#[test]
fn zeroes_are_written_where_a_range_cannot_be_zeroed() {
    let folder = TempDir::new_in("/dev/shm").unwrap();
    let disk = disk(folder.path(), 2048, false);
    let mut expected = pattern(2048 * 512, 4);
    disk.submit(Request::write(Sector(0), WriteBuf::new(&expected)))
        .unwrap();
    // tmpfs has no FALLOC_FL_ZERO_RANGE; the second request no longer asks it.
    disk.submit(Request::write_zeroes(Sector(1), Sectors(1000), false))
        .unwrap();
    disk.submit(Request::write_zeroes(Sector(1001), Sectors(1000), false))
        .unwrap();
    expected[512..2001 * 512].fill(0);
    assert!(contents(&*disk) == expected);
}

#[test]
fn holes_are_told() {
    for folder in folders() {
        let disk = disk(folder.path(), 1 << 20, false);
        assert_eq!(disk.extent_at(Sector(5)), Extent::hole(Sector(1 << 20)));
        let data = pattern(64 * 1024, 3);
        disk.submit(Request::write(Sector(1024), WriteBuf::new(&data)))
            .unwrap();
        assert_eq!(disk.extent_at(Sector(0)), Extent::hole(Sector(1024)));
        assert_eq!(disk.extent_at(Sector(1030)), Extent::data(Sector(1152)));
        assert_eq!(disk.extent_at(Sector(1152)), Extent::hole(Sector(1 << 20)));
        disk.submit(Request::discard(Sector(1024), Sectors(64)))
            .unwrap();
        assert_eq!(disk.extent_at(Sector(0)), Extent::hole(Sector(1088)));
        // Whatever is asked, the answer lies beyond it.
        for at in [(1 << 20) - 1, 1 << 20, 1 << 50, u64::MAX - 1] {
            assert!(disk.extent_at(Sector(at)).end > Sector(at));
        }
    }
}

#[test]
fn limits_say_what_the_file_system_can_do() {
    let [disk_folder, memory_folder] = <[TempDir; 2]>::try_from(folders()).unwrap();
    let on_disk = disk(disk_folder.path(), 64, true).limits();
    assert_eq!(on_disk.logical_block_size, 512);
    assert!(on_disk.waits && on_disk.discard_granularity.is_power_of_two());
    assert!(!disk(disk_folder.path(), 64, false).limits().waits);
    assert!(!disk(memory_folder.path(), 64, true).limits().waits);
}

/// Sectors of the devices of the model test.
const N_SECTORS: u64 = 200;

#[derive(Clone, Debug)]
enum Step {
    Read { cut: usize },
    Write { byte: u8, cut: usize, durable: bool },
    Discard,
    Zeroes { may_unmap: bool },
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<(u64, u64, Step)>> {
    let step = prop_oneof![
        any::<usize>().prop_map(|cut| Step::Read { cut }),
        any::<(u8, usize, bool)>().prop_map(|(byte, cut, durable)| Step::Write {
            byte,
            cut,
            durable
        }),
        proptest::strategy::Just(Step::Discard),
        any::<bool>().prop_map(|may_unmap| Step::Zeroes { may_unmap }),
        proptest::strategy::Just(Step::Flush),
    ];
    vec((0..N_SECTORS, 1..64_u64, step), 1..40)
}

fn play(dev: &dyn BlockDev, steps: &[(u64, u64, Step)]) -> Result<(), String> {
    let mut model = vec![0; (N_SECTORS * 512) as usize];
    for (number, (at, len, step)) in steps.iter().enumerate() {
        let len = (*len).min(N_SECTORS - at);
        let range = (at * 512) as usize..((at + len) * 512) as usize;
        let (place, sectors) = (Sector(*at), Sectors(len));
        let done = match step {
            Step::Read { cut } => {
                let mut bytes = vec![0xee; range.len()];
                let (a, b) = bytes.split_at_mut(cut % range.len());
                let read = dev.submit(Request::read(place, ReadBuf::from_pieces(vec![a, b])));
                if bytes != model[range] {
                    return Err(format!("step {number} reads something else"));
                }
                read
            }
            Step::Write { byte, cut, durable } => {
                let bytes: Vec<u8> = range.clone().map(|i| byte ^ (i / 512) as u8).collect();
                let (a, b) = bytes.split_at(cut % range.len());
                let mut request = Request::write(place, WriteBuf::from_pieces(vec![a, b]));
                request.flags.fua = *durable;
                model[range].copy_from_slice(&bytes);
                dev.submit(request)
            }
            Step::Discard => {
                model[range].fill(0);
                dev.submit(Request::discard(place, sectors))
            }
            Step::Zeroes { may_unmap } => {
                model[range].fill(0);
                dev.submit(Request::write_zeroes(place, sectors, *may_unmap))
            }
            Step::Flush => dev.submit(Request::flush()),
        };
        done.map_err(|error| format!("step {number}: {error}"))?;
    }
    if contents(dev) != model {
        return Err("something else is there in the end".into());
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 32, ..Config::default() })]

    #[test]
    fn every_kind_of_backing_is_a_row_of_sectors(steps in steps()) {
        for folder in folders() {
            for direct in [false, true] {
                let played = play(&*disk(folder.path(), N_SECTORS, direct), &steps);
                prop_assert!(played.is_ok(), "{played:?}, direct {direct}");
            }
        }
        let memory = BackingStore::new(240).memory("100K", Access::ReadWrite).unwrap();
        let played = play(&*memory, &steps);
        prop_assert!(played.is_ok(), "{played:?}, memory");
    }
}
