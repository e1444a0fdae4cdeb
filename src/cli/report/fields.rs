//! The fields a report can show: their names, headings, widths and where their values come from.

use super::stats_fields::STATS_FIELDS;
use crate::cli::names::{Mangling, NameError, SplitName, Subject, mangle, to_shown, unmangle};
use crate::cli::report::{DeviceRow, ReportKind, StatsRow};
use crate::cli::tree::Forest;

/// What a field holds; it decides alignment, order and which comparisons it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, to the left.
    Text,
    /// Several texts, shown with commas between them.
    List,
    /// A number, to the right.
    Number,
}

/// Fields that come from one source, and are asked for together by `PREFIXall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Names and uuids.
    Name,
    /// State.
    Info,
    /// The devices a table uses, as numbers.
    Deps,
    /// Who uses whom, over all devices.
    Tree,
    /// The parts of an LVM name.
    SplitName,
    /// What statistics count.
    Stats,
    /// What statistics are about.
    Region,
    /// What the report knows of itself.
    Special,
}

impl Group {
    /// Every group that `all` stands for.
    pub const ALL: [Self; 7] = [
        Self::Name,
        Self::Info,
        Self::Deps,
        Self::Tree,
        Self::SplitName,
        Self::Stats,
        Self::Region,
    ];

    /// What stands before `_all` for all of its fields.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Info => "info",
            Self::Deps => "deps",
            Self::Tree => "tree",
            Self::SplitName => "splitname",
            Self::Stats => "stats",
            Self::Region => "region",
            Self::Special => "",
        }
    }

    /// The heading of its fields in help.
    pub fn title(self) -> &'static str {
        match self {
            Self::Name => "Mapped Device Name",
            Self::Info => "Mapped Device Information",
            Self::Deps | Self::Tree => "Mapped Device Relationship Information",
            Self::SplitName => "Mapped Device Name Components",
            Self::Stats => "Mapped Device Statistics",
            Self::Region => "Mapped Device Statistics Region Information",
            Self::Special => "Special",
        }
    }
}

/// The value of a field in one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a text field.
    Text(String),
    /// Of a list field.
    List(Vec<String>),
    /// Of a number field.
    Number(i64),
    /// Of a number field that is shown in another way: a size, a rate.
    Measure(f64, String),
}

impl Value {
    /// As it is printed.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
            Self::Number(number) => number.to_string(),
            Self::Measure(_, shown) => shown.clone(),
        }
    }
}

/// What a row's values are computed from.
pub struct Source<'r> {
    /// The device; none in a report about a name alone.
    pub device: Option<&'r DeviceRow>,
    /// Who uses whom.
    pub forest: &'r Forest<'r>,
    /// The name's parts, where there is no device.
    pub split: Option<&'r SplitName>,
    /// The area, region or group, where the report is about statistics.
    pub stats: Option<&'r StatsRow>,
    /// How names are shown.
    pub mangling: Mangling,
}

/// Why a row has no value for a field; the text for the user.
pub type NoValue = String;

/// One field.
pub struct Field {
    /// Its name in options, and behind `DM_`.
    pub id: &'static str,
    /// Its heading.
    pub heading: &'static str,
    /// Least width of its column.
    pub width: usize,
    /// What it holds.
    pub kind: Kind,
    /// Where it comes from.
    pub group: Group,
    /// One line of help.
    pub help: &'static str,
}

pub(super) const fn field(
    group: Group,
    kind: Kind,
    heading: &'static str,
    width: usize,
    id: &'static str,
    help: &'static str,
) -> Field {
    Field {
        id,
        heading,
        width,
        kind,
        group,
        help,
    }
}

use Group::{Deps, Info, Name, Special, Tree};
use Kind::{List, Number, Text};

