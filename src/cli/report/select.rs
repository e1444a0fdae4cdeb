//! Which rows a report shows (`-S`).
//!
//! ```text
//! or     = and { ("||" | "#") and }
//! and    = factor { ("&&" | ",") factor }
//! factor = "!" "(" or ")" | "(" or ")" | field op value
//! ```
//!
//! A value ends at a blank, a logical operator or `)`, or at its closing quote; a regular expression
//! may also stand in `()`, `[]` or `{}`. Texts know `=`, `!=`, `=~`, `!~`; numbers `=`, `!=`, `<`,
//! `<=`, `>`, `>=`.

use super::fields::{self, Field, HELP, Kind};
use super::render::Cell;
use super::{ReportError, ReportKind, field_help};
use regex::Regex;

/// A selection, ready to be asked about rows.
pub(super) struct Selection(Node);

enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Not(Box<Node>),
    Compare { column: usize, test: Test },
}

enum Test {
    Text { wanted: String, equal: bool },
    Matches { regex: Regex, matching: bool },
    Number { op: NumberOp, operand: u64 },
}

#[derive(Clone, Copy)]
enum NumberOp {
    Equal,
    Unequal,
    AtLeast,
    Above,
    AtMost,
    Below,
}

#[derive(Clone, Copy)]
enum Op {
    Regex { matching: bool },
    Equality(NumberOp),
    Order(NumberOp),
    Time,
}

/// In the order in which they are tried.
const OPS: [(&str, Op); 12] = [
    ("=~", Op::Regex { matching: true }),
    ("!~", Op::Regex { matching: false }),
    ("=", Op::Equality(NumberOp::Equal)),
    ("!=", Op::Equality(NumberOp::Unequal)),
    (">=", Op::Order(NumberOp::AtLeast)),
    (">", Op::Order(NumberOp::Above)),
    ("<=", Op::Order(NumberOp::AtMost)),
    ("<", Op::Order(NumberOp::Below)),
    ("since", Op::Time),
    ("after", Op::Time),
    ("until", Op::Time),
    ("before", Op::Time),
];

const AND: [&str; 2] = ["&&", ","];
const OR: [&str; 2] = ["||", "#"];

/// Parentheses nest no deeper; it is far more than anybody writes, and far less than a stack holds.
const MAX_NESTING: usize = 100;

impl Selection {
    /// Reads a selection. `column_of` tells, or makes, the column of a field.
    pub fn parse(
        text: &str,
        kind: ReportKind,
        column_of: impl FnMut(&'static Field) -> usize,
    ) -> Result<Self, ReportError> {
        let mut parser = Parser {
            rest: text,
            kind,
            column_of,
            nesting: 0,
        };
        let node = parser.or()?;
        parser.skip_space();
        if !parser.rest.is_empty() {
            return Err(syntax_error("Expecting logical operator", parser.rest));
        }
        Ok(Self(node))
    }

    /// Whether a row's cells fulfil it.
    pub fn holds(&self, row: &[Cell]) -> bool {
        self.0.holds(row)
    }
}

impl Node {
    fn holds(&self, row: &[Cell]) -> bool {
        match self {
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(row)),
            Self::All(nodes) => nodes.iter().all(|node| node.holds(row)),
            Self::Not(node) => !node.holds(row),
            Self::Compare { column, test } => row.get(*column).is_some_and(|cell| test.holds(cell)),
        }
    }
}

impl Test {
    fn holds(&self, cell: &Cell) -> bool {
        match (self, cell) {
            (Self::Text { wanted, equal }, cell) => (cell.shown() == *wanted) == *equal,
            (Self::Matches { regex, matching }, cell) => regex.is_match(&cell.shown()) == *matching,
            (Self::Number { op, operand }, Cell::Number(_) | Cell::Measure(..)) => {
                let number = match cell {
                    Cell::Measure(number, _) => *number as i128,
                    Cell::Number(number) => i128::from(*number),
                    Cell::Text(_) | Cell::List(_) => return false,
                };
                let operand = i128::from(*operand);
                match op {
                    NumberOp::Equal => number == operand,
                    NumberOp::Unequal => number != operand,
                    NumberOp::AtLeast => number >= operand,
                    NumberOp::Above => number > operand,
                    NumberOp::AtMost => number <= operand,
                    NumberOp::Below => number < operand,
                }
            }
            (Self::Number { .. }, Cell::Text(_) | Cell::List(_)) => false,
        }
    }
}

