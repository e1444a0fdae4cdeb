//! A picture as SVG: one document with its style inside, readable on light and on dark ground.

use std::fmt::Write as _;

use super::layout::{LAYER_GAP, Layout, lay_out};
use super::{Graph, Node, NodeKind};
use crate::control::protocol::stack::Below;
use crate::terminal::cut;

/// Pixels: around the picture, of a line of text, of a letter, around the text of a box.
const MARGIN: f64 = 24.0;
const LINE: f64 = 17.0;
const LETTER: f64 = 7.3;
const PADDING: f64 = 12.0;
/// Of a letter and a line on an edge, and how many lines such names may take.
const SMALL_LETTER: f64 = 6.3;
const SMALL_LINE: f64 = 12.0;
const LABEL_LINES: usize = 3;
/// Letters of the longest line in a box; the whole is told where the pointer rests.
const LONGEST: usize = 44;

const STYLE: &str = "\
text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328}
.t{font-weight:700}.l{fill:#59636e}.e{font-size:10px;fill:#59636e;text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:4px}
rect{stroke-width:1.2}.m rect{fill:#ddf4ff;stroke:#0969da}.s rect{fill:#fff8c5;stroke:#9a6700;stroke-dasharray:5 3}
.f rect{fill:#dafbe1;stroke:#1a7f37}.b rect{fill:#fbefff;stroke:#8250df}.r rect{fill:#f6f8fa;stroke:#59636e}
path{fill:none;stroke:#818b98;stroke-width:1.2}.g{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.l,.e{fill:#9198a1}.e{stroke:#0d1117}.g{fill:#0d1117}path{stroke:#656c76}
.m rect{fill:#0c2d6b;stroke:#58a6ff}.s rect{fill:#4b2900;stroke:#d29922}.f rect{fill:#033a16;stroke:#3fb950}
.b rect{fill:#3c1e70;stroke:#a371f7}.r rect{fill:#212830;stroke:#9198a1}}";

/// Draws `graph`.
pub(super) fn draw(graph: &Graph) -> String {
    let widths: Vec<f64> = graph.nodes.iter().map(box_width).collect();
    let layout = lay_out(graph, &widths);
    let lines = graph.nodes.iter().map(|node| node.lines.len() + 1).max();
    let tall = lines.unwrap_or(1) as f64 * LINE + PADDING;
    let width = layout.width + 2.0 * MARGIN;
    let height = layout.layers as f64 * (tall + LAYER_GAP) - LAYER_GAP + 2.0 * MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>Mapped devices and what they lie on</title>\n<style>{STYLE}</style>\n\
         <rect class=\"g\" width=\"100%\" height=\"100%\"/>\n"
    );
    let mut labels = Labels::default();
    let picture = Picture {
        layout: &layout,
        tall,
    };
    for (edge, (layer, way)) in graph.edges.iter().zip(&layout.ways) {
        picture.edge(&mut text, *layer, way);
        labels.add(&picture, *layer, way, &edge.label);
    }
    text += &labels.text;
    for ((node, &(x, layer)), &width) in graph.nodes.iter().zip(&layout.boxes).zip(&widths) {
        draw_box(&mut text, node, x + MARGIN, picture.top(layer), width, tall);
    }
    text + "</svg>\n"
}

fn box_width(node: &Node) -> f64 {
    let letters = std::iter::once(&node.title)
        .chain(&node.lines)
        .map(|line| line.chars().count().min(LONGEST))
        .max();
    letters.unwrap_or(0) as f64 * LETTER + 2.0 * PADDING
}

struct Picture<'l> {
    layout: &'l Layout,
    tall: f64,
}

impl Picture<'_> {
    fn top(&self, layer: usize) -> f64 {
        debug_assert!(layer < self.layout.layers);
        MARGIN + layer as f64 * (self.tall + LAYER_GAP)
    }

    /// A curve from box to box: straight past a layer, bent between two.
    fn edge(&self, text: &mut String, layer: usize, way: &[f64]) {
        let Some((&first, rest)) = way.split_first() else {
            return;
        };
        let (mut x, mut y) = (first + MARGIN, self.top(layer) + self.tall);
        let mut path = format!("M{x:.1} {y:.1}");
        for (step, &next) in rest.iter().enumerate() {
            let next = next + MARGIN;
            let (end, middle) = (y + LAYER_GAP, y + LAYER_GAP / 2.0);
            let _ = write!(
                path,
                "C{x:.1} {middle:.1} {next:.1} {middle:.1} {next:.1} {end:.1}"
            );
            (x, y) = (next, end);
            if step + 1 < rest.len() {
                y += self.tall;
                let _ = write!(path, "V{y:.1}");
            }
        }
        let _ = writeln!(text, "<path d=\"{path}\"/>");
    }
}

/// The names on edges, none on another as far as there is room.
#[derive(Default)]
struct Labels {
    text: String,
    /// Layer, line and ends of those that stand.
    placed: Vec<(usize, usize, f64, f64)>,
}

impl Labels {
    /// On the edge, where it leaves the box: edges that meet below are still apart there.
    fn add(&mut self, picture: &Picture<'_>, layer: usize, way: &[f64], label: &str) {
        let Some(&first) = way.first() else {
            return;
        };
        let (x, label) = (first + MARGIN, cut(label, LONGEST));
        let half = label.chars().count() as f64 * SMALL_LETTER / 2.0;
        let is_free = |line: usize| {
            let mut there = self
                .placed
                .iter()
                .filter(|placed| (placed.0, placed.1) == (layer, line));
            !there.any(|&(_, _, left, right)| left < x + half && x - half < right)
        };
        let line = (0..LABEL_LINES).find(|&line| is_free(line)).unwrap_or(0);
        self.placed.push((layer, line, x - half, x + half));
        let y = picture.top(layer) + picture.tall + 17.0 + line as f64 * SMALL_LINE;
        let _ = writeln!(
            self.text,
            "<text class=\"e\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escaped(&label)
        );
    }
}

fn draw_box(text: &mut String, node: &Node, x: f64, y: f64, width: f64, tall: f64) {
    let class = match node.kind {
        NodeKind::Mapped { suspended: false } => "m",
        NodeKind::Mapped { suspended: true } => "s",
        NodeKind::Below(Below::File) => "f",
        NodeKind::Below(Below::BlockDevice) => "b",
        NodeKind::Below(Below::Memory | Below::Mapped) => "r",
    };
    let radius = if class == "m" || class == "s" { 8 } else { 2 };
    let _ = writeln!(
        text,
        "<g class=\"{class}\"><title>{}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{tall:.1}\" rx=\"{radius}\"/>",
        escaped(&node.title)
    );
    let lines =
        std::iter::once(("t", &node.title)).chain(node.lines.iter().map(|line| ("l", line)));
    for (number, (class, line)) in lines.enumerate() {
        let line_y = y + PADDING / 2.0 + (number as f64 + 0.75) * LINE;
        let _ = writeln!(
            text,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{line_y:.1}\">{}</text>",
            x + PADDING,
            escaped(&shortened(line))
        );
    }
    text.push_str("</g>\n");
}

/// The end of a path tells more than its beginning.
fn shortened(line: &str) -> String {
    let letters = line.chars().count();
    if letters <= LONGEST || !line.contains('/') {
        return cut(line, LONGEST);
    }
    let kept: String = line.chars().skip(letters - (LONGEST - 2)).collect();
    format!("..{kept}")
}

/// As text of an XML document, which has no way to write most control characters.
pub(in crate::cli) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter if letter.is_control() => out.push('?'),
            '\u{fffe}' | '\u{ffff}' => out.push('?'),
            letter => out.push(letter),
        }
    }
    out
}
