//! `error` or `error <dev> <offset>`: every request fails with EIO.
//!
//! Keeps nothing. The second form only borrows the device's limits and size check. It may take the place of any
//! other kind, which is how `wipe_table` gets users off a device.

use crate::io::{DevRef, IoError, IoResult, Limits, Request};
use crate::target::{
    Behaviour, BuildArgs, BuildError, Mapping, ModelRow, Naming, Rules, Target, TargetKind,
};
use crate::unit::{Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "error",
    version: [1, 7, 0],
    summary: "fails every request",
    syntax: "error [<dev> <offset>]",
    rules: Rules {
        wildcard: true,
        ..Rules::NONE
    },
    build,
    model: &[
        ModelRow {
            len: 64,
            args: "",
            behaves: Behaviour::Fails,
        },
        ModelRow {
            len: 65,
            args: "{0} 7",
            behaves: Behaviour::Fails,
        },
    ],
};

struct Failing {
    borrowed: Option<DevRef>,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    let borrowed = match args.left() {
        2 => Some(args.device_range(args.len, "Device lookup failed", "Invalid device sector")?),
        // Any other number of arguments is ignored, as the kernel does.
        _ => None,
    };
    Ok(Box::new(Failing { borrowed }))
}

impl Target for Failing {
    fn submit(&self, _request: Request<'_>) -> IoResult {
        Err(IoError::IO)
    }

    fn args(&self, naming: Naming) -> String {
        self.borrowed.as_ref().map_or_else(String::new, |range| {
            format!("{} {}", naming.of(range), range.start())
        })
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        let len = Sectors(row_len.0.saturating_sub(at.0));
        Mapping::nowhere("every request fails with EIO", len)
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        self.borrowed.iter().for_each(visit);
    }

    fn limits(&self, stacked: &mut Limits) {
        // A discard fails rather than being no operation of the device (dm-target.c: io_err_io_hints).
        stacked.max_discard = Sectors(u64::from(u32::MAX));
        stacked.discard_granularity = 512;
    }
}

#[cfg(test)]
mod tests;
