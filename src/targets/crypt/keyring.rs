//! Keys of the kernel's keyrings, as far as programs may read them (keyrings(7)).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr::null;

use crate::crypto::Hidden;
use crate::io::Errno;

/// keyctl(2): KEYCTL_READ.
const KEYCTL_READ: libc::c_int = 11;

/// A type of key that crypt knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// Only the kernel reads it.
    Logon,
    /// Programs may read it.
    User,
    /// Programs see it sealed.
    Encrypted,
    /// Programs see it sealed.
    Trusted,
}

impl KeyType {
    const ALL: [KeyType; 4] = [
        KeyType::Logon,
        KeyType::User,
        KeyType::Encrypted,
        KeyType::Trusted,
    ];

    /// The type that the kernel calls `name`.
    pub fn named(name: &str) -> Option<KeyType> {
        KeyType::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            KeyType::Logon => "logon",
            KeyType::User => "user",
            KeyType::Encrypted => "encrypted",
            KeyType::Trusted => "trusted",
        }
    }
}

/// The bytes of a key of `size` bytes that the calling thread finds.
///
/// # Errors
/// ENOKEY where there is none, EOPNOTSUPP where programs cannot have it, EINVAL for another size, else the
/// kernel's.
pub fn fetch(kind: KeyType, description: &str, size: usize) -> Result<Hidden<[u8]>, Errno> {
    let key = find(kind, description)?;
    if kind != KeyType::User {
        return Err(Errno::OPNOTSUPP);
    }
    let mut bytes = Hidden::zeroes(size);
    match read(key, &mut bytes)? {
        len if len == size => Ok(bytes),
        _ => Err(Errno::INVAL),
    }
}

fn find(kind: KeyType, description: &str) -> Result<libc::c_long, Errno> {
    let kind = CString::new(kind.name()).map_err(|_| Errno::INVAL)?;
    let description = CString::new(description).map_err(|_| Errno::INVAL)?;
    let nothing_more = null::<libc::c_char>();
    // SAFETY: two strings that end with a zero, no callout information, and no keyring to link the key to.
    let key = unsafe {
        libc::syscall(
            libc::SYS_request_key,
            kind.as_ptr(),
            description.as_ptr(),
            nothing_more,
            0,
        )
    };
    checked(key)
}

/// Reads as much of a key as there is room for, and tells its length.
fn read(key: libc::c_long, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most as many bytes as it is told of to memory that is ours.
    let len = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_READ,
            key,
            into.as_mut_ptr(),
            into.len(),
        )
    };
    checked(len).map(|len| usize::try_from(len).unwrap_or(0))
}

fn checked(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    let error = std::io::Error::last_os_error();
    match Errno::from_io_error(&error) {
        // A kernel without keyrings has no key, either.
        Some(Errno::NOSYS) => Err(Errno::NOKEY),
        Some(errno) => Err(errno),
        None => Err(Errno::IO),
    }
}
