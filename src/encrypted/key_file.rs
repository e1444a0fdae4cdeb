//! Key files.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::{Refused, Secret};

/// Longest key file, bytes.
const MAX_KEY_FILE: u64 = 8 << 20;
/// Longest read at once, bytes.
const PIECE: usize = 4096;
/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// The bytes of a key file, all of them: an end of line is one of them.
///
/// # Errors
/// A file that cannot be read, or is too short or too long.
pub fn read_key_file(path: &Path, offset: u64, size: Option<u64>) -> Result<Secret, Refused> {
    let file = path.display();
    let failed = |what: &str, error: &std::io::Error| {
        log::debug!("{file}: {error}");
        Refused::invalid(format!(
            "Failed to {what} key file {file}: {}.",
            plain(error)
        ))
    };
    let mut reader: Box<dyn Read> = match path == Path::new(STANDARD_INPUT) {
        true => Box::new(std::io::stdin()),
        false => {
            let open = File::open(path).map_err(|error| failed("open", &error))?;
            if open.metadata().is_ok_and(|found| found.is_dir()) {
                return Err(Refused::invalid(format!(
                    "Failed to read key file {file}: it is a folder."
                )));
            }
            Box::new(open)
        }
    };
    let most = size.unwrap_or(MAX_KEY_FILE);
    if most > MAX_KEY_FILE {
        return Err(Refused::invalid("Maximum keyfile size exceeded."));
    }
    let mut skipped = Secret::zeroed(PIECE);
    let mut left = offset;
    while left > 0 {
        let n = left.min(PIECE as u64) as usize;
        let part = skipped.get_mut(..n).unwrap_or_default();
        match reader.read(part) {
            Ok(0) => return Err(Refused::invalid("Cannot seek to requested keyfile offset.")),
            Ok(n) => left -= n as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", &error)),
        }
    }
    // One byte more, to see whether it ends there.
    let room = most as usize + usize::from(size.is_none());
    let mut secret = Secret::zeroed(room);
    let mut len = 0;
    while len < room {
        // Files of the kernel's take no long reads.
        let end = room.min(len + PIECE);
        match reader.read(secret.get_mut(len..end).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", &error)),
        }
    }
    match size {
        None if len as u64 > MAX_KEY_FILE => {
            Err(Refused::invalid("Maximum keyfile size exceeded."))
        }
        Some(size) if (len as u64) < size => {
            Err(Refused::invalid("Cannot read requested amount of data."))
        }
        _ => Ok(secret.part(0..len)),
    }
}

/// An error of the system's without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::read_key_file;
    use std::fs;
    use std::path::Path;

    #[test]
    fn all_bytes_or_some_of_them_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let bytes: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
        fs::write(&file, &bytes).unwrap();
        assert!(read_key_file(&file, 0, None).unwrap().is(&bytes));
        assert!(
            read_key_file(&file, 5000, Some(7000))
                .unwrap()
                .is(&bytes[5000..12_000])
        );
        assert!(read_key_file(&file, 19_999, Some(2)).is_err());
        assert!(read_key_file(&file, 20_001, None).is_err());
        assert!(read_key_file(&file, 0, Some(9 << 20)).is_err());
    }

    #[test]
    fn files_of_the_kernel_can_be_read() {
        let read = read_key_file(Path::new("/proc/sys/kernel/ostype"), 0, None).unwrap();
        assert!(read.is(b"Linux\n"));
    }
}
