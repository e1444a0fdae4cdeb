//! Rows about statistics: what was counted in an area, a region or a group, and what follows from it.

use std::rc::Rc;

use super::DeviceRow;
use super::fields::Value;

/// Bytes of a sector.
const SECTOR_BYTES: f64 = 512.0;
const NANOSECONDS_A_SECOND: f64 = 1e9;
const NANOSECONDS_A_MILLISECOND: f64 = 1e6;

/// What a row is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Object {
    /// One area.
    Area,
    /// All areas of a region.
    #[default]
    Region,
    /// All regions of a group.
    Group,
}

/// What was counted; times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "as in the line of @stats_print, and its documentation"
)]
pub struct Counted {
    pub reads: u64,
    pub reads_merged: u64,
    pub read_sectors: u64,
    pub read_time: u64,
    pub writes: u64,
    pub writes_merged: u64,
    pub written_sectors: u64,
    pub write_time: u64,
    pub in_progress: u64,
    pub busy: u64,
    pub waited: u64,
    pub read_busy: u64,
    pub write_busy: u64,
    /// One more than there are bounds.
    pub bins: Vec<u64>,
}

impl Counted {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Counted) {
        let mine = [
            &mut self.reads,
            &mut self.reads_merged,
            &mut self.read_sectors,
            &mut self.read_time,
            &mut self.writes,
            &mut self.writes_merged,
            &mut self.written_sectors,
            &mut self.write_time,
            &mut self.in_progress,
            &mut self.busy,
            &mut self.waited,
            &mut self.read_busy,
            &mut self.write_busy,
        ];
        for (mine, other) in mine.into_iter().zip(other.numbers()) {
            *mine = mine.saturating_add(other);
        }
        self.bins.resize(self.bins.len().max(other.bins.len()), 0);
        for (mine, other) in self.bins.iter_mut().zip(&other.bins) {
            *mine = mine.saturating_add(*other);
        }
    }

    /// All but the bins, in the order of `@stats_print`.
    fn numbers(&self) -> [u64; 13] {
        [
            self.reads,
            self.reads_merged,
            self.read_sectors,
            self.read_time,
            self.writes,
            self.writes_merged,
            self.written_sectors,
            self.write_time,
            self.in_progress,
            self.busy,
            self.waited,
            self.read_busy,
            self.write_busy,
        ]
    }

    /// Reads a line of `@stats_print` after its range; `unit` nanoseconds are 1 there.
    pub fn parse(words: &str, unit: u64) -> Option<Counted> {
        let mut words = words.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let mut counted = Counted {
            reads: number()?,
            reads_merged: number()?,
            read_sectors: number()?,
            read_time: number()?.saturating_mul(unit),
            writes: number()?,
            writes_merged: number()?,
            written_sectors: number()?,
            write_time: number()?.saturating_mul(unit),
            in_progress: number()?,
            busy: number()?.saturating_mul(unit),
            waited: number()?.saturating_mul(unit),
            read_busy: number()?.saturating_mul(unit),
            write_busy: number()?.saturating_mul(unit),
            bins: Vec::new(),
        };
        if let Some(bins) = words.next() {
            let bins: Result<_, _> = bins.split(':').map(str::parse).collect();
            counted.bins = bins.ok()?;
        }
        words.next().is_none().then_some(counted)
    }
}

/// One row of a report about statistics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatsRow {
    /// The device, for the fields of devices.
    pub device: Option<Rc<DeviceRow>>,
    /// The alias of its group, or the device's name.
    pub stats_name: String,
    /// What it is about.
    pub object: Object,
    /// The number of the region, or those of all of the group.
    pub regions: String,
    /// The number of the group.
    pub group: Option<u32>,
    /// Sectors.
    pub region_start: u64,
    /// Sectors.
    pub region_len: u64,
    /// How many areas there are.
    pub area_count: u64,
    /// Its number in the region.
    pub area: u64,
    /// Sectors, from the start of the device.
    pub area_start: u64,
    /// Sectors.
    pub area_len: u64,
    /// For whom it is.
    pub program: String,
    /// What they have noted.
    pub user_data: String,
    /// Nanoseconds are counted, not milliseconds.
    pub precise: bool,
    /// Where bins end, nanoseconds.
    pub bounds: Vec<u64>,
    /// What was counted.
    pub counted: Counted,
    /// In which time.
    pub interval_ns: u64,
    /// How sizes are shown.
    pub units: Units,
}

