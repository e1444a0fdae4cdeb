//! The life of a mount: read what it shall hold, mount, show, answer, and end in good order.
//!
//! Here the front (fs) and control meet; nothing else knows both. The order at the start: check the whole mount
//! file, mount, make the devices, open the control socket, say so. At the end: unmount, so that nobody can
//! write any more, then flush and close every device.

mod announce;
mod background;
mod cgroup;
pub mod connection;
mod harden;
mod heap;
mod holders;
mod notify;
mod survival;
mod takeover;
mod upgrade;
mod watchdog;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::backing::loop_device::{LOOP_MAJOR, Reserved};
use crate::backing::{BackingStore, OpenOptions};
use crate::control::config::{self, Config, Terms};
use crate::control::loops::Loops;
use crate::control::majors::Majors;
use crate::control::metrics::{self, Metrics};
use crate::control::mount::{Host, Mount, Stop};
use crate::control::nodes::Nodes;
use crate::control::protocol::json::{MountInfo, Supervision};
use crate::control::protocol::mount::{MetricsAddress, MountOptions, STATE_FORMAT};
use crate::control::protocol::socket_path;
use crate::control::server::Server;
use crate::control::state::{AttachedRecord, FilesRecord, MountRecord};
use crate::control::{MountIdentity, Refusal, Registry, Surroundings};
use crate::device::{CachePolicy, Change, Device, Directory};
use crate::fs::{FsOptions, Mounted, Recalled};
use crate::io::{Errno, aside};
use crate::sync::{Arc, AtomicBool, OnceLock, Ordering};
use crate::targets::KINDS;
use crate::terminal::{Amount, Look, Progress};
use harden::Hardening;
use survival::{Inherited, Keeper, Link};

/// How long a mount that is ended by force may take to let go.
const FORCED_END: Duration = Duration::from_secs(5);

/// Checks a mount file; gives what there is to say about a good one.
///
/// # Errors
/// Every mistake in it, one a line.
pub fn check(file: &Path) -> Result<String, String> {
    let terms = Terms {
        kinds: KINDS,
        major: Majors::choose(false).mapped,
    };
    let config = config::check(file, terms).map_err(|errors| errors.to_string())?;
    let plural = if config.devices.len() == 1 {
        "device"
    } else {
        "devices"
    };
    Ok(format!(
        "{}: {} {plural}, no mistake\n",
        file.display(),
        config.devices.len()
    ))
}

/// Mounts and serves until the mount is taken away. With `background` returns as soon as the mount stands.
///
/// # Errors
/// What stood in the way, for people; nothing is left mounted or half made.
pub fn mount(options: MountOptions) -> Result<(), String> {
    if options.background && !background::is_child() {
        return background::start();
    }
    allow_many_files();
    let link =
        survival::daemon_link().map_err(|error| format!("the link to the supervisor: {error}"))?;
    let supervision = match link {
        Some(link) => {
            let inherited = Inherited::receive(&link)?;
            match inherited.left {
                Some(left) => return takeover::take_over(link, inherited.restarts, left),
                None => Some(link),
            }
        }
        None => None,
    };
    let majors = Majors::choose(options.block_devices);
    let mut config = read_config(&options, majors)?;
    let wants_supervisor =
        options.supervised || config.as_ref().is_some_and(|config| config.supervised);
    if wants_supervisor && options.block_devices {
        return Err("mount: --block-devices: a supervised mount does not have them".to_owned());
    }
    if wants_supervisor && supervision.is_none() {
        drop(config);
        return survival::supervise();
    }
    let harden = options.harden || config.as_ref().is_some_and(|config| config.harden);
    if options.harden {
        let devices = config.iter_mut().flat_map(|config| &mut config.devices);
        devices.for_each(|device| device.direct = true);
    }
    let made = make_mountpoint(&options.mountpoint)?;
    let hardening = Hardening::default();
    if harden {
        // Before any thread is started and any buffer allocated.
        hardening.harden_process();
    }
    let hardened = (harden, hardening);
    let result = serve(
        &options,
        majors,
        config,
        (supervision, made.is_some()),
        hardened,
    );
    if let Some(made) = made {
        // What somebody put there meanwhile stays.
        let _ = fs::remove_dir(made);
    }
    result
}

