//! A region: a stretch of a device in areas of one length, and what was counted in each.

use std::fmt::Write;
use std::ops::Range;

use super::{Stretch, give_memory_back, take_memory};
use crate::device::gate::Gate;
use crate::io::Errno;
use crate::sync::{Mutex, RwLock};
use crate::unit::{Sector, Sectors};

const NANOSECONDS_A_MILLISECOND: u64 = 1_000_000;

/// A region.
pub struct Region {
    id: u32,
    range: Range<u64>,
    step: u64,
    settings: Settings,
    aux: RwLock<String>,
    areas: Vec<Mutex<Area>>,
    /// What its counters take of the memory that there is for them.
    bytes: u64,
}

/// How a region counts, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Nanoseconds, rather than milliseconds.
    pub precise: bool,
    /// Where the bins of the histogram end, in that unit; rising.
    pub bounds: Vec<u64>,
    pub program: String,
    pub aux: String,
}

/// What was counted in an area. Times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that ended: reads, then everything that changes data.
    pub requests: [u64; 2],
    /// Sectors of these requests in the area.
    pub sectors: [u64; 2],
    /// How long they took, one after the other.
    pub took: [u64; 2],
    /// How long any of a kind was under way.
    pub busy: [u64; 2],
    /// How long any at all was under way.
    pub busy_any: u64,
    /// How long requests were under way, one after the other.
    pub waited: u64,
    /// How many took less than each bound, but not less than the one before; and the rest.
    pub bins: Vec<u64>,
}

#[derive(Default)]
struct Area {
    counters: Counters,
    under_way: [u32; 2],
    /// Up to when time was counted.
    counted_to: u64,
}

impl Area {
    /// Counts the time that has passed.
    fn pass_time(&mut self, now: u64) {
        let passed = now.saturating_sub(self.counted_to);
        self.counted_to = self.counted_to.max(now);
        let under_way = self.under_way;
        for (busy, under_way) in self.counters.busy.iter_mut().zip(under_way) {
            if under_way > 0 {
                *busy = busy.wrapping_add(passed);
            }
        }
        let all = u64::from(under_way[0]) + u64::from(under_way[1]);
        if all > 0 {
            self.counters.busy_any = self.counters.busy_any.wrapping_add(passed);
            self.counters.waited = self.counters.waited.wrapping_add(all.wrapping_mul(passed));
        }
    }
}

