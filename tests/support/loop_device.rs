//! Loop devices over files, freed when dropped.

use super::tools;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// A loop device. Dropping it detaches it.
#[derive(Debug)]
pub struct LoopDevice {
    device: PathBuf,
}

impl LoopDevice {
    /// Attaches `file` with direct I/O and `options` of losetup.
    ///
    /// Another process can take the free device between losetup's question and its answer, and a
    /// new node may take a moment to appear, so this tries for ten seconds.
    pub fn attach(file: &Path, options: &[&str]) -> LoopDevice {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut args = vec!["--find", "--show"];
            args.extend(options);
            args.push(tools::word(file));
            let output = tools::output("losetup", &args);
            if output.status.success() {
                let device = PathBuf::from(tools::text(&output.stdout).trim());
                return LoopDevice { device };
            }
            assert!(
                Instant::now() < deadline,
                "losetup {args:?}: {}",
                tools::text(&output.stderr)
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.device
    }

    /// `/dev/loopN` as a word of a command line.
    pub fn word(&self) -> &str {
        tools::word(&self.device)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = tools::command("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}

/// Detaches every loop device whose file lies below `folder`.
pub fn detach_below(folder: &Path) {
    let Ok(listed) = tools::command("losetup")
        .args(["--noheadings", "--raw", "--output", "NAME,BACK-FILE"])
        .output()
    else {
        return;
    };
    for line in tools::text(&listed.stdout).lines() {
        if let Some((device, file)) = line.split_once(' ')
            && Path::new(file).starts_with(folder)
        {
            let _ = tools::command("losetup")
                .args(["--detach", device])
                .status();
        }
    }
}

/// A file system of a block device, mounted by the kernel. Dropping it unmounts it.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Mounts `device` at the existing folder `at`.
    pub fn new(device: &Path, at: &Path, options: &str) -> Mounted {
        tools::run(
            "mount",
            &["-o", options, tools::word(device), tools::word(at)],
        );
        Mounted {
            at: at.to_path_buf(),
        }
    }

    /// Unmounts, which must succeed. A program that another test just starts holds our open files until it runs, so it is
    /// tried for a second.
    pub fn unmount(self) {
        let words = [tools::word(&self.at)];
        for _ in 0..50 {
            if tools::output("umount", &words).status.success() {
                return std::mem::forget(self);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        tools::run("umount", &words);
        std::mem::forget(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = tools::command("umount").arg("-l").arg(&self.at).status();
    }
}