/// How sizes are shown: in units of so many bytes, or each in the one that fits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Units {
    /// `512.00k`
    #[default]
    Human,
    /// So many bytes each.
    Fixed(f64),
}

impl Units {
    /// Reads the argument of `--units`: a letter, in which capitals stand for powers of 1000. What is none is bytes.
    pub fn parse(text: &str) -> Units {
        let letter = text.chars().next().unwrap_or('h');
        match letter {
            'h' | 'H' => Units::Human,
            letter => Units::Fixed(unit_bytes(letter).unwrap_or(1.0)),
        }
    }

    fn show(self, bytes: f64) -> String {
        let digits = |size: f64, letter: &str| format!("{size:.2}{letter}");
        match self {
            _ if bytes == 0.0 => "0".to_owned(),
            Units::Fixed(unit) if unit <= SECTOR_BYTES => format!("{:.0}", bytes / unit),
            Units::Fixed(unit) => digits(bytes / unit, ""),
            Units::Human => {
                let mut size = bytes;
                for letter in ["b", "k", "m", "g", "t", "p"] {
                    if size < 1024.0 {
                        return match letter {
                            "b" => format!("{size:.0}b"),
                            letter => digits(size, letter),
                        };
                    }
                    size /= 1024.0;
                }
                digits(size, "e")
            }
        }
    }
}

/// The bytes that the letter of a unit stands for.
pub fn unit_bytes(letter: char) -> Option<f64> {
    let power = match letter.to_ascii_lowercase() {
        'b' => 0,
        's' => return Some(SECTOR_BYTES),
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        'p' => 5,
        'e' => 6,
        _ => return None,
    };
    let base: f64 = if letter.is_ascii_uppercase() {
        1000.0
    } else {
        1024.0
    };
    Some(base.powi(power))
}

