//! Going on where another daemon has died.

use std::fs;
use std::path::PathBuf;
use std::thread;

use super::harden::Hardening;
use super::survival::{Keeper, Left, Link};
use super::{Daemon, serve_metrics};
use crate::backing::BackingStore;
use crate::control::metrics::Metrics;
use crate::control::protocol::mount::MetricsAddress;
use crate::control::protocol::socket_path;
use crate::control::server::Server;
use crate::control::state::{self, DeviceRecord, Replay};
use crate::control::{MountIdentity, Registry};
use crate::device::{Device, Directory};
use crate::fs::{FsOptions, Orphan, Recalled, adopt};
use crate::sync::Arc;
use crate::targets::KINDS;

/// Goes on with what another daemon has left, and serves until the mount is taken away.
///
/// # Errors
/// What stood in the way. Before the mount is served, it is left as it was.
pub fn take_over(link: Link, restarts: u32, left: Left) -> Result<(), String> {
    let Left {
        connections,
        socket,
        descriptors,
        replay,
        recalled,
    } = left;
    let mount = replay.mount.clone();
    let mount = mount.ok_or("the state of the mount does not say which it is")?;
    let hardening = Hardening::default();
    let harden = mount.harden || !replay.loops.is_empty();
    if harden {
        hardening.harden_process();
    }
    let identity = MountIdentity {
        path: PathBuf::from(&mount.mountpoint),
        st_dev: mount.st_dev,
    };
    let store = BackingStore::new(mount.files_major);
    store.restore(replay.backings.clone(), descriptors);
    let registry = Registry::new(KINDS, mount.mapped_major, store);
    registry.set_mount(identity.clone());
    if let Some(Ok(policy)) = mount.cache.as_ref().map(|policy| policy.parse()) {
        registry.set_default_cache(policy);
    }
    state::restore(&registry, &replay).map_err(|refusal| format!("the devices: {refusal}"))?;
    let leaving = count_openers(&registry, &replay, &recalled);
    let failed = |error: std::io::Error| format!("the supervisor: {error}");
    let keeper = Keeper::new(
        link,
        registry.clone(),
        mount.clone(),
        restarts,
        recalled.clone(),
        replay.loops.clone(),
    )
    .map_err(failed)?;
    registry.store().set_keeper(keeper.clone());
    registry.store().forget_unused();
    let options = FsOptions {
        allow_other: mount.files.allow_other,
        uid: mount.files.uid,
        gid: mount.files.gid,
        mode: mount.files.mode,
        writeback: mount.files.writeback,
        outlives: true,
        ..FsOptions::default()
    };
    let orphan = Orphan {
        connections,
        mountpoint: identity.path.clone(),
        recalled,
    };
    let mounted = adopt(registry.clone(), orphan, &options, keeper.clone())
        .map_err(|error| error.to_string())?;
    let mut daemon = Daemon::new(registry, mounted);
    daemon.keeper = Some(keeper);
    (daemon.harden, daemon.hardening) = (mount.harden, Arc::new(hardening));
    daemon.loops.restore(&replay.loops);
    let daemon = Arc::new(daemon);
    daemon.surround();
    daemon.prepare_for_loops(identity.st_dev, harden);
    let path = socket_path::socket_path(&socket_path::socket_folder(), &identity.path);
    let server = Server::adopt(socket, &path);
    let ready = daemon
        .answer(&server)
        .and_then(|()| daemon.watch_signals())
        .and_then(|()| daemon.ready());
    if let Err(error) = ready {
        eprintln!("dmfs: {error}");
        // Nothing is ended: the next daemon may do better.
        std::process::exit(1);
    }
    let _metrics = tell_again(mount.metrics.as_deref(), &daemon);
    daemon.catch_up(leaving);
    log::info!("{}: goes on", identity.path.display());
    let result = daemon.run(&identity, &server);
    daemon.end();
    if mount.made {
        // What somebody put there meanwhile stays.
        let _ = fs::remove_dir(&identity.path);
    }
    result
}

/// Tells what the devices count where the daemon before did. The mount goes on without, where that cannot be.
fn tell_again(address: Option<&str>, daemon: &Daemon) -> Option<Metrics> {
    let address = MetricsAddress::parse(address?);
    let metrics = address.and_then(|address| serve_metrics(&address, &daemon.registry));
    metrics.inspect_err(|why| log::warn!("{why}")).ok()
}

/// Counts who has files open, and gives the devices whose removal waited for a last close that has been.
fn count_openers(registry: &Registry, replay: &Replay, recalled: &Recalled) -> Vec<Arc<Device>> {
    let mut open: std::collections::HashMap<u64, u32> = recalled
        .files()
        .map(|(inode, known)| (inode, known.openers))
        .collect();
    let restore = |record: &DeviceRecord| {
        let device = registry.by_id(record.id)?;
        let openers = open.remove(&record.id).unwrap_or(0);
        let leaves = device.openers().restore(openers, record.deferred_remove);
        leaves.then_some(device)
    };
    replay.devices.values().filter_map(restore).collect()
}

impl Daemon {
    /// Does what the daemon before may not have come to. Not before the mount is served: the kernel may want to
    /// write back pages first.
    fn catch_up(self: &Arc<Self>, leaving: Vec<Arc<Device>>) {
        let daemon = self.clone();
        let caught_up = thread::Builder::new()
            .name("catch-up".into())
            .spawn(move || {
                daemon.mounted.notify_all();
                for device in leaving {
                    daemon.registry.remove_closed(&device);
                }
            });
        if let Err(error) = caught_up {
            log::error!("telling the kernel what may have changed: {error}");
        }
    }
}
