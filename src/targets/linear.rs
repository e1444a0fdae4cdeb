//! `linear <dev> <offset>`: a stretch of a device.
//!
//! Keeps nothing on disk and no order of its own: every request goes to the device, `offset` further on.

use crate::io::{DevRef, Extent, IoResult, Part, Plan, Request, Unplanned};
use crate::target::{
    Behaviour, BuildArgs, BuildError, Mapping, ModelRow, Naming, Rules, Target, TargetKind,
};
use crate::unit::{Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "linear",
    version: [1, 4, 0],
    summary: "a stretch of a device",
    syntax: "linear <dev> <offset>",
    rules: Rules::NONE,
    build,
    model: &[ModelRow {
        len: 1000,
        args: "{0} 24",
        behaves: Behaviour::Disk,
    }],
};

struct Linear {
    range: DevRef,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    args.check_count(|left| left == 2, "Invalid argument count", "<dev> <offset>")?;
    let range = args.device_range(args.len, "Device lookup failed", "Invalid device sector")?;
    Ok(Box::new(Linear { range }))
}

impl Target for Linear {
    #[inline]
    fn submit(&self, request: Request<'_>) -> IoResult {
        self.range.submit(request)
    }

    fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        self.range.plan(part, plan)
    }

    fn args(&self, naming: Naming) -> String {
        format!("{} {}", naming.of(&self.range), self.range.start())
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        visit(&self.range);
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        Mapping::to(&self.range, at, Sectors(row_len.0.saturating_sub(at.0)))
    }

    fn shows(&self) -> Option<&DevRef> {
        Some(&self.range)
    }

    fn extent_at(&self, at: Sector, _row_len: Sectors) -> Extent {
        self.range.extent_at(at)
    }
}