/// A time as boundaries of bins are written: the largest unit that divides it.
pub fn show_bound(nanoseconds: u64) -> String {
    let units = [
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let fits = |(unit, _): &(u64, &str)| nanoseconds.is_multiple_of(*unit);
    let (unit, name) = units.into_iter().find(fits).unwrap_or((1, "ns"));
    format!("{}{name}", nanoseconds / unit)
}

impl StatsRow {
    /// The value of the field `id`.
    pub fn value(&self, id: &str) -> Option<Value> {
        let counted = &self.counted;
        let count = |number: u64| Some(Value::Number(i64::try_from(number).unwrap_or(i64::MAX)));
        let decimals = |number: f64| Some(Value::Measure(number, format!("{number:.2}")));
        let size = |sectors: f64| {
            let bytes = sectors * SECTOR_BYTES;
            Some(Value::Measure(bytes, self.units.show(bytes)))
        };
        let seconds = self.interval_ns as f64 / NANOSECONDS_A_SECOND;
        let per_second = |number: u64| ratio(number as f64, seconds);
        let requests = counted.reads + counted.writes;
        let wait = |time: u64, requests: u64| {
            decimals(ratio(time as f64, requests as f64) / NANOSECONDS_A_MILLISECOND)
        };
        let bins = |between: &str, show: &dyn Fn(usize, u64) -> String| {
            let bins = counted.bins.iter().enumerate();
            let bins: Vec<String> = bins.map(|(index, &bin)| show(index, bin)).collect();
            Some(Value::Text(bins.join(between)))
        };
        let total: u64 = counted.bins.iter().sum();
        let percent = |bin: u64| format!("{:.2}%", 100.0 * ratio(bin as f64, total as f64));
        match id {
            "read_count" => count(counted.reads),
            "reads_merged_count" => count(counted.reads_merged),
            "read_sector_count" => count(counted.read_sectors),
            "read_time" => count(counted.read_time),
            "write_count" => count(counted.writes),
            "writes_merged_count" => count(counted.writes_merged),
            "write_sector_count" => count(counted.written_sectors),
            "write_time" => count(counted.write_time),
            "in_progress_count" => count(counted.in_progress),
            "io_ticks" => count(counted.busy),
            "queue_ticks" => count(counted.waited),
            "read_ticks" => count(counted.read_busy),
            "write_ticks" => count(counted.write_busy),
            "reads_merged_per_sec" => decimals(per_second(counted.reads_merged)),
            "writes_merged_per_sec" => decimals(per_second(counted.writes_merged)),
            "reads_per_sec" => decimals(per_second(counted.reads)),
            "writes_per_sec" => decimals(per_second(counted.writes)),
            "read_size_per_sec" => size(per_second(counted.read_sectors)),
            "write_size_per_sec" => size(per_second(counted.written_sectors)),
            "avg_request_size" => {
                let sectors = counted.read_sectors + counted.written_sectors;
                size(ratio(sectors as f64, requests as f64))
            }
            "queue_size" => decimals(ratio(counted.waited as f64, self.interval_ns as f64)),
            "util" => {
                let share = ratio(counted.busy as f64, self.interval_ns as f64);
                decimals((100.0 * share).min(100.0))
            }
            "await" => wait(counted.read_time + counted.write_time, requests),
            "read_await" => wait(counted.read_time, counted.reads),
            "write_await" => wait(counted.write_time, counted.writes),
            "throughput" => decimals(per_second(requests)),
            "service_time" => wait(counted.busy, requests),
            "hist_count" => bins("", &|_, bin| format!("{bin:>6}")),
            "hist_count_bounds" => bins(",", &|index, bin| {
                format!("{:>6}:{bin:>6}", self.bin_start(index))
            }),
            "hist_count_ranges" => bins(",", &|index, bin| {
                let range = format!("{:>6}", self.bin_range(index));
                let width = 12usize.saturating_sub(range.len());
                format!("{range}:{bin:>width$}")
            }),
            "hist_percent" => bins("", &|_, bin| format!("{:>7}", percent(bin))),
            "hist_percent_bounds" => bins(",", &|index, bin| {
                format!("{:>6}:{:>7}", self.bin_start(index), percent(bin))
            }),
            "hist_percent_ranges" => bins(",", &|index, bin| {
                let range = format!("{:>6}", self.bin_range(index));
                let width = 13usize.saturating_sub(range.len());
                format!("{range}:{:>width$}", percent(bin))
            }),
            "interval_ns" => count(self.interval_ns),
            "interval" => Some(Value::Measure(seconds, format!("{seconds:.6}"))),
            "region_id" => match self.regions.parse::<i64>() {
                Ok(number) => Some(Value::Number(number)),
                Err(_) => Some(Value::Text(self.regions.clone())),
            },
            "region_start" => size(self.region_start as f64),
            "region_len" => size(self.region_len as f64),
            "area_id" => count(self.area),
            "area_start" => size(self.area_start as f64),
            "area_len" => size(self.area_len as f64),
            "area_offset" => size(self.area_start.saturating_sub(self.region_start) as f64),
            "area_count" => count(self.area_count),
            "group_id" => match self.group {
                Some(group) => count(group.into()),
                None => Some(Value::Text("-".into())),
            },
            "program_id" => Some(Value::Text(self.program.clone())),
            "user_data" => Some(Value::Text(self.user_data.clone())),
            "precise" => Some(Value::Text(u8::from(self.precise).to_string())),
            "hist_bins" => Some(Value::Text(match self.bounds.len() {
                0 => "0".to_owned(),
                bounds => (bounds + 1).to_string(),
            })),
            "hist_bounds" => self.of_bins(&|row, index| row.bin_start(index)),
            "hist_ranges" => self.of_bins(&|row, index| row.bin_range(index)),
            "stats_name" => Some(Value::Text(self.stats_name.clone())),
            "obj_type" => Some(Value::Text(
                match self.object {
                    Object::Area => "area",
                    Object::Region => "region",
                    Object::Group => "group",
                }
                .into(),
            )),
            _ => None,
        }
    }

    fn of_bins(&self, show: &dyn Fn(&StatsRow, usize) -> String) -> Option<Value> {
        let bins = match self.bounds.len() {
            0 => 0,
            bounds => bounds + 1,
        };
        let bins: Vec<String> = (0..bins).map(|index| show(self, index)).collect();
        Some(Value::Text(bins.join(",")))
    }

    fn bin_start(&self, index: usize) -> String {
        let bound = index
            .checked_sub(1)
            .and_then(|index| self.bounds.get(index));
        show_bound(bound.copied().unwrap_or(0))
    }

    fn bin_range(&self, index: usize) -> String {
        match self.bounds.get(index) {
            Some(&end) => format!("{}-{}", self.bin_start(index), show_bound(end)),
            None => format!(">{}", self.bin_start(index)),
        }
    }
}

/// 0 where there is nothing to divide by.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Counted, StatsRow, Units, show_bound};
    use crate::cli::report::stats_fields::STATS_FIELDS;

    #[test]
    fn every_field_has_a_value() {
        let row = StatsRow::default();
        for field in STATS_FIELDS {
            assert!(row.value(field.id).is_some(), "{}", field.id);
        }
    }

    #[test]
    fn sizes_are_shown_as_dmstats_shows_them() {
        let human = |bytes: f64| Units::parse("h").show(bytes);
        for (bytes, shown) in [
            (0.0, "0"),
            (512.0, "512b"),
            (999_936.0, "976.50k"),
            (2_097_152.0, "2.00m"),
            (1_999_872.0, "1.91m"),
        ] {
            assert_eq!(human(bytes), shown);
        }
        for (units, shown) in [
            ("k", "4096.00"),
            ("s", "8192"),
            ("m", "4.00"),
            ("bogus", "4194304"),
        ] {
            assert_eq!(Units::parse(units).show(4_194_304.0), shown, "{units}");
        }
    }

    #[test]
    fn bounds_are_shown_in_the_largest_unit() {
        let shown = [0, 10, 10_000, 20_000_000, 3_000_000_000, 1_500_000].map(show_bound);
        assert_eq!(shown, ["0s", "10ns", "10us", "20ms", "3s", "1500us"]);
    }

    #[test]
    fn bins_are_shown_as_dmstats_shows_them() {
        let row = StatsRow {
            bounds: vec![1_000_000, 10_000_000],
            counted: Counted {
                bins: vec![7, 0, 1],
                ..Counted::default()
            },
            ..StatsRow::default()
        };
        for (id, shown) in [
            ("hist_count", "     7     0     1"),
            (
                "hist_count_bounds",
                "    0s:     7,   1ms:     0,  10ms:     1",
            ),
            (
                "hist_count_ranges",
                "0s-1ms:     7,1ms-10ms:   0, >10ms:     1",
            ),
            ("hist_percent", " 87.50%  0.00% 12.50%"),
            (
                "hist_percent_ranges",
                "0s-1ms: 87.50%,1ms-10ms:0.00%, >10ms: 12.50%",
            ),
            ("hist_bounds", "0s,1ms,10ms"),
            ("hist_ranges", "0s-1ms,1ms-10ms,>10ms"),
        ] {
            assert_eq!(row.value(id).unwrap().shown(), shown, "{id}");
        }
    }

    #[test]
    fn lines_of_counters_are_read() {
        let counted = Counted::parse("1 0 8 10 2 0 16 20 3 4 5 6 7 1:2:0", 1000).unwrap();
        assert_eq!(
            (counted.reads, counted.read_time, counted.write_busy),
            (1, 10_000, 7000)
        );
        assert_eq!(counted.bins, [1, 2, 0]);
        for bad in [
            "",
            "1",
            "1 0 8 10 2 0 16 20 3 4 5 6 x",
            "1 0 8 10 2 0 16 20 3 4 5 6 7 1:x",
            "1 0 8 10 2 0 16 20 3 4 5 6 7 1:2 9",
        ] {
            assert_eq!(Counted::parse(bad, 1), None, "{bad}");
        }
    }
}
