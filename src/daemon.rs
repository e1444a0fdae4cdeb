//! The life of a mount: read what it shall hold, mount, show, answer, and end in good order.
//!
//! Here the front (fs) and control meet; nothing else knows both. The order at the start: check the whole mount
//! file, mount, make the devices, open the control socket, say so. At the end: unmount, so that nobody can
//! write any more, then flush and close every device.

mod announce;
mod background;
pub mod connection;
mod holders;
mod notify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::backing::{BackingStore, OpenOptions};
use crate::control::config::{self, Config, Terms};
use crate::control::loops::Loops;
use crate::control::majors::Majors;
use crate::control::mount::{Mount, Stop};
use crate::control::protocol::json::MountInfo;
use crate::control::protocol::mount::MountOptions;
use crate::control::protocol::socket_path;
use crate::control::server::Server;
use crate::control::{MountIdentity, Refusal, Registry, Surroundings};
use crate::device::{CachePolicy, Change, Device, Directory};
use crate::fs::{FsOptions, Mounted};
use crate::io::Errno;
use crate::sync::{Arc, OnceLock};
use crate::targets::KINDS;
use crate::terminal::{Amount, Look, Progress};

/// How long a mount that is ended by force may take to let go.
const FORCED_END: Duration = Duration::from_secs(5);

/// Checks a mount file; gives what there is to say about a good one.
///
/// # Errors
/// Every mistake in it, one a line.
pub fn check(file: &Path) -> Result<String, String> {
    let terms = Terms {
        kinds: KINDS,
        major: Majors::choose().mapped,
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
    let majors = Majors::choose();
    let config = read_config(&options, majors)?;
    let made = make_mountpoint(&options.mountpoint)?;
    let result = serve(&options, majors, config);
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

fn serve(options: &MountOptions, majors: Majors, config: Option<Config>) -> Result<(), String> {
    let registry = Registry::new(KINDS, majors.mapped, BackingStore::new(majors.files));
    let policy = cache_policy(options)?;
    let named = config.iter().flat_map(|config| &config.devices);
    let mut policies = named.filter_map(|device| device.cache).chain(policy);
    let fs_options = FsOptions {
        writeback: policies.any(|policy| policy == CachePolicy::Writeback),
        allow_other: options.allow_other || FsOptions::default().allow_other,
        ..FsOptions::default()
    };
    let mounted = crate::fs::serve(registry.clone(), &options.mountpoint, &fs_options)
        .map_err(|error| error.to_string())?;
    let daemon = Arc::new(Daemon {
        loops: Arc::new(Loops::new(registry.clone())),
        mounted: Arc::new(mounted),
        registry,
        before_end: OnceLock::new(),
    });
    let result = daemon.run(options, config);
    daemon.end();
    result
}

/// What keeps up with the registry.
struct Around {
    mounted: Arc<Mounted>,
    loops: Arc<Loops>,
}

impl Surroundings for Around {
    fn changed(&self, change: &Change) {
        self.mounted.notify(change);
        self.loops.follow(change);
    }

    fn settle(&self) {
        self.mounted.settle();
    }

    fn let_go(&self, device: &Device) {
        self.loops.release(device);
    }

    fn write_back(&self, device: &Device) {
        self.mounted.write_back(device);
    }

    fn offers(&self, policy: CachePolicy) -> Result<(), String> {
        self.mounted.offers(policy)
    }
}

/// A mount that stands.
struct Daemon {
    registry: Arc<Registry>,
    loops: Arc<Loops>,
    mounted: Arc<Mounted>,
    /// What makes room for the end.
    before_end: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Daemon {
    fn run(self: &Arc<Self>, options: &MountOptions, config: Option<Config>) -> Result<(), String> {
        let identity = self.identify()?;
        self.registry.set_mount(identity.clone());
        let around = Around {
            mounted: self.mounted.clone(),
            loops: self.loops.clone(),
        };
        self.registry.set_surroundings(Arc::new(around));
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
        let server = self.open_socket(&identity)?;
        let _ = self.before_end.set(Box::new(server.give_up_spares()));
        self.watch_signals()?;
        announce::announce(&self.registry.list(), options)
            .map_err(|error| format!("standard output: {error}"))?;
        if background::is_child() {
            background::ready();
        }
        notify::ready(&format!("serves {}", identity.path.display()));
        let ended = self.mounted.wait().map_err(|error| error.to_string());
        notify::stopping();
        let ended = ended.and_then(|()| self.check_unmounted(&identity));
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

    /// Serving has ended. Where the mount is still there, nobody has unmounted it: its connection was cut. It is
    /// taken away, for it answers nobody.
    fn check_unmounted(&self, identity: &MountIdentity) -> Result<(), String> {
        if !connection::is_mounted(identity.st_dev) {
            return Ok(());
        }
        let shown = identity.path.display();
        let left = match self.mounted.take_away_dead() {
            Ok(()) => String::new(),
            Err(error) => format!("; {error}"),
        };
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
        let metadata =
            fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(MountIdentity {
            path,
            st_dev: metadata.dev(),
        })
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
        let server = Server::bind(&path).map_err(|error| failed(&path, error))?;
        let info = MountInfo {
            mountpoint: identity.path.display().to_string(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            major: self.registry.major(),
            socket: path.display().to_string(),
            devices: 0,
        };
        let daemon = self.clone();
        let stop = move |how| daemon.stop(how);
        let mount = Mount::new(
            self.registry.clone(),
            self.loops.clone(),
            info,
            OpenOptions::default(),
            stop,
        );
        server
            .start(Arc::new(mount))
            .map_err(|error| failed(&path, error))?;
        Ok(server)
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
                self.loops.release_unused();
                self.mounted.settle();
                self.mounted
                    .unmount(false)
                    .map_err(|error| self.busy(&error.to_string()))
            }
            Stop::Lazily => {
                self.loops.release_all();
                self.mounted
                    .unmount(true)
                    .map_err(|error| self.busy(&error.to_string()))
            }
            Stop::ByForce => {
                self.loops.release_all();
                self.registry.shut_down();
                let unmounted = self.mounted.unmount(true);
                if !self.mounted.wait_for(FORCED_END) {
                    log::error!("still in use after {FORCED_END:?}: whoever uses it gets ENOTCONN");
                    std::process::exit(1);
                }
                unmounted.map_err(|error| self.busy(&error.to_string()))
            }
        }
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
        self.loops.release_all();
        if let Err(error) = self.mounted.unmount(true) {
            log::warn!("{error}");
        }
        self.registry.shut_down();
    }
}