/// Every field, in the order of help and of `all`.
pub static FIELDS: [Field; 31] = [
    field(Name, Text, "Name", 16, "name", "The device's name."),
    field(
        Name,
        Text,
        "MangledName",
        16,
        "mangled_name",
        "The name with odd characters as \\xNN.",
    ),
    field(
        Name,
        Text,
        "UnmangledName",
        16,
        "unmangled_name",
        "The name with every \\xNN read back.",
    ),
    field(
        Name,
        Text,
        "UUID",
        32,
        "uuid",
        "The device's uuid, if it has one.",
    ),
    field(
        Name,
        Text,
        "MangledUUID",
        32,
        "mangled_uuid",
        "The uuid with odd characters as \\xNN.",
    ),
    field(
        Name,
        Text,
        "UnmangledUUID",
        32,
        "unmangled_uuid",
        "The uuid with every \\xNN read back.",
    ),
    field(
        Name,
        Number,
        "RAhead",
        6,
        "read_ahead",
        "Read ahead, in sectors.",
    ),
    field(
        Info,
        Text,
        "BlkDevName",
        16,
        "blkdevname",
        "The block device's own name, dm-N.",
    ),
    field(
        Info,
        Text,
        "Stat",
        4,
        "attr",
        "(L)ive and (I)nactive table, (s)uspended, (r)ead-only or (w)riteable.",
    ),
    field(
        Info,
        Text,
        "Tables",
        6,
        "tables_loaded",
        "Which table slots are filled.",
    ),
    field(
        Info,
        Text,
        "Suspended",
        9,
        "suspended",
        "Active or Suspended.",
    ),
    field(
        Info,
        Text,
        "Read-only",
        9,
        "readonly",
        "Writeable or Read-only.",
    ),
    field(
        Info,
        Text,
        "DevNo",
        5,
        "devno",
        "Device number, MAJOR:MINOR.",
    ),
    field(Info, Number, "Maj", 3, "major", "Major device number."),
    field(Info, Number, "Min", 3, "minor", "Minor device number."),
    field(
        Info,
        Number,
        "Open",
        4,
        "open",
        "How often the device is open.",
    ),
    field(Info, Number, "Targ", 4, "segments", "Rows of the table."),
    field(
        Info,
        Number,
        "Event",
        6,
        "events",
        "Number of the last event.",
    ),
    field(
        Deps,
        Number,
        "#Devs",
        5,
        "device_count",
        "How many devices it uses.",
    ),
    field(
        Tree,
        List,
        "DevNamesUsed",
        16,
        "devs_used",
        "Names of the mapped devices it uses.",
    ),
    field(
        Deps,
        List,
        "DevNosUsed",
        16,
        "devnos_used",
        "Numbers of the devices it uses.",
    ),
    field(
        Deps,
        List,
        "BlkDevNamesUsed",
        16,
        "blkdevs_used",
        "Block device names of the devices it uses.",
    ),
    field(
        Tree,
        Number,
        "#Refs",
        5,
        "device_ref_count",
        "How many mapped devices use it.",
    ),
    field(
        Tree,
        List,
        "RefNames",
        8,
        "names_using_dev",
        "Names of the mapped devices that use it.",
    ),
    field(
        Tree,
        List,
        "RefDevNos",
        9,
        "devnos_using_dev",
        "Numbers of the mapped devices that use it.",
    ),
    field(
        Group::SplitName,
        Text,
        "Subsys",
        6,
        "subsystem",
        "Who made the device, by its uuid.",
    ),
    field(
        Group::SplitName,
        Text,
        "VG",
        4,
        "vg_name",
        "LVM: volume group.",
    ),
    field(
        Group::SplitName,
        Text,
        "LV",
        4,
        "lv_name",
        "LVM: logical volume.",
    ),
    field(
        Group::SplitName,
        Text,
        "LVLayer",
        7,
        "lv_layer",
        "LVM: layer of the volume.",
    ),
    field(
        Special,
        Number,
        "Selected",
        8,
        SELECTED,
        "Whether the selection holds: 1 or 0.",
    ),
    field(Special, Number, "Help", 4, HELP, "Prints this list."),
];

/// The field that tells whether a row is selected.
pub const SELECTED: &str = "selected";
/// The field that asks for help; `?` is another name of it.
pub const HELP: &str = "help";

/// The fields of a report of this kind, in the order of help and of `all`.
pub fn of_kind(kind: ReportKind) -> impl Iterator<Item = &'static Field> {
    let more: &[Field] = if kind.is_of_stats() {
        STATS_FIELDS
    } else {
        &[]
    };
    let (special, fields): (Vec<_>, Vec<_>) =
        FIELDS.iter().partition(|field| field.group == Special);
    fields.into_iter().chain(more).chain(special)
}

/// The field of this name in a report of `kind`: case and underscores do not matter.
pub fn find(kind: ReportKind, name: &str) -> Option<&'static Field> {
    let name = canonical(name);
    let name = if name == "?" { HELP.into() } else { name };
    of_kind(kind).find(|field| canonical(field.id) == name)
}

/// The groups that `name` stands for, if it is `all` or a group's `PREFIX_all`.
pub fn find_all(name: &str) -> Option<Vec<Group>> {
    let name = name.to_ascii_lowercase();
    if name == "all" {
        return Some(Group::ALL.into());
    }
    let prefix = name.strip_suffix("_all")?;
    Group::ALL
        .into_iter()
        .find(|group| group.prefix() == prefix)
        .map(|group| vec![group])
}

