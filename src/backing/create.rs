//! Makes the sparse files that a mount's description asks for.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::BackingError;
use crate::io::Errno;
use crate::unit::{Bytes, MAX_SECTORS};

/// What to do with a file that is there already. It is never made longer or shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It must have the size asked for.
    OfThatSize,
    /// It is used as it is.
    OfAnySize,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The file is new and reads as zeroes.
    New,
    /// The file was there.
    Existed,
}

/// Sees to it that there is a regular file of `size` bytes at `path`. A new one is sparse, its owner's alone
/// (mode 0600), and on disk with its name when this returns. Folders are not made.
///
/// # Errors
/// EINVAL for a size no device can have; EEXIST for a file of another size or something that is no regular file;
/// ENOENT for a missing folder; else the errno of making the file.
pub fn create_file(path: &Path, size: Bytes, existing: Existing) -> Result<Created, BackingError> {
    let shown = path.display();
    if size.0 == 0 || !size.is_whole_sectors() || size > MAX_SECTORS.to_bytes() {
        return Err(BackingError::new(
            Errno::INVAL,
            format!(
                "{shown}: a size of {size} bytes: expected a multiple of 512, from 512 to 2^63 - 512"
            ),
        ));
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return check_existing(path, size, existing);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = folder_of(path).display();
            return Err(BackingError::new(
                Errno::NOENT,
                format!("{shown} cannot be made: the folder {folder} does not exist"),
            ));
        }
        Err(error) => return Err(failed(&error, path)),
    };
    let made = file.set_len(size.0).and_then(|()| file.sync_all());
    made.and_then(|()| File::open(folder_of(path))?.sync_all())
        .map_err(|error| {
            // Nothing half-made is left behind; it was ours, as it was new.
            let _ = fs::remove_file(path);
            failed(&error, path)
        })?;
    Ok(Created::New)
}

fn check_existing(path: &Path, size: Bytes, existing: Existing) -> Result<Created, BackingError> {
    let shown = path.display();
    let about = fs::metadata(path).map_err(|error| failed(&error, path))?;
    if !about.is_file() {
        return Err(BackingError::new(
            Errno::EXIST,
            format!("{shown} is there and is no regular file"),
        ));
    }
    if existing == Existing::OfThatSize && about.len() != size.0 {
        let found = about.len();
        return Err(BackingError::new(
            Errno::EXIST,
            format!(
                "{shown} is there with {found} bytes where {size} are asked for; it is left as it is"
            ),
        ));
    }
    Ok(Created::Existed)
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn failed(error: &io::Error, path: &Path) -> BackingError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    BackingError::new(errno, format!("{} cannot be made: {errno}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use tempfile::TempDir;

    use super::{Created, Existing, create_file, folder_of};
    use crate::io::Errno;
    use crate::unit::Bytes;

    #[test]
    fn a_new_file_is_sparse_and_private() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("disk");
        let size = Bytes(1 << 30);
        assert_eq!(
            create_file(&path, size, Existing::OfThatSize).unwrap(),
            Created::New
        );
        let about = fs::metadata(&path).unwrap();
        assert_eq!((about.len(), about.blocks()), (1 << 30, 0));
        assert_eq!(about.permissions().mode() & 0o7777, 0o600);
        assert_eq!(
            create_file(&path, size, Existing::OfThatSize).unwrap(),
            Created::Existed
        );
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, "data").unwrap();
        let error = create_file(&path, Bytes(512), Existing::OfThatSize).unwrap_err();
        assert_eq!(error.errno, Errno::EXIST);
        assert!(
            error.message.contains("4 bytes") && error.message.contains("512"),
            "{error}"
        );
        assert_eq!(
            create_file(&path, Bytes(512), Existing::OfAnySize).unwrap(),
            Created::Existed
        );
        assert_eq!(fs::read(&path).unwrap(), b"data");
        let error = create_file(folder.path(), Bytes(512), Existing::OfAnySize).unwrap_err();
        assert_eq!(error.errno, Errno::EXIST);
        let dangling = folder.path().join("dangling");
        symlink("nowhere", &dangling).unwrap();
        let error = create_file(&dangling, Bytes(512), Existing::OfAnySize).unwrap_err();
        assert_eq!(error.errno, Errno::NOENT);
    }

    #[test]
    fn nothing_is_left_of_a_file_that_cannot_be_made() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("disk");
        for size in [0, 1, 513, 1 << 63, u64::MAX] {
            let error = create_file(&path, Bytes(size), Existing::OfThatSize).unwrap_err();
            assert_eq!(error.errno, Errno::INVAL);
        }
        let error = create_file(&path.join("x"), Bytes(512), Existing::OfThatSize).unwrap_err();
        assert_eq!(error.errno, Errno::NOENT);
        assert!(error.message.contains("folder"), "{error}");
        // More than the file system of the test folder can hold in one file, or else it can.
        match create_file(&path, Bytes((1 << 63) - 512), Existing::OfThatSize) {
            Ok(made) => assert_eq!(made, Created::New),
            Err(error) => {
                assert_eq!(error.errno, Errno::FBIG);
                assert!(!path.exists());
            }
        }
        assert_eq!(folder_of(Path::new("disk")), Path::new("."));
    }
}
