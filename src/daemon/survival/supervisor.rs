//! The supervisor: one thread, which keeps descriptors, waits, and starts daemons.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use super::keeper::{DEVICES, MARK};
use super::link::{Link, Message};
use super::patience::Patience;
use crate::daemon::{background, notify};

/// How often to look at a daemon of which nothing is heard.
const GLANCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// A daemon that was killed and has not ended after so long is told of.
const LONG_END: Duration = Duration::from_secs(3);
/// The program that this process runs, whatever is at its path by now.
const OURSELVES: &str = "/proc/self/exe";

/// Starts the daemon that serves the mount of this process's command line, and its successors, until the mount has
/// ended.
///
/// # Errors
/// Why the mount has come to a bad end. Where its daemon has said that already this ends the process, with the
/// daemon's status.
pub fn supervise() -> Result<(), String> {
    let failed = |error: io::Error| format!("the supervisor: {error}");
    if let Err(error) = rustix::thread::set_name(c"dmfs-supervisor") {
        log::debug!("naming the supervisor: {error}");
    }
    let mut supervisor = Supervisor::new().map_err(failed)?;
    match supervisor.run().map_err(failed)? {
        End::Done(status) if status.success() => Ok(()),
        End::Done(status) => std::process::exit(status.code().unwrap_or(1)),
        End::GivenUp(why) => Err(why),
    }
}

/// How it ends.
enum End {
    /// The daemon has ended in order, or has never begun to serve.
    Done(ExitStatus),
    /// There shall be no further daemon.
    GivenUp(String),
}

struct Supervisor {
    kept: HashMap<String, OwnedFd>,
    signals: Signals,
    patience: Patience,
    /// The program of an upgrade; before one, the one that we run.
    program: Option<OwnedFd>,
    /// That of before the upgrade, until the new one has served.
    fallback: Option<Option<OwnedFd>>,
    daemons: u32,
    /// What was asked for while no daemon could hear it.
    pending: Vec<Signal>,
    was_ready: bool,
    /// Daemons that have died and cannot end, because a thread of theirs waits for an answer from the mount.
    remains: Vec<Child>,
}

/// What one daemon has come to.
struct Life {
    child: Child,
    link: Link,
    ready: Option<Instant>,
    bye: bool,
    upgrade: Option<OwnedFd>,
    /// When it was first found dead without having ended, and whether that was told.
    dead: Option<Instant>,
    told: bool,
}

impl Supervisor {
    fn new() -> io::Result<Supervisor> {
        Ok(Supervisor {
            kept: HashMap::new(),
            signals: Signals::new()?,
            patience: Patience::default(),
            program: None,
            fallback: None,
            daemons: 0,
            pending: Vec::new(),
            was_ready: false,
            remains: Vec::new(),
        })
    }

    fn run(&mut self) -> io::Result<End> {
        loop {
            let mut life = match (self.start(), self.fallback.take()) {
                (Err(error), Some(before)) => {
                    log::error!("the new program cannot be started: {error}: back to the old one");
                    self.program = before;
                    continue;
                }
                (started, fallback) => {
                    self.fallback = fallback;
                    started?
                }
            };
            let status = self.watch(&mut life)?;
            if life.bye || !self.was_ready {
                let status = match status {
                    Some(status) => status,
                    None => life.child.wait()?,
                };
                return Ok(End::Done(status));
            }
            let pid = life.child.id();
            if let Some(program) = life.upgrade.take() {
                self.fallback = Some(self.program.replace(program));
                continue;
            }
            let how = status.map_or_else(|| "died".to_owned(), explain);
            if status.is_none() {
                self.remains.push(life.child);
            }
            if life.ready.is_none()
                && let Some(before) = self.fallback.take()
            {
                log::error!(
                    "the new program (pid {pid}) {how} before it served: back to the old one"
                );
                self.program = before;
                continue;
            }
            if !self.kept.contains_key(DEVICES) {
                return Ok(End::GivenUp(format!(
                    "the daemon (pid {pid}) {how}, and its state was not kept: the mount has ended, and \
                     whoever uses it gets ENOTCONN"
                )));
            }
            match self.patience.death(life.ready, Instant::now()) {
                Ok(pause) => {
                    log::warn!("the daemon (pid {pid}) {how}: another one takes over");
                    thread::sleep(pause);
                }
                // The kept descriptors go with this process: nobody waits for an answer any more.
                Err(why) => {
                    return Ok(End::GivenUp(format!(
                        "the daemon (pid {pid}) {how}; {why}: the mount has ended, and whoever uses it gets \
                         ENOTCONN"
                    )));
                }
            }
        }
    }

