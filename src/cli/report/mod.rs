//! Reports in columns: `info -c` and `splitname`, with fields, order and selection by the user's choice.
//!
//! A [`Report`] is planned from options before any device is asked, so that a wrong option fails
//! first; then it renders rows. What it prints, its errors and its help follow libdevmapper's reports.

mod fields;
mod render;
mod select;
mod stats;
mod stats_fields;

use crate::cli::names::{Mangling, SplitName};
use crate::cli::tree::Forest;
use fields::{Field, Group, HELP, Kind, SELECTED, Source};
use render::{Cell, Layout};
use select::Selection;
use std::fmt;

pub use stats::{Counted, Object, StatsRow, Units, show_bound, unit_bytes};

/// A device that another one uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dep {
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// The block device's own name (`dm-0`, `loop1`); for a file its name.
    pub blkdev_name: String,
}

/// What a report knows of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRow {
    /// Name as it is stored, mangled.
    pub name: String,
    /// Uuid as it is stored; empty: none.
    pub uuid: String,
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// The block device's own name, `dm-N`.
    pub blkdev_name: String,
    /// Read ahead, in sectors.
    pub read_ahead: u32,
    /// An active table is there.
    pub live: bool,
    /// An inactive table is there.
    pub inactive: bool,
    /// Suspended.
    pub suspended: bool,
    /// Its table is read-only.
    pub readonly: bool,
    /// How often it is open.
    pub open_count: i32,
    /// Rows of the table.
    pub segments: u32,
    /// Number of the last event.
    pub event_nr: u32,
    /// What its table uses, in the daemon's order. Empty where [`Report::needs_deps`] says no.
    pub deps: Vec<Dep>,
}

/// The fields that a report shows when none are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// `info -c`: devices.
    Devices,
    /// `splitname`: the parts of a name.
    SplitName,
    /// `stats list`: regions and groups.
    StatsRegions,
    /// `stats list -v`: areas.
    StatsAreas,
    /// `stats list --histogram`.
    StatsHistograms,
    /// `stats report`: what was counted.
    Stats,
    /// `stats report --histogram`: the counts of bins.
    StatsCounts,
    /// `stats report --histogram --relative`: the shares of bins.
    StatsPercents,
}

impl ReportKind {
    fn default_fields(self) -> &'static str {
        match self {
            Self::Devices => "name,major,minor,attr,open,segments,events,uuid",
            Self::SplitName => "vg_name,lv_name,lv_layer",
            Self::StatsRegions => {
                "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_len,program_id"
            }
            Self::StatsAreas => {
                "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_id,area_start,area_len,\
                 program_id"
            }
            Self::StatsHistograms => {
                "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_len,hist_bins,\
                 hist_bounds"
            }
            Self::Stats => {
                "stats_name,group_id,region_id,obj_type,area_id,area_start,area_len,reads_merged_per_sec,\
                 writes_merged_per_sec,reads_per_sec,writes_per_sec,read_size_per_sec,write_size_per_sec,\
                 avg_request_size,queue_size,util,await,read_await,write_await"
            }
            Self::StatsCounts => {
                "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_len,util,await,\
                 hist_count_bounds"
            }
            Self::StatsPercents => {
                "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_len,util,await,\
                 hist_percent_bounds"
            }
        }
    }

    /// A report about statistics.
    fn is_of_stats(self) -> bool {
        !matches!(self, Self::Devices | Self::SplitName)
    }
}

/// The options that shape a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportOptions {
    /// `-o`: fields with commas between; a leading `+` adds to the usual ones.
    pub fields: Option<String>,
    /// `-O`: fields to sort by; `-` before one reverses it.
    pub sort: Option<String>,
    /// `-S`: the rows to show.
    pub select: Option<String>,
    /// `--separator`: between fields, which are then not padded.
    pub separator: Option<String>,
    /// `--noheadings`: no headings and no padding; `:` between fields.
    pub noheadings: bool,
    /// `--nameprefixes`: `DM_FIELD='value'`.
    pub nameprefixes: bool,
    /// `--unquoted`: no quotes around the values of `--nameprefixes`.
    pub unquoted: bool,
    /// `--rows`: a line for each field.
    pub rows: bool,
    /// `--json`: one JSON document.
    pub json: bool,
    /// `--manglename`.
    pub mangling: Mangling,
}

/// A wrong option, or a row that lacks what a field needs: the lines for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportError(pub String);

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReportError {}

/// A field's place in a report.
struct Column {
    field: &'static Field,
    /// Only sorted by, or selected by.
    hidden: bool,
}

struct SortKey {
    column: usize,
    descending: bool,
}

/// A report that is ready for rows.
pub struct Report {
    kind: ReportKind,
    columns: Vec<Column>,
    keys: Vec<SortKey>,
    selection: Option<Selection>,
    help: Option<String>,
    warnings: Vec<String>,
    options: ReportOptions,
}

