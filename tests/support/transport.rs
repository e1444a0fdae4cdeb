//! Mounts over io_uring: the kernel's module has to be told, by root, that mounts may have rings.

use super::mount::Mount;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};

const ENABLED: &str = "/sys/module/fuse/parameters/enable_uring";
/// Which transport every mount of a test run gets that does not choose one itself.
const CHOSEN: &str = "DMFS_TEST_TRANSPORT";

/// The transport that this test run is to use, where it is to use one.
pub fn chosen() -> Option<String> {
    std::env::var(CHOSEN).ok()
}

/// Does `work` while mounts may have rings. One at a time of all processes: the switch is the machine's.
///
/// # Errors
/// Why they cannot here.
pub fn with_rings<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    let parameter = File::open(ENABLED)
        .map_err(|error| format!("{ENABLED}: {error}: no kernel with FUSE over io_uring"))?;
    flock(&parameter, FlockOperation::LockExclusive).unwrap();
    let _restored = Switched::on()?;
    Ok(work())
}

/// Switched on; back as it was when dropped.
struct Switched(String);

impl Switched {
    fn on() -> Result<Switched, String> {
        let before = Switched(fs::read_to_string(ENABLED).unwrap());
        fs::write(ENABLED, "Y").map_err(|error| format!("{ENABLED}: {error}: only root may"))?;
        Ok(before)
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        let _ = fs::write(ENABLED, self.0.trim());
    }
}

/// An empty mount over io_uring; `None` where there can be none here, which is said.
pub fn mount_over_rings(options: &[&str]) -> Option<Mount> {
    let options = [&["--transport", "io_uring"], options].concat();
    with_rings(|| Mount::start_with(&options))
        .inspect_err(|why| eprintln!("not tested, no rings here: {why}"))
        .ok()
}
