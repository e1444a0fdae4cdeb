//! The rates as a chart in SVG: a group of bars for each workload, in units of what plain fuser does.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, LabelAreaPosition, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::Rectangle;
use plotters::style::{BLACK, Color, Palette, Palette99, WHITE};

use crate::kind::{KINDS, Kind};
use crate::measure::Results;
use crate::options::Options;
use crate::workload::Workload;

const WIDTH: u32 = 1000;
/// Height of a bar, in pixels.
const BAR: usize = 9;
/// Height of what is around the bars.
const FRAME: usize = 90;

/// Draws all layers below each other.
///
/// # Errors
/// Where the file cannot be written.
pub fn draw(path: &Path, options: &Options, results: &Results) -> Result<(), Box<dyn Error>> {
    let plots: Vec<Plot<'_>> = options
        .layers
        .iter()
        .filter_map(|layer| Plot::new(layer.name(), options, results))
        .collect();
    let heights: Vec<usize> = plots.iter().map(Plot::height).collect();
    let all = heights.iter().sum::<usize>().max(1);
    let root = SVGBackend::new(path, (WIDTH, all as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut rest = root.clone();
    for (plot, height) in plots.iter().zip(heights) {
        let (area, below) = rest.split_vertically(height as i32);
        plot.draw(&area)?;
        rest = below;
    }
    root.present()?;
    Ok(())
}

/// The chart of a layer.
struct Plot<'a> {
    layer: &'static str,
    kinds: Vec<Kind>,
    rows: Vec<&'a Workload>,
    results: &'a Results,
}

impl Plot<'_> {
    fn new<'a>(
        layer: &'static str,
        options: &'a Options,
        results: &'a Results,
    ) -> Option<Plot<'a>> {
        let ratio = |row: &Workload, kind| results.ratio(layer, row, kind, Kind::Plain);
        let rows: Vec<&Workload> = options
            .workloads
            .iter()
            .filter(|row| results.rate(layer, row, Kind::Plain).is_some())
            .collect();
        let kinds: Vec<Kind> = KINDS
            .iter()
            .copied()
            .filter(|&kind| {
                kind != Kind::Plain && rows.iter().any(|row| ratio(row, kind).is_some())
            })
            .collect();
        (!kinds.is_empty()).then_some(Plot {
            layer,
            kinds,
            rows,
            results,
        })
    }

    /// Bars of a workload, with a gap to the next.
    fn group(&self) -> usize {
        self.kinds.len() + 1
    }

    fn height(&self) -> usize {
        self.rows.len() * self.group() * BAR + FRAME
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn Error>> {
        let lines = (self.rows.len() * self.group()) as i32;
        let mut chart = ChartBuilder::on(area)
            .caption(
                format!("{}: rate in units of {}", self.layer, Kind::Plain.name()),
                ("sans-serif", 18),
            )
            .margin(10)
            .x_label_area_size(25)
            .y_label_area_size(150)
            .build_cartesian_2d(self.range().log_scale(), 0..lines)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .set_tick_mark_size(LabelAreaPosition::Left, 0)
            .y_labels(lines as usize + 1)
            .y_label_formatter(&|line| self.label(lines - line))
            .label_style(("sans-serif", 12))
            .draw()?;
        for (index, &kind) in self.kinds.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            let bars = self.rows.iter().enumerate().filter_map(|(row, workload)| {
                let ratio = self
                    .results
                    .ratio(self.layer, workload, kind, Kind::Plain)?;
                let top = lines - (row * self.group() + index) as i32;
                let ends = [(1.0, top - 1), (ratio.median, top)];
                Some(Rectangle::new(ends, color.filled()))
            });
            chart
                .draw_series(bars)?
                .label(kind.name())
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 4), (x + 12, y + 4)], color.filled())
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK)
            .label_font(("sans-serif", 12))
            .draw()?;
        Ok(())
    }

    /// All ratios, with room beside them.
    fn range(&self) -> Range<f64> {
        let (mut low, mut high) = (0.8, 1.25);
        for row in &self.rows {
            for &kind in &self.kinds {
                if let Some(ratio) = self.results.ratio(self.layer, row, kind, Kind::Plain) {
                    low = ratio.median.min(low);
                    high = ratio.median.max(high);
                }
            }
        }
        low * 0.8..high * 2.0
    }

    /// The workload's name beside the middle of its group.
    fn label(&self, line: i32) -> String {
        let line = line.max(0) as usize;
        let is_middle = line % self.group() == self.kinds.len() / 2;
        let row = self.rows.get(line / self.group()).filter(|_| is_middle);
        row.map_or_else(String::new, |row| row.name.to_owned())
    }
}