fn canonical(name: &str) -> String {
    name.chars()
        .filter(|&c| c != '_')
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

impl Field {
    /// Its value in the row of `source`; [`SELECTED`] and [`HELP`] are not known here.
    ///
    /// # Errors
    /// The source lacks what the field needs.
    pub fn value(&self, source: &Source<'_>) -> Result<Value, NoValue> {
        let none = || format!("_do_report_object: no data assigned to field {}", self.id);
        match self.group {
            Group::SplitName => self.split_value(source).ok_or_else(none),
            Name => self
                .name_value(source.device.ok_or_else(none)?, source.mangling)
                .map_err(|e| e.0),
            Info => self
                .info_value(source.device.ok_or_else(none)?)
                .ok_or_else(none),
            Deps => self
                .deps_value(source.device.ok_or_else(none)?)
                .ok_or_else(none),
            Tree => self
                .tree_value(source.device.ok_or_else(none)?, source)
                .ok_or_else(none),
            Group::Stats | Group::Region => source
                .stats
                .and_then(|stats| stats.value(self.id))
                .ok_or_else(none),
            Special => Err(none()),
        }
    }

    fn split_value(&self, source: &Source<'_>) -> Option<Value> {
        let of_device = source
            .device
            .map(|device| SplitName::by_uuid(&device.name, &device.uuid));
        let split = source.split.or(of_device.as_ref())?;
        let part = match self.id {
            "subsystem" => &split.subsystem,
            "vg_name" => &split.vg,
            "lv_name" => &split.lv,
            "lv_layer" => &split.layer,
            _ => return None,
        };
        Some(Value::Text(part.clone()))
    }

    fn name_value(&self, device: &DeviceRow, mode: Mangling) -> Result<Value, NameError> {
        let text = match self.id {
            "name" => to_shown(&device.name, Subject::Name, mode)?,
            "mangled_name" => mangle(&device.name, Subject::Name, Mangling::Auto)?,
            "unmangled_name" => unmangle(&device.name),
            "uuid" => to_shown(&device.uuid, Subject::Uuid, mode)?,
            "mangled_uuid" => mangle(&device.uuid, Subject::Uuid, Mangling::Auto)?,
            "unmangled_uuid" => unmangle(&device.uuid),
            _ => return Ok(Value::Number(device.read_ahead.into())),
        };
        Ok(Value::Text(text))
    }

    fn info_value(&self, device: &DeviceRow) -> Option<Value> {
        let text = match self.id {
            "blkdevname" => device.blkdev_name.clone(),
            "attr" => attr(device),
            "tables_loaded" => tables_loaded(device).into(),
            "suspended" => if device.suspended {
                "Suspended"
            } else {
                "Active"
            }
            .into(),
            "readonly" => if device.readonly {
                "Read-only"
            } else {
                "Writeable"
            }
            .into(),
            "devno" => format!("{}:{}", device.major, device.minor),
            "major" => return Some(Value::Number(device.major.into())),
            "minor" => return Some(Value::Number(device.minor.into())),
            "open" => return Some(Value::Number(device.open_count.into())),
            "segments" => return Some(Value::Number(device.segments.into())),
            "events" => return Some(Value::Number(device.event_nr.into())),
            _ => return None,
        };
        Some(Value::Text(text))
    }

    fn deps_value(&self, device: &DeviceRow) -> Option<Value> {
        let deps = device.deps.iter();
        Some(match self.id {
            "device_count" => Value::Number(i64::try_from(device.deps.len()).ok()?),
            "devnos_used" => Value::List(
                deps.map(|dep| format!("{}:{}", dep.major, dep.minor))
                    .collect(),
            ),
            "blkdevs_used" => Value::List(deps.map(|dep| dep.blkdev_name.clone()).collect()),
            _ => return None,
        })
    }

    fn tree_value(&self, device: &DeviceRow, source: &Source<'_>) -> Option<Value> {
        let shown = |used: &DeviceRow| {
            to_shown(&used.name, Subject::Name, source.mangling)
                .unwrap_or_else(|_| used.name.clone())
        };
        let number = (device.major, device.minor);
        let (used, users) = (
            source.forest.used_by(number),
            source.forest.users_of(number),
        );
        Some(match self.id {
            "devs_used" => Value::List(used.map(shown).collect()),
            "device_ref_count" => Value::Number(i64::try_from(users.count()).ok()?),
            "names_using_dev" => Value::List(users.map(shown).collect()),
            "devnos_using_dev" => Value::List(
                users
                    .map(|user| format!("{}:{}", user.major, user.minor))
                    .collect(),
            ),
            _ => return None,
        })
    }
}

fn attr(device: &DeviceRow) -> String {
    [
        if device.live { 'L' } else { '-' },
        if device.inactive { 'I' } else { '-' },
        if device.suspended { 's' } else { '-' },
        if device.readonly { 'r' } else { 'w' },
    ]
    .into_iter()
    .collect()
}

fn tables_loaded(device: &DeviceRow) -> &'static str {
    match (device.live, device.inactive) {
        (true, true) => "Both",
        (true, false) => "Live",
        (false, true) => "Inactive",
        (false, false) => "None",
    }
}
