//! `struct dm_ioctl`: the header that every device-mapper command starts with (`<linux/dm-ioctl.h>`,
//! interface 4.48.0, kernel 6.12), and below, in [`payload`], what may follow it.
//!
//! A transaction is one buffer of `data_size` bytes, of which the trailing part that nobody wrote may
//! be left out. The caller offers `data_size` as room for the answer; an answer that does not fit
//! comes back with [`Flags::BUFFER_FULL`] and no error, and the caller asks again with more room.
//! Integers are little-endian, which is what the kernel's host order is on every machine dmfs runs on.

use std::fmt;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not};

use rustix::io::Errno;

pub mod payload;

#[cfg(test)]
mod tests;

/// The interface version that this side speaks: a caller's major must be equal, its minor not newer.
pub const VERSION: [u32; 3] = [4, 48, 0];

/// `sizeof(struct dm_ioctl)`: where an answer's payload starts.
pub const HEADER_BYTES: usize = 312;

/// `offsetof(struct dm_ioctl, data)`: the least that a caller may send.
pub const MIN_BYTES: usize = 305;

/// Largest `data_size`; larger offers are cut to this, which 100,000 rows fit.
pub const MAX_BYTES: usize = 64 << 20;

/// `DM_NAME_LEN`: bytes of a name with its NUL.
pub const NAME_BYTES: usize = 128;

/// `DM_UUID_LEN`: bytes of a uuid with its NUL.
pub const UUID_BYTES: usize = 129;

const NAME_AT: usize = 48;
const UUID_AT: usize = NAME_AT + NAME_BYTES;

/// Why bytes are not a transaction. [`AbiError::errno`] is what the kernel would have answered, the
/// text is the kernel's log line where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbiError {
    /// No command has this number.
    UnknownCommand(u32),
    /// Fewer bytes than the header needs.
    Truncated {
        /// Bytes that arrived.
        found: usize,
    },
    /// The caller speaks another interface version.
    Version([u32; 3]),
    /// `data_size` is smaller than the header.
    DataSize(u32),
    /// A name or uuid is not UTF-8.
    NotText(&'static str),
    /// The header addresses a device by too many or too few of its keys.
    Address(String),
    /// A payload breaks the command's rules; the text is the kernel's.
    Payload(String),
}

impl AbiError {
    /// The errno that the kernel answers in this case.
    pub fn errno(&self) -> Errno {
        match self {
            Self::UnknownCommand(_) => Errno::NOTTY,
            Self::Truncated { .. } => Errno::FAULT,
            Self::Version(_)
            | Self::DataSize(_)
            | Self::NotText(_)
            | Self::Address(_)
            | Self::Payload(_) => Errno::INVAL,
        }
    }
}

impl fmt::Display for AbiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(number) => {
                write!(f, "ioctl: unknown command {number}: expected 0 to 17")
            }
            Self::Truncated { found } => write!(
                f,
                "ioctl: {found} bytes are no struct dm_ioctl: expected at least {MIN_BYTES}"
            ),
            Self::Version([major, minor, patch]) => write!(
                f,
                "ioctl: ioctl interface mismatch: kernel({}.{}.{}), user({major}.{minor}.{patch})",
                VERSION[0], VERSION[1], VERSION[2]
            ),
            Self::DataSize(size) => write!(
                f,
                "ioctl: data size {size} is too small: expected at least {MIN_BYTES}"
            ),
            Self::NotText(field) => write!(f, "ioctl: {field} is not UTF-8"),
            Self::Address(text) | Self::Payload(text) => write!(f, "ioctl: {text}"),
        }
    }
}

impl std::error::Error for AbiError {}

