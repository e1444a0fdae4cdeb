//! A table as text: lines of `START LENGTH TARGET [ARGUMENT...]`, as `dmsetup` reads them.
//!
//! White space around a line is dropped; an empty line and one that starts with `#` are skipped; a `#`
//! in the arguments starts a comment. Numbers are read as C's `%llu` reads them: a sign is allowed, a
//! number that is too large becomes the largest, and the target's name may follow the length at once.
//! Whether rows follow each other without a gap is for the daemon to say, not for this reader.

use std::fmt;

/// One row of a table, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLine {
    /// Where it stands in the text, from 1.
    pub line_number: usize,
    /// First sector of the row.
    pub start: u64,
    /// Sectors in the row.
    pub length: u64,
    /// Name of the target.
    pub target: String,
    /// The target's arguments, as written.
    pub params: String,
}

/// A line that is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableTextError {
    /// The line, from 1.
    pub line_number: usize,
    /// The file's name, `on stdin`, or nothing for a table on the command line.
    pub table: String,
    /// What should have stood there, and the word that was found instead.
    pub detail: String,
}

impl fmt::Display for TableTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Invalid format on line {} of table {}.",
            self.line_number, self.table
        )
    }
}

impl std::error::Error for TableTextError {}

/// Reads a whole table. `table` names it in errors: the file, `on stdin`, or nothing.
///
/// # Errors
/// The first line that is no row.
pub fn parse(text: &str, table: &str) -> Result<Vec<TableLine>, TableTextError> {
    parse_lines(text)
        .map(|(line_number, row)| {
            row.map_err(|detail| TableTextError {
                line_number,
                table: table.into(),
                detail,
            })
        })
        .collect()
}

/// Reads the lines of a table that are rows or should be: each with its number, from 1, and what should have
/// stood there where it is no row.
pub fn parse_lines(text: &str) -> impl Iterator<Item = (usize, Result<TableLine, String>)> {
    text.split('\n').zip(1..).filter_map(|(line, line_number)| {
        let line = line.trim_matches(is_space);
        let is_row = !line.is_empty() && !line.starts_with('#');
        is_row.then(|| (line_number, parse_line(line, line_number)))
    })
}

fn parse_line(line: &str, line_number: usize) -> Result<TableLine, String> {
    let (start, rest) = number(line).ok_or_else(|| expected("its first sector", line))?;
    let rest = rest.trim_start_matches(is_space);
    let (length, rest) = number(rest).ok_or_else(|| expected("its length in sectors", rest))?;
    let rest = rest.trim_start_matches(is_space);
    if rest.is_empty() {
        return Err(expected("the name of a target", rest));
    }
    let (target, params) = rest.split_at(rest.find(is_space).unwrap_or(rest.len()));
    let params = params
        .split('#')
        .next()
        .unwrap_or_default()
        .trim_matches(is_space);
    Ok(TableLine {
        line_number,
        start,
        length,
        target: target.into(),
        params: params.into(),
    })
}

fn expected(what: &str, found: &str) -> String {
    match found.split(is_space).next().filter(|word| !word.is_empty()) {
        Some(word) => {
            format!("expected {what}, found '{word}' (a row is START LENGTH TARGET [ARGUMENT...])")
        }
        None => format!(
            "expected {what}, found the end of the line (a row is START LENGTH TARGET [ARGUMENT...])"
        ),
    }
}

/// The number that `text` begins with, as `%llu` reads it, and what follows.
fn number(text: &str) -> Option<(u64, &str)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(unsigned.len());
    let (digits, rest) = unsigned.split_at(end);
    if digits.is_empty() {
        return None;
    }
    match digits.parse::<u64>() {
        Ok(value) if text.starts_with('-') => Some((value.wrapping_neg(), rest)),
        Ok(value) => Some((value, rest)),
        Err(_) => Some((u64::MAX, rest)),
    }
}

/// White space as C's `isspace` has it.
fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{TableLine, parse};
    use proptest::prelude::{any, prop_assert, proptest};
    fn row(line_number: usize, start: u64, length: u64, target: &str, params: &str) -> TableLine {
        TableLine {
            line_number,
            start,
            length,
            target: target.into(),
            params: params.into(),
        }
    }

    fn refusal(text: &str) -> String {
        parse(text, "").unwrap_err().to_string()
    }

    #[test]
    fn comments_blank_lines_and_edges_are_dropped() {
        let text = "# a comment\n\n   0 1024 linear /dev/x 0   \r\n\t1024 8\tzero # why\n  # more\n1032 8 error";
        let want = [
            row(3, 0, 1024, "linear", "/dev/x 0"),
            row(4, 1024, 8, "zero", ""),
            row(6, 1032, 8, "error", ""),
        ];
        assert_eq!(parse(text, "").unwrap(), want);
        assert_eq!(parse("", "").unwrap(), []);
    }

    #[test]
    fn numbers_are_read_as_scanf_reads_them() {
        assert_eq!(
            parse("-1 8 zero", "").unwrap(),
            [row(1, u64::MAX, 8, "zero", "")]
        );
        assert_eq!(
            parse("+0 99999999999999999999 zero", "").unwrap(),
            [row(1, 0, u64::MAX, "zero", "")]
        );
        assert_eq!(parse("0 8zero", "").unwrap(), [row(1, 0, 8, "zero", "")]);
        assert_eq!(
            parse("0 8 zero\\n8", "").unwrap(),
            [row(1, 0, 8, "zero\\n8", "")]
        );
    }

    #[test]
    fn fewer_than_three_words_name_the_line_and_the_word() {
        assert_eq!(refusal("0 8"), "Invalid format on line 1 of table .");
        assert_eq!(
            refusal("0 8 zero\n\n8 bad line"),
            "Invalid format on line 3 of table ."
        );
        assert_eq!(
            parse("a b", "on stdin").unwrap_err().to_string(),
            "Invalid format on line 1 of table on stdin."
        );
        let detail = |text| parse(text, "").unwrap_err().detail;
        assert!(detail("0 zero").starts_with("expected its length in sectors, found 'zero'"));
        assert!(detail("0 8").starts_with("expected the name of a target, found the end"));
        assert!(detail("- 8 zero").starts_with("expected its first sector, found '-'"));
    }

    #[test]
    fn a_hundred_thousand_rows_are_read() {
        let text: String = (0..100_000)
            .map(|at| format!("{} 8 linear /dev/loop0 {at}\n", at * 8))
            .collect();
        assert_eq!(parse(&text, "").unwrap().len(), 100_000);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = parse(&text, "t");
        }

        #[test]
        fn near_tables_do_not_panic(text in "[-+# 0-9a-z\t\n\\\\]{0,60}") {
            if let Ok(rows) = parse(&text, "t") {
                prop_assert!(rows.iter().all(|row| !row.target.is_empty() && !row.params.contains('#')));
            }
        }
    }
}
