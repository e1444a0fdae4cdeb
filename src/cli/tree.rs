//! `ls --tree`: mapped devices over the devices they use, or, inverted, under the devices that use them.
//!
//! Children come in the order in which the daemon names them; trees in the order of the devices. A
//! line longer than the terminal ends in `...`. In compact form a first child stands on its parent's
//! line, and children continue in the column behind their parent.

use crate::cli::names::{Mangling, Subject, to_shown};
use crate::cli::report::DeviceRow;
use std::collections::HashMap;
use std::fmt;

/// A device's number, major and minor.
pub type Number = (u32, u32);

/// Who uses whom, among all devices and what is below them.
pub struct Forest<'r> {
    nodes: Vec<Node<'r>>,
    by_number: HashMap<Number, usize>,
}

/// A mapped device, or one below that is no mapped device.
struct Node<'r> {
    number: Number,
    blkdev_name: &'r str,
    device: Option<&'r DeviceRow>,
    uses: Vec<usize>,
    users: Vec<usize>,
}

impl<'r> Forest<'r> {
    /// Links `devices`, all there are, in the order they are listed.
    pub fn new(devices: &'r [DeviceRow]) -> Self {
        let rows = devices
            .iter()
            .map(|device| ((device.major, device.minor), device))
            .collect();
        let mut forest = Self {
            nodes: Vec::new(),
            by_number: HashMap::new(),
        };
        for device in devices {
            forest.add(&rows, (device.major, device.minor), &device.blkdev_name);
        }
        forest
    }

    /// Adds a device and, depth first, what it uses: the order of users is the order of this walk.
    /// A link back to a device whose links are being walked would be a cycle; it is left out.
    fn add(&mut self, rows: &HashMap<Number, &'r DeviceRow>, number: Number, blkdev_name: &'r str) {
        let (at, is_new) = self.node(rows, number, blkdev_name);
        let mut walked = if is_new { vec![(at, 0)] } else { Vec::new() };
        while let Some((at, next)) = walked.last_mut() {
            let (at, dep) = (*at, *next);
            *next += 1;
            let Some(dep) = self.nodes[at]
                .device
                .and_then(|device| device.deps.get(dep))
            else {
                walked.pop();
                continue;
            };
            let (below, is_new) = self.node(rows, (dep.major, dep.minor), &dep.blkdev_name);
            if self.nodes[at].uses.contains(&below)
                || walked.iter().any(|&(above, _)| above == below)
            {
                continue;
            }
            self.nodes[at].uses.push(below);
            self.nodes[below].users.push(at);
            if is_new {
                walked.push((below, 0));
            }
        }
    }

    /// The node of a device, and whether it was made for this call.
    fn node(
        &mut self,
        rows: &HashMap<Number, &'r DeviceRow>,
        number: Number,
        blkdev_name: &'r str,
    ) -> (usize, bool) {
        let next = self.nodes.len();
        let at = *self.by_number.entry(number).or_insert(next);
        if at == next {
            let device = rows.get(&number).copied();
            self.nodes.push(Node {
                number,
                blkdev_name,
                device,
                uses: Vec::new(),
                users: Vec::new(),
            });
        }
        (at, at == next)
    }

    /// The mapped devices that this one uses.
    pub fn used_by(&self, number: Number) -> impl Iterator<Item = &'r DeviceRow> {
        self.linked(number, false)
    }

    /// The mapped devices that use this one.
    pub fn users_of(&self, number: Number) -> impl Iterator<Item = &'r DeviceRow> {
        self.linked(number, true)
    }

    fn linked(&self, number: Number, users: bool) -> impl Iterator<Item = &'r DeviceRow> {
        let node = self
            .by_number
            .get(&number)
            .and_then(|&at| self.nodes.get(at));
        let links = node.map_or(&[][..], |node| if users { &node.users } else { &node.uses });
        links.iter().filter_map(|&at| self.nodes.get(at)?.device)
    }
}

/// Letters that draw the branches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drawing {
    /// `|-` and `` `- ``.
    #[default]
    Ascii,
    /// Box drawing letters.
    Utf,
    /// The alternative letters of a VT100.
    Vt100,
}

struct Symbols {
    blank: &'static str,
    line: &'static str,
    branch: &'static str,
    last: &'static str,
    only_child: &'static str,
    first_child: &'static str,
}

