//! Where the traces of the real kernel are.

use std::env;
use std::path::{Path, PathBuf};

/// The folder of traces: `DMFS_FIXTURES`, else our copies, else the full set beside the repository.
pub fn traces() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = match env::var_os("DMFS_FIXTURES") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![
            ours.join("tests/fixtures/traces"),
            ours.join("../shared/fixtures"),
        ],
    };
    candidates
        .iter()
        .find(|folder| folder.is_dir())
        .cloned()
        .unwrap_or_else(|| {
            panic!(
                "no folder of traces (GROUP/FIXTURE/trace): looked at {candidates:?}; \
                 name one with DMFS_FIXTURES=DIR"
            )
        })
}

/// Every fixture below `folder`: its name (`GROUP/FIXTURE`) and its folder, in order.
pub fn all(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for group in folders(folder) {
        for fixture in folders(&group) {
            if fixture.join("trace").is_file() {
                found.push((
                    format!("{}/{}", file_name(&group), file_name(&fixture)),
                    fixture,
                ));
            }
        }
    }
    assert!(
        !found.is_empty(),
        "{} holds no GROUP/FIXTURE/trace",
        folder.display()
    );
    found
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let mut inside: Vec<PathBuf> = parent
        .read_dir()
        .unwrap_or_else(|error| panic!("{}: {error}", parent.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    inside.sort();
    inside
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
