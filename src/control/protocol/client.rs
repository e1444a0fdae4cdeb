//! A connection to a mount's daemon, and finding the mount to talk to.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with,
};
use serde_json::{from_slice, to_vec};
use zeroize::Zeroize;

use super::dm_ioctl::Command;
use super::frame::{ErrorDetail, FrameError, Kind, Reply, Request, read_reply, write_request};
use super::json::{JsonReply, JsonRequest, MountInfo, VERSION};
use super::socket_path::{check_folder, socket_folder, socket_path};

/// How long a daemon may take to greet; one that is stopped, or has no processor, must not hold us for good.
const GREETING: Duration = Duration::from_secs(10);

/// How often somebody who may give up is asked whether he does.
const ASKED_EVERY_NS: i64 = 100_000_000;

/// A connection that has said hello.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// The mount at the other end.
    pub mount: MountInfo,
}

/// Why there is nobody to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoMount {
    /// No mount runs.
    None,
    /// The mount asked for does not run, or refuses us.
    Unreachable(String),
    /// Several run and none was chosen.
    Several(Vec<String>),
}

impl std::fmt::Display for NoMount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => {
                f.write_str("no dmfs mount is running; start one with: dmfs mount MOUNTPOINT")
            }
            Self::Unreachable(why) => f.write_str(why),
            Self::Several(mountpoints) => write!(
                f,
                "several mounts are running: choose one with --mount MOUNTPOINT or DMFS_MOUNT: {}",
                mountpoints.join(", ")
            ),
        }
    }
}

/// A transaction that was answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The errno.
    pub errno: Errno,
    /// Reason and place.
    pub detail: ErrorDetail,
}

impl Client {
    /// Has relative paths in tables start from `folder` from now on.
    ///
    /// # Errors
    /// What the socket or the peer says.
    pub fn move_to(&mut self, folder: &Path) -> Result<(), String> {
        match self.json(&hello_from(folder)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(reason(&refusal)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Says hello on `stream`.
    ///
    /// # Errors
    /// What the socket or the peer says.
    pub fn greet(stream: UnixStream) -> Result<Self, String> {
        let cwd = std::env::current_dir().map_err(|error| format!("current folder: {error}"))?;
        let hello = hello_from(&cwd);
        let nobody = MountInfo::default();
        let mut client = Self {
            stream,
            mount: nobody,
        };
        let patience = |client: &Client, time| {
            let set = client.stream.set_read_timeout(time);
            set.and_then(|()| client.stream.set_write_timeout(time))
                .map_err(|error| format!("control socket: {error}"))
        };
        patience(&client, Some(GREETING))?;
        match client.json(&hello) {
            Ok(Ok(JsonReply::Mount(mount))) => client.mount = mount,
            Ok(Ok(other)) => return Err(format!("the daemon answered hello with {other:?}")),
            Ok(Err(refusal)) => return Err(reason(&refusal)),
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(client.silent());
            }
            Err(error) => return Err(error.to_string()),
        }
        // An answer may take long; the kernel's device mapper has no limits either.
        patience(&client, None)?;
        Ok(client)
    }

    /// What to say of a daemon that does not answer.
    fn silent(&self) -> String {
        let process = match socket_peercred(&self.stream) {
            Ok(peer) => format!("process {}", peer.pid.as_raw_nonzero()),
            Err(_) => "the daemon".to_owned(),
        };
        format!(
            "{process} serves it and has not answered for {} seconds; is it stopped (`kill -CONT`)?",
            GREETING.as_secs()
        )
    }

    /// One ioctl transaction: the buffer that came back, or the refusal.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn ioctl(
        &mut self,
        command: Command,
        buffer: Vec<u8>,
    ) -> Result<Result<(Vec<u8>, ErrorDetail), Refusal>, FrameError> {
        let reply = self.transact(Request {
            kind: Kind::Ioctl,
            command: command.number(),
            payload: buffer,
        })?;
        match reply.errno {
            0 => Ok(Ok((reply.payload, reply.detail))),
            errno => Ok(Err(refusal(errno, reply.detail))),
        }
    }

    /// One JSON transaction.
    ///
    /// # Errors
    /// When the connection fails or the answer is not understood.
    pub fn json(
        &mut self,
        request: &JsonRequest,
    ) -> Result<Result<JsonReply, Refusal>, FrameError> {
        let reply = self.transact(Request {
            kind: Kind::Json,
            command: 0,
            payload: to_vec(request).map_err(FrameError::Detail)?,
        })?;
        match reply.errno {
            0 => Ok(Ok(from_slice(&reply.payload).map_err(FrameError::Detail)?)),
            errno => Ok(Err(refusal(errno, reply.detail))),
        }
    }

    /// One ioctl transaction of any number, given up when `keeps_waiting`, which is asked now and then, says so:
    /// `None`, and the connection is of no use any more.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn ioctl_while(
        &mut self,
        command: u32,
        buffer: Vec<u8>,
        keeps_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Result<Vec<u8>, Errno>>, FrameError> {
        let request = Request {
            kind: Kind::Ioctl,
            command,
            payload: buffer,
        };
        let kind = request.kind;
        self.send(request)?;
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: ASKED_EVERY_NS,
        };
        loop {
            let mut polled = [PollFd::new(&self.stream, PollFlags::IN)];
            match poll(&mut polled, Some(&pause)) {
                Ok(0) if !keeps_waiting() => return Ok(None),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => break,
                Err(errno) => return Err(FrameError::Io(errno.into())),
            }
        }
        let reply = self.reply_to(kind, command)?;
        Ok(Some(match reply.errno {
            0 => Ok(reply.payload),
            errno => Err(Errno::from_raw_os_error(errno)),
        }))
    }

