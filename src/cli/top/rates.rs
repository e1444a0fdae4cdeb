//! What devices do a second, from two counts of what they have done.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Value, json};

use crate::control::protocol::json::{DeviceCounters, Times};
use crate::unit::SECTOR_SIZE;

/// What one device, or all together, did between two counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rate {
    /// The device.
    pub name: String,
    /// Its number.
    pub number: (u32, u32),
    /// Its requests are held back.
    pub suspended: bool,
    /// Reads, writes and flushes a second.
    pub reads: f64,
    /// See `reads`.
    pub writes: f64,
    /// See `reads`.
    pub flushes: f64,
    /// Bytes read a second.
    pub read_bytes: f64,
    /// Bytes written a second.
    pub write_bytes: f64,
    /// How long reads, writes and flushes took, those that were measured.
    pub read_times: Times,
    /// See `read_times`.
    pub write_times: Times,
    /// See `read_times`.
    pub flush_times: Times,
    /// How many requests were inside at once on average.
    pub queue: f64,
    /// Requests that failed in this time.
    pub errors: u64,
}

/// By what a list is ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// Most requests a second first.
    Requests,
    /// Most bytes a second first.
    Bytes,
    /// Longest requests first.
    Latency,
    /// Most requests at once first.
    Queue,
}

impl Order {
    /// All orders, with the words and the keys that choose them.
    pub const ALL: [(&'static str, u8, Order); 5] = [
        ("name", b'n', Order::Name),
        ("requests", b'r', Order::Requests),
        ("bytes", b'b', Order::Bytes),
        ("latency", b'l', Order::Latency),
        ("queue", b'u', Order::Queue),
    ];

    /// The order's word.
    pub fn word(self) -> &'static str {
        let found = Order::ALL.iter().find(|(_, _, order)| *order == self);
        found.map_or("", |(word, _, _)| word)
    }
}

/// What each device of `after` did since `before`, `seconds` ago.
pub fn rates(before: &[DeviceCounters], after: &[DeviceCounters], seconds: f64) -> Vec<Rate> {
    let known: HashMap<(u32, u32), &DeviceCounters> = before
        .iter()
        .map(|device| ((device.major, device.minor), device))
        .collect();
    let nothing = DeviceCounters::default();
    after
        .iter()
        .map(|now| {
            let number = (now.major, now.minor);
            let then = known.get(&number).copied().unwrap_or(&nothing);
            // A number that was given to another device meanwhile counts from the beginning again.
            let then = if then.reads > now.reads || then.writes > now.writes {
                &nothing
            } else {
                then
            };
            rate(then, now, seconds)
        })
        .collect()
}

fn rate(then: &DeviceCounters, now: &DeviceCounters, seconds: f64) -> Rate {
    let more = |of: fn(&DeviceCounters) -> u64| of(now).saturating_sub(of(then));
    let each = |of: fn(&DeviceCounters) -> u64| more(of) as f64 / seconds;
    let times = |of: fn(&DeviceCounters) -> Times| Times {
        requests: of(now).requests.saturating_sub(of(then).requests),
        nanoseconds: of(now).nanoseconds.saturating_sub(of(then).nanoseconds),
    };
    let mut rate = Rate {
        name: now.name.clone(),
        number: (now.major, now.minor),
        suspended: now.suspended,
        reads: each(|device| device.reads),
        writes: each(|device| device.writes),
        flushes: each(|device| device.flushes),
        read_bytes: each(|device| device.sectors_read) * SECTOR_SIZE as f64,
        write_bytes: each(|device| device.sectors_written) * SECTOR_SIZE as f64,
        read_times: times(|device| device.read_times),
        write_times: times(|device| device.write_times),
        flush_times: times(|device| device.flush_times),
        queue: 0.0,
        errors: more(|device| device.errors),
    };
    let measured = [rate.read_times, rate.write_times, rate.flush_times];
    let inside: u64 = measured.iter().map(|times| times.nanoseconds).sum();
    // Requests that did not end in this time are not among those measured.
    rate.queue = match measured.iter().all(|times| times.requests == 0) {
        true => now.in_flight as f64,
        false => inside as f64 / (seconds * 1e9),
    };
    rate
}

