//! Plays one trace against a mount of its own.
//!
//! Images are plain files. What goes through the kernel's device nodes there goes through the mount's
//! files here; what dmsetup did, our own binary does under that name. The kernel's log lines are the
//! control protocol's error details.

mod cryptsetup;

use crate::deliberate::TYPES_BUILT_WITHOUT;
use crate::language::{Range, Refusal, Trace, Verb, What, name_of};
use crate::support::control::{Control, specs};
use crate::support::mount::{Mount, Said, size};
use crate::support::pattern::{SECTOR, sectors, sha256};
use crate::told::Told;
use regex::{Captures, Regex};
use rustix::fs::{FallocateFlags, fallocate};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where dmfs answered something else than the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Line of the trace.
    pub line: usize,
    /// The step in short.
    pub step: String,
    /// What the kernel answered.
    pub kernel: String,
    /// What dmfs answered.
    pub ours: String,
}

/// What came of a trace.
#[derive(Debug, Default)]
pub struct Outcome {
    pub differences: Vec<Difference>,
    /// Steps of a list of tables whose targets do not exist yet.
    pub steps_not_yet: usize,
    /// Steps played.
    pub steps: usize,
    /// Final images whose salts are of our own making: the fixture's is not kept.
    pub own_images: usize,
}

/// The target types that a trace needs.
pub fn targets_of(trace: &Trace) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    for step in &trace.steps {
        match &step.what {
            What::Load { rows, .. } => types.extend(rows.iter().filter_map(|row| type_of(row))),
            What::Said {
                verb: Verb::Table | Verb::Status,
                device,
                lines,
            } => types.extend(lines.iter().filter_map(|line| match device {
                Some(_) => type_of(line),
                None => type_of(line.split_once(": ")?.1),
            })),
            What::Command { line, .. } => types.extend(target_of_tool(line).map(str::to_owned)),
            _ => {}
        }
    }
    types
}

/// Whether a trace is a list of tables, each tried and removed on its own.
pub fn is_list_of_tables(trace: &Trace) -> bool {
    trace.steps.iter().all(|step| {
        matches!(
            step.what,
            What::Remark(_)
                | What::Image { .. }
                | What::Load { create: true, .. }
                | What::Said { .. }
                | What::Remove(_)
                | What::ImageSha256 { .. }
        )
    }) && trace.steps.iter().any(|step| {
        matches!(
            &step.what,
            What::Load {
                refusal: Some(_),
                ..
            }
        )
    })
}

/// The target that a userland tool stands on, where it stands on one.
fn target_of_tool(line: &str) -> Option<&'static str> {
    if Player::is_cryptsetup(line) {
        return Some("crypt");
    }
    match line.split(' ').next()? {
        "integritysetup" => Some("integrity"),
        // An array is not a mapped device there, but its levels are the raid target's here.
        "mdadm" => Some("raid"),
        "veritysetup" => Some("verity"),
        _ => None,
    }
}

fn type_of(row: &str) -> Option<String> {
    row.split(' ').nth(2).map(str::to_owned)
}

/// Plays `trace`, whose stored images are in `folder`.
pub fn play(trace: &Trace, folder: &Path, registered: &BTreeSet<String>) -> Outcome {
    let mount = Mount::start();
    let control = Control::connect(&mount);
    let regular_file = mount.backing("passwd", 2 * SECTOR as u64);
    let mut player = Player {
        control,
        regular_file,
        mount,
        folder,
        trace,
        registered,
        images: Vec::new(),
        created: Vec::new(),
        outcome: Outcome::default(),
        at: (0, String::new()),
        own_headers: false,
    };
    player.all();
    let Player { mount, outcome, .. } = player;
    mount.stop();
    outcome
}

/// A regular file that a trace names; its length here is the same on every machine.
const REGULAR_FILE: &str = "/etc/passwd";

