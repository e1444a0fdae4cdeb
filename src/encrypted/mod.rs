//! Encrypted volumes: from a header and a passphrase to a row of a table, and what manages such headers.
//!
//! Works on whatever is a [`BlockDev`](crate::io::BlockDev): the command line hands in files, tests hand in devices that fail
//! or lose power. Keys live in [`Secret`]s, which forget them when dropped and show them to nobody.

mod benchmark;
mod bytes;
mod error;
mod header_file;
mod key_file;
mod keyslot;
pub mod luks;
pub mod plain;
mod row;
mod secret;
pub mod tcrypt;
mod uuid;

pub use benchmark::{DEFAULT_MEMORY, Pbkdf, PbkdfKind, processors};
pub use bytes::{flush, read_bytes, wipe, write_bytes};
pub use error::{Kind, Refused};
pub use header_file::HeaderFile;
pub use key_file::{plain as plain_error, read_key_file};
pub use row::CryptRow;
pub use secret::{Secret, fill_random, hex};
pub use uuid::{is_uuid, new_uuid};