impl Rate {
    /// All devices together.
    pub fn total(rates: &[Rate]) -> Rate {
        let mut total = Rate {
            name: "all".to_owned(),
            ..Rate::default()
        };
        for rate in rates {
            total.reads += rate.reads;
            total.writes += rate.writes;
            total.flushes += rate.flushes;
            total.read_bytes += rate.read_bytes;
            total.write_bytes += rate.write_bytes;
            total.queue += rate.queue;
            total.errors += rate.errors;
            for (sum, times) in [
                (&mut total.read_times, rate.read_times),
                (&mut total.write_times, rate.write_times),
                (&mut total.flush_times, rate.flush_times),
            ] {
                sum.requests = sum.requests.saturating_add(times.requests);
                sum.nanoseconds = sum.nanoseconds.saturating_add(times.nanoseconds);
            }
        }
        total
    }

    /// As a row of a table, in the order of [`super::COLUMNS`].
    pub fn cells(&self) -> Vec<String> {
        let name = match self.suspended {
            true => format!("{} (suspended)", self.name),
            false => self.name.clone(),
        };
        vec![
            name,
            count(self.reads),
            count(self.writes),
            mebibytes(self.read_bytes),
            mebibytes(self.write_bytes),
            latency(self.read_times),
            latency(self.write_times),
            count(self.flushes),
            latency(self.flush_times),
            queue(self.queue),
            self.errors.to_string(),
        ]
    }

    /// As JSON: rates a second, latencies in microseconds.
    pub fn json(&self) -> Value {
        let micros = |times: Times| mean(times).map(|nanoseconds| nanoseconds / 1000.0);
        json!({
            "name": self.name,
            "major": self.number.0,
            "minor": self.number.1,
            "suspended": self.suspended,
            "reads": self.reads,
            "writes": self.writes,
            "flushes": self.flushes,
            "read_bytes": self.read_bytes,
            "write_bytes": self.write_bytes,
            "read_us": micros(self.read_times),
            "write_us": micros(self.write_times),
            "flush_us": micros(self.flush_times),
            "queue": self.queue,
            "errors": self.errors,
        })
    }

    /// Which of two comes first.
    pub fn compare(&self, other: &Rate, order: Order) -> Ordering {
        let longest = |rate: &Rate| {
            let times = [rate.read_times, rate.write_times, rate.flush_times];
            times.into_iter().filter_map(mean).fold(0.0, f64::max)
        };
        let most_first = |of: &dyn Fn(&Rate) -> f64| of(other).total_cmp(&of(self));
        let by_order = match order {
            Order::Name => Ordering::Equal,
            Order::Requests => most_first(&|rate| rate.reads + rate.writes + rate.flushes),
            Order::Bytes => most_first(&|rate| rate.read_bytes + rate.write_bytes),
            Order::Latency => most_first(&longest),
            Order::Queue => most_first(&|rate| rate.queue),
        };
        by_order.then_with(|| self.name.cmp(&other.name))
    }
}

/// Nanoseconds of one request on average, where any was measured.
fn mean(times: Times) -> Option<f64> {
    (times.requests > 0).then(|| times.nanoseconds as f64 / times.requests as f64)
}

