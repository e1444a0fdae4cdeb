//! `switch <#paths> <region_sectors> 0 [<dev> <offset>]{#paths}`: regions, each of which lies on one of several devices.
//!
//! Keeps nothing on disk: which region lies where is told by messages and goes with the table. A request is cut at
//! regions; a region keeps its place on every path.

mod mappings;
mod regions;

use mappings::{mappings, set_mappings};
use regions::Regions;

use crate::io::{DevRef, Errno, Extent, IoResult, Limits, Part, Plan, Request, Unplanned};
use crate::sync::Mutex;
use crate::target::{
    Behaviour, BuildArgs, BuildError, DeviceOpener, Mapping, MessageError, ModelRow, Naming, Rules,
    Target, TargetKind,
};
use crate::unit::{Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "switch",
    version: [1, 1, 0],
    summary: "regions, each on one of several devices",
    syntax: "switch <#paths> <region_sectors> 0 [<dev> <offset>]{#paths}",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 1000,
            args: "3 64 0 {0} 0 {1} 8 {2} 16",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 333,
            args: "1 7 0 {0} 5",
            behaves: Behaviour::Disk,
        },
    ],
};

/// As many as the kernel can allocate a context for (dm-switch.c: switch_ctr; KMALLOC_MAX_SIZE of 4 MiB).
const MOST_PATHS: u32 = 262_140;

struct Switch {
    paths: Vec<DevRef>,
    /// Sectors of a region.
    region: u64,
    regions: Regions,
    /// One message after the other. A leaf in the lock order.
    changing: Mutex<()>,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    let n_paths = args.number(
        1..=MOST_PATHS,
        "Invalid number of paths",
        "a number of paths",
    )?;
    let region = args.number(1..=u32::MAX, "Invalid region size", "sectors of a region")?;
    args.group(
        0..=0,
        "Invalid number of optional args",
        "a number of optional words",
    )?;
    args.check_count(
        |left| left == 2 * n_paths as usize,
        "Incorrect number of path arguments",
        &format!("a device and its first sector for each of {n_paths} paths"),
    )?;
    let region = u64::from(region);
    let n_regions = args.len.0.div_ceil(region);
    let regions = Regions::new(n_regions, n_paths).map_err(|errno| match errno {
        Errno::NOMEM => BuildError {
            errno,
            ..args.refuse("Cannot allocate region table", "memory for it")
        },
        _ => args.refuse(
            "Region table too large",
            format!("fewer than {n_regions} regions, so that their table fits 256 MiB"),
        ),
    })?;
    let len = args.len;
    let path = |_| {
        let device = args.device("Device lookup failed")?;
        let start = args.sector("Invalid device starting offset")?;
        Ok(DevRef::new(device, start, len))
    };
    let paths = (0..n_paths)
        .map(path)
        .collect::<Result<Vec<_>, BuildError>>()?;
    Ok(Box::new(Switch {
        paths,
        region,
        regions,
        changing: Mutex::new(()),
    }))
}

impl Switch {
    /// The path of the sector `at`.
    #[inline]
    fn path(&self, at: Sector) -> &DevRef {
        // A region's path is checked before it is set.
        &self.paths[self.regions.path(at.0 / self.region)]
    }

    fn left_in_region(&self, at: Sector) -> Sectors {
        Sectors(self.region - at.0 % self.region)
    }
}

impl Target for Switch {
    #[inline]
    fn submit(&self, request: Request<'_>) -> IoResult {
        self.path(request.at).submit(request)
    }

    fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        self.path(part.at).plan(part, plan)
    }

    fn args(&self, naming: Naming) -> String {
        let mut args = format!("{} {} 0", self.paths.len(), self.region);
        for path in &self.paths {
            args.push_str(&format!(" {} {}", naming.of(path), path.start()));
        }
        args
    }

    fn message(&self, words: &[&str], _devices: &dyn DeviceOpener) -> Result<String, MessageError> {
        match words {
            [word, mappings @ ..] if word.eq_ignore_ascii_case("set_region_mappings") => {
                let _alone = self.changing.lock();
                set_mappings(&self.regions, mappings).map(|()| String::new())
            }
            _ => Err(MessageError::invalid(
                "switch: Unrecognised message received.",
                "set_region_mappings and what to set",
            )),
        }
    }

    fn recall(&self) -> Vec<String> {
        let words = mappings(&self.regions);
        let message = || format!("set_region_mappings {}", words.join(" "));
        (!words.is_empty()).then(message).into_iter().collect()
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        self.paths.iter().for_each(visit);
    }

    fn limits(&self, stacked: &mut Limits) {
        // As in the kernel: zeroes are written.
        stacked.max_write_zeroes = Sectors::ZERO;
    }

    fn max_io_len(&self) -> Option<Sectors> {
        Some(Sectors(self.region))
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        let len = self.left_in_region(at);
        let len = len.min(Sectors(row_len.0.saturating_sub(at.0)));
        Mapping::to(self.path(at), at, len)
    }

    fn extent_at(&self, at: Sector, row_len: Sectors) -> Extent {
        let below = self.path(at).extent_at(at);
        let end = below.end.min(at + self.left_in_region(at));
        Extent {
            end: end.min(Sector(row_len.0)),
            ..below
        }
    }
}

#[cfg(test)]
mod tests;