impl Drawing {
    fn symbols(self) -> Symbols {
        match self {
            Self::Ascii => Symbols {
                blank: "  ",
                line: "| ",
                branch: "|-",
                last: "`-",
                only_child: "---",
                first_child: "-+-",
            },
            Self::Utf => Symbols {
                blank: "  ",
                line: "\u{2502} ",
                branch: "\u{251c}\u{2500}",
                last: "\u{2514}\u{2500}",
                only_child: "\u{2500}\u{2500}\u{2500}",
                first_child: "\u{2500}\u{252c}\u{2500}",
            },
            Self::Vt100 => Symbols {
                blank: "  ",
                line: "\x1b(0\x0fx\x1b(B ",
                branch: "\x1b(0\x0ftq\x1b(B",
                last: "\x1b(0\x0fmq\x1b(B",
                only_child: "\x1b(0\x0fqqq\x1b(B",
                first_child: "\x1b(0\x0fqwq\x1b(B",
            },
        }
    }
}

/// What `ls --tree` shows, and how (`-o`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeOptions {
    /// Letters of the branches.
    pub drawing: Drawing,
    /// A first child on its parent's line.
    pub compact: bool,
    /// From the devices below to their users.
    pub inverted: bool,
    /// Lines are cut at this many columns; none: never.
    pub width: Option<usize>,
    /// Device numbers.
    pub device: bool,
    /// Block device names.
    pub blkdevname: bool,
    /// Active or suspended.
    pub active: bool,
    /// Open count.
    pub open: bool,
    /// Read-only or read-write.
    pub rw: bool,
    /// Uuid.
    pub uuid: bool,
    /// How names are shown.
    pub mangling: Mangling,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            drawing: Drawing::Ascii,
            compact: false,
            inverted: false,
            width: Some(80),
            device: true,
            blkdevname: false,
            active: false,
            open: false,
            rw: false,
            uuid: false,
            mangling: Mangling::Auto,
        }
    }
}

/// An option of `ls --tree` that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeOptionError(String);

impl fmt::Display for TreeOptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree options not recognised: {}.", self.0)
    }
}

impl std::error::Error for TreeOptionError {}

impl TreeOptions {
    /// Reads the words of `-o`, with commas between them, over what is set already.
    ///
    /// # Errors
    /// Names the word that is no option.
    pub fn read(mut self, words: &str) -> Result<Self, TreeOptionError> {
        for word in words.split(',').filter(|word| !word.is_empty()) {
            match word {
                "ascii" => self.drawing = Drawing::Ascii,
                "utf" => self.drawing = Drawing::Utf,
                "vt100" => self.drawing = Drawing::Vt100,
                "compact" => self.compact = true,
                "inverted" => self.inverted = true,
                "notrunc" => self.width = None,
                "device" => self.device = true,
                "nodevice" => self.device = false,
                "blkdevname" => self.blkdevname = true,
                "active" => self.active = true,
                "open" => self.open = true,
                "rw" => self.rw = true,
                "uuid" => self.uuid = true,
                _ => return Err(TreeOptionError(word.into())),
            }
        }
        Ok(self)
    }

    fn has_attributes(&self) -> bool {
        self.active || self.open || self.rw || self.uuid
    }

    /// Compact form leaves no room for attributes.
    fn is_compact(&self) -> bool {
        self.compact && !self.has_attributes()
    }
}

/// Draws the trees of `devices`, all there are, one line to a device.
pub fn render(devices: &[DeviceRow], options: &TreeOptions) -> String {
    let forest = Forest::new(devices);
    let roots: Vec<usize> = (0..forest.nodes.len())
        .filter(|&at| {
            forest.nodes.get(at).is_some_and(|node| {
                if options.inverted {
                    node.uses.is_empty()
                } else {
                    node.users.is_empty()
                }
            })
        })
        .collect();
    let mut painter = Painter {
        forest: &forest,
        options,
        symbols: options.drawing.symbols(),
        levels: Vec::new(),
        line: Line {
            text: String::new(),
            columns: 0,
        },
        out: String::new(),
    };
    painter.children(&roots);
    painter.out
}

