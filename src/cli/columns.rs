//! Tables that fit a terminal: what does not fit loses its least important columns, then the end of its names.

use crate::terminal::{Look, Paint, cut};

/// A column; the first of a table is a name and stands on the left, the others on the right.
pub struct Column {
    /// Its heading.
    pub head: &'static str,
    /// How wide it is at least.
    pub min: usize,
    /// Columns of a lower number go first where room is short.
    pub importance: u8,
}

/// A column of this heading.
pub const fn column(head: &'static str, min: usize, importance: u8) -> Column {
    Column {
        head,
        min,
        importance,
    }
}

/// Names are not cut shorter than this.
const SHORTEST_NAME: usize = 8;

/// `rows` under the headings of `columns`, in lines that fit `look`.
pub fn table(columns: &[Column], rows: &[Vec<String>], look: Look) -> String {
    let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
    let mut widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = rows.iter().map(|row| cell(row, at).chars().count());
            let head = columns[at].head.len().max(columns[at].min);
            cells.fold(head, usize::max)
        })
        .collect();
    let shown = fitting(columns, &mut widths, look.width);
    let mut text = String::new();
    let heads: Vec<String> = columns
        .iter()
        .map(|column| column.head.to_owned())
        .collect();
    let head = line(&heads, &shown, &widths);
    text += &look.paint(Paint::Head, &head);
    text.push('\n');
    for row in rows {
        text += &line(row, &shown, &widths);
        text.push('\n');
    }
    text
}

/// Which columns are shown; narrows the names where the rest still does not fit.
fn fitting(columns: &[Column], widths: &mut [usize], room: Option<usize>) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let Some(room) = room else {
        return shown;
    };
    let total = |shown: &[usize], widths: &[usize]| {
        let sum: usize = shown.iter().filter_map(|&at| widths.get(at)).sum();
        sum + shown.len().saturating_sub(1)
    };
    let too_much = total(&shown, widths).saturating_sub(room);
    // Names that are longer than usual give way before columns do.
    let longest = SHORTEST_NAME.max(columns.first().map_or(0, |column| column.min));
    if let Some(names) = widths.first_mut()
        && *names > longest
    {
        *names = names.saturating_sub(too_much).max(longest);
    }
    while total(&shown, widths) > room && shown.len() > 1 {
        let least = shown
            .iter()
            .enumerate()
            .skip(1)
            .min_by_key(|(_, at)| columns.get(**at).map_or(0, |column| column.importance));
        match least.map(|(place, _)| place) {
            Some(place) => drop(shown.remove(place)),
            None => break,
        }
    }
    if let [only] = shown[..]
        && let Some(width) = widths.get_mut(only)
    {
        *width = (*width).min(room);
    }
    shown
}

fn line(row: &[String], shown: &[usize], widths: &[usize]) -> String {
    let mut line = String::new();
    for (place, &at) in shown.iter().enumerate() {
        let width = widths.get(at).copied().unwrap_or(0);
        let cell = cut(row.get(at).map_or("", String::as_str), width);
        match place {
            0 => line += &format!("{cell:<width$}"),
            _ => line += &format!(" {cell:>width$}"),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{Column, column, table};
    use crate::terminal::Look;

    const COLUMNS: &[Column] = &[
        column("Name", 8, 9),
        column("Reads", 6, 5),
        column("Odd", 6, 1),
        column("Writes", 6, 4),
    ];

    fn rows() -> Vec<Vec<String>> {
        let row = |name: &str| [name, "12", "3", "456"].map(str::to_owned).to_vec();
        vec![row("a"), row("a-name-of-twenty-two-x")]
    }

    fn at(width: usize) -> String {
        let look = Look {
            is_terminal: true,
            colour: false,
            width: Some(width),
        };
        let text = table(COLUMNS, &rows(), look);
        for line in text.lines() {
            assert!(line.len() <= width, "{width}: {line}");
        }
        text
    }

    #[test]
    fn everything_is_shown_where_nothing_limits_it() {
        let text = table(COLUMNS, &rows(), Look::PLAIN);
        assert_eq!(
            text,
            "Name                    Reads    Odd Writes\n\
             a                          12      3    456\n\
             a-name-of-twenty-two-x     12      3    456\n"
        );
    }

    #[test]
    fn names_give_way_first_then_columns_by_importance() {
        assert!(at(40).contains("a-name-of-twenty-.."));
        assert_eq!(
            at(30).lines().next(),
            Some("Name       Reads    Odd Writes")
        );
        assert_eq!(at(22).lines().next(), Some("Name      Reads Writes"));
        assert_eq!(at(15).lines().next(), Some("Name      Reads"));
        assert_eq!(at(5).lines().last(), Some("a-n.."));
    }
}
