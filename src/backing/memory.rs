//! Memory as a device: `mem:SIZE` or `mem:SIZE:NAME`.
//!
//! It is an anonymous file of the kernel (memfd), so that everything a file can do it can do too: it takes no
//! memory where nothing was written, discards give memory back, holes are told. What it holds lives as long as
//! a table uses it.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::BackingError;
use crate::io::Errno;
use crate::unit::{Bytes, MAX_SECTORS};

/// What a device argument that means memory begins with.
pub const MEMORY_PREFIX: &str = "mem:";

/// Longest name of a memory device, bytes.
const MAX_NAME: usize = 128;

/// What stands behind `mem:`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MemorySpec<'a> {
    /// The size as written.
    pub size_text: &'a str,
    /// The size.
    pub size: Bytes,
    /// The name, where one is given.
    pub name: Option<&'a str>,
}

impl<'a> MemorySpec<'a> {
    /// Reads `SIZE` or `SIZE:NAME`.
    ///
    /// # Errors
    /// EINVAL, saying what is wrong with the size or the name.
    pub(super) fn parse(text: &'a str) -> Result<MemorySpec<'a>, BackingError> {
        let (size_text, name) = match text.split_once(':') {
            Some((size, name)) => (size, Some(name)),
            None => (text, None),
        };
        let refuse = |what: String| {
            BackingError::new(Errno::INVAL, format!("{MEMORY_PREFIX}{text}: {what}"))
        };
        let size = parse_size(size_text).map_err(|error| refuse(error.message))?;
        if let Some(name) = name {
            let fit = |c: char| c.is_ascii_graphic() && c != ':' && c != '/';
            if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fit) {
                return Err(refuse(format!(
                    "the name must be 1 to {MAX_NAME} printable ASCII characters other than ':' and '/'"
                )));
            }
        }
        Ok(MemorySpec {
            size_text,
            size,
            name,
        })
    }
}

/// The size of the memory that `text` (`mem:SIZE` or `mem:SIZE:NAME`) would be.
///
/// # Errors
/// EINVAL, saying what is wrong with the size or the name.
pub fn memory_size(text: &str) -> Result<Bytes, BackingError> {
    MemorySpec::parse(text.strip_prefix(MEMORY_PREFIX).unwrap_or(text)).map(|spec| spec.size)
}

/// A size of a device: bytes, or a number with K, M, G, T, P or E (powers of 1024, either case). It must be whole
/// sectors, at least one, and no more than a device can have.
///
/// # Errors
/// EINVAL, with a sentence that names the text and what was expected.
pub fn parse_size(text: &str) -> Result<Bytes, BackingError> {
    let refuse = |what: &str| {
        Err(BackingError::new(
            Errno::INVAL,
            format!("size {text:?}: {what}"),
        ))
    };
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, unit)) => match "KMGTPE".find(unit.to_ascii_uppercase()) {
            Some(power) => (text.get(..at).unwrap_or_default(), 10 * (power as u32 + 1)),
            None => (text, 0),
        },
        None => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("expected a number of bytes, or a number with K, M, G, T, P or E");
    }
    let limit = MAX_SECTORS.to_bytes();
    let size = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift));
    match size.map(Bytes) {
        Some(size) if size > limit => refuse("more than a device can have (2^63 - 512 bytes)"),
        None => refuse("more than a device can have (2^63 - 512 bytes)"),
        Some(Bytes(0)) => refuse("a device has at least one sector (512 bytes)"),
        Some(size) if !size.is_whole_sectors() => refuse("not a multiple of a sector (512 bytes)"),
        Some(size) => Ok(size),
    }
}

/// Makes the anonymous file.
///
/// # Errors
/// The kernel's errno, where it has no memfd or refuses the size.
pub(super) fn create(spec: &MemorySpec<'_>, name: &str) -> Result<OwnedFd, BackingError> {
    let made = memfd_create(format!("dmfs-{name}"), MemfdFlags::CLOEXEC)
        .and_then(|fd| ftruncate(&fd, spec.size.0).map(|()| fd));
    made.map_err(|errno| {
        BackingError::new(
            errno,
            format!(
                "{MEMORY_PREFIX}{}: no memory device: {errno}",
                spec.size_text
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{MemorySpec, parse_size};
    use crate::unit::Bytes;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("512").unwrap(), Bytes(512));
        assert_eq!(parse_size("512K").unwrap(), Bytes(512 << 10));
        assert_eq!(parse_size("64m").unwrap(), Bytes(64 << 20));
        assert_eq!(parse_size("1G").unwrap(), Bytes(1 << 30));
        assert_eq!(parse_size("7E").unwrap(), Bytes(7 << 60));
    }

    #[test]
    fn hostile_sizes_are_refused() {
        for text in [
            "",
            "K",
            "0",
            "0G",
            "-1",
            "+512",
            "1.5G",
            "513",
            " 512",
            "512 ",
            "8E",
            "16E",
            "1Z",
            "0x200",
            "1GB",
            "18446744073709551615",
            "99999999999999999999",
            "9223372036854775808",
            "\u{663}K",
            "5\u{e9}",
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.message.contains("size"), "{text}: {error}");
        }
        assert_eq!(
            parse_size("9223372036854775296").unwrap(),
            Bytes((1 << 63) - 512)
        );
    }

    #[test]
    fn a_name_follows_the_size() {
        let spec = MemorySpec::parse("1M:scratch").unwrap();
        assert_eq!((spec.size, spec.name), (Bytes(1 << 20), Some("scratch")));
        assert_eq!(MemorySpec::parse("1M").unwrap().name, None);
        for bad in ["1M:", "1M:a b", "1M:a:b", "1M:a/b", ":a", "1M:\u{e9}"] {
            assert!(MemorySpec::parse(bad).is_err(), "{bad}");
        }
        assert!(MemorySpec::parse(&format!("1M:{}", "x".repeat(129))).is_err());
    }
}
