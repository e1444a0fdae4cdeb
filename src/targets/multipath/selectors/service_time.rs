//! `service-time`: the path that will have carried out its requests first, as told by their bytes and by how fast the
//! paths are said to be (dm-ps-service-time.c).

use std::cmp::Ordering::{self, Equal};

use super::valid_paths::ValidPaths;
use super::{Selector, SelectorKind, ignore_arguments, repeat_count};
use crate::sync::{AtomicU64, Ordering as Memory};
use crate::target::{BuildArgs, BuildError};
use crate::unit::Bytes;

/// The registry's entry. For each path: `<repeat_count> <relative_throughput>`.
pub static KIND: SelectorKind = SelectorKind {
    name: "service-time",
    path_arguments: 2,
    path_status: 2,
    create,
};

const MOST_THROUGHPUT: u32 = 100;

#[derive(Default)]
struct ServiceTime {
    valid: ValidPaths,
    paths: Vec<Path>,
}

struct Path {
    repeat_count: u32,
    /// A path with 0 is for when there is no other.
    throughput: u32,
    /// Bytes of requests under way.
    under_way: AtomicU64,
}

fn create(args: &mut BuildArgs<'_>, count: usize) -> Result<Box<dyn Selector>, BuildError> {
    ignore_arguments(args, count)?;
    Ok(Box::new(ServiceTime::default()))
}

/// Whether a path with `load` bytes under way and a throughput comes before another for `len` more.
fn compare((load, throughput): (u64, u32), other: (u64, u32), len: u64) -> Ordering {
    let (other_load, other_throughput) = other;
    if throughput == other_throughput {
        return load.cmp(&other_load);
    }
    if load == other_load || throughput == 0 || other_throughput == 0 {
        return other_throughput.cmp(&throughput);
    }
    let time = |load: u64, of: u32| u128::from(load.saturating_add(len)) * u128::from(of);
    // Of two fractions, each is multiplied by the other's denominator.
    match time(load, other_throughput).cmp(&time(other_load, throughput)) {
        Equal => other_throughput.cmp(&throughput),
        unequal => unequal,
    }
}

impl Selector for ServiceTime {
    fn kind(&self) -> &'static SelectorKind {
        &KIND
    }

    fn add_path(&mut self, args: &mut BuildArgs<'_>, count: usize) -> Result<(), BuildError> {
        let repeat_count = repeat_count(args, &KIND, (count, 2))?;
        let throughput = match count {
            2 => {
                let text = "service-time ps: invalid relative_throughput value";
                args.number(0..=MOST_THROUGHPUT, text, "a relative throughput")?
            }
            _ => 1,
        };
        self.paths.push(Path {
            repeat_count,
            throughput,
            under_way: AtomicU64::new(0),
        });
        self.valid.add();
        Ok(())
    }

    fn select(&self, len: Bytes) -> Option<usize> {
        let mut best: Option<(usize, (u64, u32))> = None;
        for index in self.valid.all_in_turn() {
            let path = &self.paths[index];
            let this = (path.under_way.load(Memory::Relaxed), path.throughput);
            if best.is_none_or(|(_, best)| compare(this, best, len.0).is_lt()) {
                best = Some((index, this));
            }
        }
        best.map(|(path, _)| path)
    }

    fn begin(&self, path: usize, len: Bytes) -> u64 {
        self.paths[path].under_way.fetch_add(len.0, Memory::Relaxed);
        0
    }

    fn end(&self, path: usize, len: Bytes, _begun: u64) {
        self.paths[path].under_way.fetch_sub(len.0, Memory::Relaxed);
    }

    fn fail(&self, path: usize) {
        self.valid.remove(path);
    }

    fn reinstate(&self, path: usize) {
        self.valid.insert_last(path);
    }

    fn path_arguments(&self, path: usize) -> String {
        let path = &self.paths[path];
        format!("{} {}", path.repeat_count, path.throughput)
    }

    fn path_status(&self, path: usize) -> String {
        let path = &self.paths[path];
        let under_way = path.under_way.load(Memory::Relaxed);
        format!("{under_way} {}", path.throughput)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering::{Equal, Greater, Less};

    use super::compare;

    #[test]
    fn the_path_that_is_done_first_comes_first() {
        // The same throughput: less load. The same load: more throughput. Never one of 0 before another.
        assert_eq!(compare((5, 7), (6, 7), 1), Less);
        assert_eq!(compare((5, 7), (5, 7), 1), Equal);
        assert_eq!(compare((5, 7), (5, 8), 1), Greater);
        assert_eq!(compare((0, 0), (1 << 40, 1), 1), Greater);
        // (100 + 8) / 2 against (10 + 8) / 1, and (28 + 8) / 2 against (10 + 8) / 1.
        assert_eq!(compare((100, 2), (10, 1), 8), Greater);
        assert_eq!(compare((28, 2), (10, 1), 8), Less);
        assert_eq!(compare((u64::MAX, 100), (u64::MAX - 1, 99), u64::MAX), Less);
    }
}