    fn transact(&mut self, request: Request) -> Result<Reply, FrameError> {
        let (kind, command) = (request.kind, request.command);
        self.send(request)?;
        self.reply_to(kind, command)
    }

    fn send(&mut self, mut request: Request) -> Result<(), FrameError> {
        let written = write_request(&mut self.stream, &request);
        // A table may hold keys.
        request.payload.zeroize();
        written
    }

    fn reply_to(&mut self, kind: Kind, command: u32) -> Result<Reply, FrameError> {
        let reply = read_reply(&mut self.stream)?;
        match reply.kind == kind && reply.command == command {
            true => Ok(reply),
            false => Err(FrameError::Io(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer belongs to another request",
            ))),
        }
    }
}

fn hello_from(folder: &Path) -> JsonRequest {
    JsonRequest::Hello {
        version: VERSION,
        cwd: folder.to_string_lossy().into_owned(),
    }
}

fn refusal(errno: i32, detail: ErrorDetail) -> Refusal {
    Refusal {
        errno: Errno::from_raw_os_error(errno),
        detail,
    }
}

/// The reason of a refusal in one line.
pub fn reason(refusal: &Refusal) -> String {
    match refusal.detail.messages.first() {
        Some(line) => place(&refusal.detail) + &line_text(line, &refusal.detail),
        None => place(&refusal.detail) + &strerror(refusal.errno) + &expectation(&refusal.detail),
    }
}

/// The C library's text for `errno`.
pub fn strerror(errno: Errno) -> String {
    let text = io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    match text.rsplit_once(" (os error ") {
        Some((text, _)) => text.to_string(),
        None => text,
    }
}

fn place(detail: &ErrorDetail) -> String {
    match (detail.row, detail.word) {
        (Some(row), Some(word)) => format!("row {row}, word {word}: "),
        (Some(row), None) => format!("row {row}: "),
        _ => String::new(),
    }
}

/// The kernel's line without what the user knows, the device's number and the errno; with what was
/// expected.
fn line_text(line: &str, detail: &ErrorDetail) -> String {
    let line = line
        .strip_prefix("table: ")
        .map_or(line, |rest| match rest.split_once(": ") {
            Some((number, text)) if number.bytes().all(|b| b.is_ascii_digit() || b == b':') => text,
            _ => rest,
        });
    let line = line.strip_prefix("ioctl: ").unwrap_or(line);
    let mut text = match line.rsplit_once(" (-") {
        Some((text, errno)) if errno.ends_with(')') => text.to_string(),
        _ => line.to_string(),
    };
    text += &expectation(detail);
    text
}

