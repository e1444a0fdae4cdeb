//! The control socket, spoken directly: what the command line does not print word for word.

use super::mount::Mount;
use dmfs::control::protocol::dm_ioctl::payload::{self, TargetSpec};
use dmfs::control::protocol::dm_ioctl::{Command, Flags, Header};
use dmfs::control::protocol::frame::{self, FrameError, Kind, Reply, Request};
use dmfs::control::protocol::json::{self, JsonReply, JsonRequest, MountInfo};
use dmfs::control::protocol::socket_path::{folder_for, socket_path};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Where a mount's socket is.
pub fn socket(mount: &Mount) -> PathBuf {
    let runtime = mount.runtime();
    let uid = rustix::process::geteuid().as_raw();
    let folder = folder_for(uid, Some(runtime.as_os_str()));
    socket_path(&folder, &mount.at().canonicalize().unwrap())
}

/// A connection to a mount's daemon.
pub struct Control {
    stream: UnixStream,
    /// What the daemon says of itself.
    pub mount: MountInfo,
}

impl Control {
    /// Connects and greets.
    pub fn connect(mount: &Mount) -> Control {
        let path = socket(mount);
        let mut stream = UnixStream::connect(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let hello = JsonRequest::Hello {
            version: json::VERSION,
            cwd: mount.folder().to_str().unwrap().to_owned(),
        };
        match ask(&mut stream, &hello) {
            JsonReply::Mount(mount) => Control { stream, mount },
            other => panic!("hello: {other:?}"),
        }
    }

    /// A JSON request that must succeed.
    pub fn ask(&mut self, request: &JsonRequest) -> JsonReply {
        ask(&mut self.stream, request)
    }

    /// A transaction of the kernel's interface.
    pub fn transact(&mut self, command: Command, header: &Header, payload: &[u8]) -> Reply {
        let mut header = header.clone();
        header.data_size = 1 << 20;
        let request = Request {
            kind: Kind::Ioctl,
            command: command.number(),
            payload: header.with_payload(payload),
        };
        exchange(&mut self.stream, &request)
    }

    /// Creates `name`, loads `rows` and removes it again; what the load answered.
    pub fn try_load(&mut self, name: &str, readonly: bool, rows: &[TargetSpec]) -> Reply {
        let mut header = Header {
            name: name.to_owned(),
            ..Header::default()
        };
        let created = self.transact(Command::DevCreate, &header, &[]);
        assert_eq!(created.errno, 0, "create {name}: {:?}", created.detail);
        let mut load = header.clone();
        load.target_count = rows.len().try_into().unwrap();
        load.flags.set(Flags::READONLY, readonly);
        let reply = self.transact(Command::TableLoad, &load, &payload::load(rows).unwrap());
        header.flags = Flags::default();
        let removed = self.transact(Command::DevRemove, &header, &[]);
        assert_eq!(removed.errno, 0, "remove {name}: {:?}", removed.detail);
        reply
    }

    /// Suspends `name`.
    pub fn suspend(&mut self, name: &str) {
        let mut flags = Flags::default();
        flags.set(Flags::SUSPEND, true);
        self.must(Command::DevSuspend, name, flags, 0, &[]);
    }

    /// Resumes `name`.
    pub fn resume(&mut self, name: &str) {
        self.must(Command::DevSuspend, name, Flags::default(), 0, &[]);
    }

    /// Puts a table into `name`'s inactive slot.
    pub fn load(&mut self, name: &str, rows: &[TargetSpec]) {
        let (count, rows) = (rows.len().try_into().unwrap(), payload::load(rows).unwrap());
        self.must(Command::TableLoad, name, Flags::default(), count, &rows);
    }

    fn must(
        &mut self,
        command: Command,
        name: &str,
        flags: Flags,
        target_count: u32,
        payload: &[u8],
    ) {
        let header = Header {
            name: name.to_owned(),
            flags,
            target_count,
            ..Header::default()
        };
        let reply = self.transact(command, &header, payload);
        assert_eq!(reply.errno, 0, "{command:?} {name}: {:?}", reply.detail);
    }

    /// Asks to remove a device that is in use; an error where nobody answers.
    pub fn try_remove(&mut self, name: &str) -> Result<i32, FrameError> {
        let mut header = Header {
            name: name.to_owned(),
            ..Header::default()
        };
        header.data_size = 1 << 14;
        let request = Request {
            kind: Kind::Ioctl,
            command: Command::DevRemove.number(),
            payload: header.with_payload(&[]),
        };
        frame::write_request(&mut self.stream, &request)?;
        frame::read_reply(&mut self.stream).map(|reply| reply.errno)
    }

    /// Sends a message to the target at `sector`.
    pub fn message(&mut self, name: &str, sector: u64, text: &str) -> Reply {
        let header = Header {
            name: name.to_owned(),
            ..Header::default()
        };
        self.transact(Command::TargetMsg, &header, &payload::message(sector, text))
    }
}

fn ask(stream: &mut UnixStream, request: &JsonRequest) -> JsonReply {
    let request = Request {
        kind: Kind::Json,
        command: 0,
        payload: serde_json::to_vec(request).unwrap(),
    };
    let reply = exchange(stream, &request);
    assert_eq!(reply.errno, 0, "{:?}", reply.detail);
    serde_json::from_slice(&reply.payload).unwrap()
}

fn exchange(stream: &mut UnixStream, request: &Request) -> Reply {
    frame::write_request(stream, request).unwrap();
    frame::read_reply(stream).unwrap()
}

/// A table's rows as the kernel's interface carries them.
pub fn specs(rows: &[String]) -> Vec<TargetSpec> {
    rows.iter()
        .map(|row| {
            let mut words = row.splitn(4, ' ');
            let mut number = || words.next().unwrap().parse().unwrap();
            let (start, length) = (number(), number());
            TargetSpec {
                start,
                length,
                target: words.next().unwrap().to_owned(),
                params: words.next().unwrap_or_default().to_owned(),
            }
        })
        .collect()
}
