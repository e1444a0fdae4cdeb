//! Rows as text: padded columns, separated fields, a line for each field, or JSON.

use super::fields::{Kind, Value};
use super::{Column, ReportKind, ReportOptions};

/// The value of one column in one row.
pub(super) type Cell = Value;

/// How rows are laid out.
pub(super) struct Layout<'r> {
    pub columns: &'r [Column],
    pub options: &'r ReportOptions,
    pub kind: ReportKind,
}

impl Layout<'_> {
    /// Prints `rows`, which are in order; nothing at all where there are none.
    pub fn print(&self, rows: &[Vec<Cell>]) -> String {
        if self.options.json {
            self.json(rows)
        } else if rows.is_empty() {
            String::new()
        } else if self.options.rows {
            self.as_rows(rows)
        } else {
            self.as_columns(rows)
        }
    }

    fn separator(&self) -> &str {
        match self.options.separator.as_deref() {
            Some(separator) => separator,
            None if self.options.noheadings => ":",
            None => " ",
        }
    }

    fn is_padded(&self) -> bool {
        !(self.options.noheadings
            || self.options.nameprefixes
            || self.options.rows
            || self.options.separator.is_some())
    }

    fn shown(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !column.hidden)
    }

    fn as_columns(&self, rows: &[Vec<Cell>]) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| width(at, column, rows))
            .collect();
        let mut out = String::new();
        if !self.options.noheadings {
            let headings =
                self.shown()
                    .zip(&widths)
                    .map(|((_, column), &width)| match self.is_padded() {
                        true => pad_right(column.field.heading, width),
                        false => column.field.heading.to_owned(),
                    });
            push_line(&mut out, headings, self.separator());
        }
        for row in rows {
            let cells = self.shown().zip(&widths).map(|((at, column), &width)| {
                let text = self.cell(column, row.get(at));
                match (self.is_padded(), column.field.kind) {
                    (false, _) => text,
                    (true, Kind::Number) => pad_left(&text, width),
                    (true, Kind::Text | Kind::List) => pad_right(&text, width),
                }
            });
            push_line(&mut out, cells, self.separator());
        }
        out
    }

    fn as_rows(&self, rows: &[Vec<Cell>]) -> String {
        let mut out = String::new();
        for (at, column) in self.shown() {
            let heading = (!self.options.noheadings).then(|| column.field.heading.to_owned());
            let cells = rows.iter().map(|row| self.cell(column, row.get(at)));
            push_line(&mut out, heading.into_iter().chain(cells), self.separator());
        }
        out
    }

    fn cell(&self, column: &Column, cell: Option<&Cell>) -> String {
        let text = cell.map(Cell::shown).unwrap_or_default();
        if !self.options.nameprefixes {
            return text;
        }
        let quote = if self.options.unquoted { "" } else { "'" };
        format!(
            "DM_{}={quote}{text}{quote}",
            column.field.id.to_ascii_uppercase()
        )
    }

    /// `{"report":[{"KIND":[{FIELD:VALUE, ...}, ...]}]}`: numbers as numbers, lists as lists.
    fn json(&self, rows: &[Vec<Cell>]) -> String {
        let kind = match self.kind {
            ReportKind::Devices => "device",
            ReportKind::SplitName => "splitname",
            ReportKind::StatsRegions
            | ReportKind::StatsAreas
            | ReportKind::StatsHistograms
            | ReportKind::Stats
            | ReportKind::StatsCounts
            | ReportKind::StatsPercents => "stats",
        };
        let rows: Vec<String> = rows.iter().map(|row| self.json_row(row)).collect();
        let rows = match rows.is_empty() {
            true => String::new(),
            false => format!("\n{}\n", rows.join(",\n")),
        };
        format!("{{\"report\":[{{\"{kind}\":[{rows}]}}]}}\n")
    }

    fn json_row(&self, row: &[Cell]) -> String {
        let members: Vec<String> = self
            .shown()
            .filter_map(|(at, column)| {
                let value = match row.get(at)? {
                    Cell::Number(number) => serde_json::Value::from(*number),
                    Cell::Measure(number, _) => serde_json::Value::from(*number),
                    Cell::Text(text) => serde_json::Value::from(text.as_str()),
                    Cell::List(items) => serde_json::Value::from(items.as_slice()),
                };
                Some(format!("\"{}\":{value}", column.field.id))
            })
            .collect();
        format!("  {{{}}}", members.join(", "))
    }
}

/// A column is as wide as its field asks, or as its longest value, in bytes as C counts.
fn width(at: usize, column: &Column, rows: &[Vec<Cell>]) -> usize {
    let longest = rows
        .iter()
        .filter_map(|row| row.get(at))
        .map(|cell| cell.shown().len())
        .max();
    column.field.width.max(longest.unwrap_or(0))
}

fn pad_right(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.len())))
}

fn pad_left(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(text.len())))
}

fn push_line(out: &mut String, cells: impl Iterator<Item = String>, separator: &str) {
    out.push_str(&cells.collect::<Vec<_>>().join(separator));
    out.push('\n');
}
