//! The optional words of a crypt row (dm-crypt.c: crypt_ctr_optional).

use crate::crypto::SectorSize;
use crate::target::{BuildArgs, BuildError, scan_u32};
use crate::unit::SECTOR_SIZE;

/// Most tag bytes of a sector (dm-crypt.c: MAX_TAG_SIZE).
const MOST_TAG_BYTES: u32 = 480;
/// Most optional words.
const MOST_WORDS: u32 = 9;

/// What the words say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Discards are passed on.
    pub allow_discards: bool,
    /// Words about the kernel's threads, which there are none of here: kept for the table alone.
    threads: [bool; THREADS.len()],
    /// Tags that a device below should keep.
    pub integrity: Option<Integrity>,
    /// The part of the key that is for authentication, bytes.
    integrity_key_size: Option<u32>,
    /// The unit of encryption.
    pub size: SectorSize,
}

/// Tags beside each sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integrity {
    bytes: u32,
    /// As written: it is shown so.
    profile: String,
    /// The cipher itself makes the tags.
    pub authenticated: bool,
}

/// In the order of the table.
const THREADS: [&str; 5] = [
    "same_cpu_crypt",
    "high_priority",
    "submit_from_crypt_cpus",
    "no_read_workqueue",
    "no_write_workqueue",
];

impl Options {
    /// What holds without any word.
    pub const NONE: Options = Options {
        allow_discards: false,
        threads: [false; THREADS.len()],
        integrity: None,
        integrity_key_size: None,
        size: SectorSize::SMALL,
    };

    /// Reads the words that are left.
    ///
    /// # Errors
    /// EINVAL with the kernel's text.
    pub fn read(args: &mut BuildArgs<'_>) -> Result<Options, BuildError> {
        let mut options = Options::NONE;
        if args.left() == 0 {
            return Ok(options);
        }
        let text = "Invalid number of feature args";
        let count = args.group(0..=MOST_WORDS, text, "a number of words that follow")?;
        for _ in 0..count {
            options.word(args)?;
        }
        Ok(options)
    }

    fn word(&mut self, args: &mut BuildArgs<'_>) -> Result<(), BuildError> {
        let expected = "allow_discards, same_cpu_crypt, high_priority, submit_from_crypt_cpus, no_read_workqueue, \
                        no_write_workqueue, iv_large_sectors, sector_size:BYTES, integrity:BYTES:PROFILE or \
                        integrity_key_size:BYTES";
        let word = args.word("Not enough feature arguments", expected)?;
        if word.eq_ignore_ascii_case("allow_discards") {
            self.allow_discards = true;
        } else if word.eq_ignore_ascii_case("iv_large_sectors") {
            self.size.counts_large = true;
        } else if let Some(i) = THREADS
            .iter()
            .position(|known| word.eq_ignore_ascii_case(known))
        {
            self.threads[i] = true;
        } else if let Some((bytes, profile)) = integrity(word) {
            self.integrity = Some(Integrity::new(args, bytes, profile)?);
        } else if let Some(bytes) = word.strip_prefix("integrity_key_size:").and_then(scan_u32) {
            if bytes == 0 {
                let text = "Invalid integrity_key_size argument";
                return Err(args.refuse_last(text, "at least 1 byte"));
            }
            self.integrity_key_size = Some(bytes);
        } else if let Some(bytes) = word.strip_prefix("sector_size:").and_then(scan_u32) {
            self.size.bytes = sector_size(args, bytes)?;
        } else {
            return Err(args.refuse_last("Invalid feature arguments", expected));
        }
        Ok(())
    }

    /// The words of the table, in the kernel's order.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        words.extend(self.allow_discards.then(|| "allow_discards".to_owned()));
        let threads = THREADS.iter().zip(self.threads);
        words.extend(
            threads
                .filter(|(_, set)| *set)
                .map(|(word, _)| (*word).to_owned()),
        );
        let integrity = self.integrity.as_ref();
        words.extend(integrity.map(|tags| format!("integrity:{}:{}", tags.bytes, tags.profile)));
        if self.size.bytes != SectorSize::SMALL.bytes {
            words.push(format!("sector_size:{}", self.size.bytes));
        }
        words.extend(
            self.size
                .counts_large
                .then(|| "iv_large_sectors".to_owned()),
        );
        let key_size = self.integrity_key_size;
        words.extend(key_size.map(|bytes| format!("integrity_key_size:{bytes}")));
        words
    }
}

/// `integrity:BYTES:PROFILE`, or without a profile.
fn integrity(word: &str) -> Option<(u32, &str)> {
    let rest = word.strip_prefix("integrity:")?;
    let (bytes, profile) = rest.split_once(':').unwrap_or((rest, ""));
    Some((scan_u32(bytes)?, profile))
}

impl Integrity {
    fn new(args: &BuildArgs<'_>, bytes: u32, profile: &str) -> Result<Integrity, BuildError> {
        if !(1..=MOST_TAG_BYTES).contains(&bytes) {
            let expected = format!("1 to {MOST_TAG_BYTES} bytes");
            return Err(args.refuse_last("Invalid integrity arguments", expected));
        }
        let authenticated = profile.eq_ignore_ascii_case("aead");
        if !authenticated && !profile.eq_ignore_ascii_case("none") {
            return Err(
                args.refuse_last("Unknown integrity profile", "aead or none after the bytes")
            );
        }
        Ok(Integrity {
            bytes,
            profile: profile.into(),
            authenticated,
        })
    }
}

fn sector_size(args: &BuildArgs<'_>, bytes: u32) -> Result<u32, BuildError> {
    // The kernel reads 16 bits.
    let bytes = u32::from(bytes as u16);
    if !(512..=4096).contains(&bytes) || !bytes.is_power_of_two() {
        let text = "Invalid feature value for sector_size";
        return Err(args.refuse_last(text, "512, 1024, 2048 or 4096"));
    }
    if !args.len.0.is_multiple_of(u64::from(bytes) / SECTOR_SIZE) {
        return Err(args.refuse_last(
            "Device size is not multiple of sector_size feature",
            format!("a size that {} sectors are a multiple of", args.len),
        ));
    }
    Ok(bytes)
}