/// A command number (`_IOC_NR` of the ioctl).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Command {
    /// Tells the driver's version.
    Version = 0,
    /// Removes every device that is not open.
    RemoveAll = 1,
    /// Lists all devices.
    ListDevices = 2,
    /// Creates a device without a table.
    DevCreate = 3,
    /// Removes a device.
    DevRemove = 4,
    /// Renames a device or, with [`Flags::UUID`], gives it its uuid.
    DevRename = 5,
    /// Suspends with [`Flags::SUSPEND`], resumes without.
    DevSuspend = 6,
    /// Tells a device's state.
    DevStatus = 7,
    /// Waits until the event number differs, then answers as [`Command::TableStatus`].
    DevWait = 8,
    /// Fills the inactive slot.
    TableLoad = 9,
    /// Empties the inactive slot.
    TableClear = 10,
    /// Lists the devices that a table uses.
    TableDeps = 11,
    /// Status lines or, with [`Flags::STATUS_TABLE`], table lines.
    TableStatus = 12,
    /// Lists the target types and their versions.
    ListVersions = 13,
    /// Hands a message to a target.
    TargetMsg = 14,
    /// Sets the drive geometry.
    DevSetGeometry = 15,
    /// Arms poll on the control file for the next event.
    DevArmPoll = 16,
    /// Tells one target type's version.
    GetTargetVersion = 17,
}

impl Command {
    /// All commands, by number.
    pub const ALL: [Self; 18] = [
        Self::Version,
        Self::RemoveAll,
        Self::ListDevices,
        Self::DevCreate,
        Self::DevRemove,
        Self::DevRename,
        Self::DevSuspend,
        Self::DevStatus,
        Self::DevWait,
        Self::TableLoad,
        Self::TableClear,
        Self::TableDeps,
        Self::TableStatus,
        Self::ListVersions,
        Self::TargetMsg,
        Self::DevSetGeometry,
        Self::DevArmPoll,
        Self::GetTargetVersion,
    ];

    /// The ioctl's number.
    pub fn number(self) -> u32 {
        self as u32
    }
}

impl TryFrom<u32> for Command {
    type Error = AbiError;

    fn try_from(number: u32) -> Result<Self, AbiError> {
        usize::try_from(number)
            .ok()
            .and_then(|at| Self::ALL.get(at).copied())
            .ok_or(AbiError::UnknownCommand(number))
    }
}

/// The header's flag bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// In: load read-only. Out: the device is read-only.
    pub const READONLY: Self = Self(1);
    /// In: suspend rather than resume. Out: the device is suspended.
    pub const SUSPEND: Self = Self(1 << 1);
    /// Used by libdm alone ("exists"): comes back as it was sent.
    pub const EXISTS: Self = Self(1 << 2);
    /// In: use the device number given, or address the device by it.
    pub const PERSISTENT_DEV: Self = Self(1 << 3);
    /// In: table lines rather than status lines.
    pub const STATUS_TABLE: Self = Self(1 << 4);
    /// Out: there is an active table.
    pub const ACTIVE_PRESENT: Self = Self(1 << 5);
    /// Out: there is an inactive table.
    pub const INACTIVE_PRESENT: Self = Self(1 << 6);
    /// Out: the answer did not fit `data_size`.
    pub const BUFFER_FULL: Self = Self(1 << 8);
    /// In: nobody needs to know who has the device open.
    pub const SKIP_BDGET: Self = Self(1 << 9);
    /// In: do not freeze the file system when suspending.
    pub const SKIP_LOCKFS: Self = Self(1 << 10);
    /// In: suspend without flushing; status without committing.
    pub const NOFLUSH: Self = Self(1 << 11);
    /// In: answer about the inactive table.
    pub const QUERY_INACTIVE_TABLE: Self = Self(1 << 12);
    /// Out: a uevent was sent.
    pub const UEVENT_GENERATED: Self = Self(1 << 13);
    /// In: a rename sets the uuid instead.
    pub const UUID: Self = Self(1 << 14);
    /// In: wipe buffers after use.
    pub const SECURE_DATA: Self = Self(1 << 15);
    /// Out: a message has an answer in the payload.
    pub const DATA_OUT: Self = Self(1 << 16);
    /// In: remove when the last user closes. Out: that is pending.
    pub const DEFERRED_REMOVE: Self = Self(1 << 17);
    /// Out: suspended from inside.
    pub const INTERNAL_SUSPEND: Self = Self(1 << 18);
    /// In: measurement lines rather than status lines.
    pub const IMA_MEASUREMENT: Self = Self(1 << 19);
    /// In, of dmfs alone: table lines show a backing device's path, escaped with backslashes, instead
    /// of its number.
    pub const PATHS: Self = Self(1 << 31);

    /// What the kernel clears on the way in, since it alone sets them.
    pub const OUT_ONLY: Self = Self(
        Self::BUFFER_FULL.0 | Self::UEVENT_GENERATED.0 | Self::SECURE_DATA.0 | Self::DATA_OUT.0,
    );

    /// Whether every bit of `bits` is set.
    pub fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// Sets or clears `bits`.
    pub fn set(&mut self, bits: Self, on: bool) {
        if on {
            *self |= bits;
        } else {
            *self &= !bits;
        }
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Flags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitAndAssign for Flags {
    fn bitand_assign(&mut self, other: Self) {
        self.0 &= other.0;
    }
}

impl Not for Flags {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#x})", self.0)
    }
}

