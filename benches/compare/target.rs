//! What the client opens: the server's file, or a loop device on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Where the client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The server's file.
    File,
    /// `losetup --direct-io=on` on that file.
    Loop,
}

/// All layers.
pub const LAYERS: &[Layer] = &[Layer::File, Layer::Loop];

impl Layer {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Layer::File => "file",
            Layer::Loop => "loop",
        }
    }
}

/// A path to read and write. A loop device goes with its value.
pub enum Target {
    /// The server's file.
    File(PathBuf),
    /// A loop device.
    Loop(PathBuf),
}

impl Target {
    /// What the client opens to come to `file` by `layer`.
    ///
    /// # Errors
    /// A sentence where losetup is not there or fails.
    pub fn new(layer: Layer, file: &Path) -> Result<Target, String> {
        match layer {
            Layer::File => Ok(Target::File(file.to_owned())),
            Layer::Loop => attach(file).map(Target::Loop),
        }
    }

    /// What to open.
    pub fn path(&self) -> &Path {
        match self {
            Target::File(path) | Target::Loop(path) => path,
        }
    }

    /// The layer's name.
    pub fn layer(&self) -> &'static str {
        match self {
            Target::File(_) => Layer::File.name(),
            Target::Loop(_) => Layer::Loop.name(),
        }
    }
}

fn attach(file: &Path) -> Result<PathBuf, String> {
    let output = Command::new("losetup")
        .args(["--find", "--show", "--direct-io=on"])
        .arg(file)
        .output()
        .map_err(|error| format!("losetup: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("losetup {}: {}", file.display(), text.trim()));
    }
    let path = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(path.trim()))
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Target::Loop(device) = self {
            for _ in 0..50 {
                let done = Command::new("losetup")
                    .arg("--detach")
                    .arg(&device)
                    .output();
                if done.is_ok_and(|output| output.status.success()) {
                    return;
                }
                sleep(Duration::from_millis(100));
            }
            eprintln!("{}: could not be detached", device.display());
        }
    }
}