/// Each file of a table takes a few descriptors: as many as we may have.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, most)
    {
        log::debug!("open files: {:?} at most: {error}", limit.current);
    }
}

fn read_config(options: &MountOptions, majors: Majors) -> Result<Option<Config>, String> {
    let terms = Terms {
        kinds: KINDS,
        major: majors.mapped,
    };
    let config = match (&options.file, &options.concise) {
        (Some(_), Some(_)) => return Err("mount: a FILE or --concise, not both".to_owned()),
        (Some(file), None) => config::check(file, terms),
        (None, Some(text)) => {
            let folder =
                std::env::current_dir().map_err(|error| format!("current folder: {error}"))?;
            config::check_concise(text, &folder, false, terms)
        }
        (None, None) => return Ok(None),
    };
    config.map(Some).map_err(|errors| errors.to_string())
}

/// Makes the mountpoint where only itself is missing, and gives its absolute path then.
fn make_mountpoint(mountpoint: &Path) -> Result<Option<PathBuf>, String> {
    match fs::create_dir(mountpoint) {
        Ok(()) => Ok(mountpoint.canonicalize().ok()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(format!(
            "{}: the mountpoint cannot be made: {error}",
            mountpoint.display()
        )),
    }
}

fn cache_policy(options: &MountOptions) -> Result<Option<CachePolicy>, String> {
    let policy = options.cache.as_deref().map(str::parse).transpose();
    policy.map_err(|expected| format!("mount: --cache: {expected}"))
}

fn serve(
    options: &MountOptions,
    majors: Majors,
    config: Option<Config>,
    (link, made): (Option<Link>, bool),
    (harden, hardening): (bool, Hardening),
) -> Result<(), String> {
    let registry = Registry::new(KINDS, majors.mapped, BackingStore::new(majors.files));
    let policy = cache_policy(options)?;
    let named = config.iter().flat_map(|config| &config.devices);
    let mut policies = named.filter_map(|device| device.cache).chain(policy);
    let fs_options = FsOptions {
        writeback: policies.any(|policy| policy == CachePolicy::Writeback),
        allow_other: options.allow_other || FsOptions::default().allow_other,
        outlives: link.is_some(),
        transport: options
            .transport
            .or(config.as_ref().and_then(|config| config.transport))
            .unwrap_or_default(),
        ..FsOptions::default()
    };
    let of_file = config.as_ref().and_then(|config| config.metrics.as_ref());
    let metrics = options.metrics.as_ref().or(of_file).cloned();
    let mounted = crate::fs::serve(registry.clone(), &options.mountpoint, &fs_options)
        .map_err(|error| error.to_string())?;
    let mut daemon = Daemon::new(registry, mounted);
    (daemon.harden, daemon.hardening) = (harden, Arc::new(hardening));
    let identity = daemon.identify()?;
    if let Some(link) = link {
        let files = FilesRecord {
            allow_other: fs_options.allow_other,
            uid: fs_options.uid,
            gid: fs_options.gid,
            mode: fs_options.mode,
            writeback: fs_options.writeback,
        };
        let record = MountRecord {
            format: STATE_FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mountpoint: identity.path.clone().into_os_string(),
            made,
            st_dev: identity.st_dev,
            mapped_major: majors.mapped,
            files_major: majors.files,
            cache: options.cache.clone(),
            harden,
            metrics: metrics.as_ref().map(|address| address.to_string()),
            files,
        };
        daemon.begin_keeping(link, record)?;
    }
    let daemon = Arc::new(daemon);
    let result = daemon.begin(options, &identity, config).and_then(|server| {
        let _metrics = metrics
            .as_ref()
            .map(|address| serve_metrics(address, &daemon.registry))
            .transpose()?;
        daemon.ready()?;
        if background::is_child() {
            background::ready();
        }
        if daemon.keeper.is_none() {
            notify::ready(&format!("serves {}", identity.path.display()));
        }
        daemon.run(&identity, &server)
    });
    daemon.end();
    result
}

/// Tells what the devices count, for as long as what it gives lives.
fn serve_metrics(address: &MetricsAddress, registry: &Arc<Registry>) -> Result<Metrics, String> {
    metrics::serve(address, registry.clone())
        .map_err(|error| format!("metrics: {address}: {error}"))
}

/// What keeps up with the registry.
struct Around {
    mounted: Arc<Mounted>,
    loops: Arc<Loops>,
    /// Where each device is a block device.
    nodes: Option<Arc<Nodes>>,
    keeper: Option<Arc<Keeper>>,
}

impl Surroundings for Around {
    fn changed(&self, change: &Change) {
        self.mounted.notify(change);
        self.loops.follow(change);
        if let Some(nodes) = &self.nodes {
            nodes.follow(change);
        }
        if let (Change::Removed { id, .. }, Some(keeper)) = (change, &self.keeper) {
            keeper.note_removed(*id);
        }
    }

    fn settle(&self) {
        self.mounted.settle();
    }

    fn let_go(&self, device: &Device) {
        self.loops.release(device);
        if let Some(nodes) = &self.nodes {
            nodes.let_go(device);
        }
    }

    fn reserve(&self, wanted: Option<u32>) -> Result<Option<Reserved>, Refusal> {
        let reserved = self.nodes.as_ref().map(|nodes| nodes.reserve(wanted));
        reserved.transpose()
    }

    fn appear(&self, device: &Device, reserved: Reserved) -> Result<(), Refusal> {
        let nodes = self.nodes.as_ref();
        nodes.map_or(Ok(()), |nodes| nodes.appear(device, reserved))
    }

    fn hold(&self, device: &Device) -> Result<(), Errno> {
        let nodes = self.nodes.as_ref();
        nodes.map_or(Ok(()), |nodes| nodes.hold(device))
    }

    fn unhold(&self, device: &Device) {
        if let Some(nodes) = &self.nodes {
            nodes.unhold(device);
        }
    }

    fn open_count(&self, device: &Device, counted: u32, look: bool) -> u32 {
        let nodes = self.nodes.as_ref();
        nodes.map_or(counted, |nodes| nodes.open_count(device, counted, look))
    }

    fn leave(&self, device: &Device, not: bool) {
        match &self.nodes {
            Some(nodes) if not => nodes.stay(device),
            Some(nodes) => nodes.leave(device),
            None => {}
        }
    }

    fn write_back(&self, device: &Device) {
        if let Some(nodes) = &self.nodes {
            nodes.write_back(device);
        }
        self.mounted.write_back(device);
    }

    fn offers(&self, policy: CachePolicy) -> Result<(), String> {
        self.mounted.offers(policy)
    }

    fn note(&self, device: &Device) {
        if let Some(keeper) = &self.keeper {
            keeper.note_device(device);
        }
    }

    fn note_loops(&self, loops: Vec<AttachedRecord>) {
        if let Some(keeper) = &self.keeper {
            keeper.note_loops(loops);
        }
    }
}

/// A mount that stands.
struct Daemon {
    registry: Arc<Registry>,
    loops: Arc<Loops>,
    nodes: Option<Arc<Nodes>>,
    mounted: Arc<Mounted>,
    keeper: Option<Arc<Keeper>>,
    /// What there is to say of the mount.
    info: OnceLock<MountInfo>,
    /// Another program is to go on where this one ends.
    hands_over: AtomicBool,
    /// Hardened from the start.
    harden: bool,
    hardening: Arc<Hardening>,
    /// What makes room for the end.
    before_end: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Daemon {
    fn new(registry: Arc<Registry>, mounted: Mounted) -> Daemon {
        let has_nodes = registry.major() == LOOP_MAJOR;
        Daemon {
            nodes: has_nodes.then(|| Arc::new(Nodes::new(registry.clone()))),
            loops: Arc::new(Loops::new(registry.clone())),
            mounted: Arc::new(mounted),
            registry,
            keeper: None,
            info: OnceLock::new(),
            hands_over: AtomicBool::new(false),
            harden: false,
            hardening: Arc::default(),
            before_end: OnceLock::new(),
        }
    }

    /// Has the supervisor keep from now on what must not die.
    fn begin_keeping(&mut self, link: Link, record: MountRecord) -> Result<(), String> {
        let keeper = Keeper::new(
            link,
            self.registry.clone(),
            record,
            0,
            Recalled::default(),
            Vec::new(),
        );
        let keeper = keeper.and_then(|keeper| {
            keeper.keep_connection(self.mounted.descriptors())?;
            Ok(keeper)
        });
        let keeper = keeper.map_err(|error| format!("the supervisor: {error}"))?;
        self.registry.store().set_keeper(keeper.clone());
        self.mounted.set_recorder(keeper.clone());
        self.keeper = Some(keeper);
        Ok(())
    }

    fn surround(&self) {
        let around = Around {
            mounted: self.mounted.clone(),
            loops: self.loops.clone(),
            nodes: self.nodes.clone(),
            keeper: self.keeper.clone(),
        };
        self.registry.set_surroundings(Arc::new(around));
    }

    /// Makes the devices, opens the control socket and says so.
    fn begin(
        self: &Arc<Self>,
        options: &MountOptions,
        identity: &MountIdentity,
        config: Option<Config>,
    ) -> Result<Server, String> {
        self.registry.set_mount(identity.clone());
        self.surround();
        self.prepare_for_loops(identity.st_dev, self.harden);
        if let Some(policy) = cache_policy(options)? {
            self.mounted
                .offers(policy)
                .map_err(|why| format!("mount: --cache {policy}: {why}"))?;
            self.registry.set_default_cache(policy);
        }
        if let Some(config) = &config {
            let _progress = self.tell_progress(config);
            config::apply(config, &self.registry, &|| true).map_err(|error| error.to_string())?;
        }
        let server = self.open_socket(identity)?;
        if let Some(keeper) = &self.keeper {
            let kept = keeper.keep_socket(server.socket());
            kept.map_err(|error| format!("the supervisor: {error}"))?;
        }
        self.answer(&server)?;
        self.watch_signals()?;
        announce::announce(&self.registry.list(), options)
            .map_err(|error| format!("standard output: {error}"))?;
        Ok(server)
    }

    /// From now on a successor goes on where this process dies.
    fn ready(self: &Arc<Self>) -> Result<(), String> {
        let Some(keeper) = &self.keeper else {
            return Ok(());
        };
        let mounted = Arc::downgrade(&self.mounted);
        let watched = thread::Builder::new()
            .name("times".into())
            .spawn(move || note_times(&mounted));
        let ready = watched.and_then(|_| {
            keeper.ready(|| {
                log::warn!(
                    "the supervisor has died: the mount lives no longer than this process now"
                );
            })
        });
        ready.map_err(|error| format!("the supervisor: {error}"))
    }

    /// Serves until the end.
    fn run(&self, identity: &MountIdentity, server: &Server) -> Result<(), String> {
        let ended = self.mounted.wait().map_err(|error| error.to_string());
        if self.hands_over.load(Ordering::Acquire) {
            server.finish();
            // Nothing is flushed, closed or unmounted: it all goes on.
            std::process::exit(0);
        }
        notify::stopping();
        let ended = ended.and_then(|()| self.check_unmounted(identity));
        // Wakes who waits for an event, so that everybody gets an answer.
        self.registry.shut_down();
        server.finish();
        ended
    }

    /// Tells how many of the devices are made, as long as what it gives lives.
    fn tell_progress(&self, config: &Config) -> Progress {
        let (registry, of) = (self.registry.clone(), config.devices.len() as u64);
        Progress::asking("mount", Look::of(io::stderr()), move || Amount {
            done: registry.list().len() as u64,
            of,
        })
    }

    /// A loop device over one of our files hardens the mount; one that shall be hard is from the start.
    fn prepare_for_loops(&self, st_dev: u64, now: bool) {
        if self.nodes.is_some() {
            self.hardening.at_attach(&self.mounted, st_dev);
        } else if now {
            self.hardening.watch(&self.mounted, st_dev);
        }
        let (hardening, mounted) = (self.hardening.clone(), self.mounted.clone());
        self.loops
            .before_attach(move || hardening.at_attach(&mounted, st_dev));
    }

    /// Serving has ended. Where the mount is still there, nobody has unmounted it: its connection was cut. It is
    /// taken away, for it answers nobody.
    fn check_unmounted(&self, identity: &MountIdentity) -> Result<(), String> {
        if !connection::is_mounted(identity.st_dev, &identity.path) {
            return Ok(());
        }
        let shown = identity.path.display();
        let left = match self.mounted.take_away_dead() {
            Ok(()) => String::new(),
            Err(error) => format!("; {error}"),
        };
        if let Some(report) = self.hardening.report() {
            return Err(format!(
                "{shown}: the watchdog cut the connection: {report}{left}"
            ));
        }
        Err(format!(
            "{shown}: the connection to the kernel was cut ({}/{}/abort, or `umount -f` of a mount in use): \
             whoever uses the mount gets ENOTCONN; what was written is flushed{left}",
            connection::FOLDER,
            connection::number(identity.st_dev),
        ))
    }

    fn identify(&self) -> Result<MountIdentity, String> {
        use std::os::unix::fs::MetadataExt;
        let path = self.mounted.mountpoint().to_path_buf();
        let asked = path.clone();
        // Answered by our own workers.
        let st_dev = aside(move || fs::metadata(asked).map(|about| about.dev()))
            .map_err(io::Error::from)
            .and_then(|answer| answer)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(MountIdentity { path, st_dev })
    }

    fn open_socket(self: &Arc<Self>, identity: &MountIdentity) -> Result<Server, String> {
        let failed = |path: &Path, error: io::Error| {
            format!(
                "control socket {}: {error}; XDG_RUNTIME_DIR chooses its folder",
                path.display()
            )
        };
        let folder = socket_path::socket_folder();
        socket_path::prepare_folder(&folder).map_err(|error| failed(&folder, error))?;
        let path = socket_path::socket_path(&folder, &identity.path);
        Server::bind(&path).map_err(|error| failed(&path, error))
    }

    /// Answers callers from now on.
    fn answer(self: &Arc<Self>, server: &Server) -> Result<(), String> {
        let _ = self.before_end.set(Box::new(server.give_up_spares()));
        let program = std::env::current_exe().unwrap_or_default();
        let info = MountInfo {
            mountpoint: self.mounted.mountpoint().display().to_string(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            major: self.registry.major(),
            socket: server.path().display().to_string(),
            program: program.display().to_string(),
            transport: self.mounted.transport().to_string(),
            block_devices: self.nodes.is_some(),
            restarts: self.keeper.as_ref().map_or(0, |keeper| keeper.restarts()),
            ..MountInfo::default()
        };
        let _ = self.info.set(info);
        let mount = Mount::new(
            self.registry.clone(),
            self.loops.clone(),
            OpenOptions {
                direct: self.harden,
            },
            self.clone(),
        );
        let started = server.start(Arc::new(mount));
        started.map_err(|error| format!("control socket {}: {error}", server.path().display()))
    }

    /// The first signal ends the mount as soon as nobody uses it; the second ends it at once.
    fn watch_signals(self: &Arc<Self>) -> Result<(), String> {
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| format!("signals: {error}"))?;
        let daemon = self.clone();
        let watch = move || {
            let mut asked = false;
            for _signal in signals.forever() {
                let how = if asked { Stop::ByForce } else { Stop::Gently };
                asked = true;
                if let Err(refusal) = daemon.stop(how) {
                    eprintln!("dmfs: {refusal}");
                    eprintln!("dmfs: ends when that is over; a second signal ends it at once");
                    if let Err(refusal) = daemon.stop(Stop::Lazily) {
                        eprintln!("dmfs: {refusal}");
                    }
                }
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(watch)
            .map(|_| ())
            .map_err(|error| format!("signals: {error}"))
    }

    fn stop(&self, how: Stop) -> Result<(), Refusal> {
        if let Some(make_room) = self.before_end.get() {
            make_room();
        }
        match how {
            Stop::Gently => {
                if let Some(nodes) = &self.nodes {
                    if let Some(used) = nodes.in_use().first() {
                        return Err(self.busy(&format!("{} is in use", used.display())));
                    }
                    nodes.release_all();
                }
                self.loops.release_unused();
                self.mounted.settle();
                self.mounted
                    .unmount(false)
                    .map_err(|error| self.busy(&error.to_string()))
            }
            Stop::Lazily => {
                self.release_loops();
                self.mounted
                    .unmount(true)
                    .map_err(|error| self.busy(&error.to_string()))
            }
            Stop::ByForce => {
                self.release_loops();
                self.registry.shut_down();
                let unmounted = self.mounted.unmount(true);
                if !self.mounted.wait_for(FORCED_END) {
                    log::error!("still in use after {FORCED_END:?}: whoever uses it gets ENOTCONN");
                    self.say_bye();
                    std::process::exit(1);
                }
                unmounted.map_err(|error| self.busy(&error.to_string()))
            }
        }
    }

    fn release_loops(&self) {
        if let Some(nodes) = &self.nodes {
            nodes.release_all();
        }
        self.loops.release_all();
    }

    /// Why the mount cannot be taken away, and who holds it.
    fn busy(&self, error: &str) -> Refusal {
        let holders = holders::of(self.mounted.mountpoint());
        let text = match holders.is_empty() {
            true => error.to_owned(),
            false => format!("{error}; held by {}", holders.join(", ")),
        };
        Refusal::message(Errno::BUSY, text)
    }

    /// Nobody can write any more: makes everything durable and lets go of it.
    fn end(&self) {
        self.release_loops();
        if let Err(error) = self.mounted.unmount(true) {
            log::warn!("{error}");
        }
        self.registry.shut_down();
        self.say_bye();
    }

    fn say_bye(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.bye();
        }
    }
}

impl Host for Daemon {
    fn info(&self) -> MountInfo {
        let supervision = match &self.keeper {
            None => Supervision::None,
            Some(keeper) if keeper.is_lost() => Supervision::Lost,
            Some(_) => Supervision::Supervised,
        };
        MountInfo {
            supervision,
            ..self.info.get().cloned().unwrap_or_default()
        }
    }

    fn stop(&self, how: Stop) -> Result<(), Refusal> {
        Daemon::stop(self, how)
    }

    fn upgrade(&self, program: &Path) -> Result<(), Refusal> {
        let refuse = |errno, text: &str| Err(Refusal::message(errno, format!("upgrade: {text}")));
        let keeper = match &self.keeper {
            None => return refuse(Errno::OPNOTSUPP, "the mount is not --supervised"),
            Some(keeper) if keeper.is_lost() => {
                return refuse(Errno::OPNOTSUPP, "the mount's supervisor has died");
            }
            Some(keeper) => keeper,
        };
        upgrade::check(program).or_else(|why| refuse(Errno::INVAL, &why))?;
        if self.hands_over.swap(true, Ordering::AcqRel) {
            return refuse(Errno::BUSY, "another one is on its way");
        }
        let retire = keeper.upgrade(program).and_then(|()| {
            let mounted = self.mounted.clone();
            let thread = thread::Builder::new().name("handover".into());
            thread.spawn(move || mounted.retire())
        });
        retire.map(drop).or_else(|error| {
            self.hands_over.store(false, Ordering::Release);
            refuse(Errno::IO, &format!("{}: {error}", program.display()))
        })
    }
}

/// How often it is written down when files were written.
const TIMES_EVERY: Duration = Duration::from_secs(1);

/// Has it written down now and then when files were written, as long as they are served.
fn note_times(mounted: &Weak<Mounted>) {
    let mut since = 0;
    while let Some(mounted) = mounted.upgrade() {
        since = mounted.note_written(since);
        drop(mounted);
        thread::sleep(TIMES_EVERY);
    }
}
