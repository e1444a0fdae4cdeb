//! `delay <dev> <offset> <ms> [<write_dev> <write_offset> <write_ms> [<flush_dev> <flush_offset> <flush_ms>]]`: a device
//! that takes its time.
//!
//! Keeps nothing on disk. A request is held back first and then goes to the device of its class, unchanged. A suspend lets
//! all that are held back go at once, and none is held back until the device is resumed.

use crate::io::{
    DevRef, Errno, Extent, Flags, Hold, IoError, IoResult, Limits, OpKind, Part, Plan, Request,
    Unplanned,
};
use crate::sync::Arc;
use crate::target::{
    Behaviour, BuildArgs, BuildError, DeviceOpener, Lifecycle, Mapping, MessageError, ModelRow,
    Naming, Repeat, Rules, Target, TargetKind, Uses,
};
use crate::unit::{Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "delay",
    version: [1, 4, 0],
    summary: "holds requests back for a time",
    syntax: "delay [dmfs:...] <dev> <offset> <ms> [<write_dev> <write_offset> <write_ms> \
             [<flush_dev> <flush_offset> <flush_ms>]]",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 1000,
            args: "{0} 24 0",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 120,
            args: "{0} 5 0 {0} 5 1",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 121,
            args: "{0} 5 1 {0} 5 0 {1} 3 1",
            behaves: Behaviour::Disk,
        },
    ],
};

/// Words of a class of requests: device, offset, time.
const CLASS_WORDS: usize = 3;

struct Delay {
    reads: Class,
    writes: Class,
    flushes: Class,
    /// How many classes the line names.
    n_named: usize,
    repeat: Repeat,
}

/// Where requests of one kind go, and where they are held back on the way.
struct Class {
    range: DevRef,
    milliseconds: u32,
    /// None where nothing is.
    hold: Option<Arc<Hold>>,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    let repeat = Repeat::read(args, Uses::Time)?;
    args.check_count(
        |left| matches!(left, 3 | 6 | 9),
        "Requires exactly 3, 6 or 9 arguments",
        KIND.syntax,
    )?;
    let n_named = args.left() / CLASS_WORDS;
    let mut class = |number: usize| {
        // What has no words of its own shares those of the class before.
        let first = number.min(n_named - 1) * CLASS_WORDS;
        args.ahead(first, |args| Class::read(args, &repeat))
    };
    Ok(Box::new(Delay {
        reads: class(0)?,
        writes: class(1)?,
        flushes: class(2)?,
        n_named,
        repeat,
    }))
}

impl Class {
    fn read(args: &mut BuildArgs<'_>, repeat: &Repeat) -> Result<Class, BuildError> {
        args.ahead(1, |args| args.sector("Invalid device sector"))?;
        let milliseconds = args.ahead(2, |args| {
            args.number(0..=u32::MAX, "Invalid delay", "a time in milliseconds")
        })?;
        let range = args.device_range(args.len, "Device lookup failed", "Invalid device sector")?;
        let hold = match milliseconds {
            0 => None,
            _ => Some(
                Hold::new(repeat.clock().clone()).map_err(|error| BuildError {
                    errno: Errno::NOMEM,
                    ..args.refuse(
                        "Cannot allocate context",
                        format!("a thread for the timer ({error})"),
                    )
                })?,
            ),
        };
        Ok(Class {
            range,
            milliseconds,
            hold,
        })
    }

    /// Where a request of this class is held back now, if it is.
    #[inline]
    fn holding(&self) -> Option<&Arc<Hold>> {
        self.hold.as_ref().filter(|hold| !hold.is_open())
    }

    /// Waits as a request of this class has to.
    #[inline]
    fn wait(&self, flags: Flags) -> IoResult {
        match self.holding() {
            None => Ok(()),
            Some(_) if flags.nowait => Err(IoError::WOULD_WAIT),
            Some(hold) => {
                hold.wait(self.milliseconds);
                Ok(())
            }
        }
    }

    fn n_held(&self) -> usize {
        self.hold.as_ref().map_or(0, |hold| hold.n_held())
    }

    fn words(&self, naming: Naming) -> String {
        let (range, milliseconds) = (&self.range, self.milliseconds);
        format!("{} {} {milliseconds}", naming.of(range), range.start())
    }
}

impl Delay {
    #[inline]
    fn class(&self, kind: OpKind) -> &Class {
        match kind {
            OpKind::Read => &self.reads,
            OpKind::Write | OpKind::Discard | OpKind::WriteZeroes => &self.writes,
            OpKind::Flush => &self.flushes,
        }
    }

