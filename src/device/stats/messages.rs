//! The messages that begin with `@stats_`, with the kernel's words and errors.

use super::region::{Region, Settings};
use super::{Moment, Stats, WaysIn};
use crate::io::Errno;
use crate::sync::Arc;
use crate::target::{scan_u32, scan_u64};
use crate::unit::Sectors;

/// Why a message about statistics was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsError {
    /// The errno the kernel gives.
    pub errno: Errno,
    /// What was expected.
    pub expected: &'static str,
}

type Answer = Result<String, StatsError>;

const CREATE: &str = "a range (- or START+LENGTH), a step (SECTORS or /AREAS), then [COUNT FEATURE...] \
                      [PROGRAM [AUX]]; features are precise_timestamps and histogram:BOUND,... (rising)";
const REGION: &str = "the number of a region that there is";

fn invalid(expected: &'static str) -> StatsError {
    StatsError {
        errno: Errno::INVAL,
        expected,
    }
}

impl Stats {
    /// Answers a message; `None` where it is none about statistics. `ways` are the device's, `len` its length; whoever asks
    /// has `room` bytes for the answer.
    pub fn message(
        &self,
        words: &[&str],
        ways: WaysIn<'_>,
        len: Sectors,
        room: usize,
    ) -> Option<Answer> {
        let (verb, rest) = words.split_first()?;
        let verb = verb.to_ascii_lowercase();
        Some(match verb.strip_prefix("@stats_")? {
            "create" => self.create(rest, ways, len),
            "delete" => self.delete(rest, ways),
            "clear" => match rest {
                [id] => self.region(id).map(|region| region.clear()).map(nothing),
                _ => Err(invalid(REGION)),
            },
            "list" => self.list(rest),
            "print" => self.print(rest, false, room),
            "print_clear" => self.print(rest, true, room),
            "set_aux" => match rest {
                [id, aux] => self
                    .region(id)
                    .map(|region| region.set_aux(aux))
                    .map(nothing),
                _ => Err(invalid("the number of a region, and one word")),
            },
            _ => return None,
        })
    }

    fn region(&self, id: &str) -> Result<Arc<Region>, StatsError> {
        let id = read_id(id)?;
        self.find(id).ok_or(NO_SUCH)
    }

    fn create(&self, words: &[&str], ways: WaysIn<'_>, len: Sectors) -> Answer {
        let (range, step, settings) = read_create(words, len).ok_or(invalid(CREATE))?;
        let refuse = |errno| StatsError {
            errno,
            expected: "fewer areas",
        };
        self.change(ways, |regions| {
            // The first number that is free; numbers rise along the list.
            let taken = regions.iter().zip(0u32..);
            let id = taken.take_while(|(region, id)| region.id() == *id).count();
            let number = u32::try_from(id).map_err(|_| refuse(Errno::NFILE))?;
            let now = Moment::now(settings.precise);
            let region = Region::new(number, range, step, settings, now).map_err(refuse)?;
            regions.insert(id, Arc::new(region));
            Ok(number.to_string())
        })
    }

    fn delete(&self, words: &[&str], ways: WaysIn<'_>) -> Answer {
        let [id] = words else {
            return Err(invalid(REGION));
        };
        let id = read_id(id)?;
        self.change(ways, |regions| {
            let index = regions.iter().position(|region| region.id() == id);
            regions.remove(index.ok_or(NO_SUCH)?);
            Ok(String::new())
        })
    }

    fn list(&self, words: &[&str]) -> Answer {
        let program = match words {
            [] => None,
            [program] => Some(*program),
            _ => return Err(invalid("a program at most")),
        };
        let regions = self.regions();
        let wanted = regions
            .iter()
            .filter(|region| program.is_none_or(|program| region.program() == program));
        Ok(wanted.map(|region| region.describe()).collect())
    }

    fn print(&self, words: &[&str], clear: bool, room: usize) -> Answer {
        const EXPECTED: &str =
            "the number of a region, then nothing, or the first area and how many";
        let number = |word: &str, otherwise: u64| match word {
            "-" => Ok(otherwise),
            word => scan_u64(word).ok_or(invalid(EXPECTED)),
        };
        let (id, first, count) = match *words {
            [id] => (id, "-", "-"),
            [id, first, count] => (id, first, count),
            _ => return Err(invalid(EXPECTED)),
        };
        let id = read_id(id)?;
        let (first, count) = (number(first, 0)?, number(count, u64::MAX)?);
        let region = self.find(id).ok_or(NO_SUCH)?;
        let now = Moment::now(region.is_precise());
        Ok(region.print((first, count), clear, now, room))
    }
}

fn nothing(_done: ()) -> String {
    String::new()
}

const NO_SUCH: StatsError = StatsError {
    errno: Errno::NOENT,
    expected: REGION,
};

fn read_id(word: &str) -> Result<u32, StatsError> {
    let id = scan_u32(word).filter(|&id| i32::try_from(id).is_ok());
    id.ok_or(invalid(REGION))
}

/// Reads `<range> <step> [<count> <feature>*] [<program> [<aux>]]` for a device of `len` sectors.
fn read_create(words: &[&str], len: Sectors) -> Option<(std::ops::Range<u64>, u64, Settings)> {
    let (range, rest) = words.split_first()?;
    let (start, len) = match *range {
        "-" => (0, len.0.max(1)),
        range => {
            let (start, len) = range.split_once('+')?;
            (scan_u64(start)?, scan_u64(len)?)
        }
    };
    let end = start.wrapping_add(len);
    if start >= end {
        return None;
    }
    let (step, mut rest) = rest.split_first()?;
    let step = match step.strip_prefix('/') {
        Some(areas) => match scan_u32(areas)? {
            0 => return None,
            areas => len.div_ceil(u64::from(areas)),
        },
        None => scan_u64(step).filter(|&step| step > 0)?,
    };
    let mut settings = Settings {
        program: "-".to_owned(),
        aux: "-".to_owned(),
        ..Settings::default()
    };
    if let Some(count) = rest.first().and_then(|count| scan_u32(count)) {
        for _ in 0..count {
            rest = rest.split_first()?.1;
            read_feature(rest.first()?, &mut settings)?;
        }
        rest = rest.split_first()?.1;
    }
    match *rest {
        [] => {}
        [program] => settings.program = program.to_owned(),
        [program, aux] => {
            settings.program = program.to_owned();
            settings.aux = aux.to_owned();
        }
        _ => return None,
    }
    Some((start..end, step, settings))
}

fn read_feature(word: &str, settings: &mut Settings) -> Option<()> {
    let lower = word.to_ascii_lowercase();
    if lower == "precise_timestamps" {
        settings.precise = true;
        return Some(());
    }
    let bounds = lower.strip_prefix("histogram:")?;
    if !settings.bounds.is_empty() {
        return None;
    }
    for bound in bounds.split(',') {
        let bound = scan_u64(bound)?;
        if bound <= settings.bounds.last().copied().unwrap_or(0) {
            return None;
        }
        settings.bounds.push(bound);
    }
    Some(())
}
