//! Large tables. Nothing is timed: what must hold is that they load and answer right under load.

use crate::model::read;
use crate::support::mount::{Mount, size};
use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const ROWS: u64 = 100_000;

#[test]
fn a_hundred_thousand_rows_load_under_load() {
    let mount = Mount::start();
    let file = mount.backing("file", ROWS * 512);
    // Sector i of the device is sector ROWS - 1 - i of the file.
    let mut table = String::new();
    for row in 0..ROWS {
        let from = ROWS - 1 - row;
        writeln!(table, "{row} 1 linear {} {from}", file.display()).unwrap();
    }
    let busy = mount.backing("busy", 1 << 20);
    mount.create("busy", &format!("0 2048 linear {} 0\n", busy.display()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let device = mount.open("busy");
            while !stop.load(Ordering::Relaxed) {
                device.write_all_at(&[3; 65_536], 0).unwrap();
            }
        });
        mount.create("large", &table);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(size(&mount.device("large")), ROWS * 512);
    let device = mount.open("large");
    for row in [0, 1, 4711, ROWS / 2, ROWS - 1] {
        device.write_all_at(&row.to_le_bytes(), row * 512).unwrap();
    }
    device.sync_all().unwrap();
    let below = std::fs::File::open(&file).unwrap();
    for row in [0, 1, 4711, ROWS / 2, ROWS - 1] {
        assert_eq!(read(&below, (ROWS - 1 - row) * 512, 8), row.to_le_bytes());
    }
    // One read over a thousand rows.
    let many = read(&device, 4000 * 512, 1000 * 512);
    assert_eq!(many[711 * 512..711 * 512 + 8], 4711_u64.to_le_bytes());
    assert_eq!(mount.dmfs(&["table", "large"]).must(), table);
    drop(device);
    mount.stop();
}