    fn classes(&self) -> [&Class; 3] {
        [&self.reads, &self.writes, &self.flushes]
    }

    fn holds(&self) -> impl Iterator<Item = &Arc<Hold>> {
        self.classes()
            .into_iter()
            .filter_map(|class| class.hold.as_ref())
    }

    /// Every device once. What was written may lie on any of them, as what is read must.
    fn distinct(&self) -> impl Iterator<Item = &DevRef> {
        let ranges = self.classes().map(|class| &class.range);
        let is_first = move |(at, range): &(usize, &DevRef)| {
            let number = range.device().number;
            ranges[..*at]
                .iter()
                .all(|before| before.device().number != number)
        };
        let numbered = ranges.into_iter().enumerate();
        numbered.filter(is_first).map(|(_, range)| range)
    }

    fn ticked(&self) {
        self.holds().for_each(|hold| hold.ticked());
    }

    /// Counts a request by a clock that was given; it comes once, on a thread that may wait.
    #[cold]
    fn count(&self, flags: Flags) -> IoResult {
        if flags.nowait {
            return Err(IoError::WOULD_WAIT);
        }
        if self.repeat.count_request() {
            self.ticked();
        }
        Ok(())
    }
}

impl Target for Delay {
    #[inline]
    fn submit(&self, request: Request<'_>) -> IoResult {
        let (kind, flags) = (request.op.kind(), request.flags);
        if self.repeat.is_exact() {
            self.count(flags)?;
        }
        let class = self.class(kind);
        class.wait(flags)?;
        match kind {
            OpKind::Flush => self
                .distinct()
                .map(|range| range.flush(flags))
                .fold(Ok(()), IoResult::and),
            OpKind::Read | OpKind::Write | OpKind::Discard | OpKind::WriteZeroes => {
                class.range.submit(request)
            }
        }
    }

    fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        let kind = plan.kind();
        let class = self.class(kind);
        let hold = class.holding();
        // Times of parts beside one another do not add up.
        if self.repeat.is_exact() || (hold.is_some() && plan.is_held()) {
            return Err(Unplanned);
        }
        match kind {
            OpKind::Flush => {
                let mut ranges = self.distinct();
                ranges.try_for_each(|range| range.plan_flush(plan))?;
            }
            OpKind::Read | OpKind::Write | OpKind::Discard | OpKind::WriteZeroes => {
                class.range.plan(part, plan)?;
            }
        }
        if let Some(hold) = hold {
            plan.hold(hold.clone(), class.milliseconds);
        }
        Ok(())
    }

    fn flushes_itself(&self) -> bool {
        true
    }

    fn args(&self, naming: Naming) -> String {
        let classes = self.classes();
        let named = classes.iter().take(self.n_named);
        let words: Vec<String> = named.map(|class| class.words(naming)).collect();
        self.repeat.prefix() + &words.join(" ")
    }

    fn status(&self, _naming: Naming) -> String {
        let [reads, writes, flushes] = self.classes().map(Class::n_held);
        format!("{reads} {writes} {flushes}")
    }

    fn message(&self, words: &[&str], _devices: &dyn DeviceOpener) -> Result<String, MessageError> {
        self.repeat.tick(words)?;
        self.ticked();
        Ok(String::new())
    }

    fn recall(&self) -> Vec<String> {
        self.repeat.recall()
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        for class in self.classes() {
            visit(&class.range);
        }
    }

    fn limits(&self, stacked: &mut Limits) {
        // As in the kernel: zeroes are written.
        stacked.max_write_zeroes = Sectors::ZERO;
        stacked.waits |= self.holds().next().is_some();
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        let len = Sectors(row_len.0.saturating_sub(at.0));
        let (reads, writes) = (&self.reads.range, &self.writes.range);
        let apart =
            (reads.device().number, reads.start()) != (writes.device().number, writes.start());
        Mapping {
            note: if apart {
                "writes; reads go to another place"
            } else {
                ""
            }
            .into(),
            ..Mapping::to(writes, at, len)
        }
    }

    fn extent_at(&self, at: Sector, _row_len: Sectors) -> Extent {
        self.reads.range.extent_at(at)
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        Some(self)
    }
}

impl Lifecycle for Delay {
    fn presuspend(&self, _noflush: bool) {
        self.holds().for_each(|hold| hold.open());
    }

    fn presuspend_undo(&self) {
        self.holds().for_each(|hold| hold.close());
    }

    fn resume(&self) {
        self.holds().for_each(|hold| hold.close());
    }
}

#[cfg(test)]
mod tests;
