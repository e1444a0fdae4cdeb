//! What follows a `struct dm_ioctl`: the payload of each command, both directions.
//!
//! Decoders of requests take the whole buffer (header and payload, as it arrived) and its decoded
//! [`Header`], because `data_start` and the first row's place count from the header's first byte.
//! Encoders of answers (`answer_*`) take the caller's header, whose `data_size` is the room, write
//! what of the answer fits, and set `data_start`, `data_size`, `target_count` and
//! [`Flags::BUFFER_FULL`] as `dm-ioctl.c` does. Decoders of answers (`read_*`) are the caller's side.

use zeroize::Zeroize;

use super::{AbiError, DevNo, Flags, HEADER_BYTES, Header, MAX_BYTES, MIN_BYTES};

/// `sizeof(struct dm_target_spec)`.
pub const SPEC_BYTES: usize = 40;

/// `DM_MAX_TYPE_NAME`: bytes of a target type with its NUL.
pub const TYPE_BYTES: usize = 16;

/// One row as `struct dm_target_spec` carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// First sector of the row.
    pub start: u64,
    /// Sectors of the row.
    pub length: u64,
    /// The target type's name.
    pub target: String,
    /// The arguments of a table line, or the text of a status line.
    pub params: String,
}

/// One device of a `LIST_DEVICES` answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDevice {
    /// Its number.
    pub dev: DevNo,
    /// Its name.
    pub name: String,
    /// Its event number.
    pub event_nr: u32,
    /// Its uuid, if it has one.
    pub uuid: Option<String>,
}

/// One target type of a `LIST_VERSIONS` or `GET_TARGET_VERSION` answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetVersion {
    /// The type's name.
    pub name: String,
    /// Its version.
    pub version: [u32; 3],
}

/// A drive geometry, as `DEV_SET_GEOMETRY` carries it in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// At most 65535.
    pub cylinders: u16,
    /// At most 255.
    pub heads: u8,
    /// Sectors per track, at most 255.
    pub sectors: u8,
    /// First sector of the device on its disk.
    pub start: u64,
}

/// The little-endian word at byte `at`, if there.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// The little-endian double word at byte `at`, if there.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

fn refuse<T>(text: impl Into<String>) -> Result<T, AbiError> {
    Err(AbiError::Payload(text.into()))
}

fn align(at: usize) -> usize {
    at.next_multiple_of(8)
}

/// The part of a request that the kernel would look at: no further than `data_size`.
fn within<'b>(header: &Header, buffer: &'b [u8]) -> &'b [u8] {
    let end = (header.data_size as usize).min(buffer.len());
    buffer.get(..end).unwrap_or_default()
}

/// The NUL-terminated text at byte `at`.
fn text_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    rest.get(..end)
}

fn utf8(text: &[u8], what: &'static str) -> Result<String, AbiError> {
    String::from_utf8(text.to_vec()).map_err(|_| AbiError::NotText(what))
}

/// The NUL-terminated text where the payload starts; `why` is the refusal's text.
fn payload_text(header: &Header, buffer: &[u8], why: &str) -> Result<String, AbiError> {
    let at = header.data_start as usize;
    match text_at(within(header, buffer), at) {
        Some(text) if at >= MIN_BYTES => utf8(text, "the payload"),
        _ => refuse(why),
    }
}

// Requests ----------------------------------------------------------------------------------------

