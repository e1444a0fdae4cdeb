//! What one running mount answers beside the kernel's commands: about itself, its counters, its loop devices, and
//! how it ends.

use std::time::Duration;

use std::path::Path;

use super::loops::Loops;
use super::protocol::json::{
    DeviceCache, DeviceCounters, DeviceLimits, JsonReply, JsonRequest, MountInfo, Times,
};
use super::{Refusal, Registry, config, stack};
use crate::backing::OpenOptions;
use crate::device::{Device, Directory};
use crate::io::{BlockDev, Errno, OpKind};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

/// A running mount.
pub struct Mount {
    registry: Arc<Registry>,
    loops: Arc<Loops>,
    options: OpenOptions,
    host: Arc<dyn Host>,
}

/// Who serves a mount.
pub trait Host: Send + Sync {
    /// What there is to say of the mount, but how many devices it has.
    fn info(&self) -> MountInfo;

    /// Ends it.
    ///
    /// # Errors
    /// Who uses it, and what else stands in the way.
    fn stop(&self, how: Stop) -> Result<(), Refusal>;

    /// Has `program` go on in our place, as soon as the caller has been answered.
    ///
    /// # Errors
    /// Where it cannot; we then go on ourselves.
    fn upgrade(&self, program: &Path) -> Result<(), Refusal>;
}

/// How a mount is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Unless somebody uses it.
    Gently,
    /// Out of sight now, ended when nobody uses it any more.
    Lazily,
    /// Whoever uses it.
    ByForce,
}

impl Mount {
    /// A mount of `registry` that `host` serves.
    pub fn new(
        registry: Arc<Registry>,
        loops: Arc<Loops>,
        options: OpenOptions,
        host: Arc<dyn Host>,
    ) -> Mount {
        Mount {
            registry,
            loops,
            options,
            host,
        }
    }

    /// Its devices.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// How files are opened for tables that say nothing of it.
    pub fn open_options(&self) -> OpenOptions {
        self.options
    }

    /// What it says of itself.
    pub fn info(&self) -> MountInfo {
        let devices = u32::try_from(self.registry.list().len()).unwrap_or(u32::MAX);
        MountInfo {
            devices,
            ..self.host.info()
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// ENXIO for a device that is not there, and what the request itself may meet.
    pub fn answer(&self, request: JsonRequest) -> Result<JsonReply, Refusal> {
        match request {
            JsonRequest::Hello { .. } | JsonRequest::MountInfo {} => {
                Ok(JsonReply::Mount(self.info()))
            }
            JsonRequest::Dump { keys } => Ok(JsonReply::Dump {
                toml: config::dump(&self.registry, keys),
            }),
            JsonRequest::Counters { name, measure } => {
                let devices = self.devices(name.as_deref())?;
                if let Some(seconds) = measure {
                    let time = Duration::from_secs(seconds.into());
                    devices.iter().for_each(|device| device.look(time));
                }
                Ok(JsonReply::Counters {
                    devices: devices.iter().map(|device| counters(device)).collect(),
                })
            }
            JsonRequest::Limits { name } => Ok(JsonReply::Limits(limits(&*self.device(&name)?))),
            JsonRequest::Explain {
                name,
                sector,
                sectors,
                inactive,
            } => {
                let device = self.device(&name)?;
                let (at, len) = (Sector(sector), Sectors(sectors));
                stack::explain(&self.registry, &device, at, len, inactive)
                    .map(JsonReply::Explanation)
            }
            JsonRequest::Stack {} => Ok(JsonReply::Stack(stack::stack(&self.registry))),
            JsonRequest::Attach {
                name,
                link,
                readonly,
            } => {
                let device = self.device(&name)?;
                let attached = self.loops.attach(&device, link, readonly)?;
                Ok(JsonReply::Attached {
                    device: attached.device.display().to_string(),
                    link: attached.link.map(|link| link.display().to_string()),
                })
            }
            JsonRequest::Detach { name } => {
                let device = self.device(&name)?;
                self.loops.detach(&device)?;
                Ok(JsonReply::Done {})
            }
            JsonRequest::Cache { name, policy } => {
                let devices = self.devices(name.as_deref())?;
                if let Some(policy) = policy {
                    let policy = policy.parse().map_err(|expected| {
                        Refusal::message(Errno::INVAL, format!("cache policy: {expected}"))
                    })?;
                    for device in &devices {
                        self.registry.set_cache(device, policy)?;
                    }
                }
                Ok(JsonReply::Cache {
                    devices: devices.iter().map(|device| cache(device)).collect(),
                })
            }
            JsonRequest::Unmount { force, lazy } => {
                let stop = match (force, lazy) {
                    (true, _) => Stop::ByForce,
                    (false, true) => Stop::Lazily,
                    (false, false) => Stop::Gently,
                };
                self.host.stop(stop)?;
                Ok(JsonReply::Done {})
            }
            JsonRequest::Upgrade { program } => {
                self.host.upgrade(Path::new(&program))?;
                Ok(JsonReply::Done {})
            }
        }
    }

    /// The device called `name`, or all.
    fn devices(&self, name: Option<&str>) -> Result<Vec<Arc<Device>>, Refusal> {
        match name {
            Some(name) => Ok(vec![self.device(name)?]),
            None => Ok(self.registry.list()),
        }
    }

    fn device(&self, name: &str) -> Result<Arc<Device>, Refusal> {
        self.registry
            .by_name(name)
            .ok_or_else(|| Refusal::of(Errno::NXIO, "the name of a device of this mount", name))
    }
}

fn cache(device: &Device) -> DeviceCache {
    DeviceCache {
        name: device.name(),
        policy: device.cache_policy().to_string(),
        bypassed: device.is_bypassed(),
    }
}

fn counters(device: &Device) -> DeviceCounters {
    let counted = device.counters();
    let number = device.number();
    let of = |kind: OpKind| counted.of(kind);
    let times = |kind: OpKind| Times {
        requests: of(kind).took.requests,
        nanoseconds: of(kind).took.nanoseconds,
    };
    DeviceCounters {
        name: device.name(),
        major: number.major,
        minor: number.minor,
        reads: of(OpKind::Read).requests,
        sectors_read: of(OpKind::Read).sectors.0,
        writes: of(OpKind::Write).requests,
        sectors_written: of(OpKind::Write).sectors.0,
        flushes: of(OpKind::Flush).requests,
        discards: of(OpKind::Discard).requests,
        sectors_discarded: of(OpKind::Discard).sectors.0,
        write_zeroes: of(OpKind::WriteZeroes).requests,
        errors: counted.errors,
        in_flight: counted.in_flight(),
        suspended: device.state().suspended,
        read_times: times(OpKind::Read),
        write_times: times(OpKind::Write),
        flush_times: times(OpKind::Flush),
    }
}

fn limits(device: &Device) -> DeviceLimits {
    let limits = device.limits();
    let len = device.capacity();
    DeviceLimits {
        name: device.name(),
        sectors: len.0,
        logical_block_size: limits.logical_block_size,
        physical_block_size: limits.physical_block_size,
        io_min: limits.io_min,
        io_opt: limits.io_opt,
        max_discard_sectors: limits.max_discard.min(len).0,
        discard_granularity: limits.discard_granularity,
        max_write_zeroes_sectors: limits.max_write_zeroes.min(len).0,
        rotational: limits.waits,
    }
}
