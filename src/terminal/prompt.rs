//! Passphrases from a terminal.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Longest passphrase that is typed, bytes.
pub const MAX_TYPED: usize = 512;

/// Asks at the terminal that this process belongs to, whatever its standard input is; what is typed is not shown.
///
/// # Errors
/// Where there is no terminal, or nothing comes from it.
pub fn ask(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(prompt.as_bytes())?;
    let line = without_echo(&terminal, || read_line(&terminal))?;
    terminal.write_all(b"\n")?;
    line
}

/// Runs `read` while the terminal does not show what is typed.
///
/// # Errors
/// Where it is no terminal.
pub fn without_echo<T>(terminal: impl AsFd, read: impl FnOnce() -> T) -> io::Result<T> {
    let before = tcgetattr(&terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let result = read();
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    Ok(result)
}

/// A line without its end. Not a byte more is read: the next passphrase may follow.
///
/// # Errors
/// Where there is nothing, or more than [`MAX_TYPED`] bytes.
pub fn read_line(from: impl AsFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_TYPED));
    let mut byte = Zeroizing::new([0]);
    loop {
        match rustix::io::read(&from, &mut *byte) {
            Ok(0) if line.is_empty() => {
                let error = io::ErrorKind::UnexpectedEof;
                return Err(io::Error::new(error, "nothing to read"));
            }
            Ok(0) => return Ok(line),
            Ok(_) if *byte == *b"\n" => return Ok(line),
            Ok(_) if line.len() == MAX_TYPED => {
                let message = format!("the passphrase is longer than {MAX_TYPED} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            Ok(_) => line.extend_from_slice(&*byte),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{MAX_TYPED, read_line};
    use std::io::Write;

    #[test]
    fn lines_follow_one_another() {
        let (from, mut to) = std::io::pipe().unwrap();
        to.write_all(b"one\n\ntwo").unwrap();
        drop(to);
        let read = || read_line(&from).map(|line| line.to_vec());
        assert_eq!(read().unwrap(), b"one");
        assert_eq!(read().unwrap(), b"");
        assert_eq!(read().unwrap(), b"two");
        assert!(read().is_err());
    }

    #[test]
    fn too_much_is_refused() {
        let (from, mut to) = std::io::pipe().unwrap();
        to.write_all(&[b'x'; MAX_TYPED + 1]).unwrap();
        assert!(read_line(&from).is_err());
    }
}
