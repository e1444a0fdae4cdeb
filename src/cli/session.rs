//! What a verb works with: its options, the connection, and where it prints.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;
use serde_json::Value;

use super::Daemon;
use super::arguments::{Options, Style};
use super::names::{SplitName, Subject, to_shown, to_stored};
use super::report::DeviceRow;
use super::task::{Answer, FIRST_ROOM, Kind, Task};
use crate::control::protocol::client::{Client, NoMount, Refusal, connect, reason, strerror};
use crate::control::protocol::dm_ioctl::payload::{ListedDevice, read_names};
use crate::control::protocol::dm_ioctl::{DevNo, Flags, Header, MAX_BYTES};
use crate::control::protocol::json::{JsonReply, JsonRequest, MountInfo};
use crate::terminal::{Look, Paint, Progress};

/// How often, and how far apart, `remove --retry` tries.
const RETRIES: u32 = 25;
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Why a verb failed: the lines to print before `Command failed.`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// For standard error.
    pub lines: Vec<String>,
    /// The daemon's errno, if it refused.
    pub errno: Option<Errno>,
    /// Whether `Command failed.` does not follow.
    pub is_final: bool,
}

impl Failure {
    /// A failure told in one text, which may have several lines.
    pub fn new(text: impl ToString) -> Self {
        Self {
            lines: text.to_string().lines().map(str::to_string).collect(),
            ..Self::default()
        }
    }

    /// A failure that was told already.
    pub fn told() -> Self {
        Self::default()
    }

    /// A failure that `Command failed.` does not follow.
    pub fn final_word(self) -> Self {
        Self {
            is_final: true,
            ..self
        }
    }
}

