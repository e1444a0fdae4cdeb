#![allow(clippy::unwrap_used)]

use std::ops::Range;

use proptest::prelude::{ProptestConfig, Strategy, any, proptest};

use super::region::Settings;
use super::{Moment, Region, Stretch};
use crate::device::gate::Gate;
use crate::device::{Device, Events, Identity, SuspendOptions};
use crate::io::{
    BlockDev, DeviceNumber, Errno, Flags, OpKind, OpenDevice, ReadBuf, Request, Waypoint, WriteBuf,
};
use crate::sync::Arc;
use crate::table::{RowSpec, Table, TableContext};
use crate::target::{Access, DeviceOpener, OpenError};
use crate::targets::KINDS;
use crate::unit::{Sector, Sectors};

/// What the kernel answered to messages, see the transcript.
#[test]
fn messages_are_answered_as_in_the_kernel() {
    let (gate, stats) = (Gate::new(), super::Stats::default());
    let waypoint = Arc::<Waypoint>::default();
    let transcript = include_str!("tests/messages.transcript");
    let steps = transcript
        .split("\n> ")
        .skip(1)
        .map(|step| step.split_once('\n').unwrap());
    let mut count = 0;
    for (said, answer) in steps {
        let words: Vec<&str> = said.split(' ').collect();
        let mut seen = match stats.message(&words, (&gate, &waypoint), Sectors(8192), usize::MAX) {
            None => "no message about statistics".to_owned(),
            Some(Ok(reply)) => reply,
            Some(Err(error)) => {
                assert!(!error.expected.is_empty());
                match error.errno {
                    Errno::INVAL => "refused EINVAL",
                    Errno::NOENT => "refused ENOENT",
                    Errno::OVERFLOW => "refused EOVERFLOW",
                    Errno::NOMEM => "refused ENOMEM",
                    other => panic!("{other:?}"),
                }
                .to_owned()
            }
        };
        if !seen.is_empty() && !seen.ends_with('\n') {
            seen.push('\n');
        }
        assert_eq!(seen.trim_end(), answer.trim_end(), "{said}");
        count += 1;
    }
    assert!(count > 80, "only {count}");
}

#[test]
fn other_messages_are_none_of_these() {
    let (gate, stats) = (Gate::new(), super::Stats::default());
    let waypoint = Arc::<Waypoint>::default();
    for words in [
        &["@stats_bogus"][..],
        &["@stats_"],
        &["stats_list"],
        &["@"],
        &[],
    ] {
        assert!(
            stats
                .message(words, (&gate, &waypoint), Sectors(8), usize::MAX)
                .is_none()
        );
    }
}

#[test]
fn what_does_not_fit_the_answer_is_not_cleared() {
    let (gate, stats) = (Gate::new(), super::Stats::default());
    let waypoint = Arc::<Waypoint>::default();
    let say = |text: &str, room| {
        let words: Vec<&str> = text.split(' ').collect();
        stats
            .message(&words, (&gate, &waypoint), Sectors(64), room)
            .unwrap()
            .unwrap()
    };
    say("@stats_create - /8", usize::MAX);
    let request = Stretch {
        is_write: true,
        at: 0,
        end: 64,
    };
    let region = stats.regions().remove(0);
    let now = Moment::now(false);
    region.enter(request, now);
    region.leave(request, now, Some(now));
    let counted = say("@stats_print_clear 0", 20);
    assert!(counted.starts_with("0+8 0 0 0 0 1 0 8 0 0 "), "{counted}");
    assert!(say("@stats_print_clear 0", usize::MAX).starts_with("0+8 0 0 0 0 1 0 8 0 0 "));
    assert!(say("@stats_print 0", usize::MAX).starts_with("0+8 0 0 0 0 0 0 0 0 0 "));
}

/// A request with the moments at which it came and left.
#[derive(Clone, Debug)]
struct Told {
    is_write: bool,
    at: u64,
    end: u64,
    begun: u64,
    took: u64,
    put_off: bool,
}

fn told() -> impl Strategy<Value = Told> {
    (
        any::<bool>(),
        0..100u64,
        1..60u64,
        0..1000u64,
        0..300u64,
        0..6u8,
    )
        .prop_map(|(is_write, at, len, begun, took, dice)| Told {
            is_write,
            at,
            end: at + len,
            begun,
            took,
            put_off: dice == 0,
        })
}

fn moment(nanoseconds: u64) -> Moment {
    Moment {
        coarse: 0,
        precise: nanoseconds,
    }
}