/// The rows of a `TABLE_LOAD` (`populate_table`, `next_target`).
///
/// # Errors
/// `EINVAL`, with the kernel's text, for a count of zero, a row outside the buffer, overlapping or
/// misaligned rows, and parameters without NUL.
pub fn read_load(header: &Header, buffer: &[u8]) -> Result<Vec<TargetSpec>, AbiError> {
    let bytes = within(header, buffer);
    if header.target_count == 0 {
        return refuse("populate_table: no targets specified");
    }
    let most = bytes.len() / SPEC_BYTES;
    let mut rows = Vec::with_capacity((header.target_count as usize).min(most));
    let (mut spec, mut least, mut next) = (0, HEADER_BYTES, header.data_start as usize);
    for row in 1..=header.target_count {
        let place = || format!("row {row}: ");
        if next < least {
            return refuse(format!(
                "{}populate_table: next target spec (offset {next}) overlaps {}",
                place(),
                if row == 1 {
                    "'struct dm_ioctl'"
                } else {
                    "previous 'struct dm_target_spec'"
                }
            ));
        }
        let at = match spec_after(bytes.len(), spec, next) {
            Ok(at) => at,
            Err(text) => return refuse(place() + &text),
        };
        let (Some(start), Some(length), Some(following)) = (
            u64_at(bytes, at),
            u64_at(bytes, at + 8),
            u32_at(bytes, at + 20),
        ) else {
            return refuse(place() + "Target spec extends beyond end of parameters");
        };
        let Some(params) = text_at(bytes, at + SPEC_BYTES) else {
            return refuse(place() + "populate_table: target parameters not NUL-terminated");
        };
        rows.push(TargetSpec {
            start,
            length,
            target: utf8(type_at(bytes, at + 24), "a target type")?,
            params: utf8(params, "the parameters of a target")?,
        });
        spec = at;
        least = SPEC_BYTES + params.len() + 1;
        next = following as usize;
    }
    Ok(rows)
}

/// Where the spec `next` bytes behind the one at `last` starts, with room for it and one NUL.
fn spec_after(end: usize, last: usize, next: usize) -> Result<usize, String> {
    let room = end.saturating_sub(last).checked_sub(SPEC_BYTES);
    if room.is_none_or(|room| room <= next) {
        return Err("Target spec extends beyond end of parameters".to_string());
    }
    if !next.is_multiple_of(8) {
        return Err(format!(
            "Next dm_target_spec (offset {next}) is not 8-byte aligned"
        ));
    }
    Ok(last + next)
}

