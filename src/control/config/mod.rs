//! Mount files: what a mount holds, as TOML (`docs/config.md`) or in dmsetup's concise form.
//!
//! A text becomes a [`Config`] only as a whole: [`check`] reads keys, names and every row of every table as
//! mounting would, without touching the system, and reports all mistakes at once. [`apply`] then makes the
//! files and devices, or nothing. [`dump`] goes the other way.

mod apply;
mod dump;
mod examine;
mod luks;
mod place;
mod print;
mod read;
mod report;
mod sizes;

pub use apply::apply;
pub use dump::dump;
pub use luks::LuksSpec;
pub use report::{ConfigError, Errors, Place};

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::control::protocol::concise;
use crate::control::protocol::mount::{MetricsAddress, Transport};
use crate::device::CachePolicy;
use crate::table::RowSpec;
use crate::target::{Access, TargetKind};
use crate::unit::Bytes;

use read::Draft;
use report::Report;

/// Longest name of a device, bytes, and longest uuid (dm-ioctl.h: DM_NAME_LEN, DM_UUID_LEN, with the end).
const MAX_NAME: usize = 127;
const MAX_UUID: usize = 128;
/// Minor numbers are 20 bits wide.
const MAX_MINOR: u32 = (1 << 20) - 1;
/// What names a device of the same mount in a table.
const MAPPER_FOLDER: &str = "/dev/mapper/";
/// Longest mount file, bytes: a million rows fit.
const MAX_FILE: u64 = 64 << 20;
/// What errors call a text in the concise form.
const CONCISE_ORIGIN: &str = "--concise";

/// What a mount holds. Devices lie only on devices before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What errors call it: the file as the user named it, or `--concise`.
    pub origin: String,
    /// Where relative paths start.
    pub folder: PathBuf,
    /// The mount is to outlive its daemon.
    pub supervised: bool,
    /// How requests come in, where it is said.
    pub transport: Option<Transport>,
    /// Where what devices count is told, if anywhere.
    pub metrics: Option<MetricsAddress>,
    /// Whether the mount keeps clear of deadlocks when memory is short.
    pub harden: bool,
    /// Backing files that are made where they are missing.
    pub files: Vec<FileSpec>,
    /// The devices, in the order in which they are made.
    pub devices: Vec<DeviceSpec>,
}

/// A backing file that is made, sparse, where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Where the mount file says so.
    pub place: Option<Place>,
    /// Its path as written.
    pub path: PathBuf,
    /// Its size.
    pub size: Bytes,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Where the mount file says so.
    pub place: Option<Place>,
    /// Its name, as its file is called.
    pub name: String,
    /// Its uuid; empty where it has none.
    pub uuid: String,
    /// Its minor number; the first free one where it is not said.
    pub minor: Option<u32>,
    /// Whether its table may write.
    pub access: Access,
    /// Whether its table's files are used around the page cache.
    pub direct: bool,
    /// What the kernel may do with its data; as the mount says where it is not said.
    pub cache: Option<CachePolicy>,
    /// Its table; a device can be without.
    pub rows: Option<Vec<RowSpec>>,
    /// The volume that its table comes from instead, when the device is made.
    pub luks: Option<LuksSpec>,
    /// It has a table that is not told because of the keys in it.
    pub hidden: bool,
}

/// What tables are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The kinds of targets that tables may name.
    pub kinds: &'static [&'static TargetKind],
    /// The major number that the devices will have.
    pub major: u32,
}

/// Reads and checks the mount file `path` without changing or opening anything else.
///
/// # Errors
/// Every mistake in the file, in the order of their places.
pub fn check(path: &Path, terms: Terms) -> Result<Config, Errors> {
    let origin = path.display().to_string();
    let refuse = |what: String| Errors::of(&origin, what);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder =
        std::path::absolute(folder).map_err(|error| refuse(format!("no folder: {error}")))?;
    let text = read_all(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if text.len() as u64 > MAX_FILE {
        return Err(refuse(format!(
            "longer than a mount file may be ({MAX_FILE} bytes)"
        )));
    }
    let text = String::from_utf8(text).map_err(|error| {
        let valid = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        refuse(format!("line {line}: a byte that is not UTF-8"))
    })?;
    check_text(&text, &origin, &folder, terms)
}

/// Reads and checks the text of a mount file; errors call it `origin`, relative paths start at `folder`.
///
/// # Errors
/// As for [`check`].
pub fn check_text(text: &str, origin: &str, folder: &Path, terms: Terms) -> Result<Config, Errors> {
    let mut report = Report::new(origin, text);
    let draft = read::read(text, &mut report);
    examine::examine(&draft, folder, terms, report)
}

/// Reads and checks devices in dmsetup's concise form, `NAME,UUID,MINOR,FLAGS,TABLE[,TABLE...][;NAME,...]`.
///
/// # Errors
/// As for [`check`].
pub fn check_concise(
    text: &str,
    folder: &Path,
    direct: bool,
    terms: Terms,
) -> Result<Config, Errors> {
    let mut report = Report::new(CONCISE_ORIGIN, "");
    let mut draft = Draft::default();
    for device in concise::parse(text) {
        match device {
            Ok(device) => draft.push_concise(device, direct, &mut report),
            Err(error) => report.whole(error.0),
        }
    }
    examine::examine(&draft, folder, terms, report)
}

/// The file's bytes, and one more than it may have.
fn read_all(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
