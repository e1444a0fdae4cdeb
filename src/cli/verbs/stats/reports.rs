//! `stats list` and `stats report`: areas, regions and groups in columns.

use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::known::{Group, Known, Region};
use super::{known, named_or_all, say};
use crate::cli::report::{Counted, DeviceRow, Object, Report, ReportKind, StatsRow, Units};
use crate::cli::report_options;
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::Kind;
use crate::cli::verbs::info::device_row;
use crate::cli::verbs::ls::all_rows;
use crate::terminal::Paint;

const NANOSECONDS_A_SECOND: u64 = 1_000_000_000;
const NANOSECONDS_A_MILLISECOND: u64 = 1_000_000;

/// Which objects a report has rows for.
#[derive(Clone, Copy)]
struct Objects {
    areas: bool,
    /// Every region; else those of several areas, if at all.
    regions: Option<bool>,
    groups: bool,
}

impl Objects {
    /// As the options say; else `usual`.
    fn read(session: &Session<'_>, usual: Objects) -> Objects {
        let options = &session.options;
        match options.area || options.region || options.group {
            false => usual,
            true => Objects {
                areas: options.area,
                regions: options.region.then_some(true),
                groups: options.group,
            },
        }
    }
}

/// `stats list [DEVICE...]`
pub fn list(session: &mut Session<'_>, devices: &[String]) -> Outcome {
    let verbose = session.options.verbose > 0;
    let objects = Objects::read(
        session,
        Objects {
            areas: verbose,
            regions: Some(!verbose),
            groups: true,
        },
    );
    let kind = match session.options.histogram {
        true => ReportKind::StatsHistograms,
        false if verbose => ReportKind::StatsAreas,
        false => ReportKind::StatsRegions,
    };
    let Some(report) = plan(session, kind)? else {
        return Ok(());
    };
    let rows = rows(session, devices, objects, None)?;
    show(session, &report, &rows)
}

/// `stats report [DEVICE...]`: what was counted since the last report, as often as `--count` asks.
pub fn report(session: &mut Session<'_>, devices: &[String]) -> Outcome {
    let objects = Objects::read(
        session,
        Objects {
            areas: true,
            regions: Some(false),
            groups: true,
        },
    );
    let kind = match (session.options.histogram, session.options.relative) {
        (true, true) => ReportKind::StatsPercents,
        (true, false) => ReportKind::StatsCounts,
        (false, _) => ReportKind::Stats,
    };
    let Some(report) = plan(session, kind)? else {
        return Ok(());
    };
    let seconds = session.options.interval.unwrap_or(1).max(1);
    let mut interval_ns = u64::from(seconds).saturating_mul(NANOSECONDS_A_SECOND);
    let mut left = match session.options.count {
        Some(count) => Some(count).filter(|&count| count > 0),
        None if session.options.interval.is_some() => None,
        None => Some(1),
    };
    loop {
        let asked = Instant::now();
        let rows = rows(session, devices, objects, Some(interval_ns))?;
        show(session, &report, &rows)?;
        left = left.map(|left| left - 1);
        if left == Some(0) {
            return Ok(());
        }
        session.print("\n")?;
        session.flush();
        sleep(Duration::from_secs(seconds.into()));
        interval_ns = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }
}

/// The report, planned; `None` where help was asked for, and given.
fn plan(session: &mut Session<'_>, kind: ReportKind) -> Outcome<Option<Report>> {
    let report = Report::new(kind, &report_options(session))
        .map_err(|error| Failure::new(error).final_word())?;
    if let Some(text) = report.help() {
        let text = text.to_owned();
        session.tell_text(&text)?;
        return Ok(None);
    }
    session.report_needs_deps = report.needs_deps();
    for warning in report.warnings() {
        session.tell(&Failure::new(warning));
    }
    Ok(Some(report))
}

fn show(session: &mut Session<'_>, report: &Report, rows: &[StatsRow]) -> Outcome {
    let all = match report.needs_deps() {
        true => all_rows(session)?,
        false => Vec::new(),
    };
    let text = report.stats(rows, &all).map_err(Failure::new)?;
    let options = &session.options;
    let has_head = !(options.json || options.nameprefixes || options.rows || options.noheadings);
    match text.split_once('\n') {
        Some((head, rest)) if has_head => {
            let head = session.paint(Paint::Head, head);
            session.print(&format!("{head}\n{rest}"))
        }
        _ => session.print(&text),
    }
}

/// The areas of a region, with what was counted in each since it was asked for the last time; nothing where nobody asks.
fn areas(
    session: &mut Session<'_>,
    device: &str,
    region: &Region,
    interval_ns: Option<u64>,
) -> Outcome<Vec<Counted>> {
    if interval_ns.is_none() {
        let count = usize::try_from(region.area_count()).unwrap_or(usize::MAX);
        return Ok(vec![Counted::default(); count.min(1 << 20)]);
    }
    let text = say(
        session,
        device,
        &["@stats_print_clear", &region.id.to_string()],
    )?;
    counted(region, &text).ok_or_else(|| Failure::new(format!("{device}: unknown answer: {text}")))
}