fn type_at(bytes: &[u8], at: usize) -> &[u8] {
    let field = bytes.get(at..at + TYPE_BYTES).unwrap_or_default();
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The payload of a `TABLE_LOAD` of `rows`; put their count in [`Header::target_count`]. A target type
/// longer than 15 bytes is cut, as `strncpy` in libdm does.
///
/// # Errors
/// `EINVAL` if the rows do not fit [`MAX_BYTES`] or a parameter holds a NUL.
pub fn load(rows: &[TargetSpec]) -> Result<Vec<u8>, AbiError> {
    let mut out = Vec::new();
    for row in rows {
        let size = align(SPEC_BYTES + row.params.len() + 1);
        if out.len() + size > MAX_BYTES - HEADER_BYTES {
            return refuse(format!(
                "table is too large: expected at most {MAX_BYTES} bytes"
            ));
        }
        if row.params.contains('\0') {
            return refuse("target parameters hold a NUL");
        }
        put_spec(&mut out, row, size);
    }
    Ok(out)
}

fn put_spec(out: &mut Vec<u8>, row: &TargetSpec, next: usize) {
    let start = out.len();
    out.extend_from_slice(&row.start.to_le_bytes());
    out.extend_from_slice(&row.length.to_le_bytes());
    out.extend_from_slice(&0_i32.to_le_bytes());
    out.extend_from_slice(&(next as u32).to_le_bytes());
    out.extend(row.target.bytes().take(TYPE_BYTES - 1));
    out.resize(start + SPEC_BYTES, 0);
    out.extend_from_slice(row.params.as_bytes());
    out.push(0);
    out.resize(start + align(out.len() - start), 0);
}

/// The sector and text of a `TARGET_MSG` (`target_message`).
///
/// # Errors
/// `EINVAL` `Invalid target message parameters.`
pub fn read_message(header: &Header, buffer: &[u8]) -> Result<(u64, String), AbiError> {
    let (bytes, at) = (within(header, buffer), header.data_start as usize);
    let text = at.checked_add(8).and_then(|at| text_at(bytes, at));
    match (u64_at(bytes, at), text) {
        (Some(sector), Some(text)) if at >= MIN_BYTES => Ok((sector, utf8(text, "a message")?)),
        _ => refuse("Invalid target message parameters."),
    }
}

/// The payload of a `TARGET_MSG`.
pub fn message(sector: u64, text: &str) -> Vec<u8> {
    let mut out = sector.to_le_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out
}

/// The new name or, with [`Flags::UUID`], uuid of a `DEV_RENAME` (`dev_rename`).
///
/// # Errors
/// `EINVAL` `Invalid new mapped device name or uuid string supplied.`
pub fn read_rename(header: &Header, buffer: &[u8]) -> Result<String, AbiError> {
    const WHY: &str = "Invalid new mapped device name or uuid string supplied.";
    let text = payload_text(header, buffer, WHY)?;
    let most = match header.flags.has(Flags::UUID) {
        true => super::UUID_BYTES - 1,
        false => super::NAME_BYTES - 1,
    };
    if text.is_empty() || text.len() > most {
        return refuse(WHY);
    }
    Ok(text)
}

/// The payload of a `DEV_RENAME`, or of any command whose payload is a text.
pub fn text(text: &str) -> Vec<u8> {
    let mut out = text.as_bytes().to_vec();
    out.push(0);
    out
}

/// The geometry of a `DEV_SET_GEOMETRY` (`dev_set_geometry`): four decimal numbers.
///
/// # Errors
/// `EINVAL` with the kernel's three texts: no text, no four numbers, a number out of range.
pub fn read_geometry(header: &Header, buffer: &[u8]) -> Result<Geometry, AbiError> {
    let text = payload_text(header, buffer, "Invalid geometry supplied.")?;
    let numbers: Option<Vec<u64>> = text
        .split_ascii_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    let Some([cylinders, heads, sectors, start]) = numbers.as_deref() else {
        return refuse("Unable to interpret geometry settings.");
    };
    match (
        u16::try_from(*cylinders),
        u8::try_from(*heads),
        u8::try_from(*sectors),
    ) {
        (Ok(cylinders), Ok(heads), Ok(sectors)) => Ok(Geometry {
            cylinders,
            heads,
            sectors,
            start: *start,
        }),
        _ => refuse("Geometry exceeds range limits."),
    }
}

// Answers -----------------------------------------------------------------------------------------

/// Sets what every answer with a payload of `bytes` has in common.
fn sized(header: &mut Header, payload: Vec<u8>) -> Vec<u8> {
    header.data_start = HEADER_BYTES as u32;
    header.data_size = (HEADER_BYTES + payload.len()) as u32;
    payload
}

fn full(header: &mut Header) -> Vec<u8> {
    header.flags |= Flags::BUFFER_FULL;
    header.data_start = HEADER_BYTES as u32;
    Vec::new()
}

/// The status or table lines of a device (`retrieve_status`). Sets the header's `target_count`; rows
/// from the first that does not fit on are left out, and the header says so.
pub fn answer_rows(header: &mut Header, rows: impl IntoIterator<Item = TargetSpec>) -> Vec<u8> {
    let room = header.room();
    let rows: Vec<TargetSpec> = rows.into_iter().collect();
    // All at once, and wiped: there may be keys in them.
    let lengths = rows.iter().map(|row| SPEC_BYTES + row.params.len() + 16);
    let mut out = Vec::with_capacity(lengths.sum::<usize>().min(room));
    let (mut used, mut count) = (0, 0_u32);
    for mut row in rows {
        count = count.saturating_add(1);
        let end = out.len() + SPEC_BYTES + row.params.len() + 1;
        if header.flags.has(Flags::BUFFER_FULL) || end >= room {
            header.flags |= Flags::BUFFER_FULL;
            row.params.zeroize();
            continue;
        }
        put_spec(&mut out, &row, align(end));
        row.params.zeroize();
        used = end;
    }
    header.target_count = count;
    header.data_start = HEADER_BYTES as u32;
    if used == 0 {
        return Vec::new();
    }
    out.truncate(used);
    sized(header, out)
}

/// The devices that a table uses (`retrieve_deps`).
pub fn answer_deps(header: &mut Header, devices: &[DevNo]) -> Vec<u8> {
    if header.room() < 8 + 8 * devices.len() {
        return full(header);
    }
    let mut out = Vec::with_capacity(8 + 8 * devices.len());
    out.extend_from_slice(&(devices.len() as u32).to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes());
    for dev in devices {
        out.extend_from_slice(&dev.encode().to_le_bytes());
    }
    sized(header, out)
}

/// All devices (`list_devices`; the kernel orders them by name). All or nothing: a list that does not
/// fit is not begun. The filter on the request's name and uuid, which are prefixes, is the caller's.
pub fn answer_names(header: &mut Header, devices: &[ListedDevice]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, device) in devices.iter().enumerate() {
        let start = out.len();
        out.extend_from_slice(&device.dev.encode().to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(device.name.as_bytes());
        out.push(0);
        out.resize(align(out.len()), 0);
        out.extend_from_slice(&device.event_nr.to_le_bytes());
        let has_uuid = if device.uuid.is_some() {
            LISTED_UUID
        } else {
            LISTED_NO_UUID
        };
        out.extend_from_slice(&has_uuid.to_le_bytes());
        if let Some(uuid) = &device.uuid {
            out.extend_from_slice(uuid.as_bytes());
            out.push(0);
            out.resize(align(out.len()), 0);
        }
        if at + 1 < devices.len() {
            patch(&mut out, start + 8, |end| end - start);
        }
    }
    if devices.is_empty() {
        out.extend_from_slice(&DevNo::NONE.encode().to_le_bytes());
        out.extend_from_slice(&[0; 8]);
    }
    if out.len() > header.room() {
        return full(header);
    }
    sized(header, out)
}

/// `DM_NAME_LIST_FLAG_HAS_UUID` and `DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID`.
const LISTED_UUID: u32 = 1;
const LISTED_NO_UUID: u32 = 2;

/// Overwrites the word at `at` with `of` the present length.
fn patch(out: &mut [u8], at: usize, of: impl Fn(usize) -> usize) {
    let value = (of(out.len()) as u32).to_le_bytes();
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&value);
    }
}

