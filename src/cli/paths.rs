//! Which device a path means, and what a device number is called elsewhere.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::control::protocol::dm_ioctl::DevNo;
use crate::unit::SECTOR_SIZE;

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

/// The name of the device that the file system with the device number `dev` lies on, by way of a loop device over a file
/// in the mount at `mountpoint`, and the sector where it begins there.
pub fn device_of_file_system(dev: DevNo, mountpoint: &str) -> Option<(String, u64)> {
    let block_device = Path::new("/sys/dev/block").join(dev.to_string());
    let number = |path: &Path| -> Option<u64> {
        let text = fs::read_to_string(path).ok()?;
        text.trim_end().parse().ok()
    };
    // A partition's folder lies in that of its device.
    let part = number(&block_device.join("start"));
    let whole = match part {
        Some(_) => block_device.canonicalize().ok()?.parent()?.to_path_buf(),
        None => block_device,
    };
    let file = fs::read_to_string(whole.join("loop/backing_file")).ok()?;
    let name = file_in_mount(Path::new(file.trim_end_matches('\n')), mountpoint)?;
    let offset = number(&whole.join("loop/offset"))? / SECTOR_SIZE;
    Some((name, offset.checked_add(part.unwrap_or(0))?))
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