/// Reads what `@stats_print` tells of a region.
pub(super) fn counted(region: &Region, text: &str) -> Option<Vec<Counted>> {
    let unit = if region.precise {
        1
    } else {
        NANOSECONDS_A_MILLISECOND
    };
    text.lines()
        .map(|line| Counted::parse(line.split_once(' ')?.1, unit))
        .collect()
}

/// All rows of all devices: areas, then regions, then groups of each.
fn rows(
    session: &mut Session<'_>,
    devices: &[String],
    objects: Objects,
    interval_ns: Option<u64>,
) -> Outcome<Vec<StatsRow>> {
    let units = Units::parse(session.options.units.as_deref().unwrap_or("h"));
    let mut rows = Vec::new();
    for device in named_or_all(session, devices)? {
        let known = known(session, &device)?;
        let task = session.task(Kind::Info, Some(&device))?;
        let answer = session.run(&task)?;
        let mut table = Rows {
            device: &device,
            row: Rc::new(device_row(session, &answer)?),
            known: &known,
            units,
            interval_ns: interval_ns.unwrap_or(NANOSECONDS_A_SECOND),
            areas: Vec::new(),
            regions: Vec::new(),
            totals: Vec::new(),
        };
        for region in &known.regions {
            let counted = areas(session, &device, region, interval_ns)?;
            table.add(region, counted, objects);
        }
        let groups = table.groups(objects);
        rows.extend(table.areas.into_iter().chain(table.regions).chain(groups));
    }
    Ok(rows)
}

/// The rows of one device.
struct Rows<'k> {
    device: &'k str,
    row: Rc<DeviceRow>,
    known: &'k Known,
    units: Units,
    interval_ns: u64,
    areas: Vec<StatsRow>,
    regions: Vec<StatsRow>,
    /// What was counted in each region.
    totals: Vec<(u32, Counted)>,
}

impl Rows<'_> {
    fn add(&mut self, region: &Region, counted: Vec<Counted>, objects: Objects) {
        let mut total = Counted::default();
        counted.iter().for_each(|area| total.add(area));
        let of_region = self.region_row(region, total.clone());
        self.totals.push((region.id, total));
        if objects.areas {
            for (index, counted) in (0..).zip(counted) {
                let start = index * region.step;
                self.areas.push(StatsRow {
                    object: Object::Area,
                    area: index,
                    area_start: region.start + start,
                    counted,
                    ..of_region.clone()
                });
            }
        }
        let wanted = match objects.regions {
            None => false,
            Some(every) => every || region.area_count() > 1,
        };
        if wanted {
            self.regions.push(of_region);
        }
    }

    fn name(&self, group: Option<&Group>) -> String {
        match group.map(|group| group.alias.as_str()) {
            None | Some("") => self.device.to_owned(),
            Some(alias) => alias.to_owned(),
        }
    }

    fn region_row(&self, region: &Region, counted: Counted) -> StatsRow {
        let group = self.known.group_of(region.id);
        StatsRow {
            device: Some(self.row.clone()),
            stats_name: self.name(group.map(|(_, group)| group)),
            object: Object::Region,
            regions: region.id.to_string(),
            group: group.map(|(leader, _)| leader.id),
            region_start: region.start,
            region_len: region.len,
            area_count: region.area_count(),
            area: 0,
            area_start: region.start,
            area_len: region.step,
            program: region.program.clone(),
            user_data: match region.user_data.as_str() {
                "-" => String::new(),
                data => data.to_owned(),
            },
            precise: region.precise,
            bounds: region.bounds.clone(),
            counted,
            interval_ns: self.interval_ns,
            units: self.units,
        }
    }

    fn groups(&self, objects: Objects) -> Vec<StatsRow> {
        let groups = self.known.groups().filter(|_| objects.groups);
        let rows = groups.map(|(leader, group)| {
            let members: Vec<&Region> = self
                .known
                .regions
                .iter()
                .filter(|region| group.members.contains(&region.id))
                .collect();
            let len = members
                .iter()
                .map(|region| region.len)
                .fold(0, u64::saturating_add);
            let mut total = Counted::default();
            for (_, counted) in self
                .totals
                .iter()
                .filter(|(id, _)| group.members.contains(id))
            {
                total.add(counted);
            }
            let start = members.iter().map(|region| region.start).min().unwrap_or(0);
            StatsRow {
                object: Object::Group,
                regions: super::members_text(&group.members),
                region_start: start,
                region_len: len,
                area_count: 1,
                area_start: start,
                area_len: len,
                ..self.region_row(leader, total)
            }
        });
        rows.collect()
    }
}
