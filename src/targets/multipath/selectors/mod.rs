//! Path selectors: which of a group's paths the next request takes. One file each, and their list.
//!
//! A selector knows its paths by number, in the order of the table line. Choosing takes no lock: requests on all threads
//! choose at the same time, and one that just misses a change is told by its path's error.

mod historical_service_time;
mod io_affinity;
mod queue_length;
mod round_robin;
mod service_time;
mod valid_paths;

use crate::target::{BuildArgs, BuildError};
use crate::unit::Bytes;

/// Every kind of selector.
const KINDS: &[&SelectorKind] = &[
    &round_robin::KIND,
    &queue_length::KIND,
    &service_time::KIND,
    &historical_service_time::KIND,
    &io_affinity::KIND,
];

/// A kind of selector.
pub struct SelectorKind {
    /// Its name in table lines.
    pub name: &'static str,
    /// How many words of a path the table shows.
    pub path_arguments: usize,
    /// How many words of a path the status shows.
    pub path_status: usize,
    /// Reads as many words of arguments as it is told.
    pub create: fn(&mut BuildArgs<'_>, usize) -> Created,
}

/// A selector without paths yet, or why not.
pub type Created = Result<Box<dyn Selector>, BuildError>;

/// What deals requests out over the paths of a group.
pub trait Selector: Send + Sync {
    /// Its kind.
    fn kind(&self) -> &'static SelectorKind;

    /// Adds a path, whose arguments are the next `count` words.
    ///
    /// # Errors
    /// EINVAL with the kernel's text.
    fn add_path(&mut self, args: &mut BuildArgs<'_>, count: usize) -> Result<(), BuildError>;

    /// The path for a request of `len` bytes; `None` where all have failed.
    fn select(&self, len: Bytes) -> Option<usize>;

    /// A request goes to `path`; what this gives comes back to [`Selector::end`].
    fn begin(&self, _path: usize, _len: Bytes) -> u64 {
        0
    }

    /// It has ended.
    fn end(&self, _path: usize, _len: Bytes, _begun: u64) {}

    /// `path`, which was usable, is not any more. One call at a time of this and [`Selector::reinstate`].
    fn fail(&self, path: usize);

    /// `path`, which had failed, is usable again.
    fn reinstate(&self, path: usize);

    /// Number of its arguments, and these.
    fn arguments(&self) -> String {
        "0".to_owned()
    }

    /// The arguments of `path`.
    fn path_arguments(&self, path: usize) -> String;

    /// The state of `path`; empty where there is none.
    fn path_status(&self, _path: usize) -> String {
        String::new()
    }
}

/// The kind called `name`.
pub fn find(name: &str) -> Option<&'static SelectorKind> {
    KINDS.iter().copied().find(|kind| kind.name == name)
}

/// The names of all kinds.
pub fn names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// Passes over the arguments of a selector that takes none: the kernel does not look at them.
fn ignore_arguments(args: &mut BuildArgs<'_>, count: usize) -> Result<(), BuildError> {
    let text = "invalid number of path selector args";
    args.words(count, text, "arguments of the path selector")?;
    Ok(())
}

/// The first argument of a path, of which there are `most`: after how many requests the path changes. It changes after
/// each.
fn repeat_count(
    args: &mut BuildArgs<'_>,
    kind: &SelectorKind,
    (count, most): (usize, usize),
) -> Result<u32, BuildError> {
    let name = kind.name;
    if count > most {
        let text = format!("{name} ps: incorrect number of arguments");
        return Err(args.refuse(&text, format!("{most} arguments for each path at most")));
    }
    if count == 0 {
        return Ok(1);
    }
    let text = format!("{name} ps: invalid repeat count");
    let given = args.number(0..=u32::MAX, &text, "a repeat count")?;
    if given > 1 {
        log::warn!("multipath {name}: repeat_count > 1 is deprecated, using 1 instead");
    }
    Ok(given.min(1))
}

#[cfg(test)]
mod tests;