/// A device number. `0:0` in a header means "none given".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DevNo {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DevNo {
    /// No device.
    pub const NONE: Self = Self { major: 0, minor: 0 };

    /// The device with these numbers.
    pub fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// `huge_encode_dev`: 12 bits of major, 20 of minor; higher bits are lost, as in the kernel.
    pub fn encode(self) -> u64 {
        let (major, minor) = (
            u64::from(self.major & 0xfff),
            u64::from(self.minor & 0xf_ffff),
        );
        (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
    }

    /// `huge_decode_dev`: the inverse; bits above 32 are ignored.
    pub fn decode(raw: u64) -> Self {
        let low = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        Self {
            major: low((raw & 0xf_ff00) >> 8),
            minor: low((raw & 0xff) | ((raw >> 12) & 0xf_ff00)),
        }
    }

    /// Whether a device is named at all.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

impl fmt::Display for DevNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The decoded `struct dm_ioctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Interface version of the sender.
    pub version: [u32; 3],
    /// Bytes of the whole buffer: in, the room offered; out, what is used of it.
    pub data_size: u32,
    /// Byte where the payload starts, counted from the header's first byte.
    pub data_start: u32,
    /// In: rows of a table to load. Out: rows of the table asked about.
    pub target_count: u32,
    /// Out: how many have the device open.
    pub open_count: i32,
    /// See [`Flags`].
    pub flags: Flags,
    /// In: the event number to wait on, or a udev cookie. Out: the device's event number.
    pub event_nr: u32,
    /// The device's number.
    pub dev: DevNo,
    /// The device's name; empty if not given. At most 127 bytes.
    pub name: String,
    /// The device's uuid; empty if not given. At most 128 bytes.
    pub uuid: String,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            version: VERSION,
            data_size: HEADER_BYTES as u32,
            data_start: HEADER_BYTES as u32,
            target_count: 0,
            open_count: 0,
            flags: Flags::default(),
            event_nr: 0,
            dev: DevNo::NONE,
            name: String::new(),
            uuid: String::new(),
        }
    }
}

impl Header {
    /// Decodes a caller's header, checked as `check_version`, `copy_params` and `validate_params` of
    /// the kernel's `dm-ioctl.c` do: the version first, then the size; bits that only the answer may
    /// carry are cleared; a name or uuid without NUL is cut to its field; an offer of more than
    /// [`MAX_BYTES`] is cut to that.
    ///
    /// # Errors
    /// `EINVAL` for a version or size that does not fit, or a name that is not UTF-8; `EFAULT` for
    /// fewer than [`MIN_BYTES`] bytes.
    pub fn decode_request(buffer: &[u8]) -> Result<Self, AbiError> {
        let mut header = Self::decode(buffer)?;
        if header.version[0] != VERSION[0] || header.version[1] > VERSION[1] {
            return Err(AbiError::Version(header.version));
        }
        if (header.data_size as usize) < MIN_BYTES {
            return Err(AbiError::DataSize(header.data_size));
        }
        header.data_size = header.data_size.min(MAX_BYTES as u32);
        header.flags &= !Flags::OUT_ONLY;
        Ok(header)
    }

    /// Decodes an answer's header, or any header without judging its version and size.
    ///
    /// # Errors
    /// `EFAULT` for fewer than [`MIN_BYTES`] bytes, `EINVAL` for a name that is not UTF-8.
    pub fn decode(buffer: &[u8]) -> Result<Self, AbiError> {
        let bytes = buffer.get(..MIN_BYTES).ok_or(AbiError::Truncated {
            found: buffer.len(),
        })?;
        let word = |at: usize| payload::u32_at(bytes, at).unwrap_or(0);
        Ok(Self {
            version: [word(0), word(4), word(8)],
            data_size: word(12),
            data_start: word(16),
            target_count: word(20),
            open_count: word(24) as i32,
            flags: Flags(word(28)),
            event_nr: word(32),
            dev: DevNo::decode(payload::u64_at(bytes, 40).unwrap_or(0)),
            name: text_field(bytes, NAME_AT, NAME_BYTES, "the device name")?,
            uuid: text_field(bytes, UUID_AT, UUID_BYTES, "the device uuid")?,
        })
    }

    /// Appends the 312 bytes. A name or uuid that is longer than its field is cut to it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for word in self.version {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for word in [self.data_size, self.data_start, self.target_count] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.open_count.to_le_bytes());
        for word in [self.flags.0, self.event_nr, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.dev.encode().to_le_bytes());
        put_text_field(out, &self.name, NAME_BYTES);
        put_text_field(out, &self.uuid, UUID_BYTES);
        out.resize(start + HEADER_BYTES, 0);
    }

    /// The header and `payload` as one buffer, ready for [`super::frame`].
    pub fn with_payload(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
        self.encode(&mut out);
        out.extend_from_slice(payload);
        out
    }

    /// Checks that the device is addressed as `command` needs it (`validate_params`): creating needs a
    /// name; everything else takes a name or a uuid but not both.
    ///
    /// # Errors
    /// `EINVAL`, with the kernel's text.
    pub fn check_address(&self, command: Command) -> Result<(), AbiError> {
        match command {
            Command::RemoveAll | Command::ListDevices | Command::ListVersions => Ok(()),
            Command::DevCreate if self.name.is_empty() => Err(AbiError::Address(
                "name not supplied when creating device".to_string(),
            )),
            Command::DevCreate => Ok(()),
            _ if !self.uuid.is_empty() && !self.name.is_empty() => Err(AbiError::Address(format!(
                "only supply one of name or uuid, cmd({})",
                command.number()
            ))),
            _ => Ok(()),
        }
    }

    /// Bytes that an answer's payload may have: what the caller's `data_size` leaves behind the header.
    pub fn room(&self) -> usize {
        (self.data_size as usize).saturating_sub(HEADER_BYTES)
    }
}

/// The text up to the first NUL of a field that may have none.
fn text_field(bytes: &[u8], at: usize, len: usize, what: &'static str) -> Result<String, AbiError> {
    let field = bytes.get(at..at + len - 1).unwrap_or_default();
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8(text.to_vec()).map_err(|_| AbiError::NotText(what))
}

/// Appends `text` in a field of `len` bytes, cut where needed, always with a NUL.
fn put_text_field(out: &mut Vec<u8>, text: &str, len: usize) {
    let start = out.len();
    out.extend(text.bytes().take(len - 1));
    out.resize(start + len, 0);
}
