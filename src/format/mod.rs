//! Formats on disk, pure: bytes in, structs out, and back.

mod bytes;
pub mod log_writes;
pub mod luks1;
pub mod luks2;
mod malformed;
pub mod tcrypt;

pub use malformed::Malformed;
