//! Why a cipher or a key was refused.

use std::fmt;

use rustix::io::Errno;

/// Why a cipher cannot be had: the kernel's text and errno, and what was expected. Never holds a part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CipherError {
    /// The kernel's errno.
    pub errno: Errno,
    /// The kernel's text.
    pub text: &'static str,
    /// What was expected, for people.
    pub expected: String,
}

impl CipherError {
    pub(super) fn invalid(text: &'static str, expected: impl Into<String>) -> CipherError {
        CipherError {
            errno: Errno::INVAL,
            text,
            expected: expected.into(),
        }
    }

    pub(super) fn unknown(expected: impl Into<String>) -> CipherError {
        CipherError {
            errno: Errno::NOENT,
            text: "Error allocating crypto tfm",
            expected: expected.into(),
        }
    }

    pub(super) fn key(expected: impl Into<String>) -> CipherError {
        CipherError::invalid("Error decoding and setting key", expected)
    }
}

impl fmt::Display for CipherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}", self.text, self.expected)
    }
}

impl std::error::Error for CipherError {}
