//! Fixed fields of big-endian headers.

use super::Malformed;

/// `N` bytes at `at`, if they are there.
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The big-endian 16-bit number at `at`.
pub(super) fn be16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

/// The big-endian 32-bit number at `at`.
pub(super) fn be32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_be_bytes)
}

/// The big-endian 64-bit number at `at`.
pub(super) fn be64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_be_bytes)
}

/// The text in a field that a NUL ends.
///
/// # Errors
/// A text that does not end in its field, or is not UTF-8 without control characters.
pub(super) fn text_in(field: &[u8], name: &str) -> Result<String, Malformed> {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .ok_or_else(|| Malformed::new(name, "the text does not end in its field"))?;
    let text = field.get(..end).unwrap_or_default();
    match std::str::from_utf8(text) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(Malformed::new(name, "expected printable text")),
    }
}

/// Puts `text` into a field, the rest of which is zeroed.
///
/// # Errors
/// A text that does not fit with its NUL, or holds one.
pub(super) fn put_text(field: &mut [u8], text: &str, name: &str) -> Result<(), Malformed> {
    if text.len() >= field.len() || text.contains('\0') {
        let most = field.len().saturating_sub(1);
        return Err(Malformed::new(
            name,
            format!("expected at most {most} bytes, found {}", text.len()),
        ));
    }
    field.fill(0);
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    Ok(())
}
