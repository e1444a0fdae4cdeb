//! `crypt <cipher> <key> <iv_offset> <dev> <offset> [<#opt> <opt>...]`: sectors encrypted on their way down.
//!
//! Keeps nothing on disk but the ciphertext. A read decrypts in the caller's buffer; a write encrypts from there into
//! memory of the thread's own, never over the caller's data. Zeroes are written encrypted; discards go down where
//! the row allows them.

mod key;
mod keyring;
mod options;

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

use crate::crypto::{CipherError, CipherSpec, Hidden, SectorCipher};
use crate::io::{
    DevRef, Errno, Flags, IoError, IoResult, Limits, Op, ReadBuf, Request, WriteBuf, scratch,
};
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::target::{
    Behaviour, BuildArgs, BuildError, DeviceOpener, Lifecycle, Mapping, MessageError, ModelRow,
    Naming, Rules, Target, TargetKind, scan_u64,
};
use crate::unit::{Bytes, SECTOR_SIZE, Sector, Sectors};
use key::{BadKey, Key};
use options::Options;

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "crypt",
    version: [1, 28, 0],
    summary: "sectors encrypted on their way down",
    syntax: "crypt <cipher> <key> <iv_offset> <dev> <offset> [<#opt> <opt>...]",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 1000,
            args: "aes-xts-plain64 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f \
                   4294967290 {0} 5",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 1000,
            args: "aes-cbc-essiv:sha256 000102030405060708090a0b0c0d0e0f 0 {0} 8 3 allow_discards \
                   sector_size:4096 iv_large_sectors",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 333,
            args: "capi:adiantum(xchacha12,aes)-plain64 \
                   000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 0 {0} 1 1 no_read_workqueue",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 64,
            args: "cipher_null-ecb - 0 {0} 0",
            behaves: Behaviour::Disk,
        },
    ],
};

/// What stands before the size of a key that has been wiped, for a successor of the daemon.
const WIPED: &str = "wiped:";
/// Most that is encrypted before it is written, bytes.
const PIECE: usize = 1 << 20;

struct Crypt {
    range: DevRef,
    spec: CipherSpec,
    /// Added to the sector of the row that a vector is made of.
    iv_offset: u64,
    options: Options,
    key_size: usize,
    /// None once it has been wiped. Replaced while no request is inside.
    keyed: ArcSwapOption<Keyed>,
    suspended: AtomicBool,
}

/// A key, and the cipher under it.
struct Keyed {
    key: Key,
    cipher: SectorCipher,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    args.check_count(|left| left >= 5, "Not enough arguments", KIND.syntax)?;
    let key_size = args.ahead(1, read_key_size)?;
    let options = args.ahead(5, Options::read)?;
    let cipher = args.word("Not enough arguments", "a cipher")?;
    let spec = read_spec(cipher, &options).map_err(|error| {
        let refused = args.refuse_last(error.text, error.expected);
        BuildError {
            errno: error.errno,
            ..refused
        }
    })?;
    let key_word = args.word("Not enough arguments", "a key")?;
    let keyed = spec.as_ref().map(|spec| {
        if args.again && key_word.starts_with(WIPED) {
            return Ok(None);
        }
        let keyed = Keyed::new(spec, key_word, &options).map_err(|error| {
            let refused = args.refuse_secret(error.text, error.expected);
            BuildError {
                errno: error.errno,
                ..refused
            }
        });
        keyed.map(Some)
    });
    let keyed = keyed.transpose()?;
    let iv_offset = read_iv_offset(args, &options)?;
    let device = args.device("Device lookup failed")?;
    let start = args.sector("Invalid device sector")?;
    let range = DevRef::new(device, start, args.len);
    let (Some(spec), Some(keyed)) = (spec, keyed) else {
        let expected = "a device below that keeps tags for each sector (an integrity target, which there is not yet)";
        return Err(args.refuse("Integrity profile not supported.", expected));
    };
    Ok(Box::new(Crypt {
        range,
        spec,
        iv_offset,
        options,
        key_size,
        keyed: ArcSwapOption::new(keyed.map(Arc::new)),
        suspended: AtomicBool::new(false),
    }))
}

fn read_key_size(args: &mut BuildArgs<'_>) -> Result<usize, BuildError> {
    let word = args.word("Not enough arguments", "a key")?;
    let wiped = word.strip_prefix(WIPED).filter(|_| args.again);
    let size = match wiped {
        Some(size) => size.parse().ok(),
        None => key::size(word),
    };
    size.ok_or_else(|| {
        let expected = "a size in bytes between colons, as in :32:user:DESCRIPTION";
        args.refuse_secret("Cannot parse key size", expected)
    })
}

