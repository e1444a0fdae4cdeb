//! `stats report --svg`: how long requests took, a histogram for each region that has one. Nothing is cleared.

use std::fmt::Write as _;

use super::known::Region;
use super::reports::counted;
use super::{known, named_or_all, say};
use crate::cli::graph::escaped;
use crate::cli::report::{Counted, show_bound};
use crate::cli::session::{Failure, Outcome, Session};

/// Pixels: around the picture, of a line of text, of a bar and of the longest one.
const MARGIN: f64 = 24.0;
const LINE: f64 = 18.0;
const BAR: f64 = 13.0;
const LONGEST: f64 = 420.0;
/// Where bars begin, and room for the count behind the longest.
const LABELS: f64 = 150.0;
const COUNTS: f64 = 170.0;

const STYLE: &str = "\
text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328}.t{font-weight:700}.l{fill:#59636e}.r{text-anchor:end}
.b{fill:#0969da}.g{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.l{fill:#9198a1}.b{fill:#58a6ff}.g{fill:#0d1117}}";

/// A region's histogram.
struct Histogram {
    title: String,
    /// The range of each bin, and its count.
    bins: Vec<(String, u64)>,
}

/// `stats report --svg [DEVICE...]`
pub fn draw(session: &mut Session<'_>, devices: &[String]) -> Outcome {
    let mut histograms = Vec::new();
    for device in named_or_all(session, devices)? {
        for region in known(session, &device)?.regions {
            if region.bounds.is_empty() {
                continue;
            }
            let text = say(session, &device, &["@stats_print", &region.id.to_string()])?;
            let areas = counted(&region, &text);
            let areas =
                areas.ok_or_else(|| Failure::new(format!("{device}: unknown answer: {text}")))?;
            histograms.push(Histogram::new(&device, &region, &areas));
        }
    }
    if histograms.is_empty() {
        return Err(Failure::new(
            "No region has a histogram: make one with --bounds, as in dmfs stats create --bounds 1ms,10ms,100ms DEVICE",
        ));
    }
    session.print(&picture(&histograms))
}

impl Histogram {
    fn new(device: &str, region: &Region, areas: &[Counted]) -> Histogram {
        let mut total = Counted::default();
        areas.iter().for_each(|area| total.add(area));
        let bounds: Vec<String> = region
            .bounds
            .iter()
            .map(|&bound| show_bound(bound))
            .collect();
        let range = |index: usize| match (
            index.checked_sub(1).and_then(|index| bounds.get(index)),
            bounds.get(index),
        ) {
            (None, Some(end)) => format!("below {end}"),
            (Some(start), Some(end)) => format!("{start} to {end}"),
            (Some(start), None) => format!("{start} and more"),
            (None, None) => String::new(),
        };
        let bins = (0..=bounds.len()).map(|index| {
            let count = total.bins.get(index).copied().unwrap_or(0);
            (range(index), count)
        });
        Histogram {
            title: format!(
                "{device}: region {}, sectors {}+{}",
                region.id, region.start, region.len
            ),
            bins: bins.collect(),
        }
    }
}

/// One document with its style inside, readable on light and on dark ground.
fn picture(histograms: &[Histogram]) -> String {
    let lines: usize = histograms.iter().map(|one| one.bins.len() + 3).sum();
    let (width, height) = (
        LABELS + LONGEST + COUNTS + 2.0 * MARGIN,
        lines as f64 * LINE + MARGIN,
    );
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>How long requests took</title>\n<style>{STYLE}</style>\n\
         <rect class=\"g\" width=\"100%\" height=\"100%\"/>\n"
    );
    let mut top = MARGIN;
    for Histogram { title, bins } in histograms {
        let total: u64 = bins.iter().map(|(_, count)| count).sum();
        let most = bins
            .iter()
            .map(|(_, count)| *count)
            .max()
            .unwrap_or(0)
            .max(1);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "<text class=\"t\" x=\"{MARGIN}\" y=\"{:.1}\">{}</text>",
            top + BAR,
            escaped(title)
        );
        top += LINE;
        let _ = writeln!(
            text,
            "<text class=\"l\" x=\"{MARGIN}\" y=\"{:.1}\">{total} requests</text>",
            top + BAR
        );
        top += LINE;
        for (range, count) in bins {
            let left = MARGIN + LABELS;
            let bar = *count as f64 / most as f64 * LONGEST;
            let percent = 100.0 * *count as f64 / total.max(1) as f64;
            let base = top + BAR - 2.0;
            let _ = writeln!(
                text,
                "<text class=\"r\" x=\"{:.1}\" y=\"{base:.1}\">{}</text>\
                 <rect class=\"b\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{bar:.1}\" height=\"{BAR}\"/>\
                 <text class=\"l\" x=\"{:.1}\" y=\"{base:.1}\">{count} ({percent:.1}%)</text>",
                left - 10.0,
                escaped(range),
                left + bar + 8.0,
            );
            top += LINE;
        }
        top += LINE;
    }
    text + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::{Histogram, picture};

    #[test]
    fn a_picture_has_a_bar_for_each_bin() {
        let histogram = Histogram {
            title: "a<b: region 0".into(),
            bins: vec![("below 1ms".into(), 30), ("1ms and more".into(), 10)],
        };
        let svg = picture(&[histogram]);
        assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a&lt;b: region 0") && svg.contains("40 requests"));
        assert_eq!(svg.matches("<rect class=\"b\"").count(), 2);
        assert!(svg.contains("width=\"420.0\"") && svg.contains("width=\"140.0\""));
        assert!(svg.contains("30 (75.0%)") && svg.contains("10 (25.0%)"));
    }
}
