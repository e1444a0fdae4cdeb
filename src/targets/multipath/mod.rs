//! `multipath <#features> [features] <#handler args> [handler] <#groups> <initial group> [group...]`: several paths to
//! one device.
//!
//! Keeps nothing on disk. Paths are grouped; requests go to one group, whose selector deals them over its paths. A path
//! that gives an error is not used any more and its request goes to another one, until somebody reinstates the path
//! (dm-mpath.c). What a request needs to find its path is in atomics; the lock of the [`Map`] is for changes, and for
//! requests that find no path.
//!
//! A word before the first argument, which no kernel accepts, has failed paths looked at now and then:
//! `dmfs:check=SECONDS`.

mod arguments;
mod checker;
mod map;
mod messages;
mod selectors;
mod show;

use crate::io::{DevRef, Errno, Extent, IoError, IoResult, Request};
use crate::sync::Arc;
use crate::target::{
    Behaviour, BuildArgs, BuildError, DeviceOpener, Lifecycle, Mapping, MessageError, ModelRow,
    Naming, Rules, Target, TargetKind,
};
use crate::unit::{Sector, Sectors};

use arguments::Settings;
use checker::Checker;
use map::Map;

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "multipath",
    version: [1, 14, 0],
    summary: "several paths to one device, used in turn or one for another",
    syntax: "multipath [dmfs:check=<seconds>] <#features> [<feature>]* <#handler args> [<handler> [<arg>]*] <#groups> <initial group> \
             [<selector> <#args> [<arg>]* <#paths> <#path args> [<dev> [<arg>]*]+]*",
    rules: Rules {
        singleton: true,
        immutable: true,
        wildcard: false,
        always_writeable: false,
    },
    build,
    model: &[
        ModelRow {
            len: 3000,
            args: "2 queue_mode bio 0 1 1 round-robin 0 2 1 {0} 1 {0} 1",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 320,
            args: "1 queue_if_no_path 0 2 2 queue-length 0 1 0 {1} service-time 0 3 2 {0} 1 7 {0} 1 0 {0} 1 7",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 320,
            args: "0 0 2 1 historical-service-time 1 512 2 0 {0} {0} io-affinity 0 1 1 {1} 1",
            behaves: Behaviour::Disk,
        },
    ],
};

struct Multipath {
    settings: Settings,
    map: Arc<Map>,
    checker: Option<Checker>,
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    let every = arguments::read_check(args)?;
    let (settings, map) = arguments::read(args)?;
    let start = |every| Checker::start(map.clone(), every);
    let checker = every.map(start).transpose();
    let checker = checker.map_err(|error| BuildError {
        errno: Errno::AGAIN,
        ..args.refuse(
            "can't allocate multipath",
            format!("threads for the path checker ({error})"),
        )
    })?;
    Ok(Box::new(Multipath {
        settings,
        map,
        checker,
    }))
}

/// Whether another path may do better (blk_path_error): not where the device itself has refused.
fn is_path_error(error: IoError) -> bool {
    const OF_THE_DEVICE: [Errno; 6] = [
        Errno::OPNOTSUPP,
        Errno::NOSPC,
        Errno::REMOTEIO,
        Errno::BADE,
        Errno::NODATA,
        Errno::ILSEQ,
    ];
    !error.is_put_off() && !OF_THE_DEVICE.contains(&error.errno())
}

impl Target for Multipath {
    fn submit(&self, mut request: Request<'_>) -> IoResult {
        let (len, nowait) = (request.len.to_bytes(), request.flags.nowait);
        let mut error = IoError::IO;
        loop {
            let chosen = match self.map.select(len) {
                Some(chosen) => chosen,
                None => self.map.choose(len, nowait, error)?,
            };
            match chosen.submit(request.reborrow()) {
                Err(of_path) if is_path_error(of_path) => {
                    self.map.fail(chosen.place());
                    // The kernel tells the path's own error only where it works on whole requests.
                    error = if self.settings.bio {
                        IoError::IO
                    } else {
                        of_path
                    };
                }
                result => return result,
            }
        }
    }

    fn args(&self, naming: Naming) -> String {
        let check = self.checker.as_ref().map(Checker::every);
        let check = check.map_or_else(String::new, |every| {
            format!("{}{} ", arguments::CHECK, every.as_secs())
        });
        check + &show::arguments(&self.settings, &self.map, naming)
    }

    fn status(&self, naming: Naming) -> String {
        show::status(&self.map, naming)
    }

    fn message(&self, words: &[&str], devices: &dyn DeviceOpener) -> Result<String, MessageError> {
        messages::answer(&self.map, words, devices).map(|()| String::new())
    }

    fn recall(&self) -> Vec<String> {
        messages::recall(&self.map)
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        self.map.paths().for_each(|path| visit(path.range()));
    }

    fn flushes_itself(&self) -> bool {
        true
    }

    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        let len = Sectors(row_len.0.saturating_sub(at.0));
        match self.map.likely_path() {
            Some(path) => Mapping::to(path.range(), at, len),
            None => Mapping::nowhere("no path is usable", len),
        }
    }

    fn extent_at(&self, at: Sector, row_len: Sectors) -> Extent {
        match self.map.likely_path() {
            Some(path) => path.range().extent_at(at),
            None => Extent::data(Sector(row_len.0)),
        }
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        Some(&*self.map)
    }
}

#[cfg(test)]
mod tests;
