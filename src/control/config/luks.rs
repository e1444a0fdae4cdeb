//! LUKS volumes of a mount file: opened when the mount is made, with a key file or a passphrase from the terminal.

use std::path::{Path, PathBuf};

use super::MAPPER_FOLDER;
use super::sizes::tidy;
use crate::control::Refusal;
use crate::encrypted::luks::{
    Format, Luks, Sealing, Version, default_key_bits, format, needed_bytes,
};
use crate::encrypted::{
    DEFAULT_MEMORY, HeaderFile, Kind, Pbkdf, PbkdfKind, Refused, Secret, new_uuid, processors,
    read_bytes, read_key_file,
};
use crate::io::Errno;
use crate::table::RowSpec;
use crate::terminal::ask;
use zeroize::Zeroize;

/// Tries at a passphrase that is typed.
const TRIES: usize = 3;
/// What a device must hold nothing in to be formatted, bytes.
const BLANK: u64 = 1 << 20;
/// cryptsetup's defaults.
const CIPHER: &str = "aes-xts-plain64";
const ITER_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// How a device comes out of a LUKS volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LuksSpec {
    /// The volume's device, as written.
    pub device: PathBuf,
    /// Where its header lies, if elsewhere.
    pub header: Option<PathBuf>,
    /// The key file; a prompt where there is none.
    pub key_file: Option<PathBuf>,
    /// Bytes of it to skip.
    pub keyfile_offset: u64,
    /// Bytes of it to read.
    pub keyfile_size: Option<u64>,
    /// The key slot; all are tried where it is not said.
    pub key_slot: Option<u32>,
    /// Discards are handed down.
    pub allow_discards: bool,
    /// A device with nothing on it is formatted first.
    pub format: bool,
}

/// What was opened: a table and a uuid. The keys in the table are wiped when dropped.
pub(super) struct OpenLuks {
    pub uuid: String,
    pub rows: Vec<RowSpec>,
}

impl Drop for OpenLuks {
    fn drop(&mut self) {
        for row in &mut self.rows {
            row.params.zeroize();
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        let errno = match refused.kind {
            Kind::Invalid => Errno::INVAL,
            Kind::Passphrase => Errno::PERM,
            Kind::Memory => Errno::NOMEM,
            Kind::Device => Errno::NODEV,
            Kind::Busy => Errno::BUSY,
        };
        Refusal::message(errno, refused.message)
    }
}

impl LuksSpec {
    /// Opens the volume for the device `name`; relative paths start at `folder`.
    ///
    /// # Errors
    /// What cannot be opened, or with nothing that was given.
    pub(super) fn open(&self, folder: &Path, name: &str) -> Result<OpenLuks, Refused> {
        let device = self.path(folder, &self.device)?;
        let header = match &self.header {
            Some(header) => self.path(folder, header)?,
            None => device.clone(),
        };
        let data = HeaderFile::open(&device, false)?;
        if self.format {
            self.format_blank(folder, &header, &data)?;
        }
        let on = HeaderFile::open(&header, false)?;
        let (luks, _) = Luks::load(&on).map_err(|why| {
            let shown = header.display();
            Refused::new(
                why.kind,
                format!("{shown} is not a valid LUKS device ({why})"),
            )
        })?;
        luks.check_requirements()?;
        // Before anybody types a passphrase: whether the volume could be mapped.
        luks.rows(data.sectors(), &Secret::default(), &[])?;
        let unlocked = self.with_passphrase(folder, &device, |passphrase| {
            luks.unlock(&on, self.key_slot, passphrase)
        })?;
        let mut options = luks.persistent_options();
        let discards = "allow_discards".to_owned();
        if self.allow_discards && !options.contains(&discards) {
            options.push(discards);
        }
        let rows = luks.rows(data.sectors(), &unlocked.key, &options)?;
        let volume: String = luks
            .uuid()
            .chars()
            .filter(|letter| *letter != '-')
            .collect();
        let word = device.to_string_lossy();
        let rows = rows.iter().map(|row| RowSpec {
            start: row.start,
            len: row.len,
            kind: row.target().to_owned(),
            params: row.params(&word).to_string(),
        });
        Ok(OpenLuks {
            uuid: format!("CRYPT-LUKS{}-{volume}-{name}", luks.version()),
            rows: rows.collect(),
        })
    }

    fn path(&self, folder: &Path, path: &Path) -> Result<PathBuf, Refused> {
        let full = tidy(folder, path);
        // Our own files cannot be read while we are being made.
        match path.starts_with(MAPPER_FOLDER) && !full.exists() {
            true => Err(Refused::new(
                Kind::Device,
                format!(
                    "{} is no file or block device: on a device of the mount a volume is opened with dmfs luks open",
                    path.display()
                ),
            )),
            false => Ok(full),
        }
    }

    /// Tries a passphrase, or those that are typed.
    fn with_passphrase<T>(
        &self,
        folder: &Path,
        device: &Path,
        mut try_it: impl FnMut(&[u8]) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        if let Some(file) = &self.key_file {
            let file = tidy(folder, file);
            return try_it(&read_key_file(
                &file,
                self.keyfile_offset,
                self.keyfile_size,
            )?);
        }
        let prompt = format!("Enter passphrase for {}: ", device.display());
        let mut left = TRIES;
        loop {
            let typed = ask(&prompt).map_err(|error| {
                Refused::invalid(format!(
                    "no passphrase for {}: {error}; a key file (key-file) needs no terminal",
                    device.display()
                ))
            })?;
            left -= 1;
            match try_it(&typed) {
                Err(refused) if refused.kind == Kind::Passphrase && left > 0 => {}
                result => return result,
            }
        }
    }

    /// Formats a header's device that holds nothing yet, as cryptsetup would without options.
    fn format_blank(&self, folder: &Path, header: &Path, data: &HeaderFile) -> Result<(), Refused> {
        let there = HeaderFile::open(header, false)?;
        if read_bytes(&there, 0, BLANK)?.iter().any(|byte| *byte != 0) {
            return Ok(());
        }
        let random = |error: Errno| Refused::invalid(format!("no randomness: {error}"));
        let wanted = Format {
            version: Version::Two,
            cipher: CIPHER.to_owned(),
            key: Secret::random(default_key_bits(CIPHER) as usize / 8).map_err(random)?,
            sector_size: match data.sectors().to_bytes().0.is_multiple_of(4096) {
                true => 4096,
                false => 512,
            },
            uuid: new_uuid().map_err(random)?,
            label: String::new(),
            subsystem: String::new(),
            metadata_size: None,
            keyslots_size: None,
            data_offset: None,
            alignment: None,
            is_detached: self.header.is_some(),
            slot: self.key_slot,
        };
        let pbkdf = Pbkdf {
            kind: PbkdfKind::Argon2(crate::crypto::Variant::Argon2id),
            hash: "sha256".to_owned(),
            time: ITER_TIME,
            force_iterations: None,
            memory: DEFAULT_MEMORY,
            lanes: processors().min(4),
        };
        drop(there);
        let mut on = HeaderFile::open(header, true)?;
        if self.header.is_some() && on.is_file() {
            on.grow(needed_bytes(&wanted)?)?;
        }
        self.with_passphrase(folder, header, |passphrase| {
            let sealing = Sealing {
                passphrase,
                pbkdf: &pbkdf,
                cipher: None,
            };
            format(&on, &wanted, sealing).map(drop)
        })
    }
}