struct Player<'t> {
    mount: Mount,
    regular_file: PathBuf,
    control: Control,
    folder: &'t Path,
    trace: &'t Trace,
    registered: &'t BTreeSet<String>,
    /// In the order of their making, which is that of the kernel's loop devices.
    images: Vec<(String, PathBuf)>,
    /// Devices there are, the newest last.
    created: Vec<String>,
    outcome: Outcome,
    /// The step that is being played.
    at: (usize, String),
    /// The images hold headers that our own binary made.
    own_headers: bool,
}

impl Player<'_> {
    fn all(&mut self) {
        let trace = self.trace;
        let list = is_list_of_tables(trace);
        let mut skipping = false;
        for step in &trace.steps {
            if list {
                if let What::Load { rows, refusal, .. } = &step.what {
                    skipping = !self.can_build(rows, refusal.as_ref());
                    self.outcome.steps_not_yet += usize::from(skipping);
                }
                let about_a_table = matches!(
                    step.what,
                    What::Load { .. } | What::Said { .. } | What::Remove(_)
                );
                if skipping && about_a_table {
                    continue;
                }
            }
            self.at = (step.line, name_of(&step.what));
            self.outcome.steps += 1;
            self.step(&step.what);
        }
    }

    /// Whether every row's target exists, or its absence is what the kernel answered.
    fn can_build(&self, rows: &[String], refusal: Option<&Refusal>) -> bool {
        let nowhere = refusal.is_some_and(|refusal| {
            refusal
                .kernel
                .iter()
                .any(|line| line.ends_with("unknown target type"))
        });
        nowhere
            || rows
                .iter()
                .filter_map(|row| type_of(row))
                .all(|target| self.registered.contains(&target))
    }

    fn step(&mut self, what: &What) {
        match what {
            What::Remark(_) | What::NoDevice(_) | What::Fact(_) => {}
            What::Image {
                name,
                sectors,
                losetup,
            } => {
                self.same("", &losetup.join(" "));
                let path = self
                    .mount
                    .backing(&format!("{name}.img"), sectors * SECTOR as u64);
                self.images.push((name.clone(), path));
            }
            What::Fill { on, pattern } => {
                let data = sectors(*pattern, on.len);
                self.put_into_image(&on.of, on.at * SECTOR as u64, &data);
            }
            What::Zero(on) => {
                let data = vec![0; bytes(on.len)];
                self.put_into_image(&on.of, on.at * SECTOR as u64, &data);
            }
            What::Damage { image, byte, to } => self.put_into_image(image, *byte, to),
            What::Load {
                create,
                name,
                options,
                rows,
                refusal,
            } => self.load(*create, name, options, rows, refusal.as_ref()),
            What::Write { on, pattern, error } => {
                let said = self.write(on, &sectors(*pattern, on.len));
                self.same(error.as_deref().unwrap_or("written"), &said);
            }
            What::Wipe(on) => {
                let said = self.write(on, &vec![0; bytes(on.len)]);
                self.same("written", &said);
            }
            What::Read { on, sha256: hash } => {
                let read = match self.read(on) {
                    Ok(data) => sha256(&data),
                    Err(error) => why(&error),
                };
                self.same(hash, &read);
            }
            What::ReadError { on, why: kernel } => {
                let read = match self.read(on) {
                    Ok(data) => format!("read, sha256 {}", sha256(&data)),
                    Err(error) => why(&error),
                };
                self.same(kernel, &read);
            }
            What::Discard { on, error } => {
                let said = outcome_of(self.discard(on), "discarded");
                self.same(error.as_deref().unwrap_or("discarded"), &said);
            }
            What::Said {
                verb,
                device,
                lines,
            } => self.said(*verb, device.as_deref(), lines),
            What::Message {
                device,
                sector,
                text,
                replies,
                refusal,
            } => self.message(device, *sector, text, replies, refusal.as_ref()),
            What::Suspend(name) => self.must(&["suspend", name]),
            What::Resume(name) => self.must(&["resume", name]),
            What::Remove(name) => {
                self.must(&["remove", name]);
                self.created.retain(|created| created != name);
            }
            What::Command { line, out, exit } => self.command(line, out, *exit),
            What::Size(device, sectors) => {
                let ours = size(&self.path(device)) / SECTOR as u64;
                self.same(&sectors.to_string(), &ours.to_string());
            }
            What::Loop(told) => self.told(told),
            What::Messages(messages) => {
                let device = self.created.last().unwrap().clone();
                for message in messages {
                    self.message(&device, 0, message, &[], None);
                }
            }
            // What the tables left out would have written is missing.
            What::ImageSha256 { .. } if self.outcome.steps_not_yet > 0 => {
                self.outcome.steps_not_yet += 1;
            }
            What::ImageSha256 { .. } if self.own_headers => self.outcome.own_images += 1,
            What::Save { image, sha256, .. } | What::ImageSha256 { image, sha256 } => {
                let ours = self.hash_of(image);
                self.same(sha256, &ours);
            }
        }
    }

    /// Notes a difference between the kernel's answer and ours.
    fn same(&mut self, kernel: &str, ours: &str) {
        if kernel != ours {
            self.outcome.differences.push(Difference {
                line: self.at.0,
                step: self.at.1.clone(),
                kernel: kernel.to_owned(),
                ours: ours.to_owned(),
            });
        }
    }

    fn must(&mut self, words: &[&str]) {
        let said = self.mount.dmsetup(words);
        let ours = self.neutral(&format!("{}{}", said.out, said.err));
        self.same("", &ours);
    }

    // Files ------------------------------------------------------------------------------------------

    fn image(&self, name: &str) -> Option<&Path> {
        self.images
            .iter()
            .find(|(image, _)| image == name)
            .map(|(_, path)| path.as_path())
    }

    /// The file of the mapped device or image `name`.
    fn path(&mut self, name: &str) -> PathBuf {
        self.activate(name);
        match self.image(name) {
            Some(image) if !self.created.iter().any(|device| device == name) => image.to_owned(),
            _ => self.mount.device(name),
        }
    }

    fn put_into_image(&mut self, image: &str, at: u64, data: &[u8]) {
        let path = self.image(image).unwrap().to_owned();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(data, at).unwrap();
    }

    fn hash_of(&self, image: &str) -> String {
        sha256(&fs::read(self.image(image).unwrap()).unwrap())
    }

    fn write(&mut self, on: &Range, data: &[u8]) -> String {
        let path = self.path(&on.of);
        let written = OpenOptions::new().write(true).open(path).and_then(|file| {
            file.write_all_at(data, on.at * SECTOR as u64)?;
            file.sync_all()
        });
        outcome_of(written, "written")
    }

    fn read(&mut self, on: &Range) -> io::Result<Vec<u8>> {
        let mut data = vec![0; bytes(on.len)];
        File::open(self.path(&on.of))?.read_exact_at(&mut data, on.at * SECTOR as u64)?;
        Ok(data)
    }

    fn discard(&mut self, on: &Range) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(&on.of))?;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let at = on.at * SECTOR as u64;
        Ok(fallocate(&file, hole, at, on.len * SECTOR as u64)?)
    }

    fn told(&mut self, told: &[Told]) {
        for access in told {
            match access {
                Told::Read { device, at, len } => {
                    let on = range(device, *at, *len);
                    let said = outcome_of(self.read(&on).map(drop), "read");
                    self.same("read", &said);
                }
                Told::Write {
                    device,
                    at,
                    len,
                    pattern,
                } => {
                    let on = range(device, *at, *len);
                    let said = self.write(&on, &sectors(*pattern, *len));
                    self.same("written", &said);
                }
            }
        }
    }

    // Commands ---------------------------------------------------------------------------------------

    fn load(
        &mut self,
        create: bool,
        name: &str,
        options: &[String],
        rows: &[String],
        refusal: Option<&Refusal>,
    ) {
        let rows: Vec<String> = rows.iter().map(|row| self.with_paths(row)).collect();
        let verb = if create { "create" } else { "reload" };
        let mut words = vec![verb, name];
        words.extend(options.iter().map(String::as_str));
        let table = rows
            .iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>();
        let said = self.mount.dmsetup_fed(&words, &table);
        if create && said.status.success() {
            self.created.push(name.to_owned());
        }
        let none = Refusal::default();
        let kernel = refusal.unwrap_or(&none);
        let ours = self.neutral(&said.err);
        self.same(&self.with_images(&kernel.stderr), &ours);
        if said.status.success() {
            self.same(&self.with_images(&kernel.kernel), "");
        } else {
            let readonly = options.iter().any(|option| option == "--readonly");
            let reply = self.control.try_load(name, readonly, &specs(&rows));
            self.logged(&kernel.kernel, &reply.detail.messages);
        }
    }

    /// Compares the kernel's log lines with those of the protocol, which leaves out their first word.
    fn logged(&mut self, kernel: &[String], ours: &[String]) {
        let ours: String = ours
            .iter()
            .map(|line| format!("device-mapper: {line}\n"))
            .collect();
        let ours = self.neutral(&ours);
        self.same(&self.with_images(kernel), &ours);
    }

    fn message(
        &mut self,
        device: &str,
        sector: u64,
        text: &str,
        replies: &[String],
        refusal: Option<&Refusal>,
    ) {
        let place = sector.to_string();
        let text = self.with_paths(text);
        let said = self.mount.dmsetup(&["message", device, &place, &text]);
        let ours = self.neutral(&format!("{}{}", said.out, said.err));
        self.same(&joined(replies), &ours);
        let failed = !said.status.success();
        self.same(&refusal.is_some().to_string(), &failed.to_string());
        if let Some(refusal) = refusal.filter(|_| failed) {
            let reply = self.control.message(device, sector, &text);
            self.logged(&refusal.kernel, &reply.detail.messages);
        }
    }

    fn said(&mut self, verb: Verb, device: Option<&str>, lines: &[String]) {
        if let Some(device) = device {
            self.activate(device);
        }
        let keys = (verb == Verb::Table).then_some("--showkeys");
        let words: Vec<&str> = [verb.word()]
            .into_iter()
            .chain(keys)
            .chain(device)
            .collect();
        let Said { out, err, .. } = self.mount.dmsetup(&words);
        let ours = self.neutral(&format!("{out}{err}"));
        let (kernel, ours) = match verb {
            Verb::Info => (
                self.unmade(&joined(lines)),
                self.unmade(&fixed_part_of_info(&ours)),
            ),
            Verb::Targets => {
                let known: Vec<String> = lines
                    .iter()
                    .filter(|line| {
                        let name = line.split(' ').next().unwrap_or_default();
                        self.registered.contains(name)
                    })
                    .cloned()
                    .collect();
                self.outcome.steps_not_yet += lines.len() - known.len();
                let is_newer = |line: &&str| {
                    let name = line.split(' ').next().unwrap_or_default();
                    TYPES_BUILT_WITHOUT.contains(&name)
                };
                let ours = ours.lines().filter(|line| !is_newer(line));
                (joined(&known), ours.collect::<Vec<_>>().join("\n"))
            }
            Verb::Status => (
                without_service_times(&joined(lines)),
                without_service_times(&ours),
            ),
            _ => (joined(lines), ours),
        };
        self.same_lines(&kernel, &ours);
    }

    /// Compares line by line, so that each differing line is named.
    fn same_lines(&mut self, kernel: &str, ours: &str) {
        let (kernel, ours): (Vec<_>, Vec<_>) = (kernel.lines().collect(), ours.lines().collect());
        if kernel.len() == ours.len() {
            let line = self.at.0;
            for (index, (kernel, ours)) in kernel.iter().zip(&ours).enumerate() {
                self.at.0 = line + index;
                self.same(kernel, ours);
            }
            self.at.0 = line;
        } else {
            self.same(&kernel.join("\n"), &ours.join("\n"));
        }
    }

    /// A userland command. Those that need the kernel's own device mapper made images, which are
    /// loaded as they left them, or devices, which stand in the trace's tables.
    fn command(&mut self, line: &str, out: &[String], exit: i32) {
        let tool = line.split(' ').next().unwrap_or_default();
        match tool {
            "lvm" => {
                let verb = line.split(' ').nth(1).unwrap_or_default();
                match verb {
                    "pvcreate" => self.load_images_of(line),
                    "vgchange" if line.contains(" -an ") => self.deactivate(),
                    // What LVM says of its own metadata is LVM's.
                    _ => {}
                }
            }
            "dmsetup" => self.run(line, out, exit),
            _ if Self::is_cryptsetup(line) => self.cryptsetup(line, out, exit),
            _ if ["thin_", "cache_", "era_"]
                .iter()
                .any(|family| tool.starts_with(family)) =>
            {
                self.run(line, out, exit);
            }
            _ => self.same("", &format!("the player has no way to play {tool}")),
        }
    }

    fn run(&mut self, line: &str, out: &[String], exit: i32) {
        let here = Regex::new("/out/[^/ ]+").unwrap();
        let folder = self.folder.to_str().unwrap().to_owned();
        let line = here.replace_all(line, folder.as_str()).into_owned();
        let line = self.with_paths(&line);
        let said = self.mount.shell(&format!("{line} 2>&1"));
        let ours = self.neutral(&said.out);
        self.same_lines(&joined(out), &ours);
        self.same(
            &exit.to_string(),
            &said.status.code().unwrap_or(-1).to_string(),
        );
    }

    /// Loads every image that `line` names as the fixture keeps it.
    fn load_images_of(&mut self, line: &str) {
        let named: Vec<_> = self
            .images
            .iter()
            .filter(|(name, _)| line.contains(&format!("{{{name}}}")))
            .cloned()
            .collect();
        for (name, path) in named {
            let stored = self.folder.join(format!("{name}.img.zst"));
            match File::open(&stored) {
                Ok(packed) => fs::write(path, zstd::decode_all(packed).unwrap()).unwrap(),
                Err(error) => self.same(
                    "",
                    &format!(
                        "{}: {error}; the whole set (DMFS_FIXTURES) has it",
                        stored.display()
                    ),
                ),
            }
        }
    }

    /// Makes `name` if a userland tool made it in the trace: its rows stand in the trace's `table:`.
    fn activate(&mut self, name: &str) {
        if self.created.iter().any(|created| created == name) || self.image(name).is_some() {
            return;
        }
        let of_volume_group = self.trace.steps.iter().any(
            |step| matches!(&step.what, What::Command { line, .. } if line.starts_with("lvm lvcreate ")),
        );
        if !of_volume_group {
            return;
        }
        let prefix = format!("{name}: ");
        let rows = self.trace.steps.iter().find_map(|step| match &step.what {
            What::Said {
                verb: Verb::Table,
                device: None,
                lines,
            } => Some(
                lines
                    .iter()
                    .filter_map(|line| line.strip_prefix(&prefix))
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            ),
            _ => None,
        });
        let options = match self.is_read_only_volume(name) {
            true => vec!["--readonly".to_owned()],
            false => Vec::new(),
        };
        self.load(true, name, &options, &rows.unwrap_or_default(), None);
    }

    fn is_read_only_volume(&self, name: &str) -> bool {
        self.trace.steps.iter().any(|step| match &step.what {
            What::Command { line, .. } => {
                let words: Vec<&str> = line.split_whitespace().collect();
                let volume = words
                    .iter()
                    .position(|&word| word == "-n")
                    .and_then(|at| words.get(at + 1));
                match (volume, words.last()) {
                    (Some(volume), Some(group)) => {
                        words.contains(&"-pr") && format!("{group}-{volume}") == name
                    }
                    _ => false,
                }
            }
            _ => false,
        })
    }

    fn deactivate(&mut self) {
        while let Some(name) = self.created.pop() {
            self.must(&["remove", &name]);
        }
    }

    // Names ------------------------------------------------------------------------------------------

    /// `{x}` as the path of image or device x.
    fn with_paths(&self, text: &str) -> String {
        let braces = Regex::new(r"\{([^{} ]+)\}").unwrap();
        let text = text.replace(REGULAR_FILE, self.regular_file.to_str().unwrap());
        braces
            .replace_all(&text, |found: &Captures| {
                let name = &found[1];
                match self.image(name) {
                    Some(path) => path.to_str().unwrap().to_owned(),
                    None => self.mount.device(name).to_str().unwrap().to_owned(),
                }
            })
            .into_owned()
    }

    /// The kernel's lines with images instead of its loop devices.
    fn with_images(&self, lines: &[String]) -> String {
        let loops = Regex::new(r"\bloop(\d+) too small").unwrap();
        loops
            .replace_all(&joined(lines), |found: &Captures| {
                let index: usize = found[1].parse().unwrap();
                format!("{{{}}} too small", self.images[index].0)
            })
            .into_owned()
    }

    /// Our text as traces have it: `{x}` instead of paths and device numbers, their major number.
    fn neutral(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, path) in &self.images {
            let path = path.to_str().unwrap();
            let file = format!("{name}.img too small");
            text = text
                .replace(path, &format!("{{{name}}}"))
                .replace(&file, &format!("{{{name}}} too small"));
        }
        let names = self.numbers();
        let pair = Regex::new(r"\((\d+), (\d+)\)|\b(\d+):(\d+)\b").unwrap();
        pair.replace_all(&text, |found: &Captures| {
            let number = match found.get(3) {
                Some(major) => format!("{}:{}", major.as_str(), &found[4]),
                None => format!("{}:{}", &found[1], &found[2]),
            };
            match (names.get(&number), found.get(3)) {
                (Some(name), Some(_)) => format!("{{{name}}}"),
                (Some(name), None) => format!("({{{name}}})"),
                (None, _) => match number.strip_prefix(&format!("{}:", self.control.mount.major)) {
                    // Ours is the kernel's major number, which depends on the machine.
                    Some(minor) => format!("254:{minor}"),
                    None => found[0].to_owned(),
                },
            }
        })
        .into_owned()
    }

    /// Names by device number: the tables show both, one under the name dmfs, one under dmsetup.
    fn numbers(&self) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for inactive in [&[][..], &["--inactive"]] {
            let words: Vec<&str> = ["table"].iter().chain(inactive).copied().collect();
            let (paths, numbers) = (self.mount.dmfs(&words), self.mount.dmsetup(&words));
            for (path, number) in paths
                .out
                .split_whitespace()
                .zip(numbers.out.split_whitespace())
            {
                let image = self
                    .images
                    .iter()
                    .find(|(_, image)| image.as_os_str() == path)
                    .map(|(name, _)| name.clone());
                let device = || {
                    let name = Path::new(path).strip_prefix(self.mount.at()).ok()?;
                    Some(name.to_str()?.to_owned())
                };
                if path != number
                    && let Some(name) = image.or_else(device)
                {
                    names.insert(number.to_owned(), name);
                }
            }
        }
        names
    }
}

/// `info` without what depends on the machine: read-ahead, event and device numbers.
fn fixed_part_of_info(text: &str) -> String {
    text.lines()
        .filter(|line| {
            !["Read Ahead:", "Event number:", "Major, minor:"]
                .iter()
                .any(|head| line.starts_with(head))
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

fn range(of: &str, at: u64, len: u64) -> Range {
    Range {
        of: of.to_owned(),
        at,
        len,
    }
}

fn bytes(sectors: u64) -> usize {
    usize::try_from(sectors).unwrap() * SECTOR
}

/// A status without how long requests took on the paths of multipath's historical-service-time: before and after the
/// requests under way.
fn without_service_times(status: &str) -> String {
    let of_path = Regex::new(r"(\} [AF] \d+) \d+ (\d+) \d+ ").unwrap();
    of_path.replace_all(status, "$1 TIME $2 TIME ").into_owned()
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn outcome_of(result: io::Result<()>, fine: &str) -> String {
    match result {
        Ok(()) => fine.to_owned(),
        Err(error) => why(&error),
    }
}

/// The text of an errno, as C's strerror has it.
fn why(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}