impl Report {
    /// Plans a report.
    ///
    /// # Errors
    /// Fields that do not exist, a selection that cannot be read. dmsetup exits with 1 and says no more.
    pub fn new(kind: ReportKind, options: &ReportOptions) -> Result<Self, ReportError> {
        let mut report = Self {
            kind,
            columns: Vec::new(),
            keys: Vec::new(),
            selection: None,
            help: None,
            warnings: Vec::new(),
            options: options.clone(),
        };
        report.add_fields()?;
        report.add_keys()?;
        report.add_selection()?;
        if report.columns.iter().any(|column| column.field.id == HELP) {
            report.help = Some(format!("{} \n", field_help(kind, true)));
        }
        Ok(report)
    }

    /// What to print on standard error instead of the report, where help was asked for.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// What to tell on standard error before the report.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether a column needs the devices' [`DeviceRow::deps`].
    pub fn needs_deps(&self) -> bool {
        self.columns
            .iter()
            .any(|column| matches!(column.field.group, Group::Deps | Group::Tree))
    }

    /// Renders `rows`. `all` are all devices there are, for the fields that tell who uses whom.
    ///
    /// # Errors
    /// A name cannot be shown, or a field cannot be had.
    pub fn devices(&self, rows: &[DeviceRow], all: &[DeviceRow]) -> Result<String, ReportError> {
        let forest = Forest::new(if self.needs_deps() { all } else { &[] });
        self.render(rows.iter().map(|row| Source {
            device: Some(row),
            forest: &forest,
            split: None,
            stats: None,
            mangling: self.options.mangling,
        }))
    }

    /// Renders the parts of one name.
    ///
    /// # Errors
    /// A field that is no part of a name.
    pub fn split_name(&self, split: &SplitName) -> Result<String, ReportError> {
        let forest = Forest::new(&[]);
        self.render(std::iter::once(Source {
            device: None,
            forest: &forest,
            split: Some(split),
            stats: None,
            mangling: self.options.mangling,
        }))
    }

    /// Renders rows about statistics. `all` are all devices there are, for the fields that tell who uses whom.
    ///
    /// # Errors
    /// As [`Report::devices`].
    pub fn stats(&self, rows: &[StatsRow], all: &[DeviceRow]) -> Result<String, ReportError> {
        let forest = Forest::new(if self.needs_deps() { all } else { &[] });
        self.render(rows.iter().map(|row| Source {
            device: row.device.as_deref(),
            forest: &forest,
            split: None,
            stats: Some(row),
            mangling: self.options.mangling,
        }))
    }

