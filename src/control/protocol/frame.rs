//! How transactions travel over the mount's Unix stream socket: a small header, then the bytes.
//!
//! ```text
//! request  0 magic "DMFS" | 4 u16 version | 6 u16 kind | 8 u32 command | 12 u32 length | payload
//! reply    0 magic "DMFS" | 4 u16 version | 6 u16 kind | 8 u32 command | 12 i32 errno
//!          | 16 u32 payload length | 20 u32 detail length | payload | detail
//! ```
//!
//! Integers are little-endian. Kind 1 carries a `struct dm_ioctl` buffer whose unused end may be left
//! out, kind 2 a JSON object. A connection carries any number of requests, each answered in turn.
//! Lengths are compared with their limits before anything is allocated.

use std::fmt;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::dm_ioctl::MAX_BYTES;

#[cfg(test)]
mod tests;

/// What every frame starts with.
pub const MAGIC: [u8; 4] = *b"DMFS";

/// The version of this framing and of the JSON in it.
pub const VERSION: u16 = 1;

/// Bytes of a request's header.
pub const REQUEST_BYTES: usize = 16;

/// Bytes of a reply's header.
pub const REPLY_BYTES: usize = 24;

/// Longest JSON request.
pub const MAX_JSON_REQUEST: usize = 1 << 20;

/// Longest detail of a reply.
pub const MAX_DETAIL: usize = 1 << 20;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A `struct dm_ioctl` and its payload.
    Ioctl = 1,
    /// A JSON object.
    Json = 2,
}

impl Kind {
    fn request_limit(self) -> usize {
        match self {
            Self::Ioctl => MAX_BYTES,
            Self::Json => MAX_JSON_REQUEST,
        }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What the payload is.
    pub kind: Kind,
    /// The ioctl's number; 0 with JSON.
    pub command: u32,
    /// The `struct dm_ioctl` buffer, or the JSON text.
    pub payload: Vec<u8>,
}

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the payload is: as in the request.
    pub kind: Kind,
    /// As in the request.
    pub command: u32,
    /// 0, or the positive errno that the transaction failed with.
    pub errno: i32,
    /// The `struct dm_ioctl` buffer, or the JSON text; may be empty after an error.
    pub payload: Vec<u8>,
    /// Why it failed, and what else the kernel would have logged.
    pub detail: ErrorDetail,
}

/// What the kernel's interface has no room for: the log lines that belong to a transaction, and the
/// place of the mistake.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// The kernel's log lines without their `device-mapper: ` prefix, oldest first, as
    /// `table: 253:0: linear: Gap in table (-EINVAL)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// Row of the table, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u32>,
    /// Word of the row, counted from 1: the start is word 1, the length 2, the type 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<u32>,
    /// What stood there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What should have stood there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

