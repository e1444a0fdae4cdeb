//! Where the boxes of a picture stand: in layers, users above what they use, with few crossings.
//!
//! An edge over several layers bends in each between: it has a place of its own there, so that it runs past boxes
//! and not through them.

use std::collections::HashMap;

use super::{Graph, Node, NodeKind};

/// Columns between two boxes, and rows between two layers.
pub(super) const GAP: f64 = 28.0;
pub(super) const LAYER_GAP: f64 = 64.0;
/// Room for an edge that passes a layer.
const BEND: f64 = 12.0;
/// How often the order within layers, and the places, are bettered.
const SWEEPS: usize = 8;
/// More layers than a stack can have.
const MOST_LAYERS: usize = 256;

/// A box, or a bend of an edge, in its layer.
struct Item {
    width: f64,
    /// The middle.
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// A picture with places.
pub(super) struct Layout {
    /// The left edge and the layer from the top of each box.
    pub(super) boxes: Vec<(f64, usize)>,
    /// Where each edge leaves its box, passes each layer between, and comes to the other box; and the layer of the first.
    pub(super) ways: Vec<(usize, Vec<f64>)>,
    pub(super) layers: usize,
    pub(super) width: f64,
}

struct Layers {
    items: Vec<Item>,
    /// From the top.
    rows: Vec<Vec<usize>>,
}

/// Lays `graph` out, whose boxes are so wide.
pub(super) fn lay_out(graph: &Graph, widths: &[f64]) -> Layout {
    let heights = heights(graph);
    let top = heights.iter().copied().max().unwrap_or(0);
    let mut layers = Layers {
        items: Vec::new(),
        rows: vec![Vec::new(); top + 1],
    };
    for (&width, &height) in widths.iter().zip(&heights) {
        layers.add(top - height, width);
    }
    let chains: Vec<(usize, Vec<usize>)> = graph
        .edges
        .iter()
        .map(|edge| {
            let from = top - heights.get(edge.from).copied().unwrap_or(0);
            let to = top - heights.get(edge.to).copied().unwrap_or(0);
            let mut chain = vec![edge.from];
            chain.extend((from + 1..to).map(|layer| layers.add(layer, BEND)));
            chain.push(edge.to);
            layers.link(&chain);
            (from, chain)
        })
        .collect();
    layers.settle_all();
    layers.result(&heights, top, widths, &chains)
}

/// How many layers lie below each box. The lowest is for what is no mapped device, if there is any.
fn heights(graph: &Graph) -> Vec<usize> {
    let is_mapped = |node: &Node| matches!(node.kind, NodeKind::Mapped { .. });
    let lowest = usize::from(!graph.nodes.iter().all(is_mapped));
    let height = |node| if is_mapped(node) { lowest } else { 0 };
    let mut heights: Vec<usize> = graph.nodes.iter().map(height).collect();
    // What was asked for while tables changed might go round: the number of turns is bounded.
    for _ in 0..MOST_LAYERS {
        let mut changed = false;
        for edge in &graph.edges {
            let wanted = heights.get(edge.to).copied().unwrap_or(0) + 1;
            if let Some(height) = heights.get_mut(edge.from)
                && *height < wanted
            {
                *height = wanted;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    heights
}

impl Layers {
    fn add(&mut self, layer: usize, width: f64) -> usize {
        let item = self.items.len();
        self.items.push(Item {
            width,
            x: 0.0,
            above: Vec::new(),
            below: Vec::new(),
        });
        if let Some(row) = self.rows.get_mut(layer) {
            row.push(item);
        }
        item
    }

    fn link(&mut self, chain: &[usize]) {
        for pair in chain.windows(2) {
            if let [above, below] = *pair {
                self.items[above].below.push(below);
                self.items[below].above.push(above);
            }
        }
    }

    /// Settles what hangs together, one such part beside the other.
    fn settle_all(&mut self) {
        let parts = self.parts();
        let count = parts.iter().max().map_or(0, |most| most + 1);
        let mut rows_of: Vec<Vec<Vec<usize>>> = vec![Vec::new(); count];
        for (layer, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            for item in row {
                let rows = &mut rows_of[parts[item]];
                rows.resize(rows.len().max(layer + 1), Vec::new());
                rows[layer].push(item);
            }
        }
        let mut from = 0.0;
        for rows in rows_of {
            let items: Vec<usize> = rows.iter().flatten().copied().collect();
            self.rows = rows;
            self.settle();
            let edges = items.iter().map(|&item| {
                let item = &self.items[item];
                (item.x - item.width / 2.0, item.x + item.width / 2.0)
            });
            let (left, right) = edges.fold((f64::INFINITY, f64::NEG_INFINITY), |all, one| {
                (all.0.min(one.0), all.1.max(one.1))
            });
            for item in items {
                self.items[item].x += from - left;
            }
            from += right - left + GAP;
        }
    }

    /// For each item, which of the parts that hang together it belongs to.
    fn parts(&self) -> Vec<usize> {
        const NONE: usize = usize::MAX;
        let mut parts = vec![NONE; self.items.len()];
        let mut count = 0;
        for first in 0..self.items.len() {
            if parts[first] != NONE {
                continue;
            }
            let mut next = vec![first];
            while let Some(item) = next.pop() {
                if std::mem::replace(&mut parts[item], count) == NONE {
                    let item = &self.items[item];
                    let linked = item.above.iter().chain(&item.below);
                    next.extend(linked.filter(|&&at| parts[at] == NONE));
                }
            }
            count += 1;
        }
        parts
    }

    fn settle(&mut self) {
        for row in 0..self.rows.len() {
            self.pack(row);
        }
        for sweep in 0..SWEEPS {
            let down = sweep % 2 == 0;
            for step in 0..self.rows.len() {
                let row = if down {
                    step
                } else {
                    self.rows.len() - 1 - step
                };
                self.sort(row, down);
            }
        }
    }

    /// Puts the items of a row side by side.
    fn pack(&mut self, row: usize) {
        let mut x = 0.0;
        for &item in &self.rows[row] {
            let item = &mut self.items[item];
            item.x = x + item.width / 2.0;
            x += item.width + GAP;
        }
    }

    /// Orders a row by where the neighbours above (or below) stand, and moves each as near to them as it can.
    fn sort(&mut self, row: usize, down: bool) {
        let mut order: Vec<(f64, usize)> = self.rows[row]
            .iter()
            .map(|&item| (self.wanted(item, down), item))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut edge = f64::NEG_INFINITY;
        let mut shifts = 0.0;
        for &(wanted, item) in &order {
            let item = &mut self.items[item];
            let least = edge + GAP + item.width / 2.0;
            item.x = if least.is_finite() {
                wanted.max(least)
            } else {
                wanted
            };
            shifts += item.x - wanted;
            edge = item.x + item.width / 2.0;
        }
        // What was pushed aside was pushed to the right: half of it goes back.
        let back = shifts / order.len().max(1) as f64;
        for &(_, item) in &order {
            self.items[item].x -= back;
        }
        self.rows[row] = order.into_iter().map(|(_, item)| item).collect();
    }

    fn wanted(&self, item: usize, down: bool) -> f64 {
        let item = &self.items[item];
        let neighbours = if down { &item.above } else { &item.below };
        match neighbours.len() {
            0 => item.x,
            count => {
                let sum: f64 = neighbours.iter().map(|&at| self.items[at].x).sum();
                sum / count as f64
            }
        }
    }

    /// Where edges leave a box below, or come to it above: side by side, in the order of where they come from or go to.
    fn ports(&self, chains: &[(usize, Vec<usize>)], down: bool) -> Vec<f64> {
        let ends = chains.iter().map(|(_, chain)| match down {
            true => (chain.first(), chain.get(1)),
            false => (chain.last(), chain.iter().rev().nth(1)),
        });
        let mut of_box: HashMap<usize, Vec<(f64, usize)>> = HashMap::new();
        for (edge, ends) in ends.enumerate() {
            if let (Some(&own), Some(&other)) = ends {
                of_box
                    .entry(own)
                    .or_default()
                    .push((self.items[other].x, edge));
            }
        }
        let mut ports = vec![0.0; chains.len()];
        for (item, mut edges) in of_box {
            edges.sort_by(|a, b| a.0.total_cmp(&b.0));
            let item = &self.items[item];
            let step = item.width / (edges.len() + 1) as f64;
            for (place, (_, edge)) in edges.into_iter().enumerate() {
                ports[edge] = item.x - item.width / 2.0 + step * (place + 1) as f64;
            }
        }
        ports
    }

    fn result(
        &self,
        heights: &[usize],
        top: usize,
        widths: &[f64],
        chains: &[(usize, Vec<usize>)],
    ) -> Layout {
        let left = |item: &Item| item.x - item.width / 2.0;
        let least = self.items.iter().map(left).fold(f64::INFINITY, f64::min);
        let least = if least.is_finite() { least } else { 0.0 };
        let most = self.items.iter().map(|item| left(item) + item.width);
        let boxes = self.items.iter().zip(heights).zip(widths);
        let (leaving, coming) = (self.ports(chains, true), self.ports(chains, false));
        Layout {
            boxes: boxes
                .map(|((item, height), _)| (left(item) - least, top - height))
                .collect(),
            ways: chains
                .iter()
                .zip(leaving.iter().zip(&coming))
                .map(|((layer, chain), (&leaves, &comes))| {
                    let bends = chain.len().saturating_sub(2);
                    let bends = chain.iter().skip(1).take(bends).map(|&at| self.items[at].x);
                    let way = std::iter::once(leaves).chain(bends).chain([comes]);
                    (*layer, way.map(|x| x - least).collect())
                })
                .collect(),
            layers: top + 1,
            width: most.fold(0.0, f64::max) - least,
        }
    }
}
