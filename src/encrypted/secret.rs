//! Bytes that nobody else may see.

use std::fmt;
use std::ops::{Deref, DerefMut};

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

/// A key or passphrase: wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A secret of `len` zeroes, to be filled.
    pub fn zeroed(len: usize) -> Secret {
        Secret(Zeroizing::new(vec![0; len]))
    }

    /// A secret of `len` random bytes.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn random(len: usize) -> Result<Secret, Errno> {
        let mut secret = Secret::zeroed(len);
        fill_random(&mut secret)?;
        Ok(secret)
    }

    /// A part of the secret.
    pub fn part(&self, range: std::ops::Range<usize>) -> Secret {
        Secret::from(self.get(range).unwrap_or_default().to_vec())
    }

    /// Whether `other` is the same, in a time that does not tell where they differ.
    pub fn is(&self, other: &[u8]) -> bool {
        let differing = self.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
        self.len() == other.len() && differing == 0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Secret {
        Secret(Zeroizing::new(bytes))
    }
}

impl Deref for Secret {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len())
    }
}

/// Fills `bytes` with randomness of the kernel's.
///
/// # Errors
/// When the kernel gives none.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A key as tables write it.
pub fn hex(key: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(String::with_capacity(2 * key.len()));
    for byte in key {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Secret, hex};

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(7 bytes)");
        assert!(secret.is(b"hunter2") && !secret.is(b"hunter3") && !secret.is(b"hunter"));
        assert_eq!(*hex(&[0x0f, 0xa0]), "0fa0");
    }

    #[test]
    fn random_bytes_differ() {
        let [one, other] = [0, 0].map(|_| Secret::random(5000).unwrap());
        assert!(!one.is(&other));
    }
}
