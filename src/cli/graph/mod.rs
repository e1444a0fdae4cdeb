//! `graph`: mapped devices and what they lie on, as a picture in DOT or SVG.

mod layout;
mod svg;

pub(super) use svg::escaped;

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::control::protocol::stack::{Below, Stack, StackDevice};

#[cfg(test)]
mod tests;

/// A picture of a stack, not yet laid out.
pub struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

/// A device.
struct Node {
    /// Its number, `major:minor`.
    number: String,
    kind: NodeKind,
    /// What it is called.
    title: String,
    /// What else there is to tell, a line each.
    lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeKind {
    Mapped { suspended: bool },
    Below(Below),
}

/// That one device uses another.
struct Edge {
    from: usize,
    to: usize,
    /// The targets that do.
    label: String,
}

impl Graph {
    /// The picture of `stack`.
    pub fn new(stack: &Stack) -> Graph {
        let mapped = stack.devices.iter().map(mapped_node);
        let below = stack.below.iter().map(|below| Node {
            number: below.number.clone(),
            kind: NodeKind::Below(below.kind),
            title: below.path.clone(),
            lines: vec![format!(
                "{} {}, {}",
                below.kind.word(),
                below.number,
                size(below.sectors)
            )],
        });
        let nodes: Vec<Node> = mapped.chain(below).collect();
        let edges = edges(stack, &nodes);
        Graph { nodes, edges }
    }

    /// In the language of Graphviz.
    pub fn dot(&self) -> String {
        let mut text = String::from(
            "digraph dmfs {\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n",
        );
        for node in &self.nodes {
            let label: Vec<&str> = std::iter::once(&node.title)
                .chain(&node.lines)
                .map(String::as_str)
                .collect();
            let style = match node.kind {
                NodeKind::Mapped { suspended: false } => "",
                NodeKind::Mapped { suspended: true } => ", style=\"rounded,dashed\"",
                NodeKind::Below(Below::File) => ", shape=note, style=solid",
                NodeKind::Below(Below::BlockDevice) => ", shape=cylinder, style=solid",
                NodeKind::Below(Below::Memory | Below::Mapped) => ", shape=box3d, style=solid",
            };
            let _ = writeln!(
                text,
                "  {} [label={}{style}];",
                quoted(&node.number),
                quoted(&label.join("\n"))
            );
        }
        for edge in &self.edges {
            if let (Some(from), Some(to)) = (self.nodes.get(edge.from), self.nodes.get(edge.to)) {
                let _ = writeln!(
                    text,
                    "  {} -> {} [label={}];",
                    quoted(&from.number),
                    quoted(&to.number),
                    quoted(&edge.label)
                );
            }
        }
        text + "}\n"
    }

    /// As an SVG document that needs nothing else.
    pub fn svg(&self) -> String {
        svg::draw(self)
    }
}

fn mapped_node(device: &StackDevice) -> Node {
    let mut state = vec![size(device.sectors)];
    for (is_so, word) in [
        (device.suspended, "suspended"),
        (device.readonly, "read-only"),
    ] {
        if is_so {
            state.push(word.to_owned());
        }
    }
    let mut lines = vec![format!("{}, {}", device.number, state.join(", "))];
    let mut targets: Vec<(&str, u64)> = Vec::new();
    for rows in &device.rows {
        match targets
            .iter_mut()
            .find(|(target, _)| *target == rows.target)
        {
            Some((_, count)) => *count = count.saturating_add(rows.rows),
            None => targets.push((&rows.target, rows.rows)),
        }
    }
    let targets: Vec<String> = targets
        .iter()
        .map(|&(target, rows)| times(target, rows))
        .collect();
    lines.push(match targets.is_empty() {
        true => "no table".to_owned(),
        false => targets.join(" + "),
    });
    Node {
        number: device.number.clone(),
        kind: NodeKind::Mapped {
            suspended: device.suspended,
        },
        title: device.name.clone(),
        lines,
    }
}

/// An edge for each two devices of which one uses the other, with every target that does.
fn edges(stack: &Stack, nodes: &[Node]) -> Vec<Edge> {
    let places: HashMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .map(|(place, node)| (node.number.as_str(), place))
        .collect();
    let mut edges: Vec<Edge> = Vec::new();
    let mut known = HashMap::new();
    for (from, device) in stack.devices.iter().enumerate() {
        for rows in &device.rows {
            for &to in rows
                .uses
                .iter()
                .filter_map(|number| places.get(number.as_str()))
            {
                let label = times(&rows.target, rows.rows);
                match known
                    .get(&(from, to))
                    .and_then(|&at: &usize| edges.get_mut(at))
                {
                    Some(edge) => edge.label += &format!(" + {label}"),
                    None => {
                        known.insert((from, to), edges.len());
                        edges.push(Edge { from, to, label });
                    }
                }
            }
        }
    }
    edges
}

fn times(target: &str, rows: u64) -> String {
    match rows {
        1 => target.to_owned(),
        _ => format!("{rows} x {target}"),
    }
}

/// A size for people, exact where it is a whole number of its unit.
fn size(sectors: u64) -> String {
    let bytes = u128::from(sectors) * 512;
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (0..units.len())
        .rev()
        .find(|&power| bytes >> (10 * power) > 0)
        .unwrap_or(0);
    let unit = 1_u128 << (10 * power);
    let name = units.get(power).copied().unwrap_or_default();
    match bytes % unit {
        0 => format!("{} {name}", bytes / unit),
        _ => format!("{:.1} {name}", bytes as f64 / unit as f64),
    }
}

/// A string of DOT.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}