fn count(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn mebibytes(rate: f64) -> String {
    match rate / 1_048_576.0 {
        0.0 => "0".to_owned(),
        rate if rate < 0.1 => format!("{rate:.2}"),
        rate if rate < 1000.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn queue(requests: f64) -> String {
    match requests {
        0.0 => "0".to_owned(),
        requests if requests < 10.0 => format!("{requests:.2}"),
        requests => format!("{requests:.0}"),
    }
}

fn latency(times: Times) -> String {
    match mean(times) {
        None => "-".to_owned(),
        Some(nanoseconds) if nanoseconds < 99_950.0 => format!("{:.1}us", nanoseconds / 1e3),
        Some(nanoseconds) if nanoseconds < 99_950_000.0 => format!("{:.2}ms", nanoseconds / 1e6),
        Some(nanoseconds) => format!("{:.2}s", nanoseconds / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Order, Rate, count, latency, mebibytes, queue, rates};
    use crate::control::protocol::json::{DeviceCounters, Times};

    fn device(name: &str, minor: u32, reads: u64) -> DeviceCounters {
        DeviceCounters {
            name: name.into(),
            minor,
            reads,
            sectors_read: reads * 8,
            read_times: Times {
                requests: reads,
                nanoseconds: reads * 10_000,
            },
            ..DeviceCounters::default()
        }
    }

    #[test]
    fn rates_are_differences_a_second() {
        let rates = rates(&[device("a", 0, 1000)], &[device("a", 0, 3000)], 2.0);
        assert_eq!((rates[0].reads, rates[0].read_bytes), (1000.0, 4_096_000.0));
        assert_eq!(rates[0].read_times.requests, 2000);
        // 2000 requests of 10 us in 2 s.
        assert!((rates[0].queue - 0.01).abs() < 1e-9);
        assert_eq!(
            rates[0].cells()[..6],
            ["a", "1000", "0", "3.9", "0", "10.0us"]
        );
        assert_eq!(rates[0].json()["read_us"], 10.0);
        assert!(rates[0].json()["write_us"].is_null());
    }

    #[test]
    fn new_devices_and_numbers_given_anew_count_from_nothing() {
        let before = [device("a", 0, 1000)];
        let after = [device("new", 0, 10), device("b", 1, 20)];
        let rates = rates(&before, &after, 1.0);
        assert_eq!((rates[0].reads, rates[1].reads), (10.0, 20.0));
    }

    #[test]
    fn what_hangs_is_in_the_queue() {
        let hanging = DeviceCounters {
            in_flight: 3,
            suspended: true,
            ..device("a", 0, 5)
        };
        let rates = rates(&[device("a", 0, 5)], &[hanging], 1.0);
        assert_eq!(rates[0].queue, 3.0);
        assert_eq!(rates[0].cells()[0], "a (suspended)");
    }

    #[test]
    fn everything_together_is_the_sum_with_the_mean_of_all() {
        let rates = rates(&[], &[device("a", 0, 100), device("b", 1, 300)], 1.0);
        let total = Rate::total(&rates);
        assert_eq!((total.reads, total.read_times.requests), (400.0, 400));
        assert_eq!(total.cells()[5], "10.0us");
        assert_eq!(total.name, "all");
    }

    #[test]
    fn orders_put_the_most_first_and_names_in_between() {
        let mut rates = rates(
            &[],
            &[device("c", 0, 5), device("b", 1, 9), device("a", 2, 5)],
            1.0,
        );
        let mut sorted = |order: Order| {
            rates.sort_by(|a, b| a.compare(b, order));
            rates
                .iter()
                .map(|rate| rate.name.clone())
                .collect::<Vec<_>>()
                .concat()
        };
        assert_eq!(sorted(Order::Name), "abc");
        assert_eq!(sorted(Order::Requests), "bac");
        assert_eq!(sorted(Order::Bytes), "bac");
        assert_eq!(sorted(Order::Latency), "abc");
        assert_eq!(sorted(Order::Queue), "bac");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.25, 9.96, 12_345.6].map(count),
            ["0", "0.2", "10.0", "12346"]
        );
        assert_eq!(
            [0.0, 0.049, 2.0, 31.6].map(queue),
            ["0", "0.05", "2.00", "32"]
        );
        let bytes = [0.0, 50_000.0, 1_048_576.0, 2e9];
        assert_eq!(bytes.map(mebibytes), ["0", "0.05", "1.0", "1907"]);
        let took = [900, 1_500_000, 250_000_000];
        let shown = took.map(|nanoseconds| {
            latency(Times {
                requests: 1,
                nanoseconds,
            })
        });
        assert_eq!(shown, ["0.9us", "1.50ms", "0.25s"]);
        assert_eq!(latency(Times::default()), "-");
    }
}