impl Region {
    /// A region of the sectors `range`, in areas of `step`.
    ///
    /// # Errors
    /// EINVAL for an empty one, EOVERFLOW and ENOMEM for one with too many areas.
    pub(super) fn new(
        id: u32,
        range: Range<u64>,
        step: u64,
        settings: Settings,
        now: u64,
    ) -> Result<Region, Errno> {
        if range.is_empty() || step == 0 {
            return Err(Errno::INVAL);
        }
        let count = (range.end - range.start).div_ceil(step);
        let bins = match settings.bounds.len() {
            0 => 0,
            bounds => bounds + 1,
        };
        let of_area = (size_of::<Mutex<Area>>() + bins * size_of::<u64>()) as u64;
        let bytes = count.checked_mul(of_area).ok_or(Errno::OVERFLOW)?;
        if !take_memory(bytes) {
            return Err(Errno::NOMEM);
        }
        let mut region = Region {
            id,
            range,
            step,
            aux: RwLock::new(settings.aux.clone()),
            settings,
            areas: Vec::new(),
            bytes,
        };
        let count = usize::try_from(count).map_err(|_| Errno::OVERFLOW)?;
        region
            .areas
            .try_reserve_exact(count)
            .map_err(|_| Errno::NOMEM)?;
        region.areas.resize_with(count, || {
            Mutex::new(Area {
                counters: Counters::of_bins(bins),
                under_way: [0; 2],
                counted_to: now,
            })
        });
        Ok(region)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its first sector.
    pub fn start(&self) -> Sector {
        Sector(self.range.start)
    }

    /// Its length.
    pub fn len(&self) -> Sectors {
        Sectors(self.range.end - self.range.start)
    }

    /// True for a region without sectors, of which there is none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The program that it is for.
    pub fn program(&self) -> &str {
        &self.settings.program
    }

    /// Where the bins of its histogram end, nanoseconds; without one, none.
    pub fn bounds(&self) -> impl Iterator<Item = u64> {
        let unit = match self.settings.precise {
            true => 1,
            false => NANOSECONDS_A_MILLISECOND,
        };
        let bounds = self.settings.bounds.iter();
        bounds.map(move |bound| bound.saturating_mul(unit))
    }

    pub(super) fn set_aux(&self, aux: &str) {
        *self.aux.write() = aux.to_owned();
    }

    /// Which areas a request lies in, and how much of it in the first and in the last.
    fn areas_of(&self, request: Stretch) -> impl Iterator<Item = (&Mutex<Area>, u64)> {
        let at = request.at.max(self.range.start);
        let end = request.end.min(self.range.end);
        let first = at.saturating_sub(self.range.start) / self.step;
        let (mut left, mut next) = (at, first);
        std::iter::from_fn(move || {
            if left >= end {
                return None;
            }
            let area = self.areas.get(usize::try_from(next).ok()?)?;
            next += 1;
            let area_end = next
                .checked_mul(self.step)
                .and_then(|len| self.range.start.checked_add(len));
            let area_end = area_end.map_or(end, |area_end| area_end.min(end));
            let len = area_end - left;
            left = area_end;
            Some((area, len))
        })
    }

    /// A request begins.
    pub(super) fn enter(&self, request: Stretch, now: u64) {
        for (area, _) in self.areas_of(request) {
            let mut area = area.lock();
            area.pass_time(now);
            area.under_way[usize::from(request.is_write)] += 1;
        }
    }

    /// It has ended, after `took` nanoseconds; where it was put off, it does not count.
    pub(super) fn leave(&self, request: Stretch, now: u64, took: Option<u64>) {
        let kind = usize::from(request.is_write);
        for (area, sectors) in self.areas_of(request) {
            let mut area = area.lock();
            area.pass_time(now);
            area.under_way[kind] = area.under_way[kind].saturating_sub(1);
            let Some(took) = took else { continue };
            let counters = &mut area.counters;
            counters.requests[kind] = counters.requests[kind].wrapping_add(1);
            counters.sectors[kind] = counters.sectors[kind].wrapping_add(sectors);
            counters.took[kind] = counters.took[kind].wrapping_add(took);
            let duration = self.in_unit(took);
            let bin = self
                .settings
                .bounds
                .partition_point(|&bound| bound <= duration);
            if let Some(count) = counters.bins.get_mut(bin) {
                *count = count.wrapping_add(1);
            }
        }
    }

    fn in_unit(&self, nanoseconds: u64) -> u64 {
        match self.settings.precise {
            true => nanoseconds,
            false => nanoseconds / NANOSECONDS_A_MILLISECOND,
        }
    }

    /// What was counted in the areas `range`, as far as there are any, and how many requests are under way.
    fn counted(&self, range: Range<usize>, now: u64) -> Vec<(Counters, u64)> {
        let areas = self.areas.get(range).unwrap_or_default().iter();
        areas
            .map(|area| {
                let mut area = area.lock();
                area.pass_time(now);
                let under_way = area.under_way.iter().map(|&count| u64::from(count)).sum();
                (area.counters.clone(), under_way)
            })
            .collect()
    }

    /// What was counted in all areas.
    pub fn total(&self) -> Counters {
        let mut total = Counters::default();
        for (counters, _) in self.counted(0..self.areas.len(), Gate::now()) {
            total.change(&counters, u64::wrapping_add);
        }
        total
    }

    /// Counts from 0.
    pub(super) fn clear(&self) {
        let now = Gate::now();
        for area in &self.areas {
            let mut area = area.lock();
            area.pass_time(now);
            area.counters = Counters::of_bins(area.counters.bins.len());
        }
    }

    /// The line of `@stats_list`.
    pub(super) fn describe(&self) -> String {
        let Settings {
            precise,
            bounds,
            program,
            ..
        } = &self.settings;
        let (start, len, step) = (self.range.start, self.len(), self.step);
        let aux = &*self.aux.read();
        let mut line = format!("{}: {start}+{len} {step} {program} {aux}", self.id);
        if *precise {
            line.push_str(" precise_timestamps");
        }
        if !bounds.is_empty() {
            let bounds: Vec<String> = bounds.iter().map(u64::to_string).collect();
            line.push_str(&format!(" histogram:{}", bounds.join(",")));
        }
        line.push('\n');
        line
    }

    /// The lines of `@stats_print` for `count` areas from number `first` on. Where asked to `clear`, takes what it tells
    /// from the counters, unless that is more than `room` bytes: whoever asked has to ask again then.
    pub(super) fn print(
        &self,
        (first, count): (u64, u64),
        clear: bool,
        now: u64,
        room: usize,
    ) -> String {
        let all = self.areas.len() as u64;
        let end = first.checked_add(count).filter(|&end| end <= all);
        let end = end.unwrap_or(all);
        let first = first.min(end);
        let mut text = String::new();
        let range = first as usize..end as usize;
        let counted = self.counted(range.clone(), now);
        for ((counters, under_way), index) in counted.iter().zip(first..) {
            let start = self.range.start + index * self.step;
            let time = |nanoseconds| self.in_unit(nanoseconds);
            let Counters {
                requests,
                sectors,
                took,
                busy,
                ..
            } = counters;
            // Requests are never merged here. Writing to a string does not fail.
            let _ = write!(
                text,
                "{start}+{} {} 0 {} {} {} 0 {} {} {under_way} {} {} {} {}",
                self.step,
                requests[0],
                sectors[0],
                time(took[0]),
                requests[1],
                sectors[1],
                time(took[1]),
                time(counters.busy_any),
                time(counters.waited),
                time(busy[0]),
                time(busy[1]),
            );
            for (index, count) in counters.bins.iter().enumerate() {
                let between = if index == 0 { ' ' } else { ':' };
                let _ = write!(text, "{between}{count}");
            }
            text.push('\n');
        }
        if clear && text.len() < room {
            let areas = self.areas.get(range).unwrap_or_default();
            for (area, (told, _)) in areas.iter().zip(&counted) {
                area.lock().counters.change(told, u64::wrapping_sub);
            }
        }
        text
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        give_memory_back(self.bytes);
    }
}

impl Counters {
    fn of_bins(count: usize) -> Counters {
        Counters {
            bins: vec![0; count],
            ..Counters::default()
        }
    }

    /// Adds what was counted elsewhere, or takes away what was told.
    fn change(&mut self, by: &Counters, how: fn(u64, u64) -> u64) {
        let change = |mine: &mut [u64], by: &[u64]| {
            for (mine, by) in mine.iter_mut().zip(by) {
                *mine = how(*mine, *by);
            }
        };
        self.bins.resize(by.bins.len(), 0);
        change(&mut self.requests, &by.requests);
        change(&mut self.sectors, &by.sectors);
        change(&mut self.took, &by.took);
        change(&mut self.busy, &by.busy);
        change(&mut self.bins, &by.bins);
        self.busy_any = how(self.busy_any, by.busy_any);
        self.waited = how(self.waited, by.waited);
    }
}