/// The cipher; none where what it is to do needs tags below.
fn read_spec(text: &str, options: &Options) -> Result<Option<CipherSpec>, CipherError> {
    if options
        .integrity
        .as_ref()
        .is_some_and(|tags| tags.authenticated)
    {
        return CipherSpec::check_authenticated(text).map(|()| None);
    }
    let spec = CipherSpec::parse(text)?;
    let needs_tags = spec.keeps_vectors() || options.integrity.is_some();
    Ok((!needs_tags).then_some(spec))
}

fn read_iv_offset(args: &mut BuildArgs<'_>, options: &Options) -> Result<u64, BuildError> {
    let sectors = options.size.bytes / SECTOR_SIZE as u32;
    let expected = format!("a number of sectors that is a multiple of {sectors}");
    let text = "Invalid iv_offset sector";
    let word = args.word(text, &expected)?;
    scan_u64(word)
        .filter(|offset| offset.is_multiple_of(sectors.into()))
        .ok_or_else(|| args.refuse_last(text, expected))
}

impl Keyed {
    fn new(spec: &CipherSpec, word: &str, options: &Options) -> Result<Keyed, CipherError> {
        let (key, fetched) = Key::read(word).map_err(|bad: BadKey| CipherError {
            errno: bad.errno,
            text: "Error decoding and setting key",
            expected: bad.expected,
        })?;
        let bytes = match (&fetched, &key) {
            (Some(bytes), _) | (None, Key::Bytes(bytes)) => bytes,
            (None, Key::Kept { .. }) => &Hidden::zeroes(0),
        };
        let cipher = SectorCipher::keyed(spec, bytes, options.size)?;
        Ok(Keyed { key, cipher })
    }
}

impl Crypt {
    /// The sector that vectors of what lies at `at` are made of.
    fn sector(&self, at: Sector) -> u64 {
        self.iv_offset.wrapping_add(at.0)
    }

    fn is_aligned(&self, request: &Request<'_>) -> bool {
        let sectors = u64::from(self.options.size.bytes) / SECTOR_SIZE;
        (request.at.0 | request.len.0).is_multiple_of(sectors)
    }

    /// True for a piece of whole units of encryption.
    fn is_whole(&self, piece: &[u8]) -> bool {
        piece.len().is_multiple_of(self.options.size.bytes as usize)
    }

    fn read(&self, keyed: &Keyed, at: Sector, mut buffer: ReadBuf<'_>, flags: Flags) -> IoResult {
        let read = |buffer: ReadBuf<'_>| {
            self.range
                .submit(Request::read(at, buffer).with_flags(flags))
        };
        if let Some(bytes) = buffer.as_contiguous() {
            read(ReadBuf::new(&mut *bytes))?;
            keyed.cipher.decrypt(self.sector(at), bytes);
            return Ok(());
        }
        let mut is_whole = true;
        buffer.for_each_piece(|piece| is_whole &= self.is_whole(piece));
        if is_whole {
            read(buffer.reborrow())?;
            let mut sector = self.sector(at);
            buffer.for_each_piece(|piece| {
                keyed.cipher.decrypt(sector, piece);
                sector = sector.wrapping_add(piece.len() as u64 / SECTOR_SIZE);
            });
            return Ok(());
        }
        scratch::with(buffer.len().0 as usize, |whole| {
            read(ReadBuf::new(&mut *whole))?;
            keyed.cipher.decrypt(self.sector(at), whole);
            let mut rest = &*whole;
            buffer.for_each_piece(|piece| {
                let (now, after) = rest.split_at(piece.len());
                piece.copy_from_slice(now);
                rest = after;
            });
            Ok(())
        })
    }

    fn write(&self, keyed: &Keyed, at: Sector, data: &WriteBuf<'_>, flags: Flags) -> IoResult {
        let write = |at, encrypted: &[u8]| {
            let request = Request::write(at, WriteBuf::new(encrypted)).with_flags(flags);
            self.range.submit(request)
        };
        if let Some(bytes) = data.as_contiguous() {
            let mut at = at;
            for piece in bytes.chunks(PIECE) {
                scratch::with(piece.len(), |encrypted| {
                    keyed.cipher.encrypt_to(self.sector(at), piece, encrypted);
                    write(at, encrypted)
                })?;
                at = at + Bytes(piece.len() as u64).whole_sectors();
            }
            return Ok(());
        }
        scratch::with(data.len().0 as usize, |whole| {
            let mut rest = &mut *whole;
            data.for_each_piece(|piece| {
                let (now, after) = std::mem::take(&mut rest).split_at_mut(piece.len());
                now.copy_from_slice(piece);
                rest = after;
            });
            keyed.cipher.encrypt(self.sector(at), whole);
            write(at, whole)
        })
    }

    /// The arguments with `key` as the key.
    fn args_with(&self, key: &str, naming: Naming) -> String {
        let words = self.options.words();
        let options = match words.len() {
            0 => String::new(),
            n => format!(" {n} {}", words.join(" ")),
        };
        let before = format!("{} ", self.spec.text());
        let (device, start) = (naming.of(&self.range), self.range.start());
        let behind = format!(" {} {device} {start}{options}", self.iv_offset);
        // Made in one piece: where a text grows, what it was before is left behind, the key with it.
        [&before, key, &behind].concat()
    }

    /// What stands in place of a key.
    fn no_key(&self) -> String {
        "00".repeat(self.key_size)
    }

    /// `key set KEY` and `key wipe`, of a suspended device (dm-crypt.c: crypt_message).
    fn change_key(&self, words: &[&str]) -> Result<(), MessageError> {
        if !self.suspended.load(Ordering::Acquire) {
            let line = "crypt: not suspended during key manipulation.";
            return Err(MessageError::invalid(line, "a device that is suspended").about_secret());
        }
        match words {
            [set, word] if set.eq_ignore_ascii_case("set") => self.set_key(word),
            [wipe] if wipe.eq_ignore_ascii_case("wipe") => {
                self.keyed.store(None);
                Ok(())
            }
            _ => Err(unrecognised()),
        }
    }

    fn set_key(&self, word: &str) -> Result<(), MessageError> {
        if key::size(word) != Some(self.key_size) {
            let expected = format!("a key of {} bytes, as the one before", self.key_size);
            return Err(MessageError::silent(Errno::INVAL, expected).about_secret());
        }
        let keyed = Keyed::new(&self.spec, word, &self.options)
            .map_err(|error| MessageError::silent(error.errno, error.expected).about_secret())?;
        self.keyed.store(Some(Arc::new(keyed)));
        Ok(())
    }
}

