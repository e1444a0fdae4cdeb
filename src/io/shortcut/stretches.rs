//! What a device shows of others, and looking up where a sector of it leads.

use std::collections::HashMap;

use crate::io::{BlockDev, OpKind};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

/// The number of no device: what lies there is for the device itself to refuse.
const NOWHERE: u32 = u32::MAX;

/// Stretches of devices, one after the other without a gap, as a device shows them: it adds to the sector number and
/// does nothing else.
#[derive(Default)]
pub struct Stretches {
    list: Vec<Stretch>,
    devices: Vec<Arc<dyn BlockDev>>,
    /// The place in `devices` of each, by its address.
    numbers: HashMap<*const (), u32>,
    read_only: bool,
}

/// One stretch; it begins where the one before it ends.
#[derive(Clone, Copy)]
struct Stretch {
    end: u64,
    /// From a sector here to one of the device: added without regard for overflow, which takes back an underflow.
    shift: u64,
    device: u32,
}

impl Stretches {
    /// Nothing yet, which can only be read where `read_only` is set.
    pub fn new(read_only: bool) -> Stretches {
        Stretches {
            read_only,
            ..Stretches::default()
        }
    }

    /// Shows `len` sectors of `device` from `start` on, after what there is.
    pub fn push(&mut self, len: Sectors, device: &Arc<dyn BlockDev>, start: Sector) {
        let from = self.len();
        let next = self.devices.len() as u32;
        let address = Arc::as_ptr(device).cast();
        let number = *self.numbers.entry(address).or_insert(next);
        if number == next {
            self.devices.push(device.clone());
        }
        self.push_stretch(Stretch {
            end: from.saturating_add(len.0),
            shift: start.0.wrapping_sub(from),
            device: number,
        });
    }

    /// What goes on where the one before it ends becomes one with it.
    fn push_stretch(&mut self, stretch: Stretch) {
        match self.list.last_mut() {
            Some(last) if last.shift == stretch.shift && last.device == stretch.device => {
                last.end = stretch.end;
            }
            _ => self.list.push(stretch),
        }
    }

    fn len(&self) -> u64 {
        self.list.last().map_or(0, |last| last.end)
    }

    /// The device, where there is no more than one.
    pub(super) fn only_device(&self) -> Option<&Arc<dyn BlockDev>> {
        match &self.devices[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What these, all of one device, show of what that device shows. `None` where that would come to more stretches
    /// than both have.
    pub(super) fn through(&self, below: &Stretches) -> Option<Stretches> {
        let most = self.list.len() + below.list.len();
        let mut shown = Stretches {
            list: Vec::new(),
            devices: below.devices.clone(),
            numbers: HashMap::new(),
            read_only: self.read_only || below.read_only,
        };
        let mut at = 0;
        for upper in &self.list {
            while at < upper.end {
                let place = at.wrapping_add(upper.shift);
                let index = below.list.partition_point(|lower| lower.end <= place);
                shown.push_stretch(match below.list.get(index) {
                    Some(lower) if upper.device != NOWHERE => Stretch {
                        end: upper.end.min(at.saturating_add(lower.end - place)),
                        shift: upper.shift.wrapping_add(lower.shift),
                        device: lower.device,
                    },
                    _ => Stretch {
                        end: upper.end,
                        shift: 0,
                        device: NOWHERE,
                    },
                });
                at = shown.len();
                if shown.list.len() > most {
                    return None;
                }
            }
        }
        Some(shown)
    }
}

/// A stretch as requests look it up: all that one needs of it lies in one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Placed {
    begin: u64,
    stretch: Stretch,
}

/// Stretches as requests look them up. What a request needs of one that has a single stretch lies in one cache line.
#[repr(C, align(64))]
pub(super) struct Route {
    first: Stretch,
    device: Arc<dyn BlockDev>,
    read_only: bool,
    is_single: bool,
    list: List,
    /// All but the first.
    others: Vec<Arc<dyn BlockDev>>,
}

/// Stretches in their order.
enum List {
    /// All as long as the first, but for the last, which may be shorter, and of one device: the shift of each, as little
    /// as there can be, since where a request looks is not in the processor's cache.
    Even { end: u64, shifts: Box<[u64]> },
    Uneven {
        /// Stretches to a sector, on average, for a first guess where one is.
        per_sector: f64,
        list: Box<[Placed]>,
    },
}

impl Route {
    /// `None` where nothing is shown.
    pub(super) fn new(mut shown: Stretches) -> Option<Route> {
        let first = *shown.list.first()?;
        if shown.devices.is_empty() {
            return None;
        }
        let device = shown.devices.remove(0);
        Some(Route {
            first,
            device,
            read_only: shown.read_only,
            is_single: shown.list.len() == 1,
            list: List::of(shown.list),
            others: shown.devices,
        })
    }

