//! Why something about a volume cannot be done.

use std::fmt;

use crate::crypto::Underivable;
use crate::format::Malformed;
use crate::io::IoError;

/// What went wrong: one sentence for people, and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The class.
    pub kind: Kind,
    /// The sentence. Never holds a part of a key or passphrase.
    pub message: String,
}

/// Classes of failures, which are cryptsetup's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wrong parameters, or anything that is none of the others.
    Invalid,
    /// No permission: the passphrase opens nothing.
    Passphrase,
    /// Out of memory.
    Memory,
    /// Wrong device.
    Device,
    /// The device exists already, or is in use.
    Busy,
}

impl Kind {
    /// The program's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Invalid => 1,
            Kind::Passphrase => 2,
            Kind::Memory => 3,
            Kind::Device => 4,
            Kind::Busy => 5,
        }
    }
}

impl Refused {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Refused {
        Refused {
            kind,
            message: message.into(),
        }
    }

    /// Wrong parameters.
    pub fn invalid(message: impl Into<String>) -> Refused {
        Refused::new(Kind::Invalid, message)
    }

    /// The passphrase opens nothing.
    pub fn passphrase() -> Refused {
        Refused::new(Kind::Passphrase, "No key available with this passphrase.")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Refused {
        Refused::invalid(format!("The header is damaged: {malformed}."))
    }
}

impl From<IoError> for Refused {
    fn from(error: IoError) -> Refused {
        Refused::new(Kind::Device, format!("Input or output failed: {error}."))
    }
}

impl From<Underivable> for Refused {
    fn from(error: Underivable) -> Refused {
        let kind = match error {
            Underivable::Memory(_) => Kind::Memory,
            Underivable::Hash(_) | Underivable::Parameters(_) => Kind::Invalid,
        };
        Refused::new(kind, format!("No key can be derived: {error}."))
    }
}