    fn start(&mut self) -> io::Result<Life> {
        let (ours, theirs) = Link::pair()?;
        let program = match &self.program {
            Some(program) => format!("/proc/self/fd/{}", program.as_raw_fd()),
            None => OURSELVES.to_owned(),
        };
        let mut arguments = std::env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        let child = command
            .args(arguments)
            .env(MARK, "1")
            .stdin(Stdio::from(theirs.into_descriptor()))
            // What the terminal says to us, we say to it.
            .process_group(0)
            .spawn()?;
        let life = Life {
            child,
            link: ours,
            ready: None,
            bye: false,
            upgrade: None,
            dead: None,
            told: false,
        };
        // A daemon that dies meanwhile is found out below.
        let told = self
            .kept
            .iter()
            .try_for_each(|(name, descriptor)| life.link.keep(name, descriptor.as_fd()));
        let told = told.and_then(|()| life.link.say(&format!("begin {}", self.daemons)));
        if let Err(error) = told {
            log::debug!("the daemon (pid {}): {error}", life.child.id());
        }
        self.daemons += 1;
        Ok(life)
    }

    /// Keeps what the daemon hands over until it is gone. Gives its status; nothing where it is dead but has not
    /// ended.
    fn watch(&mut self, life: &mut Life) -> io::Result<Option<ExitStatus>> {
        loop {
            let (heard, signalled) = self.wait_for_news(life)?;
            if heard {
                match life.link.receive() {
                    Ok(Some(message)) => {
                        self.take(life, message);
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        log::error!(
                            "the daemon (pid {}) says nonsense: {error}",
                            life.child.id()
                        );
                        continue;
                    }
                }
            }
            if signalled {
                self.signals.read(&mut self.pending);
                self.remains
                    .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            }
            self.pass_on(life);
            if let Some(status) = life.child.try_wait()? {
                self.hear_out(life);
                return Ok(Some(status));
            }
            match course(life.child.id()) {
                Course::Runs => {}
                Course::Ends(busy_with) => {
                    let pid = life.child.id();
                    let since = *life.dead.get_or_insert_with(Instant::now);
                    if since.elapsed() > LONG_END && !std::mem::replace(&mut life.told, true) {
                        let busy_with = busy_with.join(", ");
                        log::warn!(
                            "the daemon (pid {pid}) was killed and does not end: {busy_with}"
                        );
                    }
                }
                Course::Stuck => {
                    self.hear_out(life);
                    return Ok(None);
                }
            }
            if heard {
                // It has hung up and is about to end.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// What it said before it died still counts.
    fn hear_out(&mut self, life: &mut Life) {
        loop {
            let mut polled = [PollFd::new(&life.link, PollFlags::IN)];
            let now = Timespec::default();
            match poll(&mut polled, Some(&now)) {
                Ok(1..) => {}
                _ => return,
            }
            match life.link.receive() {
                Ok(Some(message)) => self.take(life, message),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn wait_for_news(&mut self, life: &Life) -> io::Result<(bool, bool)> {
        let mut polled = [
            PollFd::new(&life.link, PollFlags::IN),
            PollFd::new(&self.signals.reader, PollFlags::IN),
        ];
        match poll(&mut polled, Some(&GLANCE)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((
            !polled[0].revents().is_empty(),
            !polled[1].revents().is_empty(),
        ))
    }

    fn take(&mut self, life: &mut Life, message: Message) {
        match message {
            Message::Keep(name, descriptor) => {
                self.kept.insert(name, descriptor);
            }
            Message::Forget(name) => {
                self.kept.remove(&name);
            }
            Message::Ready => {
                life.ready = Some(Instant::now());
                self.fallback = None;
                if !self.was_ready {
                    if background::is_child() {
                        background::let_go();
                    }
                    notify::ready("supervises a mount");
                }
                self.was_ready = true;
                self.pass_on(life);
            }
            Message::Bye => life.bye = true,
            Message::Upgrade(program) => life.upgrade = Some(program),
            Message::Begin(_) => {}
        }
    }

    /// Passes signals on to a daemon that can hear them.
    fn pass_on(&mut self, life: &Life) {
        if life.ready.is_none() && self.was_ready {
            return;
        }
        let pid = i32::try_from(life.child.id()).ok().and_then(Pid::from_raw);
        for signal in self.pending.drain(..) {
            if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
                log::debug!("the daemon (pid {}): {error}", life.child.id());
            }
        }
    }
}

fn explain(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(code)) => format!("ended with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// What has become of a process.
#[derive(Debug, PartialEq, Eq)]
enum Course {
    Runs,
    /// Killed, but not at its end: what is left are threads that are busy with what is told.
    Ends(Vec<String>),
    /// Killed, and unable to end: what is left are threads that wait for an answer from a FUSE mount, which can only be
    /// ours. A thread that is busy with anything else may still write to a device, and is waited for.
    Stuck,
}

fn course(pid: u32) -> Course {
    let is_dead = |stat: &str| {
        // pid (name) state ...: a name may hold anything.
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().next());
        matches!(state, Some("Z" | "X"))
    };
    let dead = |path: &Path| fs::read_to_string(path).is_ok_and(|stat| is_dead(&stat));
    if !dead(Path::new(&format!("/proc/{pid}/task/{pid}/stat"))) {
        return Course::Runs;
    }
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Course::Runs;
    };
    let left = threads
        .flatten()
        .map(|thread| thread.path())
        .filter(|thread| !dead(&thread.join("stat")));
    let busy_with = |thread: PathBuf| fs::read_to_string(thread.join("wchan")).unwrap_or_default();
    let busy_with: Vec<String> = left.map(busy_with).collect();
    let waits = |place: &String| place.contains("fuse") || place.contains("request_wait_answer");
    match !busy_with.is_empty() && busy_with.iter().all(waits) {
        true => Course::Stuck,
        false => Course::Ends(busy_with),
    }
}

/// Signals, as bytes of sockets that can be waited for together with others.
struct Signals {
    reader: UnixStream,
    /// SIGHUP, SIGINT, SIGTERM in this order.
    readers: [(UnixStream, Signal); 3],
}

impl Signals {
    fn new() -> io::Result<Signals> {
        // Each has a socket that says which it was; all of them write to one more that is waited for.
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let one = |number: i32, signal: Signal| -> io::Result<(UnixStream, Signal)> {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            pipe::register(number, theirs)?;
            pipe::register(number, writer.try_clone()?)?;
            Ok((ours, signal))
        };
        let readers = [
            one(SIGHUP, Signal::HUP)?,
            one(SIGINT, Signal::INT)?,
            one(SIGTERM, Signal::TERM)?,
        ];
        pipe::register(SIGCHLD, writer)?;
        Ok(Signals { reader, readers })
    }

    fn read(&mut self, into: &mut Vec<Signal>) {
        let mut bytes = [0; 64];
        while self.reader.read(&mut bytes).is_ok_and(|n| n > 0) {}
        for (reader, signal) in &mut self.readers {
            let n = reader.read(&mut bytes).unwrap_or(0);
            into.extend(std::iter::repeat_n(*signal, n));
        }
    }
}
