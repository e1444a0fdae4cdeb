//! What the data path's own machinery costs: the gate, a row of each target that has nothing to do but pass on, and
//! carrying out pieces at once rather than in turn.
//!
//! `cargo bench --bench machinery [-- DIR]`; DIR (default /dev/shm) is where a file for cached pieces is made.

#![allow(missing_docs)]

use std::fs::{File, OpenOptions, remove_file};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use dmfs::device::gate::Gate;
use dmfs::io::{
    BlockDev, DeviceNumber, IoError, IoResult, Limits, OpKind, OpenDevice, ReadBuf, Request,
    fan_out,
};
use dmfs::table::{RowSpec, Table, TableContext};
use dmfs::target::{Access, DeviceOpener, EventSink, OpenError};
use dmfs::targets::KINDS;
use dmfs::unit::{Sector, Sectors};

const ROUNDS: usize = 60;

fn main() -> io::Result<()> {
    gates();
    rows();
    let folder = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let path = Path::new(folder.as_deref().unwrap_or("/dev/shm")).join("dmfs-machinery");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    let result = pieces(&file);
    remove_file(&path)?;
    result
}

/// The fastest of many short runs, per step: what it costs where nothing else gets in the way.
fn fastest(steps: u32, mut run: impl FnMut()) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed() / steps
    });
    times.min().unwrap_or_default()
}

fn pass(gates: &[Gate], times: u32) {
    for _ in 0..times {
        let mut inside = [const { None }; 10];
        for (gate, inside) in gates.iter().zip(&mut inside) {
            *inside = gate.enter(OpKind::Read, Sectors(8), true).ok();
        }
        black_box(&inside);
    }
}

fn gates() {
    const STEPS: u32 = 5_000;
    let stack: Vec<Gate> = (0..10).map(|_| Gate::new()).collect();
    let alone = fastest(STEPS, || pass(&stack, STEPS));
    let both = Barrier::new(2);
    let together = fastest(STEPS, || {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    both.wait();
                    pass(&stack, STEPS);
                });
            }
        });
    });
    println!("ten gates, one thread:  {alone:>9.1?}");
    println!("ten gates, two threads: {together:>9.1?} each");
}

/// A device that does nothing.
struct Nothing;

impl BlockDev for Nothing {
    fn capacity(&self) -> Sectors {
        Sectors(1 << 30)
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        black_box(&request);
        Ok(())
    }
}

struct Opener;

impl DeviceOpener for Opener {
    fn open(&self, spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Ok(Arc::new(OpenDevice {
            number: DeviceNumber { major: 7, minor: 0 },
            path: spec.into(),
            name: spec.to_owned(),
            dev: Arc::new(Nothing),
            direct: false,
            mapped: None,
            part: None,
        }))
    }
}

struct Deaf;

impl EventSink for Deaf {
    fn raise(&self) {}
}

fn table(kind: &str, params: &str) -> Table {
    let row = RowSpec {
        start: Sector(0),
        len: Sectors(1 << 20),
        kind: kind.to_owned(),
        params: params.to_owned(),
    };
    let context = TableContext {
        kinds: KINDS,
        access: Access::ReadWrite,
        number: DeviceNumber { major: 1, minor: 0 },
        opener: &Opener,
        events: Arc::new(Deaf),
        again: false,
    };
    Table::build(&[row], &context).unwrap_or_else(|error| panic!("{kind} {params}: {error}"))
}

/// A request of 4 KiB through a table of one row over a device that does nothing.
fn rows() {
    const STEPS: u32 = 5_000;
    let kinds = [
        ("linear", "x 8"),
        ("dust", "x 8 4096"),
        ("flakey", "x 8 1000000 1"),
        ("delay", "x 8 0"),
        ("switch", "2 128 0 x 8 x 8"),
        ("ebs", "x 8 1 8"),
    ];
    let tables: Vec<_> = kinds
        .iter()
        .map(|(kind, params)| (kind, table(kind, params)))
        .collect();
    let mut times = vec![Duration::MAX; tables.len()];
    let mut memory = [0; 4096];
    // In turns, so that what else the machine does is shared.
    for _ in 0..ROUNDS {
        for ((_, table), best) in tables.iter().zip(&mut times) {
            let begun = Instant::now();
            for step in 0..u64::from(STEPS) {
                let at = Sector(step * 8);
                let read = Request::read(at, ReadBuf::new(&mut memory));
                let _ = black_box(table.submit(black_box(read)));
            }
            *best = (*best).min(begun.elapsed());
        }
    }
    for ((kind, _), best) in tables.iter().zip(&times) {
        let nanos = best.as_nanos() as f64 / f64::from(STEPS);
        println!("{:<24}{nanos:>7.1}ns", format!("a row of {kind}:"));
    }
}

fn pieces(file: &File) -> io::Result<()> {
    println!("\npieces  of       what                 in turn    at once");
    for bytes in [4096, 65536, 262_144, 1 << 20] {
        file.write_all_at(&vec![1; 16 * bytes], 0)?;
        for count in [2, 4, 8, 16] {
            let [in_turn, at_once] = [false, true].map(|waits| {
                let mut buffer = vec![0; count * bytes];
                let steps = ((8 << 20) / (count * bytes) as u32).clamp(1, 100);
                fastest(steps, || {
                    for _ in 0..steps {
                        let pieces = buffer.chunks_mut(bytes).enumerate();
                        let result = fan_out(pieces, waits, |(index, piece)| {
                            let at = (index * bytes) as u64;
                            file.read_exact_at(piece, at).map_err(IoError::from)
                        });
                        assert!(result.is_ok());
                    }
                })
            });
            println!(
                "{count:>6}  {bytes:>7}  cached              {in_turn:>9.1?}  {at_once:>9.1?}"
            );
        }
    }
    for sleep in [10, 20, 50, 100, 1000] {
        for count in [2, 4, 8, 16] {
            let [in_turn, at_once] = [false, true].map(|waits| {
                fastest(5, || {
                    for _ in 0..5 {
                        let result = fan_out(0..count, waits, |_| {
                            thread::sleep(Duration::from_micros(sleep));
                            Ok(())
                        });
                        assert!(result.is_ok());
                    }
                })
            });
            println!(
                "{count:>6}           sleeps {sleep:>5} us     {in_turn:>9.1?}  {at_once:>9.1?}"
            );
        }
    }
    Ok(())
}
