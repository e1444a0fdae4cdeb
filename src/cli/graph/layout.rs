//! Where the boxes of a picture stand: in layers, users above what they use, with few crossings.
//!
//! An edge over several layers bends in each between: it has a place of its own there, so that it runs past boxes
//! and not through them.

use super::Graph;

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
    /// The middles through which each edge goes, from box to box, one a layer, and the layer of the first.
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
    layers.settle();
    layers.result(&heights, top, widths, &chains)
}

/// How many layers lie below each box.
fn heights(graph: &Graph) -> Vec<usize> {
    let mut heights = vec![0; graph.nodes.len()];
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
        Layout {
            boxes: boxes
                .map(|((item, height), _)| (left(item) - least, top - height))
                .collect(),
            ways: chains
                .iter()
                .map(|(layer, chain)| {
                    let middles = chain.iter().map(|&at| self.items[at].x - least);
                    (*layer, middles.collect())
                })
                .collect(),
            layers: self.rows.len(),
            width: most.fold(0.0, f64::max) - least,
        }
    }
}
