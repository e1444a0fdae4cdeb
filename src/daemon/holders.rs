//! Who uses a mount: processes with open or mapped files or their folder in it, and loop devices over its files.

use std::fs;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// More are not named.
const MOST: usize = 10;
/// Looking at a process can hang while it waits for us: it holds locks over that (the kernel's exec_update_lock,
/// the lock of its memory map).
const PATIENCE: Duration = Duration::from_secs(3);

/// Who uses something below `mountpoint`, for people: at most ten, and those that are found soon.
pub fn of(mountpoint: &Path) -> Vec<String> {
    let (found, holders) = channel();
    let mountpoint = mountpoint.to_owned();
    let search = move || {
        // It ends where nobody listens any more.
        let _ = all(&mountpoint).try_for_each(|holder| found.send(holder));
    };
    if let Err(error) = thread::Builder::new().name("holders".into()).spawn(search) {
        log::warn!("who holds the mount cannot be found: {error}");
    }
    let deadline = Instant::now() + PATIENCE;
    let next = || {
        let left = deadline.saturating_duration_since(Instant::now());
        holders.recv_timeout(left).ok()
    };
    std::iter::from_fn(next).take(MOST).collect()
}

fn all(mountpoint: &Path) -> impl Iterator<Item = String> {
    let loops = entries("/sys/block").filter_map(move |device| {
        let file = fs::read_to_string(device.join("loop/backing_file")).ok()?;
        let name = device.file_name()?.to_string_lossy().into_owned();
        Path::new(file.trim_end())
            .starts_with(mountpoint)
            .then(|| format!("/dev/{name}"))
    });
    let processes = entries("/proc").filter_map(move |process| {
        let pid: u32 = process.file_name()?.to_str()?.parse().ok()?;
        let uses = pid != std::process::id() && uses(&process, mountpoint);
        uses.then(|| format!("{} (pid {pid})", command(&process)))
    });
    loops.chain(processes)
}

fn entries(folder: &str) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

fn uses(process: &Path, mountpoint: &Path) -> bool {
    let leads_in =
        |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(mountpoint));
    let files = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    leads_in(&process.join("cwd"))
        || leads_in(&process.join("root"))
        || files.into_iter().any(|file| leads_in(&file.path()))
        || maps(process, mountpoint)
}

/// Whether the process has a file below `mountpoint` mapped, which needs not be open any more.
fn maps(process: &Path, mountpoint: &Path) -> bool {
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    // 7f0000000000-7f0000001000 rw-s 00000000 00:31 7      /path
    maps.lines()
        .filter_map(|line| line.find('/').and_then(|at| line.get(at..)))
        .any(|path| Path::new(path).starts_with(mountpoint))
}

fn command(process: &Path) -> String {
    fs::read_to_string(process.join("comm"))
        .map_or_else(|_| "?".to_owned(), |name| name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_process_in_a_folder_holds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("its path");
        assert!(of(&path).is_empty());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(&path)
            .spawn()
            .expect("sleep runs");
        let holders = of(&path);
        child
            .kill()
            .and_then(|()| child.wait())
            .expect("sleep ends");
        assert_eq!(holders.len(), 1, "{holders:?}");
        assert!(holders[0].contains(&child.id().to_string()));
    }
}
