//! Loops that a trace tells instead of listing: `loop i from 0 below 300: write ...`.

use std::collections::HashMap;

/// One access of a told loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Read {
        device: String,
        at: u64,
        len: u64,
    },
    Write {
        device: String,
        at: u64,
        len: u64,
        pattern: u64,
    },
}

type Variables = HashMap<String, u64>;

/// `i from 0 below 300: write D sector E, N sectors, pattern E` or
/// `i 1..8, b in 0 1 3 9: read D E E, write D E E E`, unrolled.
pub fn writes(text: &str) -> Option<Vec<Told>> {
    let (head, body) = text.split_once(": ")?;
    let mut told = Vec::new();
    for variables in rounds(head)? {
        body_of(body, &variables, &mut told)?;
    }
    Some(told)
}

/// `create_thin i*3 for i from 0 below 40`, unrolled.
pub fn messages(text: &str) -> Option<Vec<String>> {
    let (message, head) = text.split_once(" for ")?;
    let words: Vec<&str> = message.split(' ').collect();
    rounds(head)?
        .iter()
        .map(|variables| {
            let (word, expressions) = words.split_first()?;
            let mut line = (*word).to_owned();
            for expression in expressions {
                line.push_str(&format!(" {}", value(expression, variables)?));
            }
            Some(line)
        })
        .collect()
}

/// The variables of each round, the last variable running fastest.
fn rounds(head: &str) -> Option<Vec<Variables>> {
    let mut rounds = vec![Variables::new()];
    for part in head.split(", ") {
        let (name, values) = part.split_once(' ')?;
        let values: Vec<u64> = if let Some((from, below)) = values
            .strip_prefix("from ")
            .and_then(|range| range.split_once(" below "))
        {
            (from.parse().ok()?..below.parse().ok()?).collect()
        } else if let Some(list) = values.strip_prefix("in ") {
            list.split(' ')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?
        } else {
            let (first, last) = values.split_once("..")?;
            (first.parse().ok()?..=last.parse().ok()?).collect()
        };
        rounds = rounds
            .iter()
            .flat_map(|outer| {
                values.iter().map(move |&value| {
                    let mut inner = outer.clone();
                    inner.insert(name.to_owned(), value);
                    inner
                })
            })
            .collect();
    }
    Some(rounds)
}

fn body_of(body: &str, variables: &Variables, told: &mut Vec<Told>) -> Option<()> {
    if let Some((device, rest)) = body
        .strip_prefix("write ")
        .and_then(|rest| rest.split_once(" sector "))
    {
        let (at, rest) = rest.split_once(", ")?;
        let (len, pattern) = rest.split_once(" sectors, pattern ")?;
        told.push(Told::Write {
            device: device.to_owned(),
            at: value(at, variables)?,
            len: value(len, variables)?,
            pattern: value(pattern, variables)?,
        });
        return Some(());
    }
    for access in body.split(", ") {
        let words: Vec<&str> = access.split(' ').collect();
        told.push(match words.as_slice() {
            ["read", device, at, len] => Told::Read {
                device: (*device).to_owned(),
                at: value(at, variables)?,
                len: value(len, variables)?,
            },
            ["write", device, at, len, pattern] => Told::Write {
                device: (*device).to_owned(),
                at: value(at, variables)?,
                len: value(len, variables)?,
                pattern: value(pattern, variables)?,
            },
            _ => return None,
        });
    }
    Some(())
}

/// Value of an expression of numbers, variables, `+`, `*`, `mod` and parentheses.
fn value(text: &str, variables: &Variables) -> Option<u64> {
    let spaced = ["+", "*", "(", ")"]
        .iter()
        .fold(text.to_owned(), |text, &sign| {
            text.replace(sign, &format!(" {sign} "))
        });
    let mut words = spaced.split_whitespace().rev().map(str::to_owned).collect();
    let sum = sum(&mut words, variables)?;
    words.is_empty().then_some(sum)
}

/// Words still to be read, the next one last.
type Words = Vec<String>;

fn sum(words: &mut Words, variables: &Variables) -> Option<u64> {
    let mut total = product(words, variables)?;
    while words.last().is_some_and(|word| word == "+") {
        words.pop();
        total = total.checked_add(product(words, variables)?)?;
    }
    Some(total)
}

fn product(words: &mut Words, variables: &Variables) -> Option<u64> {
    let mut total = factor(words, variables)?;
    while let Some(sign) = words.last().filter(|word| *word == "*" || *word == "mod") {
        let times = sign == "*";
        words.pop();
        let next = factor(words, variables)?;
        total = match times {
            true => total.checked_mul(next)?,
            false => total.checked_rem(next)?,
        };
    }
    Some(total)
}

fn factor(words: &mut Words, variables: &Variables) -> Option<u64> {
    let word = words.pop()?;
    if word == "(" {
        let inside = sum(words, variables)?;
        return (words.pop()? == ")").then_some(inside);
    }
    word.parse().ok().or_else(|| variables.get(&word).copied())
}

#[cfg(test)]
mod tests {
    use super::{Told, messages, writes};

    #[test]
    fn expressions_bind_as_written() {
        let told =
            writes("i from 299 below 300: write snap sector (i*7 mod 1024)*8, 8 sectors, pattern (i+1000)*8")
                .unwrap();
        assert_eq!(
            told,
            [Told::Write {
                device: "snap".into(),
                at: (299 * 7 % 1024) * 8,
                len: 8,
                pattern: 1299 * 8
            }]
        );
    }

    #[test]
    fn last_variable_runs_fastest() {
        let told = writes("i 1..2, b in 0 9: read c b*64 64, write c b*64+8 8 i*8").unwrap();
        assert_eq!(told.len(), 8);
        assert_eq!(
            told[3],
            Told::Write {
                device: "c".into(),
                at: 9 * 64 + 8,
                len: 8,
                pattern: 8
            }
        );
        assert_eq!(
            told[4],
            Told::Read {
                device: "c".into(),
                at: 0,
                len: 64
            }
        );
    }

    #[test]
    fn messages_count_up() {
        let told = messages("create_thin i*3 for i from 0 below 3").unwrap();
        assert_eq!(told, ["create_thin 0", "create_thin 3", "create_thin 6"]);
    }

    #[test]
    fn half_told_loops_are_refused() {
        for text in [
            "",
            "i",
            "i from 0 below 3",
            "i from 0 below 3: write",
            "i from 0 below 3: write s sector (i, 8 sectors, pattern i",
            "i from 0 below 3: write s sector j, 8 sectors, pattern i",
            "i from 0 below 3: write s sector i mod 0, 8 sectors, pattern i",
            "i 1..2: read c 0",
        ] {
            assert_eq!(writes(text), None, "{text}");
        }
    }
}