fn unrecognised() -> MessageError {
    let line = "crypt: unrecognised message received.";
    MessageError::invalid(line, "key set KEY or key wipe").about_secret()
}

impl Target for Crypt {
    fn submit(&self, request: Request<'_>) -> IoResult {
        let keyed = self.keyed.load();
        let (Some(keyed), true) = (&*keyed, self.is_aligned(&request)) else {
            return Err(IoError::IO);
        };
        match request.op {
            Op::Read(buffer) => self.read(keyed, request.at, buffer, request.flags),
            Op::Write(data) => self.write(keyed, request.at, &data, request.flags),
            // The core flushes the device by itself.
            Op::Flush => Ok(()),
            Op::Discard => self.range.submit(request),
            Op::WriteZeroes { .. } => Err(IoError::UNSUPPORTED),
        }
    }

    fn args(&self, naming: Naming) -> String {
        match &*self.keyed.load() {
            Some(keyed) => self.args_with(&Zeroizing::new(keyed.key.word()), naming),
            None => self.args_with(&self.no_key(), naming),
        }
    }

    fn kept(&self) -> String {
        match &*self.keyed.load() {
            Some(_) => self.args(Naming::Numbers),
            None => self.args_with(&format!("{WIPED}{}", self.key_size), Naming::Numbers),
        }
    }

    fn args_without_keys(&self, naming: Naming) -> Option<String> {
        match &*self.keyed.load() {
            Some(keyed) if keyed.key.is_secret() => Some(self.args_with(&self.no_key(), naming)),
            _ => None,
        }
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        visit(&self.range);
    }

    fn message(&self, words: &[&str], _: &dyn DeviceOpener) -> Result<String, MessageError> {
        match words {
            [first, rest @ ..] if first.eq_ignore_ascii_case("key") && !rest.is_empty() => {
                self.change_key(rest).map(|()| String::new())
            }
            _ => Err(unrecognised()),
        }
    }

    fn limits(&self, stacked: &mut Limits) {
        let bytes = self.options.size.bytes;
        stacked.logical_block_size = stacked.logical_block_size.max(bytes);
        stacked.physical_block_size = stacked.physical_block_size.max(bytes);
        stacked.io_min = stacked.io_min.max(bytes);
        stacked.max_write_zeroes = Sectors::ZERO;
        if !self.options.allow_discards {
            stacked.max_discard = Sectors::ZERO;
        }
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        Mapping {
            note: "encrypted".into(),
            ..Mapping::to(&self.range, at, Sectors(row_len.0.saturating_sub(at.0)))
        }
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        Some(self)
    }
}

impl Lifecycle for Crypt {
    fn postsuspend(&self) {
        self.suspended.store(true, Ordering::Release);
    }

    fn preresume(&self) -> Result<(), Errno> {
        if self.keyed.load().is_some() {
            return Ok(());
        }
        log::error!("crypt: aborting resume - crypt key is not set.");
        Err(Errno::AGAIN)
    }

    fn resume(&self) {
        self.suspended.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
