//! The key of a crypt row: hex digits, none, or a reference to the kernel's keyrings.

use super::keyring::{self, KeyType};
use crate::crypto::Hidden;
use crate::io::Errno;

/// Where a key is, and what it is where the table itself holds it. Never shown by `Debug`.
pub enum Key {
    /// The bytes.
    Bytes(Hidden<[u8]>),
    /// In a keyring of the kernel: `:SIZE:TYPE:DESCRIPTION`.
    Kept {
        /// Bytes.
        size: usize,
        /// `TYPE:DESCRIPTION`.
        name: String,
    },
}

/// Why a word is no key. Says nothing of what was in it.
#[derive(Debug, PartialEq, Eq)]
pub struct BadKey {
    /// The kernel's errno.
    pub errno: Errno,
    /// What was expected.
    pub expected: String,
}

impl BadKey {
    fn invalid(expected: &str) -> BadKey {
        BadKey {
            errno: Errno::INVAL,
            expected: expected.into(),
        }
    }
}

/// Bytes of the key that `word` says; `None` where it says none (dm-crypt.c: get_key_size).
pub fn size(word: &str) -> Option<usize> {
    match word.strip_prefix(':') {
        // A digit too many does not count.
        None => Some(word.len() / 2),
        Some(reference) => {
            let (size, _) = reference.split_once(':')?;
            let size = crate::target::scan_u32(size)?;
            usize::try_from(size).ok()
        }
    }
}

/// The bytes of a key that is kept in a keyring.
pub type Fetched = Option<Hidden<[u8]>>;

impl Key {
    /// The key that `word` says, and its bytes, which for one in a keyring are fetched from there.
    ///
    /// # Errors
    /// EINVAL where the word is malformed, the keyring's errno where the key cannot be had.
    pub fn read(word: &str) -> Result<(Key, Fetched), BadKey> {
        let size =
            size(word).ok_or_else(|| BadKey::invalid("a size in bytes after the first colon"))?;
        match word.strip_prefix(':') {
            Some(reference) => {
                let name = reference.split_once(':').map_or("", |(_, name)| name);
                let bytes = fetch(name, size)?;
                let name = name.to_owned();
                Ok((Key::Kept { size, name }, Some(bytes)))
            }
            None if size == 0 && word != "-" => Err(BadKey::invalid(
                "hex digits, two for a byte, or - for no key",
            )),
            None => Ok((Key::Bytes(decode(word, size)?), None)),
        }
    }

    /// True where the word itself is the key.
    pub fn is_secret(&self) -> bool {
        matches!(self, Key::Bytes(bytes) if !bytes.is_empty())
    }

    /// The word of the table.
    pub fn word(&self) -> String {
        match self {
            Key::Bytes(bytes) if bytes.is_empty() => "-".into(),
            Key::Bytes(bytes) => {
                // With room for all of it, so that no copy is left behind where it grew.
                let mut word = String::with_capacity(2 * bytes.len());
                for byte in bytes.iter() {
                    for digit in [byte >> 4, byte & 15] {
                        word.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
                    }
                }
                word
            }
            Key::Kept { size, name } => format!(":{size}:{name}"),
        }
    }
}

fn decode(word: &str, size: usize) -> Result<Hidden<[u8]>, BadKey> {
    let mut bytes = Hidden::zeroes(size);
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(word.as_bytes().chunks_exact(2)) {
        let digits = digit(pair[0]).zip(digit(pair[1]));
        let (high, low) = digits.ok_or_else(|| BadKey::invalid("hex digits alone"))?;
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

/// The key `TYPE:DESCRIPTION` of the keyrings.
fn fetch(name: &str, size: usize) -> Result<Hidden<[u8]>, BadKey> {
    if name.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return Err(BadKey::invalid("a description without white space"));
    }
    let malformed =
        "TYPE:DESCRIPTION after the size, the type being logon, user, encrypted or trusted";
    let (kind, description) = name
        .split_once(':')
        .filter(|(_, description)| !description.is_empty())
        .ok_or_else(|| BadKey::invalid(malformed))?;
    let kind = KeyType::named(kind).ok_or_else(|| BadKey::invalid(malformed))?;
    keyring::fetch(kind, description, size).map_err(|errno| BadKey {
        errno,
        expected: match errno {
            Errno::NOKEY => "a key that the daemon finds in its keyrings (keyctl show)".into(),
            Errno::INVAL => format!("a key of {size} bytes there"),
            Errno::OPNOTSUPP => format!(
                "a key of type user: the kernel shows those of type {} to no program",
                kind.name()
            ),
            _ => "a key that the daemon may read (keyctl setperm)".into(),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Key, size};
    use crate::io::Errno;

    #[test]
    fn words_come_back_as_the_kernel_shows_them() {
        for (word, shown) in [
            ("-", "-"),
            ("00ff", "00ff"),
            ("00FFa", "00ff"),
            ("aBcD", "abcd"),
        ] {
            let (key, fetched) = Key::read(word).unwrap();
            assert_eq!((key.word().as_str(), fetched.is_none()), (shown, true));
        }
        assert_eq!(size(":32:user:x"), Some(32));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_told() {
        for (word, errno) in [
            ("", Errno::INVAL),
            ("1", Errno::INVAL),
            ("secretXY", Errno::INVAL),
            ("0\u{e9}0", Errno::INVAL),
            (":", Errno::INVAL),
            (":32", Errno::INVAL),
            (":x:user:a", Errno::INVAL),
            (":32:user:", Errno::INVAL),
            (":32::a", Errno::INVAL),
            (":32:user", Errno::INVAL),
            (":32:bogus:a", Errno::INVAL),
            (":32:user:a b", Errno::INVAL),
            (":32:user:dmfs-no-such-key", Errno::NOKEY),
            (":32:logon:dmfs-no:such-key", Errno::NOKEY),
        ] {
            let refused = Key::read(word).err().unwrap();
            assert_eq!(refused.errno, errno, "{word}");
            assert!(!refused.expected.contains("secret"), "{word}");
        }
    }
}
