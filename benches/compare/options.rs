//! What the command line says.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::kind::{KINDS, Kind};
use crate::target::{LAYERS, Layer};
use crate::workload::{WORKLOADS, Workload};

/// How to call it.
pub const USAGE: &str = "cargo bench --bench compare -- [OPTION VALUE]...
    --servers NAME,NAME     the columns (default: all that are there)
    --workloads NAME,NAME   the rows (default: all); a name cut short stands for all that begin with it
    --layers file,loop      on the server's file, through losetup --direct-io=on (root) (default: both)
    --dir DIR               where the backing file is made (default: /dev/shm)
    --direct on|off         servers go around the page cache below (default: on unless DIR is on tmpfs)
    --size MIB              length of the backing file (default: 512)
    --slice SECONDS         length of a slice (default: 0.2)
    --within PART           how well ratios must be known (default: 0.02)
    --limit SECONDS         the most time for one row of one group of servers (default: 60)
    --client-cpus N,N       processors for the client (default: none in particular)
    --server-cpus N,N       processors for the servers (default: none in particular)
    --nice N                share of the processors for this session, -20 to 19 (default: as it is)
    --engine own|fio        who reads and writes (default: own)
    --dmfs PATH             the program to measure (default: the one of this build)
    --scaling on|off        also make, list and remove 10,000 devices (default: on)
    --markdown FILE, --json FILE, --svg FILE   also write the tables, all samples, a chart";

/// Who reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `load.rs`.
    Own,
    /// fio, started for each slice.
    Fio,
}

/// The options' values.
pub struct Options {
    /// The columns.
    pub kinds: Vec<Kind>,
    /// The rows.
    pub workloads: Vec<Workload>,
    /// Where the client comes in.
    pub layers: Vec<Layer>,
    /// Where the backing file is made.
    pub dir: PathBuf,
    /// Around the page cache below; `None` if that depends on the file system.
    pub direct: Option<bool>,
    /// Length of the backing file.
    pub size_mib: u64,
    /// Length of a slice.
    pub slice: Duration,
    /// How well ratios must be known, as a part of them.
    pub within: f64,
    /// The most time for one row of one group of servers.
    pub limit: Duration,
    /// Where the client runs; anywhere if empty.
    pub client_cpus: Vec<usize>,
    /// Where servers run; anywhere if empty.
    pub server_cpus: Vec<usize>,
    /// Share of the processors, as nice(1).
    pub nice: Option<i32>,
    /// Who reads and writes.
    pub engine: Engine,
    /// The program to measure.
    pub dmfs: PathBuf,
    /// Whether to make 10,000 devices.
    pub scaling: bool,
    /// Where the tables go, besides standard output.
    pub markdown: Option<PathBuf>,
    /// Where the samples go.
    pub json: Option<PathBuf>,
    /// Where the chart goes.
    pub svg: Option<PathBuf>,
    /// Becomes true when a signal asks for the end.
    pub stopped: Arc<AtomicBool>,
}

impl Options {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// A sentence that names the option and what it expects.
    pub fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = Options {
            kinds: KINDS
                .iter()
                .copied()
                .filter(|kind| !kind.is_rare())
                .collect(),
            workloads: WORKLOADS.to_vec(),
            layers: LAYERS.to_vec(),
            dir: PathBuf::from("/dev/shm"),
            direct: None,
            size_mib: 512,
            slice: Duration::from_millis(200),
            within: 0.02,
            limit: Duration::from_secs(60),
            client_cpus: Vec::new(),
            server_cpus: Vec::new(),
            nice: None,
            engine: Engine::Own,
            dmfs: PathBuf::from(env!("CARGO_BIN_EXE_dmfs")),
            scaling: true,
            markdown: None,
            json: None,
            svg: None,
            stopped: Arc::default(),
        };
        let mut words = words.iter().filter(|word| *word != "--bench");
        while let Some(option) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{option}: a value is expected\n{USAGE}"))?;
            options
                .set(option, value)
                .map_err(|expected| format!("{option} {value}: {expected}\n{USAGE}"))?;
        }
        Ok(options)
    }

    /// True once a signal has asked for the end: what was measured until then is told, and servers are ended.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        let path = || Some(PathBuf::from(value));
        match option {
            "--servers" => self.kinds = pick(value, KINDS, |kind| kind.name(), str::eq)?,
            "--layers" => self.layers = pick(value, LAYERS, |layer| layer.name(), str::eq)?,
            "--workloads" => {
                let begins = |name: &str, wanted: &str| name.starts_with(wanted);
                self.workloads = pick(value, WORKLOADS, |load| load.name, begins)?;
            }
            "--dir" => self.dir = PathBuf::from(value),
            "--dmfs" => self.dmfs = PathBuf::from(value),
            "--markdown" => self.markdown = path(),
            "--json" => self.json = path(),
            "--svg" => self.svg = path(),
            "--direct" => self.direct = Some(on_off(value)?),
            "--scaling" => self.scaling = on_off(value)?,
            "--size" => self.size_mib = positive(value)?.max(8.0) as u64,
            "--slice" => self.slice = Duration::from_secs_f64(positive(value)?),
            "--limit" => self.limit = Duration::from_secs_f64(positive(value)?),
            "--within" => self.within = positive(value)?,
            "--client-cpus" => self.client_cpus = numbers(value)?,
            "--server-cpus" => self.server_cpus = numbers(value)?,
            "--nice" => {
                let number = value.parse().ok();
                let number = number.filter(|number| (-20..20).contains(number));
                self.nice = Some(number.ok_or("-20 to 19 is expected")?);
            }
            "--engine" => {
                self.engine = match value {
                    "own" => Engine::Own,
                    "fio" => Engine::Fio,
                    _ => return Err("own or fio is expected".to_owned()),
                }
            }
            _ => return Err("no such option".to_owned()),
        }
        Ok(())
    }
}

fn pick<T: Copy>(
    names: &str,
    all: &[T],
    name_of: impl Fn(&T) -> &'static str,
    fits: impl Fn(&str, &str) -> bool,
) -> Result<Vec<T>, String> {
    let known = || all.iter().map(&name_of).collect::<Vec<_>>().join(", ");
    for wanted in names.split(',') {
        if !all.iter().any(|item| fits(name_of(item), wanted)) {
            return Err(format!("expected some of {}", known()));
        }
    }
    let is_wanted = |item: &&T| names.split(',').any(|wanted| fits(name_of(item), wanted));
    Ok(all.iter().filter(is_wanted).copied().collect())
}

fn on_off(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off is expected".to_owned()),
    }
}

fn positive(value: &str) -> Result<f64, String> {
    let number: Option<f64> = value.parse().ok();
    number
        .filter(|number| *number > 0.0 && *number < 1e9)
        .ok_or_else(|| "a number above zero is expected".to_owned())
}

fn numbers(value: &str) -> Result<Vec<usize>, String> {
    let words = value.split(',');
    words
        .map(|word| word.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| "processors' numbers, with commas between them, are expected".to_owned())
}
