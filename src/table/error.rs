//! Why a table was refused: the kernel's lines and errno, and the row and word for people.

use std::fmt;

use crate::io::Errno;

/// A table that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    /// The errno the kernel gives.
    pub errno: Errno,
    /// What the kernel would log, each without its `device-mapper: `.
    pub messages: Vec<String>,
    /// The row, counted from 1.
    pub row: Option<u32>,
    /// The word in the row, counted from 1: start, length, type, arguments.
    pub word: Option<u32>,
    /// What stands there.
    pub found: Option<String>,
    /// What was expected.
    pub expected: Option<String>,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        if let Some(word) = self.word {
            write!(f, "word {word}: ")?;
        }
        f.write_str(
            self.messages
                .first()
                .map_or("table refused", String::as_str),
        )?;
        if let Some(expected) = &self.expected {
            write!(f, ": expected {expected}")?;
        }
        if let Some(found) = &self.found {
            write!(f, ", found '{found}'")?;
        }
        Ok(())
    }
}

impl std::error::Error for TableError {}

/// The name of an errno as the kernel prints it with `%pe`, e.g. `EINVAL`; the number where it has none here.
pub fn errno_name(errno: Errno) -> String {
    let name = match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::IO => "EIO",
        Errno::NXIO => "ENXIO",
        Errno::TOOBIG => "E2BIG",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::NOTBLK => "ENOTBLK",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::NOTDIR => "ENOTDIR",
        Errno::ISDIR => "EISDIR",
        Errno::INVAL => "EINVAL",
        Errno::NFILE => "ENFILE",
        Errno::MFILE => "EMFILE",
        Errno::FBIG => "EFBIG",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::RANGE => "ERANGE",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::LOOP => "ELOOP",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::ILSEQ => "EILSEQ",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::NOKEY => "ENOKEY",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::STALE => "ESTALE",
        other => return other.raw_os_error().to_string(),
    };
    name.into()
}
