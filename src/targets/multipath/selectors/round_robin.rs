//! `round-robin`: one path after the other (dm-ps-round-robin.c).

use super::valid_paths::ValidPaths;
use super::{Selector, SelectorKind, ignore_arguments, repeat_count};
use crate::target::{BuildArgs, BuildError};
use crate::unit::Bytes;

/// The registry's entry. For each path: `<repeat_count>`.
pub static KIND: SelectorKind = SelectorKind {
    name: "round-robin",
    path_arguments: 1,
    path_status: 0,
    create,
};

#[derive(Default)]
struct RoundRobin {
    valid: ValidPaths,
    repeat_counts: Vec<u32>,
}

fn create(args: &mut BuildArgs<'_>, count: usize) -> Result<Box<dyn Selector>, BuildError> {
    ignore_arguments(args, count)?;
    Ok(Box::new(RoundRobin::default()))
}

impl Selector for RoundRobin {
    fn kind(&self) -> &'static SelectorKind {
        &KIND
    }

    fn add_path(&mut self, args: &mut BuildArgs<'_>, count: usize) -> Result<(), BuildError> {
        self.repeat_counts
            .push(repeat_count(args, &KIND, (count, 1))?);
        self.valid.add();
        Ok(())
    }

    #[inline]
    fn select(&self, _len: Bytes) -> Option<usize> {
        self.valid.take_turn()
    }

    fn fail(&self, path: usize) {
        self.valid.remove(path);
    }

    fn reinstate(&self, path: usize) {
        self.valid.insert_first(path);
    }

    fn path_arguments(&self, path: usize) -> String {
        self.repeat_counts[path].to_string()
    }
}