struct Painter<'p, 'r> {
    forest: &'p Forest<'r>,
    options: &'p TreeOptions,
    symbols: Symbols,
    /// For each level above: whether more children follow, and how wide its text is (compact form).
    levels: Vec<(bool, usize)>,
    line: Line,
    out: String,
}

struct Line {
    text: String,
    columns: usize,
}

impl Line {
    /// Columns count every letter, also those of a terminal's sequences.
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.columns += text.chars().count();
    }
}

/// dmsetup draws no deeper, and neither do we: a cycle cannot be, but a stack has an end.
const MAX_DEPTH: usize = 98;

impl Painter<'_, '_> {
    fn children(&mut self, children: &[usize]) {
        for (n, &child) in children.iter().enumerate() {
            if let Some(node) = self.forest.nodes.get(child) {
                self.subtree(node, n + 1 < children.len());
            }
        }
    }

    fn subtree(&mut self, node: &Node<'_>, more: bool) {
        let options = self.options;
        let below = if options.inverted {
            &node.users
        } else {
            &node.uses
        };
        if self.levels.len() > MAX_DEPTH {
            return;
        }
        let shown = node.device.is_some() || options.device || options.blkdevname;
        self.levels.push((more, 0));
        if shown {
            let started = self.line.columns;
            let begins_line = self.line.text.is_empty();
            if begins_line {
                self.prefix();
            }
            let offset = if begins_line {
                self.line.columns
            } else {
                started
            };
            if !begins_line {
                let symbol = if more {
                    self.symbols.first_child
                } else {
                    self.symbols.only_child
                };
                self.line.push(symbol);
            }
            self.label(node);
            let width = self.line.columns - offset;
            if options.is_compact() {
                if let Some(level) = self.levels.last_mut() {
                    level.1 = width;
                }
                if below.is_empty() {
                    self.end_line();
                }
            } else {
                self.end_line();
            }
        }
        self.children(below);
        self.levels.pop();
    }

    fn prefix(&mut self) {
        let last = self.levels.len() - 1;
        for depth in 0..last {
            let (_, width) = self.levels[depth];
            self.line.push(&" ".repeat(width + 1));
            let (more, _) = self.levels[depth + 1];
            let symbol = match (depth + 1 == last, more) {
                (true, true) => self.symbols.branch,
                (true, false) => self.symbols.last,
                (false, true) => self.symbols.line,
                (false, false) => self.symbols.blank,
            };
            self.line.push(symbol);
        }
    }

    fn label(&mut self, node: &Node<'_>) {
        let options = self.options;
        let mut label = node.device.map_or_else(String::new, |device| {
            to_shown(&device.name, Subject::Name, options.mangling)
                .unwrap_or_else(|_| device.name.clone())
        });
        if options.blkdevname && !node.blkdev_name.is_empty() {
            label.push_str(&format!(" <{}>", node.blkdev_name));
        }
        if options.device {
            label.push_str(&format!(" ({}:{})", node.number.0, node.number.1));
        }
        if let Some(device) = node.device
            && options.has_attributes()
        {
            label.push_str(&format!(" [{}]", self.attributes(device).join(", ")));
        }
        self.line.push(&label);
    }

    fn attributes(&self, device: &DeviceRow) -> Vec<String> {
        let options = self.options;
        let mut attributes = Vec::new();
        if options.active {
            attributes.push(
                if device.suspended {
                    "SUSPENDED"
                } else {
                    "ACTIVE"
                }
                .into(),
            );
        }
        if options.rw {
            attributes.push(if device.readonly { "RO" } else { "RW" }.into());
        }
        if options.open {
            attributes.push(device.open_count.to_string());
        }
        if options.uuid {
            let shown = to_shown(&device.uuid, Subject::Uuid, options.mangling);
            attributes.push(shown.unwrap_or_else(|_| device.uuid.clone()));
        }
        attributes
    }

    /// A line that does not fit loses what is behind the last column but one, for three dots.
    fn end_line(&mut self) {
        let line = std::mem::replace(
            &mut self.line,
            Line {
                text: String::new(),
                columns: 0,
            },
        );
        match self.options.width {
            Some(width) if line.columns > width => {
                self.out
                    .extend(line.text.chars().take(width.saturating_sub(1)));
                self.out.push_str("...");
            }
            _ => self.out.push_str(&line.text),
        }
        self.out.push('\n');
    }
}

#[cfg(test)]
mod tests;