struct Parser<'t, F> {
    rest: &'t str,
    kind: ReportKind,
    column_of: F,
    nesting: usize,
}

impl<F: FnMut(&'static Field) -> usize> Parser<'_, F> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(is_space);
    }

    /// Takes one of `words` if it comes next.
    fn take(&mut self, words: &[&str]) -> bool {
        let rest = self.rest.trim_start_matches(is_space);
        let behind = words.iter().find_map(|word| rest.strip_prefix(word));
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    fn or(&mut self) -> Result<Node, ReportError> {
        let mut nodes = vec![self.and()?];
        while self.take(&OR) {
            nodes.push(self.and()?);
        }
        Ok(Node::Any(nodes))
    }

    fn and(&mut self) -> Result<Node, ReportError> {
        let mut nodes = vec![self.factor()?];
        while self.take(&AND) {
            nodes.push(self.factor()?);
        }
        Ok(Node::All(nodes))
    }

    fn factor(&mut self) -> Result<Node, ReportError> {
        if self.take(&["!"]) {
            if !self.take(&["("]) {
                return Err(ReportError(format!(
                    "Syntax error: left parenthesis expected at '{}'",
                    self.rest
                )));
            }
            return Ok(Node::Not(Box::new(self.group()?)));
        }
        if self.take(&["("]) {
            return self.group();
        }
        self.skip_space();
        self.comparison()
    }

    /// What is behind a left parenthesis, up to and with the right one.
    fn group(&mut self) -> Result<Node, ReportError> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(ReportError(format!(
                "Syntax error: too many parentheses at '{}'",
                self.rest
            )));
        }
        let node = self.or()?;
        self.skip_space();
        if !self.take(&[")"]) {
            return Err(ReportError(format!(
                "Syntax error: right parenthesis expected at '{}'",
                self.rest
            )));
        }
        self.nesting -= 1;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, ReportError> {
        let start = self.rest;
        let end = start.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        let (name, behind) = start.split_at(end.unwrap_or(start.len()));
        if name.is_empty() {
            return Err(syntax_error("Expecting field name", start));
        }
        let no_field = |why: String| {
            let why = format!("{} \n{why}", field_help(self.kind, false));
            syntax_error(&why, start)
        };
        let field = fields::find(self.kind, name)
            .ok_or_else(|| no_field(format!("Unrecognised selection field: {name}")))?;
        if field.id == HELP {
            return Err(no_field(format!(
                "Selection field is uncomparable: {name}."
            )));
        }
        let op = self.op(start, behind)?;
        let test = self.test(field, op, start)?;
        Ok(Node::Compare {
            column: (self.column_of)(field),
            test,
        })
    }

    fn op(&mut self, start: &str, behind: &str) -> Result<Op, ReportError> {
        let trimmed = behind.trim_start_matches(is_space);
        let found = OPS.iter().find(|(word, _)| trimmed.starts_with(word));
        let Some((word, op)) = found else {
            let why = format!("{}Unrecognised comparison operator: {behind}", help());
            return Err(syntax_error(&why, start));
        };
        self.rest = &self.rest[self.rest.len() - trimmed.len() + word.len()..];
        Ok(*op)
    }

    fn test(&mut self, field: &'static Field, op: Op, start: &str) -> Result<Test, ReportError> {
        let only = |kinds: &str| {
            let why = format!(
                "{}Operator can be used only with {kinds} fields: {start}",
                help()
            );
            Err(syntax_error(&why, start))
        };
        match (op, field.kind) {
            (Op::Time, _) => only("time"),
            (Op::Order(_), Kind::Text | Kind::List) => only("number, size, time or percent"),
            (Op::Regex { matching }, Kind::Text | Kind::List) => {
                let regex = self.regex(field, start)?;
                Ok(Test::Matches { regex, matching })
            }
            (Op::Regex { .. }, Kind::Number) => {
                self.number(field, start)?;
                Err(ReportError(format!(
                    "dm_report: incompatible comparison type for selection field {}",
                    field.id
                )))
            }
            (Op::Equality(op), Kind::Text | Kind::List) => {
                let wanted = self.text(&['"', '\''], "string", field, start)?;
                Ok(Test::Text {
                    wanted,
                    equal: matches!(op, NumberOp::Equal),
                })
            }
            (Op::Equality(op) | Op::Order(op), Kind::Number) => Ok(Test::Number {
                op,
                operand: self.number(field, start)?,
            }),
        }
    }

    fn regex(&mut self, field: &'static Field, start: &str) -> Result<Regex, ReportError> {
        self.skip_space();
        if self.rest.is_empty() {
            let why = format!(
                "Regular expression expected for selection field {}",
                field.id
            );
            return Err(syntax_error(&why, start));
        }
        let pattern = self.text(&['"', '\'', '(', '[', '{'], "regex", field, start)?;
        Regex::new(&pattern).map_err(|why| {
            ReportError(format!(
                "dm_report: failed to create regex matcher for selection field {}: {why}",
                field.id
            ))
        })
    }

    /// A value: up to the closing quote if it begins with one of `quotes`, else up to a blank or operator.
    fn text(
        &mut self,
        quotes: &[char],
        what: &str,
        field: &'static Field,
        start: &str,
    ) -> Result<String, ReportError> {
        self.skip_space();
        if let Some(open) = self.rest.chars().next().filter(|c| quotes.contains(c)) {
            let close = match open {
                '(' => ')',
                '[' => ']',
                '{' => '}',
                quote => quote,
            };
            let inside = &self.rest[open.len_utf8()..];
            let Some((value, behind)) = inside.split_once(close) else {
                let why = format!(
                    "Missing end quote.\nFailed to parse {what} value for selection field {}.",
                    field.id
                );
                return Err(syntax_error(&why, start));
            };
            self.rest = behind;
            return Ok(value.into());
        }
        let ends = |at: usize| {
            let rest = self.rest[at..].trim_start_matches(is_space);
            self.rest[at..].starts_with(' ')
                || AND
                    .iter()
                    .chain(&OR)
                    .chain(&[")"])
                    .any(|word| rest.starts_with(word))
        };
        let end = self
            .rest
            .char_indices()
            .map(|(at, _)| at)
            .find(|&at| ends(at))
            .unwrap_or(self.rest.len());
        let (value, behind) = self.rest.split_at(end);
        self.rest = behind;
        Ok(value.into())
    }

    /// Digits, perhaps with a point, of which what is before it counts.
    fn number(&mut self, field: &'static Field, start: &str) -> Result<u64, ReportError> {
        self.skip_space();
        let mut points = 0;
        let end = self.rest.find(|c: char| {
            points += usize::from(c == '.');
            !(c.is_ascii_digit() || (c == '.' && points == 1))
        });
        let (digits, behind) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let fail = |why: String| Err(syntax_error(&why, start));
        if digits.is_empty() {
            return fail(format!(
                "Failed to parse numeric value for selection field {}.",
                field.id
            ));
        }
        if behind.starts_with('%') {
            return fail(format!(
                "Found percent value but numeric value expected for selection field {}.",
                field.id
            ));
        }
        if behind.starts_with(is_unit) {
            return fail(format!(
                "Found size unit specifier but numeric value expected for selection field {}.",
                field.id
            ));
        }
        self.rest = behind;
        let whole = digits.split('.').next().unwrap_or_default();
        if whole.is_empty() {
            return Ok(0);
        }
        whole.parse().map_err(|_| {
            ReportError(format!(
                "Field selection value {digits} out of supported range for field {}.",
                field.id
            ))
        })
    }
}

