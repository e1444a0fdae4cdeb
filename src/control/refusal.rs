//! A control request that was refused: an errno, what the kernel would log, and where the mistake is.

use std::fmt;

use super::protocol::frame::ErrorDetail;
use crate::io::Errno;
use crate::table::TableError;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The errno the kernel gives.
    pub errno: Errno,
    /// The rest.
    pub detail: ErrorDetail,
}

impl Refusal {
    /// A bare errno, where the kernel says nothing either.
    pub fn errno(errno: Errno) -> Refusal {
        Refusal {
            errno,
            detail: ErrorDetail::default(),
        }
    }

    /// An errno with the kernel's line, without its `device-mapper: `.
    pub fn message(errno: Errno, line: String) -> Refusal {
        Refusal {
            errno,
            detail: ErrorDetail::message(line),
        }
    }

    /// An errno for which the kernel logs nothing: what was expected, and what was found instead.
    pub fn of(errno: Errno, expected: &str, found: &str) -> Refusal {
        let detail = ErrorDetail {
            expected: Some(expected.to_owned()),
            found: Some(found.to_owned()),
            ..ErrorDetail::default()
        };
        Refusal { errno, detail }
    }
}

impl From<TableError> for Refusal {
    fn from(error: TableError) -> Refusal {
        Refusal {
            errno: error.errno,
            detail: ErrorDetail {
                messages: error.messages,
                row: error.row,
                word: error.word,
                found: error.found,
                expected: error.expected,
            },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = &self.detail;
        if let Some(row) = detail.row {
            write!(f, "row {row}: ")?;
        }
        if let Some(word) = detail.word {
            write!(f, "word {word}: ")?;
        }
        match detail.messages.first() {
            Some(message) => f.write_str(message)?,
            None => write!(f, "{}", std::io::Error::from(self.errno))?,
        }
        if let Some(expected) = &detail.expected {
            write!(f, ": expected {expected}")?;
        }
        if let Some(found) = &detail.found {
            write!(f, ", found '{found}'")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
