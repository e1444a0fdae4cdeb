//! The control socket: one thread per connection, frames in, frames out.
//!
//! The socket belongs to the mount's owner: mode 0600 in a folder of mode 0700, and the peer's credentials are
//! checked all the same. A caller that hangs up gives up what it waits for; callers who keep us waiting make room
//! for others (`callers`), and tables that use up all descriptors leave some for us (`spares`).

mod callers;
mod spares;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use zeroize::Zeroize;

use super::Refusal;
use super::mount::Mount;
use super::protocol::frame::{ErrorDetail, Kind, Reply, Request, read_request_if, write_reply};
use super::protocol::json::{self, JsonReply, JsonRequest};
use super::transaction::{self, Caller};
use crate::io::Errno;
use crate::sync::{Arc, Condvar, Mutex};
use callers::Callers;
use spares::Spares;

/// How long to wait where the system has no room for a new connection.
const BREATH: Duration = Duration::from_millis(50);

/// How long the end of a mount waits for answers that are being written, the one about the end among them.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A bound control socket. Dropping it takes the socket's file away.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    answering: Arc<Answering>,
    spares: Arc<Spares>,
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
            spares: Arc::new(Spares::new()),
        })
    }

    /// Goes on with the socket of an earlier daemon of the mount: callers that nobody has accepted yet wait there.
    pub fn adopt(listener: OwnedFd, path: &Path) -> Server {
        Server {
            listener: listener.into(),
            path: path.to_owned(),
            answering: Arc::default(),
            spares: Arc::new(Spares::new()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket that callers come to.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers callers of `mount` on threads of their own from now on.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(&self, mount: Arc<Mount>) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let reception = Reception {
            mount,
            answering: self.answering.clone(),
            spares: self.spares.clone(),
            callers: Arc::default(),
        };
        thread::Builder::new()
            .name("control".into())
            .spawn(move || reception.accept_all(&listener))?;
        Ok(())
    }

    /// Gives up the descriptors that were kept back for callers: the mount is to end and may need them for that.
    pub fn give_up_spares(&self) -> impl Fn() + use<> {
        let spares = self.spares.clone();
        move || spares.give_up_all()
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

/// What every connection shares.
#[derive(Clone)]
struct Reception {
    mount: Arc<Mount>,
    answering: Arc<Answering>,
    spares: Arc<Spares>,
    callers: Arc<Callers>,
}

impl Reception {
    fn accept_all(&self, listener: &UnixListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.receive(stream),
                Err(error) => self.make_room(&error),
            }
        }
    }

    /// Answers a caller on a thread of his own.
    fn receive(&self, stream: UnixStream) {
        let stream = Arc::new(stream);
        let Some(caller) = self.callers.admit(&stream) else {
            log::warn!("control socket: too many callers, all of them being answered");
            return;
        };
        let reception = self.clone();
        let spawned = thread::Builder::new().name("caller".into()).spawn(move || {
            if let Err(error) = reception.converse(&stream, &caller) {
                log::debug!("control connection: {error}");
            }
            drop((stream, caller));
            reception.spares.refill();
        });
        if let Err(error) = spawned {
            log::warn!("control socket: {error}");
        }
    }

    fn make_room(&self, error: &io::Error) {
        let is_full = matches!(
            Errno::from_io_error(error),
            Some(Errno::MFILE | Errno::NFILE)
        );
        if !(is_full && self.spares.give_up_one()) {
            log::warn!("control socket: {error}");
            self.callers.send_one_away();
            thread::sleep(BREATH);
        }
    }

    /// Answers one caller until he hangs up.
    fn converse(
        &self,
        stream: &UnixStream,
        caller: &callers::Caller,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let peer = socket_peercred(stream)?.uid;
        if !peer.is_root() && peer != rustix::process::geteuid() {
            return Err(format!("caller of user {} turned away", peer.as_raw()).into());
        }
        let is_there = || is_connected(stream);
        let mut carried = Caller {
            folder: PathBuf::from("/"),
            options: self.mount.open_options(),
            is_there: &is_there,
        };
        let (mut from, mut to) = (stream, stream);
        let no_room = || io::Error::from(Errno::NOMEM);
        loop {
            caller.is_awaited(0);
            let has_room = |bytes| caller.is_awaited(bytes).then_some(()).ok_or_else(no_room);
            let Some(mut request) = read_request_if(&mut from, has_room)? else {
                return Ok(());
            };
            caller.waits();
            self.answering.during(|| {
                let answer = match request.kind {
                    Kind::Ioctl => transaction::carry_out(
                        self.mount.registry(),
                        &carried,
                        request.command,
                        &request.payload,
                    ),
                    Kind::Json => answer_json(&self.mount, &mut carried, &request.payload),
                };
                let mut reply = to_reply(&request, answer);
                // Tables and messages may hold keys.
                request.payload.zeroize();
                drop(request);
                if !caller.is_awaited(reply.payload.len()) {
                    return Err(no_room().into());
                }
                let written = write_reply(&mut to, &reply);
                reply.payload.zeroize();
                written
            })?;
            caller.is_known();
        }
    }
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