fn expectation(detail: &ErrorDetail) -> String {
    match (&detail.expected, &detail.found) {
        (Some(expected), Some(found)) => format!(": expected {expected}, found '{found}'"),
        (Some(expected), None) => format!(": expected {expected}"),
        (None, Some(found)) => format!(": found '{found}'"),
        (None, None) => String::new(),
    }
}

/// Connects to the mount that `--mount` or `DMFS_MOUNT` names, or else to the only one that runs.
///
/// # Errors
/// See [`NoMount`].
pub fn connect(asked: Option<&str>) -> Result<Client, NoMount> {
    let environment = std::env::var("DMFS_MOUNT")
        .ok()
        .filter(|path| !path.is_empty());
    match asked.map(str::to_string).or(environment) {
        Some(mountpoint) => connect_to(&mountpoint),
        None => connect_to_only(),
    }
}

fn connect_to(mountpoint: &str) -> Result<Client, NoMount> {
    let unreachable =
        |why: String| NoMount::Unreachable(format!("no dmfs mount at {mountpoint}: {why}"));
    let folder = socket_folder();
    check_folder(&folder).map_err(|error| unreachable(not_running(&error, &folder)))?;
    let path = canonical(mountpoint);
    let stream = open_socket(&socket_path(&folder, &path)).map_err(|error| {
        unreachable(match is_left_over(&path) {
            true => format!("its daemon has died; take it away with `fusermount3 -u {mountpoint}`"),
            false => not_running(&error, &folder),
        })
    })?;
    Client::greet(stream).map_err(unreachable)
}

/// Connects, but does not wait for good where nobody accepts and the queue is full.
fn open_socket(path: &Path) -> io::Result<UnixStream> {
    let stream = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&stream, Timeout::Send, Some(GREETING))?;
    connect_socket(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(stream))
}

/// Whether a mount of dmfs stands at `mountpoint`.
fn is_left_over(mountpoint: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next().map(|place| place.replace("\\040", " "));
        place.is_some_and(|place| Path::new(&place) == mountpoint)
            && fields.next() == Some("fuse.dmfs")
    })
}

/// Why a socket does not answer; where there is none, which mounts there are.
fn not_running(error: &io::Error, folder: &Path) -> String {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    if !matches!(error.kind(), NotFound | ConnectionRefused) {
        return format!("{}: {error}", folder.display());
    }
    let mountpoints: Vec<_> = running()
        .into_iter()
        .map(|client| client.mount.mountpoint)
        .collect();
    match mountpoints.is_empty() {
        true => "none is running".to_string(),
        false => format!("running are {}", mountpoints.join(", ")),
    }
}

/// The mountpoint's canonical path, also where the mount itself does not answer any more: then its
/// folder is resolved.
pub fn canonical(mountpoint: &str) -> PathBuf {
    let path = Path::new(mountpoint);
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match (
        absolute.parent().map(Path::canonicalize),
        absolute.file_name(),
    ) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => absolute,
    }
}

fn connect_to_only() -> Result<Client, NoMount> {
    let mut clients = running();
    match clients.len() {
        0 => Err(NoMount::None),
        1 => clients.pop().ok_or(NoMount::None),
        _ => {
            let mountpoints = clients.into_iter().map(|client| client.mount.mountpoint);
            Err(NoMount::Several(mountpoints.collect()))
        }
    }
}

/// A connection to each running mount of this user, in order of mountpoints. Sockets that nobody
/// listens at are passed over.
pub fn running() -> Vec<Client> {
    let folder = socket_folder();
    if check_folder(&folder).is_err() {
        return Vec::new();
    }
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut clients: Vec<Client> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "sock"))
        .filter_map(|path| open_socket(&path).ok())
        .filter_map(|stream| Client::greet(stream).ok())
        .collect();
    clients.sort_by(|a, b| a.mount.mountpoint.cmp(&b.mount.mountpoint));
    clients
}
