//! Random UUIDs (RFC 9562, version 4).

use rustix::io::Errno;

use super::secret::{fill_random, hex};

/// Where a UUID's text has its dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// A new UUID, as text.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn new_uuid() -> Result<String, Errno> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = hex(&bytes).to_string();
    for at in DASHES {
        text.insert(at, '-');
    }
    Ok(text)
}

/// Whether `text` is a UUID.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text
            .char_indices()
            .all(|(at, letter)| match DASHES.contains(&at) {
                true => letter == '-',
                false => letter.is_ascii_hexdigit(),
            })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{is_uuid, new_uuid};

    #[test]
    fn new_ones_are_uuids_and_differ() {
        let (one, other) = (new_uuid().unwrap(), new_uuid().unwrap());
        assert!(is_uuid(&one) && is_uuid(&other) && one != other);
        assert_eq!(&one[14..15], "4");
        assert!(!is_uuid("11111111-2222-3333-4444-55555555555"));
        assert!(!is_uuid("11111111-2222-3333-4444-55555555555g"));
    }
}