    /// The device that carries out a read or a write of `len` sectors at `at`, and where on it; `None` where it has to
    /// go the long way.
    #[inline]
    pub(super) fn find(
        &self,
        kind: OpKind,
        at: Sector,
        len: Sectors,
    ) -> Option<(&dyn BlockDev, Sector)> {
        let end = at.checked_add(len)?;
        let stretch = match self.is_single {
            true => self.first,
            false => self.look_up(at)?,
        };
        if end.0 > stretch.end || (self.read_only && kind.changes_data()) {
            return None;
        }
        let device = match stretch.device {
            0 => &self.device,
            number => self.others.get(number as usize - 1)?,
        };
        Some((&**device, Sector(at.0.wrapping_add(stretch.shift))))
    }

    #[inline]
    fn look_up(&self, at: Sector) -> Option<Stretch> {
        match &self.list {
            List::Even { end, shifts } => {
                let len = self.first.end;
                let index = at.0.checked_div(len)?;
                Some(Stretch {
                    end: ((index + 1).saturating_mul(len)).min(*end),
                    shift: *shifts.get(usize::try_from(index).ok()?)?,
                    device: 0,
                })
            }
            List::Uneven { per_sector, list } => {
                let guessed = list.get(guess(at, *per_sector));
                if let Some(placed) = guessed
                    && placed.begin <= at.0
                    && at.0 < placed.stretch.end
                {
                    return Some(placed.stretch);
                }
                let end_of = |index: usize| list.get(index).map(|placed| placed.stretch.end);
                let index = index_of(at, list.len(), *per_sector, end_of);
                list.get(index).map(|placed| placed.stretch)
            }
        }
    }
}

impl List {
    fn of(stretches: Vec<Stretch>) -> List {
        let end = stretches.last().map_or(0, |last| last.end);
        let len = stretches.first().map_or(0, |first| first.end);
        let ends_evenly = |(number, stretch): (u64, &Stretch)| {
            stretch.device == 0 && stretch.end == number.saturating_mul(len).min(end)
        };
        if (1..).zip(&stretches).all(ends_evenly) {
            let shifts = stretches.iter().map(|stretch| stretch.shift).collect();
            return List::Even { end, shifts };
        }
        let mut begin = 0;
        let place = |stretch: &Stretch| Placed {
            begin: std::mem::replace(&mut begin, stretch.end),
            stretch: *stretch,
        };
        List::Uneven {
            per_sector: stretches.len() as f64 / end.max(1) as f64,
            list: stretches.iter().map(place).collect(),
        }
    }
}

/// Which stretch would hold the sector `at` if all were of one length.
#[inline]
fn guess(at: Sector, per_sector: f64) -> usize {
    (at.0 as f64 * per_sector) as usize
}

/// Which of `count` stretches, one after the other, holds the sector `at`; `end_of` gives the end of each. Where it
/// would be if all were of one length (`per_sector` of them to a sector) is looked at first: that saves most the
/// search, each step of which is likely to miss the processor's cache.
#[inline]
pub fn index_of(
    at: Sector,
    count: usize,
    per_sector: f64,
    end_of: impl Fn(usize) -> Option<u64>,
) -> usize {
    let ends_before = |index: usize| end_of(index).is_some_and(|end| end <= at.0);
    let guess = guess(at, per_sector);
    let begins_before = guess == 0 || ends_before(guess - 1);
    if begins_before && end_of(guess).is_some_and(|end| at.0 < end) {
        return guess;
    }
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match ends_before(middle) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}
