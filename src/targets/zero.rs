//! `zero`: reads give zeroes, writes are dropped.
//!
//! Keeps nothing.

use crate::io::{DevRef, Extent, IoResult, Limits, Op, Request};
use crate::target::{
    Behaviour, BuildArgs, BuildError, Mapping, ModelRow, Naming, Rules, Target, TargetKind,
};
use crate::unit::{Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "zero",
    version: [1, 2, 0],
    summary: "reads zeroes, drops writes",
    syntax: "zero",
    rules: Rules::NONE,
    build,
    model: &[ModelRow {
        len: 512,
        args: "",
        behaves: Behaviour::DropsWrites,
    }],
};

struct Zero;

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    args.check_count(|left| left == 0, "No arguments required", "no argument")?;
    Ok(Box::new(Zero))
}

impl Target for Zero {
    fn submit(&self, request: Request<'_>) -> IoResult {
        match request.op {
            Op::Read(mut buffer) => buffer.fill_zero(),
            Op::Write(_) | Op::Flush | Op::Discard | Op::WriteZeroes { .. } => {}
        }
        Ok(())
    }

    fn args(&self, _naming: Naming) -> String {
        String::new()
    }

    fn devices<'s>(&'s self, _visit: &mut dyn FnMut(&'s DevRef)) {}

    fn limits(&self, stacked: &mut Limits) {
        stacked.discard_granularity = 512;
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        let len = Sectors(row_len.0.saturating_sub(at.0));
        Mapping::nowhere("reads give zeroes, writes are dropped", len)
    }

    fn extent_at(&self, _at: Sector, row_len: Sectors) -> Extent {
        Extent::hole(Sector(row_len.0))
    }
}