/// The target types and their versions (`list_versions`, `get_target_version`).
pub fn answer_versions(header: &mut Header, versions: &[TargetVersion]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let start = out.len();
        out.extend_from_slice(&0_u32.to_le_bytes());
        for word in version.version {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(version.name.as_bytes());
        out.push(0);
        out.resize(align(out.len()), 0);
        if at + 1 < versions.len() {
            patch(&mut out, start, |end| end - start);
        }
    }
    if out.len() > header.room() {
        return full(header);
    }
    sized(header, out)
}

/// A message's reply: [`Flags::DATA_OUT`] and the text. An empty reply is no reply.
pub fn answer_message(header: &mut Header, reply: &str) -> Vec<u8> {
    if reply.is_empty() {
        return Vec::new();
    }
    header.flags |= Flags::DATA_OUT;
    if reply.len() + 1 > header.room() {
        return full(header);
    }
    sized(header, text(reply))
}

// The caller's side of the answers ----------------------------------------------------------------

fn answer(header: &Header, buffer: &[u8]) -> Result<usize, AbiError> {
    let at = header.data_start as usize;
    if at < MIN_BYTES || at > buffer.len() {
        return refuse(format!(
            "answer's payload at byte {at} lies outside its {} bytes",
            buffer.len()
        ));
    }
    Ok(at)
}

/// The rows of an [`answer_rows`]: as many of [`Header::target_count`] as came.
///
/// # Errors
/// `EINVAL` for an answer whose rows lie outside of it.
pub fn read_rows(header: &Header, buffer: &[u8]) -> Result<Vec<TargetSpec>, AbiError> {
    let first = answer(header, buffer)?;
    let mut rows = Vec::new();
    let mut at = first;
    for row in 1..=header.target_count {
        let fields = (
            u64_at(buffer, at),
            u64_at(buffer, at + 8),
            u32_at(buffer, at + 20),
        );
        let (Some(start), Some(length), Some(next)) = fields else {
            break;
        };
        let Some(params) = text_at(buffer, at + SPEC_BYTES) else {
            return refuse(format!("row {row} of the answer has no end"));
        };
        rows.push(TargetSpec {
            start,
            length,
            target: utf8(type_at(buffer, at + 24), "a target type")?,
            params: utf8(params, "the parameters of a target")?,
        });
        let following = first.saturating_add(next as usize);
        if following <= at {
            break;
        }
        at = following;
    }
    if rows.len() < header.target_count as usize && !header.flags.has(Flags::BUFFER_FULL) {
        return refuse(format!(
            "answer has {} rows: expected {}",
            rows.len(),
            header.target_count
        ));
    }
    Ok(rows)
}

