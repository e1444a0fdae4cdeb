//! Carrying out the pieces of one request: in turn, or at the same time where that pays.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{IoResult, Pool};
use crate::sync::Mutex;

/// Hands every piece to `submit`, at the same time where [`worth_fanning`] says so, and returns when all are done.
/// `waits`: a device that a piece goes to makes the caller wait ([`super::Limits::waits`]).
///
/// # Errors
/// All pieces are carried out even where one fails. Then the first error in the order of the pieces; but one
/// that stands for good comes before one that puts the request off, because submitting again would not mend it.
pub fn fan_out<T: Send>(
    pieces: impl IntoIterator<Item = T>,
    waits: bool,
    submit: impl Fn(T) -> IoResult + Sync,
) -> IoResult {
    if !waits {
        return in_turn(pieces.into_iter(), submit);
    }
    let pieces: Vec<T> = pieces.into_iter().collect();
    if worth_fanning(pieces.len(), waits) {
        at_once(Pool::shared(), pieces, submit)
    } else {
        in_turn(pieces.into_iter(), submit)
    }
}

/// Whether pieces are better carried out at the same time: where a device makes us wait, from two pieces on.
///
/// Measured on two processors (`cargo bench --bench machinery`), in turn and at once: pieces in the page cache never
/// gain (2 of 64 KiB 6 and 11 us, 8 of 64 KiB 26 and 52 us, 8 of 256 KiB 109 and 141 us; only whole MiB do, 108
/// and 89 us, at the price of a second processor), and keep both processors busy. A device that takes 75 us
/// gains from the second piece on: 2 pieces 150 and 84 us, 16 pieces 1.2 ms and 0.12 ms.
#[inline]
pub fn worth_fanning(pieces: usize, waits: bool) -> bool {
    waits && pieces >= 2
}

fn in_turn<T>(pieces: impl Iterator<Item = T>, submit: impl Fn(T) -> IoResult) -> IoResult {
    let mut outcome = Outcome::default();
    for (index, piece) in pieces.enumerate() {
        outcome.add(index, submit(piece));
    }
    outcome.result
}

fn at_once<T: Send>(
    pool: &Pool,
    pieces: Vec<T>,
    submit: impl Fn(T) -> IoResult + Sync,
) -> IoResult {
    let helpers = pieces.len().saturating_sub(1);
    let batch = Mutex::new(Batch {
        pieces: pieces.into_iter().enumerate(),
        outcome: Outcome::default(),
        panic: None,
    });
    let work = || {
        loop {
            let Some((index, piece)) = batch.lock().pieces.next() else {
                return;
            };
            let result = catch_unwind(AssertUnwindSafe(|| submit(piece)));
            let mut batch = batch.lock();
            match result {
                Ok(result) => batch.outcome.add(index, result),
                Err(panic) => batch.panic = Some(panic),
            }
        }
    };
    pool.help(helpers, &work);
    let batch = batch.into_inner();
    match batch.panic {
        Some(panic) => resume_unwind(panic),
        None => batch.outcome.result,
    }
}

/// Pieces that nobody has begun, and what became of the others. Its lock is a leaf in the lock order.
struct Batch<P> {
    pieces: P,
    outcome: Outcome,
    panic: Option<Box<dyn Any + Send>>,
}

/// The result of those pieces that are done.
struct Outcome {
    result: IoResult,
    index: usize,
}

impl Default for Outcome {
    fn default() -> Outcome {
        Outcome {
            result: Ok(()),
            index: 0,
        }
    }
}

impl Outcome {
    fn add(&mut self, index: usize, result: IoResult) {
        let (old, new) = (gravity(self.result), gravity(result));
        if new > old || (new == old && index < self.index) {
            *self = Outcome { result, index };
        }
    }
}

fn gravity(result: IoResult) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) if error.is_put_off() => 1,
        Err(_) => 2,
    }
}

#[cfg(all(test, schedules))]
mod schedules;
#[cfg(test)]
mod tests;
