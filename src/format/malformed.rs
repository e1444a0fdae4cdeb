//! What all formats answer to bytes that make no sense.

use std::fmt;

/// Which field of a header is wrong, and what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field, by the name that its specification gives it.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Malformed {
    /// A wrong `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Malformed {
        Malformed {
            field: field.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for Malformed {}
