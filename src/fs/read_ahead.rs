//! What the kernel's page cache does for the whole mount (/sys/class/bdi): how far it reads ahead, and how much
//! written data it may hold back. Only root may set it; without, the kernel's own settings stay.

use std::fs;
use std::path::Path;

use rustix::fs::{major, minor, stat};

/// How far ahead of a reader the kernel fetches, KiB. Its own choice is 128, one request a time.
const READ_AHEAD: &str = "1024";

/// Fits the page cache of the mount to reading through it, and to `writeback` where it holds back writes.
pub fn tune(mountpoint: &Path, writeback: bool) {
    let Ok(found) = stat(mountpoint) else { return };
    let folder = format!(
        "/sys/class/bdi/{}:{}",
        major(found.st_dev),
        minor(found.st_dev)
    );
    let set = |name: &str, value: &str| {
        let path = Path::new(&folder).join(name);
        if let Err(error) = fs::write(&path, value) {
            log::info!(
                "{}: {error}: the kernel's own setting stays",
                path.display()
            );
        }
    };
    set("read_ahead_kb", READ_AHEAD);
    if writeback {
        // The kernel trusts an unknown daemon with one percent of the memory for unwritten data, and slows writers
        // down long before.
        set("strict_limit", "0");
        set("max_ratio", "100");
    }
}
