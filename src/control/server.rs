//! The control socket: one thread per connection, frames in, frames out.
//!
//! The socket belongs to the mount's owner: mode 0600 in a folder of mode 0700, and the peer's credentials are
//! checked all the same. A caller that hangs up gives up what it waits for.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;

use super::Refusal;
use super::mount::Mount;
use super::protocol::frame::{ErrorDetail, Kind, Reply, Request, read_request, write_reply};
use super::protocol::json::{self, JsonReply, JsonRequest};
use super::transaction::{self, Caller};
use crate::io::Errno;
use crate::sync::{Arc, AtomicUsize, Condvar, Mutex, Ordering};

/// More connections at once than this are turned away.
const MAX_CONNECTIONS: usize = 1024;

/// How long the end of a mount waits for answers that are being written, the one about the end among them.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A bound control socket. Dropping it takes the socket's file away.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    answering: Arc<Answering>,
}

/// Requests that have been read and not been answered yet. Its lock is a leaf in the lock order.
#[derive(Default)]
struct Answering {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Answering {
    fn during<R>(&self, answer: impl FnOnce() -> R) -> R {
        *self.count.lock() += 1;
        let result = answer();
        *self.count.lock() -= 1;
        self.fewer.notify_all();
        result
    }
}

impl Server {
    /// Binds the socket at `path`, whose folder exists; takes the place of one that nobody answers any more.
    ///
    /// # Errors
    /// I/O errors; `AddrInUse` where another mount answers there.
    pub fn bind(path: &Path) -> io::Result<Server> {
        if UnixStream::connect(path).is_ok() {
            let text = format!("another dmfs mount answers at {}", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Server {
            listener,
            path: path.to_owned(),
            answering: Arc::default(),
        })
    }

    /// Answers callers of `mount` on threads of their own from now on.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(&self, mount: Arc<Mount>) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let answering = self.answering.clone();
        thread::Builder::new()
            .name("control".into())
            .spawn(move || accept_all(&listener, &mount, &answering))?;
        Ok(())
    }
}

impl Server {
    /// Waits until the requests that have been read are answered, but no longer than is reasonable.
    pub fn finish(&self) {
        let deadline = Instant::now() + LAST_ANSWERS;
        let mut count = self.answering.count.lock();
        while *count > 0
            && !self
                .answering
                .fewer
                .wait_until(&mut count, deadline)
                .timed_out()
        {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn accept_all(listener: &UnixListener, mount: &Arc<Mount>, answering: &Arc<Answering>) {
    let connections = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                log::warn!("control socket: {error}");
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            log::warn!("control socket: more than {MAX_CONNECTIONS} connections");
            connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (mount, counted, answering) = (mount.clone(), connections.clone(), answering.clone());
        let spawned = thread::Builder::new().name("caller".into()).spawn(move || {
            if let Err(error) = converse(&stream, &mount, &answering) {
                log::debug!("control connection: {error}");
            }
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            log::warn!("control socket: {error}");
            connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Answers one caller until it hangs up.
fn converse(
    stream: &UnixStream,
    mount: &Arc<Mount>,
    answering: &Answering,
) -> Result<(), Box<dyn std::error::Error>> {
    let peer = socket_peercred(stream)?.uid;
    if !peer.is_root() && peer != rustix::process::geteuid() {
        return Err(format!("caller of user {} turned away", peer.as_raw()).into());
    }
    let is_there = || is_connected(stream);
    let mut caller = Caller {
        folder: PathBuf::from("/"),
        options: mount.open_options(),
        is_there: &is_there,
    };
    let (mut from, mut to) = (stream, stream);
    while let Some(request) = read_request(&mut from)? {
        answering.during(|| {
            let answer = match request.kind {
                Kind::Ioctl => transaction::carry_out(
                    mount.registry(),
                    &caller,
                    request.command,
                    &request.payload,
                ),
                Kind::Json => answer_json(mount, &mut caller, &request.payload),
            };
            write_reply(&mut to, &to_reply(&request, answer))
        })?;
    }
    Ok(())
}

fn to_reply(request: &Request, answer: Result<Vec<u8>, Refusal>) -> Reply {
    let (errno, payload, detail) = match answer {
        Ok(payload) => (0, payload, ErrorDetail::default()),
        Err(refusal) => (refusal.errno.raw_os_error(), Vec::new(), refusal.detail),
    };
    Reply {
        kind: request.kind,
        command: request.command,
        errno,
        payload,
        detail,
    }
}

fn answer_json(
    mount: &Arc<Mount>,
    caller: &mut Caller<'_>,
    text: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let invalid = |error: String| Refusal::message(Errno::INVAL, error);
    let request: JsonRequest =
        serde_json::from_slice(text).map_err(|error| invalid(format!("JSON request: {error}")))?;
    let reply = match request {
        JsonRequest::Hello { version, cwd } if version == json::VERSION => {
            caller.folder = PathBuf::from(cwd);
            JsonReply::Mount(mount.info())
        }
        JsonRequest::Hello { version, .. } => {
            return Err(invalid(format!(
                "JSON requests of version {version}: expected version {}",
                json::VERSION
            )));
        }
        request => mount.answer(request)?,
    };
    serde_json::to_vec(&reply).map_err(|error| invalid(format!("JSON reply: {error}")))
}

/// True until the peer has hung up.
fn is_connected(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut polled, Some(&now)) {
        Ok(_) => !polled[0]
            .revents()
            .intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR),
        Err(_) => true,
    }
}
