//! Which device a path means, and what a device number is called elsewhere.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::control::protocol::dm_ioctl::DevNo;

/// The name of the device at `path`: a file in the mount at `mountpoint`, or a loop device over one.
pub fn device_of_path(path: &str, mountpoint: &str) -> Option<String> {
    let path = Path::new(path).canonicalize().ok()?;
    let found = fs::metadata(&path).ok()?;
    if found.file_type().is_block_device() {
        let dev = DevNo::new(
            rustix::fs::major(found.rdev()),
            rustix::fs::minor(found.rdev()),
        );
        return file_in_mount(&loop_file(dev)?, mountpoint);
    }
    file_in_mount(&path, mountpoint)
}

fn file_in_mount(path: &Path, mountpoint: &str) -> Option<String> {
    let folder = path.parent()?;
    let name = path.file_name()?.to_str()?;
    (folder == Path::new(mountpoint)).then(|| name.to_string())
}

/// The file below a loop device.
fn loop_file(dev: DevNo) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/sys/dev/block/{dev}/loop/backing_file")).ok()?;
    Some(PathBuf::from(text.trim_end_matches('\n')))
}

/// The kernel's name of a block device, as `loop0`.
pub fn block_device_name(dev: DevNo) -> Option<String> {
    let link = fs::read_link(format!("/sys/dev/block/{dev}")).ok()?;
    Some(link.file_name()?.to_str()?.to_string())
}