/// How long at least one of `spans` lasts, and how long all of them.
fn covered(spans: &[Range<u64>]) -> (u64, u64) {
    let any = (0..2000).filter(|moment| spans.iter().any(|span| span.contains(moment)));
    (
        any.count() as u64,
        spans.iter().map(|span| span.end - span.start).sum(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Every moment and every sector looked at by itself.
    #[test]
    fn areas_count_what_the_model_counts(
        start in 0..40u64, len in 1..80u64, step in 1..50u64,
        told in proptest::collection::vec(told(), 0..12),
    ) {
        let settings = Settings { precise: true, bounds: vec![10, 50, 200], ..Settings::default() };
        let region = Region::new(0, start..start + len, step, settings, moment(0)).unwrap();
        let mut moments: Vec<(u64, bool, &Told)> = told
            .iter()
            .flat_map(|told| [(told.begun, false, told), (told.begun + told.took, true, told)])
            .collect();
        moments.sort_by_key(|&(moment, leaves, _)| (moment, leaves));
        for (now, leaves, told) in moments {
            let request = Stretch { is_write: told.is_write, at: told.at, end: told.end };
            match leaves {
                false => region.enter(request, moment(now)),
                true => region.leave(request, moment(now), (!told.put_off).then(|| moment(told.begun))),
            }
        }
        let printed = region.print((0, u64::MAX), false, moment(2000), usize::MAX);
        let areas: Vec<&str> = printed.lines().collect();
        assert_eq!(areas.len() as u64, len.div_ceil(step));
        for (index, line) in (0..).zip(areas) {
            let first = start + index * step;
            let area = first..(first + step).min(start + len);
            let here: Vec<&Told> = told
                .iter()
                .filter(|told| told.at < area.end && told.end > area.start)
                .collect();
            let spans = |kind: Option<bool>| -> Vec<Range<u64>> {
                let wanted = here.iter().filter(|told| kind.is_none_or(|kind| told.is_write == kind));
                wanted.map(|told| told.begun..told.begun + told.took).collect()
            };
            let counted: Vec<&&Told> = here.iter().filter(|told| !told.put_off).collect();
            let of = |kind: bool| counted.iter().filter(move |told| told.is_write == kind);
            let sectors = |kind: bool| -> u64 {
                of(kind).map(|told| told.end.min(area.end) - told.at.max(area.start)).sum()
            };
            let took = |kind: bool| -> u64 { of(kind).map(|told| told.took).sum() };
            let bin = |range: Range<u64>| counted.iter().filter(|told| range.contains(&told.took)).count();
            let (busy, waited) = covered(&spans(None));
            let expected = format!(
                "{first}+{step} {} 0 {} {} {} 0 {} {} 0 {busy} {waited} {} {} {}:{}:{}:{}",
                of(false).count(), sectors(false), took(false),
                of(true).count(), sectors(true), took(true),
                covered(&spans(Some(false))).0, covered(&spans(Some(true))).0,
                bin(0..10), bin(10..50), bin(50..200), bin(200..u64::MAX),
            );
            assert_eq!(line, expected);
        }
    }
}

/// Finds nothing.
struct Nowhere;

impl DeviceOpener for Nowhere {
    fn open(&self, _spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Err(OpenError {
            errno: Errno::NODEV,
            reason: "there is none".into(),
        })
    }
}

fn zeroes(len: u64) -> Arc<Table> {
    let row = RowSpec {
        start: Sector(0),
        len: Sectors(len),
        kind: "zero".into(),
        params: String::new(),
    };
    let context = TableContext {
        kinds: KINDS,
        access: Access::ReadWrite,
        number: DeviceNumber {
            major: 252,
            minor: 0,
        },
        opener: &Nowhere,
        events: Arc::new(Events::default()),
        again: false,
    };
    Arc::new(Table::build(&[row], &context).unwrap())
}

fn device() -> Arc<Device> {
    let identity = Identity {
        name: "d".into(),
        uuid: String::new(),
    };
    let number = DeviceNumber {
        major: 252,
        minor: 0,
    };
    let device = Arc::new(Device::new(1, number, identity, Arc::<Events>::default()));
    let table = zeroes(64);
    device.load(table).unwrap();
    device
        .resume(SuspendOptions::default(), &mut || true)
        .unwrap();
    device
}

#[test]
fn a_device_counts_what_passes_it() {
    let device = device();
    let say = |text: &str| {
        let words: Vec<&str> = text.split(' ').collect();
        device.stats_message(&words, usize::MAX).unwrap().unwrap()
    };
    let use_it = || {
        let mut block = [0; 1024];
        let read = Request::read(Sector(7), ReadBuf::new(&mut block));
        device.submit(read).unwrap();
        device
            .submit(Request::write(Sector(40), WriteBuf::new(&block)))
            .unwrap();
        device.submit(Request::flush()).unwrap();
        let zeroes = Request::write_zeroes(Sector(0), Sectors(64), true);
        device.submit(zeroes).unwrap();
        let beyond = Request::read(Sector(63), ReadBuf::new(&mut block));
        assert!(device.submit(beyond).is_err());
    };
    use_it();
    assert_eq!(say("@stats_create - /2"), "0");
    use_it();
    let print = say("@stats_print 0");
    let counts: Vec<Vec<&str>> = print
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let of = |area: usize| [1, 3, 5, 7, 9].map(|word| counts[area][word]);
    // A failed read counts, too, with the one sector that is there.
    assert_eq!(of(0), ["1", "2", "1", "32", "0"], "{print}");
    assert_eq!(of(1), ["1", "1", "2", "34", "0"], "{print}");
    let noflush = SuspendOptions {
        noflush: true,
        ..SuspendOptions::default()
    };
    device.suspend(noflush, &mut || true).unwrap();
    let flags = Flags {
        nowait: true,
        ..Flags::default()
    };
    let mut block = [0; 1024];
    let read = Request::read(Sector(7), ReadBuf::new(&mut block)).with_flags(flags);
    assert!(device.submit(read).is_err());
    assert_eq!(
        say("@stats_print 0"),
        print,
        "nobody comes in while it is suspended"
    );
    device
        .resume(SuspendOptions::default(), &mut || true)
        .unwrap();
    say("@stats_delete 0");
    use_it();
    assert_eq!(say("@stats_list"), "");
    let reads = device.counters().of(OpKind::Read);
    assert_eq!(reads.took.requests, 0, "nobody looked");
}