    /// Those of `rows` that the selection holds for. `all` are all devices there are.
    ///
    /// # Errors
    /// As [`Report::devices`].
    pub fn selected<'r>(
        &self,
        rows: &'r [DeviceRow],
        all: &[DeviceRow],
    ) -> Result<Vec<&'r DeviceRow>, ReportError> {
        let forest = Forest::new(if self.needs_deps() { all } else { &[] });
        let mut selected = Vec::new();
        for row in rows {
            let mangling = self.options.mangling;
            let cells = self.row(&Source {
                device: Some(row),
                forest: &forest,
                split: None,
                stats: None,
                mangling,
            })?;
            if self
                .selection
                .as_ref()
                .is_none_or(|selection| selection.holds(&cells))
            {
                selected.push(row);
            }
        }
        Ok(selected)
    }

    fn render<'s>(&self, sources: impl Iterator<Item = Source<'s>>) -> Result<String, ReportError> {
        if self.help.is_some() {
            return Ok(String::new());
        }
        let shows_selected = self
            .columns
            .iter()
            .any(|c| c.field.id == SELECTED && !c.hidden);
        let mut rows = Vec::new();
        for source in sources {
            let mut row = self.row(&source)?;
            let selected = self.selection.as_ref().is_none_or(|s| s.holds(&row));
            for (cell, column) in row.iter_mut().zip(&self.columns) {
                if column.field.id == SELECTED {
                    *cell = Cell::Number(selected.into());
                }
            }
            if selected || shows_selected {
                rows.push(row);
            }
        }
        rows.sort_by(|a, b| self.compare(a, b));
        Ok(Layout {
            columns: &self.columns,
            options: &self.options,
            kind: self.kind,
        }
        .print(&rows))
    }

    fn row(&self, source: &Source<'_>) -> Result<Vec<Cell>, ReportError> {
        let value = |column: &Column| match column.field.id {
            SELECTED => Ok(Cell::Number(1)),
            _ => column.field.value(source).map_err(ReportError),
        };
        self.columns.iter().map(value).collect()
    }

    fn compare(&self, a: &[Cell], b: &[Cell]) -> std::cmp::Ordering {
        self.keys
            .iter()
            .filter_map(|key| {
                let order = match (a.get(key.column)?, b.get(key.column)?) {
                    (Cell::Number(a), Cell::Number(b)) => a.cmp(b),
                    (Cell::Measure(a, _), Cell::Measure(b, _)) => a.total_cmp(b),
                    (a, b) => a.shown().cmp(&b.shown()),
                };
                Some(if key.descending {
                    order.reverse()
                } else {
                    order
                })
            })
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    }

    fn add_fields(&mut self) -> Result<(), ReportError> {
        let usual = self.kind.default_fields();
        let wanted = match self.options.fields.as_deref() {
            None => usual.to_owned(),
            Some(fields) => match fields.strip_prefix('+') {
                Some(more) => format!("{usual},{more}"),
                None => fields.to_owned(),
            },
        };
        for name in words(&wanted) {
            if let Some(field) = fields::find(self.kind, name) {
                self.columns.push(Column {
                    field,
                    hidden: false,
                });
            } else if let Some(groups) = fields::find_all(name) {
                self.add_groups(&groups);
            } else {
                return Err(ReportError(format!(
                    "{} \nUnrecognised field: {name}",
                    field_help(self.kind, true)
                )));
            }
        }
        Ok(())
    }

    /// Adds all fields of `groups`; `all` of a name's parts is those parts.
    fn add_groups(&mut self, groups: &[Group]) {
        let known = |group| {
            self.kind != ReportKind::SplitName || groups.len() == 1 || group == Group::SplitName
        };
        let fields = fields::of_kind(self.kind)
            .filter(|field| groups.contains(&field.group) && known(field.group));
        self.columns.extend(fields.map(|field| Column {
            field,
            hidden: false,
        }));
    }

    fn add_keys(&mut self) -> Result<(), ReportError> {
        let wanted = self.options.sort.clone().unwrap_or_default();
        for word in words(&wanted) {
            let name = word.strip_prefix(['+', '-']).unwrap_or(word);
            let Some(field) = fields::find(self.kind, name) else {
                let missing = if name.is_empty() && !word.is_empty() {
                    "dm_report: Missing sort field name\n"
                } else {
                    ""
                };
                let help = field_help(self.kind, true);
                return Err(ReportError(format!(
                    "{missing}{help} \ndm_report: Unrecognised field: {word}"
                )));
            };
            let column = self.column_of(field);
            if self.keys.iter().any(|key| key.column == column) {
                self.warnings.push(format!(
                    "dm_report: Ignoring duplicate sort field: {}.",
                    field.id
                ));
                continue;
            }
            self.keys.push(SortKey {
                column,
                descending: word.starts_with('-'),
            });
        }
        Ok(())
    }

    fn add_selection(&mut self) -> Result<(), ReportError> {
        let text = self.options.select.clone().unwrap_or_default();
        if text.eq_ignore_ascii_case(HELP) {
            self.help = Some(format!(
                "{} \n{}",
                field_help(self.kind, false),
                select::help()
            ));
        } else if !text.is_empty() && !text.eq_ignore_ascii_case("all") {
            self.selection = Some(Selection::parse(&text, self.kind, |field| {
                self.column_of(field)
            })?);
        }
        Ok(())
    }

    /// The column of a field, which is made, hidden, where it is not shown.
    fn column_of(&mut self, field: &'static Field) -> usize {
        let shown = self
            .columns
            .iter()
            .position(|column| column.field.id == field.id);
        shown.unwrap_or_else(|| {
            self.columns.push(Column {
                field,
                hidden: true,
            });
            self.columns.len() - 1
        })
    }
}

/// The words between commas. Several commas count as one, but a last one has an empty word behind it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text).filter(|text| !text.is_empty());
    std::iter::from_fn(move || {
        let (word, behind) = match rest?.trim_start_matches(',').split_once(',') {
            Some((word, behind)) => (word, Some(behind)),
            None => (rest?.trim_start_matches(','), None),
        };
        rest = behind;
        Some(word)
    })
}

/// The list of fields. `for_output` names what stands for a whole group; else each field's type.
fn field_help(kind: ReportKind, for_output: bool) -> String {
    let mut help = String::new();
    let mut title = "";
    for field in fields::of_kind(kind) {
        if field.group.title() != title {
            if !title.is_empty() {
                help.push_str(" \n");
            }
            title = field.group.title();
            help.push_str(&format!(
                "{title} Fields\n{}\n",
                "-".repeat(title.len() + " Fields".len())
            ));
            if for_output && field.group != Group::Special {
                let all = format!("{}_all", field.group.prefix());
                help.push_str(&format!("  {all:<21} - All fields in this section.\n"));
            }
        }
        let holds = match (for_output, field.kind) {
            (true, _) => "",
            (false, _) if field.id == HELP => " [unselectable number]",
            (false, Kind::Number) => " [number]",
            (false, Kind::Text | Kind::List) => " [string]",
        };
        let ids = [field.id, "?"];
        for id in ids.iter().take(if field.id == HELP { 2 } else { 1 }) {
            help.push_str(&format!("  {id:<21} - {}{holds}\n", field.help));
        }
    }
    help
}

/// Checks the argument of `--units`: a number if any, and the letter of a unit.
///
/// # Errors
/// It is no unit.
pub fn check_units(units: &str) -> Result<(), ReportError> {
    let letters = units.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if letters.starts_with(select::is_unit) {
        return Ok(());
    }
    Err(ReportError("Invalid --units argument.".into()))
}

#[cfg(test)]
mod tests;