impl ErrorDetail {
    /// A detail of one log line.
    pub fn message(line: impl Into<String>) -> Self {
        Self {
            messages: vec![line.into()],
            ..Self::default()
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a frame could not be read or written.
#[derive(Debug)]
pub enum FrameError {
    /// The peer is gone, or the socket failed.
    Io(io::Error),
    /// The first bytes are not [`MAGIC`].
    Magic([u8; 4]),
    /// The peer speaks another version.
    Version(u16),
    /// No such kind.
    Kind(u16),
    /// A length over its limit.
    TooLong {
        /// Which part.
        what: &'static str,
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A detail that is not the JSON it should be.
    Detail(serde_json::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "control socket: {error}"),
            Self::Magic(found) => write!(
                f,
                "control socket: frame starts with {found:02x?}: expected \"DMFS\""
            ),
            Self::Version(found) => write!(
                f,
                "control socket: peer speaks protocol version {found}, this dmfs version {VERSION}: \
                 use the dmfs that serves the mount"
            ),
            Self::Kind(found) => write!(
                f,
                "control socket: unknown frame kind {found}: expected 1 (ioctl) or 2 (JSON)"
            ),
            Self::TooLong {
                what,
                length,
                limit,
            } => write!(
                f,
                "control socket: {what} of {length} bytes: expected at most {limit}"
            ),
            Self::Detail(error) => write!(f, "control socket: error detail: {error}"),
        }
    }
}

impl std::error::Error for FrameError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Detail(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the next request; `None` when the peer closed the connection between two requests.
///
/// # Errors
/// Every [`FrameError`]; after one the stream is out of step and must be closed.
pub fn read_request(from: &mut impl Read) -> Result<Option<Request>, FrameError> {
    read_request_if(from, |_| Ok(()))
}

/// Reads the next request if `has_room` for as many bytes as it announces.
///
/// # Errors
/// As [`read_request`]; what `has_room` says.
pub fn read_request_if(
    from: &mut impl Read,
    has_room: impl FnOnce(usize) -> io::Result<()>,
) -> Result<Option<Request>, FrameError> {
    let mut header = [0; REQUEST_BYTES];
    if !fill_or_end(from, &mut header)? {
        return Ok(None);
    }
    let [kind, command, length] = open_header(&header)?;
    let kind = to_kind(kind)?;
    checked("request", length as usize, kind.request_limit())?;
    has_room(length as usize)?;
    let payload = read_part(from, "request", length, kind.request_limit())?;
    Ok(Some(Request {
        kind,
        command,
        payload,
    }))
}

/// Writes `request`.
///
/// # Errors
/// `TooLong` before anything is written; I/O errors.
pub fn write_request(to: &mut impl Write, request: &Request) -> Result<(), FrameError> {
    let limit = request.kind.request_limit();
    let length = checked("request", request.payload.len(), limit)?;
    let mut header = start_header(request.kind, request.command);
    header.extend_from_slice(&length.to_le_bytes());
    to.write_all(&header)?;
    to.write_all(&request.payload)?;
    Ok(to.flush()?)
}

/// Reads the reply to a request.
///
/// # Errors
/// Every [`FrameError`]; a peer that closes instead of answering is `UnexpectedEof`.
pub fn read_reply(from: &mut impl Read) -> Result<Reply, FrameError> {
    let mut header = [0; REPLY_BYTES];
    from.read_exact(&mut header)?;
    let [kind, command, errno] = open_header(&header)?;
    let kind = to_kind(kind)?;
    let [.., p0, p1, p2, p3, d0, d1, d2, d3] = header;
    let payload = u32::from_le_bytes([p0, p1, p2, p3]);
    let detail = u32::from_le_bytes([d0, d1, d2, d3]);
    let payload = read_part(from, "reply", payload, MAX_BYTES)?;
    let detail = read_part(from, "error detail", detail, MAX_DETAIL)?;
    Ok(Reply {
        kind,
        command,
        errno: errno as i32,
        payload,
        detail: match detail.is_empty() {
            true => ErrorDetail::default(),
            false => serde_json::from_slice(&detail).map_err(FrameError::Detail)?,
        },
    })
}

/// Writes `reply`. An empty detail takes no bytes.
///
/// # Errors
/// `TooLong` before anything is written; I/O errors.
pub fn write_reply(to: &mut impl Write, reply: &Reply) -> Result<(), FrameError> {
    let detail = match reply.detail.is_empty() {
        true => Vec::new(),
        false => serde_json::to_vec(&reply.detail).map_err(FrameError::Detail)?,
    };
    let payload_length = checked("reply", reply.payload.len(), MAX_BYTES)?;
    let detail_length = checked("error detail", detail.len(), MAX_DETAIL)?;
    let mut header = start_header(reply.kind, reply.command);
    header.extend_from_slice(&reply.errno.to_le_bytes());
    header.extend_from_slice(&payload_length.to_le_bytes());
    header.extend_from_slice(&detail_length.to_le_bytes());
    to.write_all(&header)?;
    to.write_all(&reply.payload)?;
    to.write_all(&detail)?;
    Ok(to.flush()?)
}

/// Fills `header`, or says `false` if the stream ended before its first byte.
fn fill_or_end(from: &mut impl Read, header: &mut [u8]) -> Result<bool, FrameError> {
    let (first, rest) = header.split_at_mut(1);
    loop {
        match from.read(first) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    from.read_exact(rest)?;
    Ok(true)
}

/// Checks magic and version; hands out kind, command and the word after it.
fn open_header(header: &[u8]) -> Result<[u32; 3], FrameError> {
    let word = |at: usize| super::dm_ioctl::payload::u32_at(header, at).unwrap_or(0);
    let magic = word(0).to_le_bytes();
    if magic != MAGIC {
        return Err(FrameError::Magic(magic));
    }
    let [v0, v1, k0, k1] = word(4).to_le_bytes();
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    Ok([u32::from(u16::from_le_bytes([k0, k1])), word(8), word(12)])
}

fn to_kind(raw: u32) -> Result<Kind, FrameError> {
    match raw {
        1 => Ok(Kind::Ioctl),
        2 => Ok(Kind::Json),
        other => Err(FrameError::Kind(other as u16)),
    }
}

fn start_header(kind: Kind, command: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(REPLY_BYTES);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(kind as u16).to_le_bytes());
    header.extend_from_slice(&command.to_le_bytes());
    header
}

fn checked(what: &'static str, length: usize, limit: usize) -> Result<u32, FrameError> {
    match u32::try_from(length) {
        Ok(short) if length <= limit => Ok(short),
        _ => Err(FrameError::TooLong {
            what,
            length,
            limit,
        }),
    }
}

/// Reads `length` bytes, growing as they arrive: a peer that announces much and sends little costs
/// little.
fn read_part(
    from: &mut impl Read,
    what: &'static str,
    length: u32,
    limit: usize,
) -> Result<Vec<u8>, FrameError> {
    checked(what, length as usize, limit)?;
    let mut bytes = Vec::with_capacity((length as usize).min(64 << 10));
    let found = from.take(u64::from(length)).read_to_end(&mut bytes)?;
    if found < length as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}
