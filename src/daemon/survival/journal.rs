//! Lines of JSON in an anonymous file in memory: it outlives the process that writes it where another one has it
//! open, and is never on a disk, as tables may hold keys.
//!
//! A process can be killed in the middle of a line. Such a line was not answered for; whoever goes on cuts it off.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use serde::Serialize;

use crate::io::Errno;

/// A journal is written anew when it is twice as long as after the last time, and this much longer, bytes.
const SPARE: u64 = 1 << 20;
/// Read at a time, bytes.
const PIECE: usize = 1 << 20;

/// A journal.
#[derive(Debug)]
pub struct Journal {
    file: OwnedFd,
    len: u64,
    /// When it was written anew.
    first_len: u64,
}

impl Journal {
    /// A new one of these lines.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn of<L: Serialize>(name: &str, lines: impl IntoIterator<Item = L>) -> io::Result<Journal> {
        let mut journal = Journal {
            file: memfd_create(name, MemfdFlags::CLOEXEC)?,
            len: 0,
            first_len: 0,
        };
        for line in lines {
            journal.append(&line)?;
        }
        journal.first_len = journal.len;
        Ok(journal)
    }

    /// Goes on with the one in `file`, after handing each of its lines to `take`.
    ///
    /// # Errors
    /// What the system or `take` say.
    pub fn resume(
        file: OwnedFd,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> io::Result<Journal> {
        let size = fstat(&file)?.st_size.unsigned_abs();
        let (mut rest, mut len) = (Vec::new(), 0);
        let mut at = 0;
        let mut piece = vec![0; PIECE];
        while at < size {
            let n = pread(&file, &mut piece, at)?;
            if n == 0 {
                break;
            }
            at += n as u64;
            rest.extend_from_slice(piece.get(..n).unwrap_or_default());
            let mut taken = 0;
            while let Some(end) = rest[taken..].iter().position(|byte| *byte == b'\n') {
                take(&rest[taken..taken + end]).map_err(io::Error::other)?;
                taken += end + 1;
            }
            rest.drain(..taken);
            len += taken as u64;
        }
        ftruncate(&file, len)?;
        Ok(Journal {
            file,
            len,
            first_len: len,
        })
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Where there is no memory; what was written of the line is then not looked at.
    pub fn append(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut done = 0;
        while done < text.len() {
            match pwrite(&self.file, &text[done..], self.len + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(error) => {
                    let _ = ftruncate(&self.file, self.len);
                    return Err(error.into());
                }
            }
        }
        self.len += done as u64;
        Ok(())
    }

    /// True where it is time to write it anew.
    pub fn is_long(&self) -> bool {
        self.len > 2 * self.first_len + SPARE
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::fd::AsFd;

    use rustix::io::pwrite;

    use super::Journal;

    fn lines(journal: &Journal) -> (Vec<String>, Journal) {
        let mut lines = Vec::new();
        let file = journal.as_fd().try_clone_to_owned().unwrap();
        let resumed = Journal::resume(file, |line| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        });
        (lines, resumed.unwrap())
    }

    #[test]
    fn a_line_that_was_cut_short_is_cut_off() {
        let mut journal = Journal::of("test", [1, 2]).unwrap();
        journal.append(&"three").unwrap();
        pwrite(&journal, b"\"half a li", journal.len).unwrap();
        let (read, mut resumed) = lines(&journal);
        assert_eq!(read, ["1", "2", "\"three\""]);
        resumed.append(&4).unwrap();
        assert_eq!(lines(&resumed).0, ["1", "2", "\"three\"", "4"]);
    }

    #[test]
    fn long_lines_come_back_whole() {
        let long = "x".repeat(3 << 20);
        let mut journal = Journal::of("test", [&long]).unwrap();
        assert!(!journal.is_long());
        for _ in 0..2 {
            journal.append(&long).unwrap();
        }
        assert!(journal.is_long());
        let (read, _) = lines(&journal);
        assert_eq!(read.len(), 3);
        assert!(read.iter().all(|line| line.len() == long.len() + 2));
    }

    #[test]
    fn a_line_that_is_refused_stops_it() {
        let journal = Journal::of("test", [1]).unwrap();
        let file = journal.as_fd().try_clone_to_owned().unwrap();
        let refused = Journal::resume(file, |_| Err("no".to_owned()));
        assert_eq!(refused.unwrap_err().to_string(), "no");
    }
}
