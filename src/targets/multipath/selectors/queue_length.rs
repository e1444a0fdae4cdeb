//! `queue-length`: the path with the fewest requests under way (dm-ps-queue-length.c).

use super::valid_paths::ValidPaths;
use super::{Selector, SelectorKind, ignore_arguments, repeat_count};
use crate::sync::{AtomicU64, Ordering};
use crate::target::{BuildArgs, BuildError};
use crate::unit::Bytes;

/// The registry's entry. For each path: `<repeat_count>`.
pub static KIND: SelectorKind = SelectorKind {
    name: "queue-length",
    path_arguments: 1,
    path_status: 1,
    create,
};

#[derive(Default)]
struct QueueLength {
    valid: ValidPaths,
    paths: Vec<Path>,
}

struct Path {
    repeat_count: u32,
    under_way: AtomicU64,
}

fn create(args: &mut BuildArgs<'_>, count: usize) -> Result<Box<dyn Selector>, BuildError> {
    ignore_arguments(args, count)?;
    Ok(Box::new(QueueLength::default()))
}

impl Selector for QueueLength {
    fn kind(&self) -> &'static SelectorKind {
        &KIND
    }

    fn add_path(&mut self, args: &mut BuildArgs<'_>, count: usize) -> Result<(), BuildError> {
        self.paths.push(Path {
            repeat_count: repeat_count(args, &KIND, (count, 1))?,
            under_way: AtomicU64::new(0),
        });
        self.valid.add();
        Ok(())
    }

    fn select(&self, _len: Bytes) -> Option<usize> {
        let mut best: Option<(usize, u64)> = None;
        for path in self.valid.all_in_turn() {
            let under_way = self.paths[path].under_way.load(Ordering::Relaxed);
            if best.is_none_or(|(_, least)| under_way < least) {
                best = Some((path, under_way));
            }
            if under_way == 0 {
                break;
            }
        }
        best.map(|(path, _)| path)
    }

    fn begin(&self, path: usize, _len: Bytes) -> u64 {
        self.paths[path].under_way.fetch_add(1, Ordering::Relaxed);
        0
    }

    fn end(&self, path: usize, _len: Bytes, _begun: u64) {
        self.paths[path].under_way.fetch_sub(1, Ordering::Relaxed);
    }

    fn fail(&self, path: usize) {
        self.valid.remove(path);
    }

    fn reinstate(&self, path: usize) {
        self.valid.insert_last(path);
    }

    fn path_arguments(&self, path: usize) -> String {
        self.paths[path].repeat_count.to_string()
    }

    fn path_status(&self, path: usize) -> String {
        let under_way = self.paths[path].under_way.load(Ordering::Relaxed);
        under_way.to_string()
    }
}
