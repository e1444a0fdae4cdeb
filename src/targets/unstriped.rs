//! `unstriped <#stripes> <chunk_sectors> <stripe#> <dev> <offset>`: one stripe taken out of a striped device.
//!
//! Keeps nothing on disk. The inverse of `striped`: a request is cut at chunks, each of which lies
//! `#stripes` chunks further on than the one before.

use crate::io::{DevRef, IoResult, Limits, Part, Plan, Request, Unplanned};
use crate::target::{
    Behaviour, BuildArgs, BuildError, Mapping, ModelRow, Naming, Rules, Target, TargetKind,
};
use crate::unit::{Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "unstriped",
    version: [1, 1, 0],
    summary: "one stripe of a striped device",
    syntax: "unstriped <#stripes> <chunk_sectors> <stripe#> <dev> <offset>",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 320,
            args: "3 16 1 {0} 5",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 700,
            args: "1 7 0 {0} 0",
            behaves: Behaviour::Disk,
        },
    ],
};

struct Unstriped {
    range: DevRef,
    stripes: u64,
    chunk: u64,
    stripe: u64,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    args.check_count(|left| left == 5, "Invalid number of arguments", KIND.syntax)?;
    let stripes = args.positive_u32("Invalid stripe count", "a number of stripes")?;
    let chunk = args.positive_u32("Invalid chunk_size", "a chunk size in sectors")?;
    let stripe = args.u32("Invalid stripe number", "the number of a stripe")?;
    if stripe > stripes && stripes > 1 {
        return Err(args.refuse_last(
            "Please provide stripe between [0, # of stripes]",
            format!("a stripe number of at most {stripes}"),
        ));
    }
    let device = args.device("Couldn't get striped device")?;
    let start = args.sector("Invalid striped device offset")?;
    let (stripes, chunk, stripe) = (u64::from(stripes), u64::from(chunk), u64::from(stripe));
    if !args.len.0.is_multiple_of(chunk) {
        return Err(args.refuse(
            "Target length not divisible by chunk size",
            format!(
                "a length that is a multiple of {chunk} sectors, not {}",
                args.len
            ),
        ));
    }
    let Some(span) = (args.len.0 / chunk)
        .checked_mul(stripes)
        .and_then(|chunks| chunks.checked_add(stripe)?.checked_mul(chunk))
    else {
        return Err(args.refuse(
            "Invalid stripe count",
            "stripes that fit a device of 2^64 sectors",
        ));
    };
    // The kernel checks no more than `len` sectors of the device; what lies beyond its end fails when it is used.
    let range = DevRef::new(device, start, Sectors(span)).checked_for(args.len);
    Ok(Box::new(Unstriped {
        range,
        stripes,
        chunk,
        stripe,
    }))
}

impl Unstriped {
    /// Where the sector `at` of the row is on the striped device.
    #[inline]
    fn place(&self, at: Sector) -> Sector {
        let row = at.0 / self.chunk;
        Sector(at.0 + (row * (self.stripes - 1) + self.stripe) * self.chunk)
    }
}

impl Target for Unstriped {
    fn submit(&self, mut request: Request<'_>) -> IoResult {
        request.at = self.place(request.at);
        self.range.submit(request)
    }

    fn mapping_at(&self, at: Sector, _row_len: Sectors) -> Mapping<'_> {
        let left_in_chunk = Sectors(self.chunk - at.0 % self.chunk);
        Mapping::to(&self.range, self.place(at), left_in_chunk)
    }

    fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        let at = self.place(part.at);
        self.range.plan(Part { at, ..part }, plan)
    }

    fn args(&self, naming: Naming) -> String {
        let Unstriped {
            range,
            stripes,
            chunk,
            stripe,
        } = self;
        format!(
            "{stripes} {chunk} {stripe} {} {}",
            naming.of(range),
            range.start()
        )
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        visit(&self.range);
    }

    fn limits(&self, stacked: &mut Limits) {
        // As in the kernel, neither discard nor write-zeroes is passed on.
        stacked.max_discard = Sectors::ZERO;
        stacked.max_write_zeroes = Sectors::ZERO;
    }

    fn max_io_len(&self) -> Option<Sectors> {
        Some(Sectors(self.chunk))
    }
}