/// The devices of an [`answer_deps`].
///
/// # Errors
/// `EINVAL` for a count that the answer is too short for.
pub fn read_deps(header: &Header, buffer: &[u8]) -> Result<Vec<DevNo>, AbiError> {
    let at = answer(header, buffer)?;
    let count = u32_at(buffer, at).unwrap_or(0) as usize;
    let list = buffer.get(at + 8..).unwrap_or_default();
    if list.len() / 8 < count {
        return refuse(format!("answer is too short for {count} dependencies"));
    }
    Ok(list
        .chunks_exact(8)
        .take(count)
        .filter_map(|raw| u64_at(raw, 0))
        .map(DevNo::decode)
        .collect())
}

/// The devices of an [`answer_names`].
///
/// # Errors
/// `EINVAL` for a list that leaves the answer.
pub fn read_names(header: &Header, buffer: &[u8]) -> Result<Vec<ListedDevice>, AbiError> {
    let mut at = answer(header, buffer)?;
    let mut devices = Vec::new();
    if u64_at(buffer, at).unwrap_or(0) == 0 {
        return Ok(devices);
    }
    loop {
        let fields = (
            u64_at(buffer, at),
            u32_at(buffer, at + 8),
            text_at(buffer, at + 12),
        );
        let (Some(raw), Some(next), Some(name)) = fields else {
            return refuse("a device of the list lies outside the answer");
        };
        let events = at + align(12 + name.len() + 1);
        let uuid = match u32_at(buffer, events + 4) {
            Some(flags) if flags & LISTED_UUID != 0 => text_at(buffer, events + 8),
            _ => None,
        };
        devices.push(ListedDevice {
            dev: DevNo::decode(raw),
            name: utf8(name, "a device name")?,
            event_nr: u32_at(buffer, events).unwrap_or(0),
            uuid: uuid.map(|uuid| utf8(uuid, "a device uuid")).transpose()?,
        });
        if next == 0 {
            return Ok(devices);
        }
        at = at.saturating_add(next as usize);
    }
}

/// The types of an [`answer_versions`].
///
/// # Errors
/// `EINVAL` for a list that leaves the answer.
pub fn read_versions(header: &Header, buffer: &[u8]) -> Result<Vec<TargetVersion>, AbiError> {
    let mut at = answer(header, buffer)?;
    let mut versions = Vec::new();
    while at < buffer.len() {
        let word = |offset: usize| u32_at(buffer, at + offset);
        let (Some(next), Some(major), Some(minor), Some(patch), Some(name)) = (
            word(0),
            word(4),
            word(8),
            word(12),
            text_at(buffer, at + 16),
        ) else {
            return refuse("a version of the list lies outside the answer");
        };
        versions.push(TargetVersion {
            name: utf8(name, "a target type")?,
            version: [major, minor, patch],
        });
        if next == 0 {
            break;
        }
        at = at.saturating_add(next as usize);
    }
    Ok(versions)
}

/// A message's reply, if [`Flags::DATA_OUT`] says there is one.
///
/// # Errors
/// `EINVAL` for a text without NUL.
pub fn read_reply(header: &Header, buffer: &[u8]) -> Result<Option<String>, AbiError> {
    if !header.flags.has(Flags::DATA_OUT) || header.flags.has(Flags::BUFFER_FULL) {
        return Ok(None);
    }
    match text_at(buffer, answer(header, buffer)?) {
        Some(text) => utf8(text, "the reply").map(Some),
        None => refuse("the reply has no end"),
    }
}