/// The letter of a unit of size.
pub(super) fn is_unit(letter: char) -> bool {
    "hHrRbBsSkmgtpeKMGTPE".contains(letter)
}

fn is_space(letter: char) -> bool {
    letter.is_ascii_whitespace() || letter == '\x0b'
}

fn syntax_error(why: &str, at: &str) -> ReportError {
    ReportError(format!(
        "{why}\nSelection syntax error at '{at}'.\nUse 'help' for selection to get more help."
    ))
}

/// What can stand in a selection.
pub(super) fn help() -> String {
    "\
Selection operands
------------------
  field               - A field of the report.
  number              - Digits.
  string              - In ' or \", or without quotes up to a blank or an operator.
  regular expression  - In ', \", (), [] or {}, or without quotes.
 
Selection operators
-------------------
  Comparison operators:
        =~  - Matches a regular expression. [string]
        !~  - Does not match a regular expression. [string]
         =  - Equal. [number, string]
        !=  - Not equal. [number, string]
        >=  - At least. [number]
         >  - More than. [number]
        <=  - At most. [number]
         <  - Less than. [number]
 
  Logical and grouping operators:
      &&  - Both hold
       ,  - Both hold
      ||  - One of them holds
       #  - One of them holds
       !  - The following parenthesis does not hold
       (  - Left parenthesis
       )  - Right parenthesis
 
"
    .into()
}