/// What a verb returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// A verb that takes all words at once.
pub type Once = fn(&mut Session<'_>, &[String]) -> Outcome;

/// A verb that takes one device at a time; none stands for the one that the options name, or for all.
/// The flag tells that there are several.
pub type Each = fn(&mut Session<'_>, Option<&str>, bool) -> Outcome;

/// One run of the program.
pub struct Session<'s> {
    /// As which program we are called.
    pub style: Style,
    /// The options.
    pub options: Options,
    /// Standard output.
    pub out: &'s mut dyn Write,
    /// Standard error.
    pub err: &'s mut dyn Write,
    /// How standard output shows text.
    pub look: Look,
    /// How standard error shows text.
    pub err_look: Look,
    /// What is going on, for those who wait; nobody is told where it is empty.
    pub task_label: String,
    /// How to be a daemon.
    pub daemon: Daemon,
    /// What `run` is to run.
    pub command: Vec<OsString>,
    /// The exit status where it is not that of success or failure.
    pub status: Option<u8>,
    /// Rows for a report.
    pub report_rows: Vec<DeviceRow>,
    /// Whether the report needs to know who uses whom.
    pub report_needs_deps: bool,
    /// The name that a report takes apart.
    pub split_name: Option<SplitName>,
    client: Option<Client>,
    /// Begins with the first transaction.
    progress: Option<Progress>,
    /// JSON of several devices, printed as one list at the end.
    json_list: Option<Vec<Value>>,
    /// Devices in the concise form, printed on one line at the end.
    concise_list: Vec<String>,
}

/// How a device is addressed.
enum Address {
    Name(String),
    Uuid(String),
    Number(DevNo),
}

impl<'s> Session<'s> {
    /// A session that connects when it has to.
    pub fn new(
        style: Style,
        options: Options,
        daemon: Daemon,
        out: &'s mut dyn Write,
        err: &'s mut dyn Write,
    ) -> Self {
        Self {
            style,
            options,
            out,
            err,
            look: Look::PLAIN,
            err_look: Look::PLAIN,
            task_label: String::new(),
            daemon,
            command: Vec::new(),
            status: None,
            report_rows: Vec::new(),
            report_needs_deps: false,
            split_name: None,
            client: None,
            progress: None,
            json_list: None,
            concise_list: Vec::new(),
        }
    }

    /// Whether we are called as `dmfs`.
    pub fn is_dmfs(&self) -> bool {
        self.style == Style::Dmfs
    }

    /// A session over a connection that stands already.
    pub fn over(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Prints to standard output.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn print(&mut self, text: &str) -> Outcome {
        let (out, at_once) = (&mut self.out, self.look.is_terminal);
        let written = aside(&self.progress, || {
            out.write_all(text.as_bytes())?;
            if at_once { out.flush() } else { Ok(()) }
        });
        written.map_err(|error| match error.kind() {
            // Whoever read it has seen enough.
            io::ErrorKind::BrokenPipe => Failure::told().final_word(),
            _ => Failure::new(format!("standard output: {error}")),
        })
    }

    /// Prints `value` as JSON.
    ///
    /// # Errors
    /// As [`Session::print`].
    pub fn print_json(&mut self, value: &serde_json::Value) -> Outcome {
        let text = serde_json::to_string_pretty(value).map_err(Failure::new)?;
        self.print(&(text + "\n"))
    }

    /// From here on, [`Session::list_json`] makes a list.
    pub fn begin_list(&mut self) {
        self.json_list.get_or_insert_default();
    }

    /// Adds `value` to the list, or prints it if there is none.
    ///
    /// # Errors
    /// As [`Session::print`].
    pub fn list_json(&mut self, value: Value) -> Outcome {
        match &mut self.json_list {
            Some(list) => list.push(value),
            None => self.print_json(&value)?,
        }
        Ok(())
    }

    /// Adds a device in the concise form.
    ///
    /// # Errors
    /// None so far.
    pub fn list_concise(&mut self, text: &str) -> Outcome {
        self.concise_list.push(text.to_string());
        Ok(())
    }

    /// Prints the lists that were begun.
    ///
    /// # Errors
    /// As [`Session::print`].
    pub fn finish_lists(&mut self) -> Outcome {
        if let Some(list) = self.json_list.take() {
            self.print_json(&Value::from(list))?;
        }
        if !self.concise_list.is_empty() {
            let line = std::mem::take(&mut self.concise_list).join(";");
            self.print(&(line + "\n"))?;
        }
        Ok(())
    }

    /// Hands out what was printed so far.
    pub fn flush(&mut self) {
        // What a closed pipe does not take is lost, as with every filter.
        let _ = self.out.flush();
    }

    /// Prints a text to standard error.
    ///
    /// # Errors
    /// When standard error takes no more.
    pub fn tell_text(&mut self, text: &str) -> Outcome {
        self.flush();
        let err = &mut self.err;
        aside(&self.progress, || err.write_all(text.as_bytes())).map_err(Failure::new)
    }

    /// Prints a failure's lines to standard error, what was printed to standard output first.
    pub fn tell(&mut self, failure: &Failure) {
        self.flush();
        let (err, look) = (&mut self.err, self.err_look);
        aside(&self.progress, || {
            for line in &failure.lines {
                let line = match line.strip_prefix("dmfs: ") {
                    Some(rest) => look.paint(Paint::Bad, "dmfs:") + " " + rest,
                    None => line.clone(),
                };
                // Nobody can be told that standard error is closed.
                let _ = writeln!(err, "{line}");
            }
        });
    }

    /// `text` in the colour of what it is, where standard output has colours.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        self.look.paint(paint, text)
    }

    /// So many devices are to be worked on; tells who waits.
    pub fn expect(&mut self, count: usize) {
        self.begin_progress();
        if let Some(progress) = &self.progress {
            progress.expect(count as u64);
        }
    }

    /// One more device is done.
    pub fn step(&self) {
        if let Some(progress) = &self.progress {
            progress.step();
        }
    }

    /// Does something that prints by itself, with nothing drawn in its way.
    pub fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        aside(&self.progress, print)
    }

    fn begin_progress(&mut self) {
        if self.progress.is_none() && !self.task_label.is_empty() {
            self.progress = Some(Progress::begin(&self.task_label, self.err_look));
        }
    }

    /// The connection.
    fn client(&mut self) -> Outcome<&mut Client> {
        self.begin_progress();
        if self.client.is_none() {
            let client =
                connect(self.options.mount.as_deref()).map_err(|none| self.no_mount(&none))?;
            self.client = Some(client);
        }
        self.client.as_mut().ok_or_else(Failure::told)
    }

    /// Nobody to talk to: in dmsetup's words, the kernel has no device mapper.
    fn no_mount(&self, none: &NoMount) -> Failure {
        match (self.style, none) {
            (Style::Dmsetup, NoMount::None) => Failure::new(format!(
                "/dev/mapper/control: open failed: No such device\n\
                 Failure to communicate with kernel device-mapper driver.\n\
                 Check that device-mapper is available in the kernel.\n\
                 Incompatible libdevmapper {} and kernel driver (unknown version).",
                super::verbs::versions::LIBRARY
            )),
            _ => Failure::new(format!("{}: {none}", self.style.name())),
        }
    }

    /// The mount that is talked to.
    ///
    /// # Errors
    /// When there is none.
    pub fn mount(&mut self) -> Outcome<MountInfo> {
        Ok(self.client()?.mount.clone())
    }

    /// One JSON transaction.
    ///
    /// # Errors
    /// The reason of a refusal.
    pub fn ask(&mut self, request: &JsonRequest) -> Outcome<JsonReply> {
        let program = self.style.name();
        match self.client()?.json(request) {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(refusal)) => Err(Failure {
                lines: vec![format!(
                    "{program}: {}{}",
                    subject(request, &refusal),
                    reason(&refusal)
                )],
                errno: Some(refusal.errno),
                ..Failure::default()
            }),
            Err(error) => Err(Failure::new(format!("{program}: {error}"))),
        }
    }

    /// Runs `task`, offering more room until the answer fits.
    ///
    /// # Errors
    /// The reason, if `dmfs` is asked, and libdm's line.
    pub fn run(&mut self, task: &Task) -> Outcome<Answer> {
        let mut room = FIRST_ROOM;
        let mut tries = 1;
        loop {
            let reply = self.client()?.ioctl(task.kind.command(), task.buffer(room));
            let program = self.style.name();
            match reply.map_err(|error| Failure::new(format!("{program}: {error}")))? {
                Ok((buffer, detail)) => {
                    let header = Header::decode(&buffer)
                        .map_err(|error| Failure::new(format!("{program}: answer: {error}")))?;
                    if header.flags.has(Flags::BUFFER_FULL) && (room as usize) < MAX_BYTES {
                        room *= 2;
                        continue;
                    }
                    self.log(&detail.messages);
                    let exists = header.flags.has(Flags::EXISTS);
                    return Ok(Answer {
                        header,
                        buffer,
                        exists,
                    });
                }
                Err(refusal) if refusal.errno == Errno::NXIO && may_miss(task.kind) => {
                    return Ok(missing(task));
                }
                Err(refusal) if self.retries(task, &refusal, tries) => {
                    if self.style == Style::Dmsetup {
                        let line = task.failure(&strerror(refusal.errno));
                        self.tell(&Failure::new(line));
                    }
                    tries += 1;
                    sleep(RETRY_DELAY);
                }
                Err(refusal) => return Err(self.refused(task, &refusal)),
            }
        }
    }

    fn retries(&self, task: &Task, refusal: &Refusal, tries: u32) -> bool {
        self.options.retry
            && task.kind == Kind::Remove
            && refusal.errno == Errno::BUSY
            && tries < RETRIES
    }

    fn refused(&mut self, task: &Task, refusal: &Refusal) -> Failure {
        self.log(&refusal.detail.messages);
        let mut lines = Vec::new();
        if self.style == Style::Dmfs && !refusal.detail.is_empty() {
            lines.push(format!("dmfs: {}", reason(refusal)));
        }
        lines.push(task.failure(&strerror(refusal.errno)));
        Failure {
            lines,
            errno: Some(refusal.errno),
            ..Failure::default()
        }
    }

    /// With `-v`, what the kernel would have logged.
    fn log(&mut self, messages: &[String]) {
        if self.options.verbose > 0 {
            for line in messages {
                let _ = writeln!(self.err, "device-mapper: {line}");
            }
        }
    }

    /// A task about the device that the word or the options name.
    ///
    /// # Errors
    /// `No device specified.`, a name that cannot be, a path that is no device.
    pub fn task(&mut self, kind: Kind, device: Option<&str>) -> Outcome<Task> {
        let mut task = Task::new(kind);
        match self.address(device)? {
            Address::Name(name) => task.name = name,
            Address::Uuid(uuid) => task.uuid = uuid,
            Address::Number(dev) => task.dev = Some(dev),
        }
        if matches!(kind, Kind::Info | Kind::Table | Kind::Status | Kind::Deps) {
            task = task.with(Flags::QUERY_INACTIVE_TABLE, self.options.inactive);
        }
        Ok(task)
    }

    fn address(&mut self, device: Option<&str>) -> Outcome<Address> {
        let mode = self.options.mangling;
        if let Some(word) = device {
            let word = match word.contains('/') {
                true => self.name_of_path(word)?,
                false => word.to_string(),
            };
            let name = to_stored(&word, Subject::Name, mode).map_err(Failure::new)?;
            return Ok(Address::Name(name));
        }
        if let Some(uuid) = &self.options.uuid {
            let uuid = to_stored(uuid, Subject::Uuid, mode).map_err(Failure::new)?;
            return Ok(Address::Uuid(uuid));
        }
        match (self.options.major, self.options.minor) {
            (Some(major), Some(minor)) => Ok(Address::Number(DevNo::new(major, minor))),
            _ => Err(Failure::new("No device specified.")),
        }
    }

    /// Whether a verb without a word means all devices.
    pub fn means_all(&self, device: Option<&str>) -> bool {
        device.is_none() && self.options.uuid.is_none() && self.options.major.is_none()
    }

    /// The device of a path: a file in our mount, a loop device over one, or its name under
    /// `/dev/mapper`.
    fn name_of_path(&mut self, word: &str) -> Outcome<String> {
        let mount = self.mount()?;
        if let Some(stored) = super::paths::device_of_path(word, &mount.mountpoint) {
            return self.shown(&stored);
        }
        if let Some(name) = self.name_under_dev_mapper(word)? {
            return Ok(name);
        }
        let shown = match (self.style, Path::new(word).exists()) {
            // dmsetup names a path that is there, but no mapped device, by its last part.
            (Style::Dmsetup, true) => word.rsplit('/').next().unwrap_or(word),
            _ => word,
        };
        Err(Failure::new(format!("Device {shown} not found")))
    }

    fn name_under_dev_mapper(&mut self, word: &str) -> Outcome<Option<String>> {
        let Some(name) = word.strip_prefix("/dev/mapper/") else {
            return Ok(None);
        };
        let listed = self.list()?;
        Ok(listed
            .into_iter()
            .map(|device| device.name)
            .find(|found| found == name))
    }

    /// All devices, with their names as they are shown.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn list(&mut self) -> Outcome<Vec<ListedDevice>> {
        let answer = self.run(&Task::new(Kind::List))?;
        let mut devices = read_names(&answer.header, &answer.buffer).map_err(Failure::new)?;
        let mut unreadable = Failure::default();
        for device in &mut devices {
            match self.shown(&device.name) {
                Ok(name) => device.name = name,
                Err(failure) => unreadable.lines.extend(failure.lines),
            }
        }
        match unreadable.lines.is_empty() {
            true => Ok(devices),
            false => Err(unreadable),
        }
    }

    /// A stored name as it is shown.
    ///
    /// # Errors
    /// When it is stored in a form that the mangling mode has no reading for.
    pub fn shown(&self, stored: &str) -> Outcome<String> {
        to_shown(stored, Subject::Name, self.options.mangling).map_err(Failure::new)
    }

    /// Runs `verb` for every device, telling failures as they come.
    ///
    /// # Errors
    /// A told failure if one failed.
    pub fn for_all(&mut self, silent: bool, verb: impl Fn(&mut Self, &str) -> Outcome) -> Outcome {
        let devices = self.list()?;
        if devices.is_empty() && !silent {
            return self.print("No devices found\n");
        }
        let mut outcome = Ok(());
        self.expect(devices.len());
        for device in devices {
            if let Err(failure) = verb(self, &device.name) {
                self.tell(&failure);
                outcome = Err(Failure::told());
            }
            self.step();
        }
        outcome
    }
}

/// Prints with what was drawn out of its way.
fn aside<R>(progress: &Option<Progress>, print: impl FnOnce() -> R) -> R {
    match progress {
        Some(progress) => progress.aside(print),
        None => print(),
    }
}

/// The device that a request is about, where its refusal does not tell.
fn subject(request: &JsonRequest, refusal: &Refusal) -> String {
    match request {
        JsonRequest::Attach { name, .. }
        | JsonRequest::Detach { name }
        | JsonRequest::Limits { name }
        | JsonRequest::Explain { name, .. }
        | JsonRequest::Counters {
            name: Some(name), ..
        }
        | JsonRequest::Cache {
            name: Some(name), ..
        } if refusal.detail.messages.is_empty() => {
            format!("{name}: ")
        }
        _ => String::new(),
    }
}

/// Whether a missing device is an answer rather than an error.
fn may_miss(kind: Kind) -> bool {
    matches!(kind, Kind::Info | Kind::Status | Kind::Measure)
}

fn missing(task: &Task) -> Answer {
    Answer {
        header: Header {
            name: task.name.clone(),
            uuid: task.uuid.clone(),
            ..Header::default()
        },
        buffer: Vec::new(),
        exists: false,
    }
}
