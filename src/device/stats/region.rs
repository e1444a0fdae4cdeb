//! A region: a stretch of a device in areas of one length, and what was counted in each.

use std::fmt::Write;
use std::ops::Range;

use super::area::{Area, Counters, Ended};
use super::{Moment, Stretch, give_memory_back, take_memory};
use crate::io::Errno;
use crate::sync::RwLock;
use crate::unit::{Sector, Sectors};

const NANOSECONDS_A_MILLISECOND: u64 = 1_000_000;

/// A region.
pub struct Region {
    id: u32,
    range: Range<u64>,
    step: u64,
    settings: Settings,
    aux: RwLock<String>,
    areas: Vec<Area>,
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

impl Region {
    /// A region of the sectors `range`, in areas of `step`, that counts from `now` on.
    ///
    /// # Errors
    /// EINVAL for an empty one, EOVERFLOW and ENOMEM for one with too many areas.
    pub(super) fn new(
        id: u32,
        range: Range<u64>,
        step: u64,
        settings: Settings,
        now: Moment,
    ) -> Result<Region, Errno> {
        let now = now.of(settings.precise);
        if range.is_empty() || step == 0 {
            return Err(Errno::INVAL);
        }
        let count = (range.end - range.start).div_ceil(step);
        let bins = match settings.bounds.len() {
            0 => 0,
            bounds => bounds + 1,
        };
        let bytes = count
            .checked_mul(Area::size(bins) as u64)
            .ok_or(Errno::OVERFLOW)?;
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
        region.areas.resize_with(count, || Area::new(bins, now));
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
    fn areas_of(&self, request: Stretch) -> impl Iterator<Item = (&Area, u64)> {
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

    /// True where it reads the precise clock.
    pub(super) fn is_precise(&self) -> bool {
        self.settings.precise
    }

    /// A request begins.
    pub(super) fn enter(&self, request: Stretch, now: Moment) {
        let now = now.of(self.is_precise());
        for (area, _) in self.areas_of(request) {
            area.enter(request.is_write, now);
        }
    }

    /// It has ended, having `begun` at some time; where it was put off, it does not count.
    pub(super) fn leave(&self, request: Stretch, now: Moment, begun: Option<Moment>) {
        let now = now.of(self.is_precise());
        let ended = begun.map(|begun| {
            let took = now.saturating_sub(begun.of(self.is_precise()));
            let (bounds, duration) = (&self.settings.bounds, self.in_unit(took));
            let bin = bounds.partition_point(|&bound| bound <= duration);
            Ended { took, bin }
        });
        for (area, sectors) in self.areas_of(request) {
            area.leave(request.is_write, sectors, now, ended);
        }
    }

    fn in_unit(&self, nanoseconds: u64) -> u64 {
        match self.settings.precise {
            true => nanoseconds,
            false => nanoseconds / NANOSECONDS_A_MILLISECOND,
        }
    }

    /// What was counted in the areas `range`, as far as there are any, and how many requests are under way.
    fn counted(&self, range: Range<usize>, now: Moment) -> Vec<(Counters, u64)> {
        let now = now.of(self.is_precise());
        let areas = self.areas.get(range).unwrap_or_default().iter();
        areas.map(|area| area.counted(now)).collect()
    }

    /// What was counted in all areas.
    pub fn total(&self) -> Counters {
        let mut total = Counters::default();
        for (counters, _) in self.counted(0..self.areas.len(), Moment::now(self.is_precise())) {
            total.add(&counters);
        }
        total
    }

    /// Counts from 0.
    pub(super) fn clear(&self) {
        let now = Moment::now(self.is_precise()).of(self.is_precise());
        for area in &self.areas {
            let (told, _) = area.counted(now);
            area.take(&told);
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
        now: Moment,
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
                area.take(told);
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
