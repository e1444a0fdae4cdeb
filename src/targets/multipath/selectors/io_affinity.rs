//! `io-affinity`: each processor has a path of its own (dm-ps-io-affinity.c).

use std::fs;

use rustix::thread::sched_getcpu;

use super::{Selector, SelectorKind, ignore_arguments};
use crate::sync::{AtomicBool, AtomicU64, OnceLock, Ordering};
use crate::target::{BuildArgs, BuildError};
use crate::unit::Bytes;

/// The registry's entry. For each path: `<processors>`, a mask in hexadecimal digits.
pub static KIND: SelectorKind = SelectorKind {
    name: "io-affinity",
    path_arguments: 1,
    path_status: 1,
    create,
};

/// Digits of a group of a mask, between commas.
const GROUP_DIGITS: usize = 8;

struct IoAffinity {
    /// The path of each processor.
    path_of: Vec<Option<usize>>,
    paths: Vec<Path>,
    /// Requests from processors that have no path.
    misses: AtomicU64,
}

struct Path {
    mask: Vec<bool>,
    failed: AtomicBool,
}

fn create(args: &mut BuildArgs<'_>, count: usize) -> Result<Box<dyn Selector>, BuildError> {
    ignore_arguments(args, count)?;
    Ok(Box::new(IoAffinity {
        path_of: vec![None; processors()],
        paths: Vec::new(),
        misses: AtomicU64::new(0),
    }))
}

/// How many processors this machine can have.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| {
        let possible = fs::read_to_string("/sys/devices/system/cpu/possible");
        let last = possible
            .ok()
            .and_then(|list| list.trim().rsplit([',', '-']).next()?.parse::<usize>().ok());
        last.map_or(1, |last| last.saturating_add(1).min(1 << 16))
    })
}

/// Which of `processors` a mask names: groups of up to eight hexadecimal digits, commas between them.
fn parse_mask(word: &str, processors: usize) -> Option<Vec<bool>> {
    let mut mask = vec![false; processors];
    for (group, digits) in word.split(',').rev().enumerate() {
        if digits.is_empty() || digits.len() > GROUP_DIGITS {
            return None;
        }
        for (index, digit) in digits.chars().rev().enumerate() {
            let digit = digit.to_digit(16)?;
            for bit in (0..4).filter(|bit| digit & 1 << bit != 0) {
                *mask.get_mut((group * GROUP_DIGITS + index) * 4 + bit)? = true;
            }
        }
    }
    Some(mask)
}

/// A mask as the kernel prints it: all digits that the number of processors needs, commas between groups.
fn print_mask(mask: &[bool]) -> String {
    let mut text = String::new();
    let digits = mask.chunks(4).map(|bits| {
        let bits = bits.iter().enumerate();
        bits.map(|(bit, &is_set)| u32::from(is_set) << bit).sum()
    });
    let digits: Vec<u32> = digits.collect();
    for (index, &digit) in digits.iter().enumerate().rev() {
        text.extend(char::from_digit(digit, 16));
        if index > 0 && index % GROUP_DIGITS == 0 {
            text.push(',');
        }
    }
    text
}

impl IoAffinity {
    fn usable(&self, processor: usize) -> Option<usize> {
        let path = (*self.path_of.get(processor)?)?;
        (!self.paths[path].failed.load(Ordering::Relaxed)).then_some(path)
    }
}

impl Selector for IoAffinity {
    fn kind(&self) -> &'static SelectorKind {
        &KIND
    }

    fn add_path(&mut self, args: &mut BuildArgs<'_>, count: usize) -> Result<(), BuildError> {
        if count != 1 {
            let text = "io-affinity ps: invalid number of arguments";
            return Err(args.refuse(text, "one argument for each path: a mask of processors"));
        }
        let (text, count) = ("io-affinity ps: invalid cpumask", self.path_of.len());
        let expected = format!("a mask of {count} processors in hexadecimal digits");
        let word = args.word(text, &expected)?;
        let mask = parse_mask(word, count).ok_or_else(|| args.refuse_last(text, expected))?;
        let mut has_any = false;
        for (processor, slot) in self.path_of.iter_mut().enumerate() {
            if !mask[processor] {
                continue;
            }
            if slot.is_some() {
                log::warn!("multipath io-affinity: CPU mapping for {processor} exists. Ignoring.");
                continue;
            }
            *slot = Some(self.paths.len());
            has_any = true;
        }
        if !has_any {
            return Err(args.refuse_last(
                "io-affinity ps: No new/valid CPU mapping found",
                "a processor that no path before has",
            ));
        }
        self.paths.push(Path {
            mask,
            failed: AtomicBool::new(false),
        });
        Ok(())
    }

    fn select(&self, _len: Bytes) -> Option<usize> {
        let processor = sched_getcpu();
        if let Some(path) = self.usable(processor) {
            return Some(path);
        }
        if self.path_of.get(processor).copied().flatten().is_none() {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        (0..self.path_of.len()).find_map(|processor| self.usable(processor))
    }

    fn fail(&self, path: usize) {
        self.paths[path].failed.store(true, Ordering::Relaxed);
    }

    fn reinstate(&self, path: usize) {
        self.paths[path].failed.store(false, Ordering::Relaxed);
    }

    fn path_arguments(&self, path: usize) -> String {
        print_mask(&self.paths[path].mask)
    }

    fn path_status(&self, _path: usize) -> String {
        self.misses.load(Ordering::Relaxed).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_mask, print_mask};

    #[test]
    fn masks_come_back_as_the_kernel_prints_them() {
        for (word, processors, printed) in [
            ("1", 1, "1"),
            ("00000001", 1, "1"),
            ("3", 2, "3"),
            ("2", 12, "002"),
            ("ABC", 12, "abc"),
            ("1,00000001", 64, "00000001,00000001"),
            ("ff", 36, "0,000000ff"),
        ] {
            let mask = parse_mask(word, processors);
            assert_eq!(mask.as_deref().map(print_mask).as_deref(), Some(printed));
        }
    }

    #[test]
    fn masks_that_are_none_are_refused() {
        for (word, processors) in [
            ("", 8),
            ("xyz", 8),
            ("0x1", 8),
            ("3", 1),
            ("100", 8),
            ("1,00000001", 8),
            ("100000001", 64),
            ("1,,1", 64),
            ("1,", 64),
        ] {
            assert_eq!(parse_mask(word, processors), None, "{word}");
        }
    }
}
