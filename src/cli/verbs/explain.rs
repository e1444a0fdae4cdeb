//! `explain` and `graph`: how devices lie on one another, for one request and as a picture.

use std::fmt::Write as _;

use serde_json::json;

use super::mount::unexpected;
use crate::cli::graph::Graph;
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::Kind;
use crate::control::protocol::json::{JsonReply, JsonRequest};
use crate::control::protocol::stack::{Below, Explanation, Part, Piece, Request};
use crate::terminal::{Look, Paint};

#[cfg(test)]
mod tests;

/// Parts of a request that are printed one by one.
const MOST_PARTS: usize = 8;

/// `explain DEVICE SECTOR [SECTORS]`
pub fn explain(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let number = |what: &str, word: &str| {
        let expected = || Failure::new(format!("dmfs: explain: expected {what}, found '{word}'"));
        word.parse::<u64>().map_err(|_| expected())
    };
    let (device, sector, sectors) = match words {
        [device, sector] => (device, sector, "1"),
        [device, sector, sectors] => (device, sector, sectors.as_str()),
        _ => {
            return Err(Failure::new(
                "dmfs: explain: expected DEVICE SECTOR [SECTORS]",
            ));
        }
    };
    let (sector, sectors) = (
        number("a sector", sector)?,
        number("a number of sectors", sectors)?,
    );
    let request = JsonRequest::Explain {
        name: session.task(Kind::Info, Some(device))?.name,
        sector,
        sectors,
        inactive: session.options.inactive,
    };
    let explanation = match session.ask(&request)? {
        JsonReply::Explanation(explanation) => explanation,
        other => return Err(unexpected(&other)),
    };
    if session.options.json {
        return session.print_json(&json!(explanation));
    }
    let text = Teller::new(&explanation, session.look).tell();
    session.print(&text)
}

/// `graph [DEVICE...]`
pub fn graph(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let mut wanted = Vec::new();
    for word in words {
        wanted.push(session.task(Kind::Info, Some(word))?.name);
    }
    let stack = match session.ask(&JsonRequest::Stack {})? {
        JsonReply::Stack(stack) => stack,
        other => return Err(unexpected(&other)),
    };
    let known = |name: &String| stack.devices.iter().any(|device| device.name == *name);
    if let Some(missing) = wanted.iter().find(|name| !known(name)) {
        return Err(Failure::new(format!(
            "dmfs: graph: expected the name of a device of this mount, found '{missing}'"
        )));
    }
    let stack = match wanted.is_empty() {
        true => stack,
        false => stack.below(&wanted),
    };
    if session.options.json {
        return session.print_json(&json!(stack));
    }
    let graph = Graph::new(&stack);
    let text = match session.options.svg {
        true => graph.svg(),
        false => graph.dot(),
    };
    session.print(&text)
}

/// Writes an explanation for people.
struct Teller<'e> {
    explanation: &'e Explanation,
    look: Look,
    text: String,
    /// Requests to what is no mapped device.
    at_the_bottom: usize,
}

impl<'e> Teller<'e> {
    fn new(explanation: &'e Explanation, look: Look) -> Teller<'e> {
        Teller {
            explanation,
            look,
            text: String::new(),
            at_the_bottom: 0,
        }
    }

    fn tell(mut self) -> String {
        let told = self.explanation;
        let table = if told.inactive {
            ", by the inactive table"
        } else {
            ""
        };
        let name = self.look.paint(Paint::Name, &told.name);
        let span = span(told.sector, told.sectors);
        self.line(
            0,
            &format!("{name}: {span} of {}{table}", told.device_sectors),
        );
        for (place, piece) in told.pieces.iter().enumerate() {
            if piece.depth == 0 {
                self.piece(place, 1);
            }
        }
        if told.left_off {
            self.line(0, "There is more than is told here: ask for fewer sectors.");
        } else {
            let (count, plural) = (self.at_the_bottom, plural(self.at_the_bottom as u64));
            self.line(
                0,
                &format!("In all {count} request{plural} to what lies below."),
            );
        }
        if told.suspended {
            let waits = "A device on the way is suspended: the request waits until it is resumed.";
            let waits = self.look.paint(Paint::Warning, waits);
            self.line(0, &waits);
        }
        self.text
    }

    fn line(&mut self, indent: usize, line: &str) {
        let _ = writeln!(self.text, "{:width$}{line}", "", width = indent * 2);
    }

    fn piece(&mut self, place: usize, indent: usize) {
        let told = self.explanation;
        let Some(piece) = told.pieces.get(place) else {
            return;
        };
        self.line(indent, &self.piece_line(piece));
        if !piece.note.is_empty() {
            self.line(indent + 1, &self.look.paint(Paint::Warning, &piece.note));
        }
        for request in &piece.requests {
            self.line(indent + 1, &self.request_line(request));
            if request.parts.len() > 1 {
                self.line(indent + 2, &format!("made of {}", parts(&request.parts)));
            }
            self.at_the_bottom += usize::from(request.kind != Below::Mapped);
            // A piece comes after what it is a piece of, so this ends.
            for &below in request.pieces.iter().filter(|&&below| below > place) {
                self.piece(below, indent + 2);
            }
        }
    }

    fn piece_line(&self, piece: &Piece) -> String {
        let row = format!("row {}:", piece.row);
        format!(
            "{} {row} {} {} {} {}",
            self.look.paint(Paint::Head, &span(piece.at, piece.sectors)),
            piece.row_start,
            piece.row_sectors,
            self.look.paint(Paint::Kind, &piece.target),
            piece.args
        )
        .trim_end()
        .to_owned()
    }

    fn request_line(&self, request: &Request) -> String {
        let path = match request.kind {
            Below::Mapped => request.path.rsplit('/').next().unwrap_or_default(),
            Below::File | Below::BlockDevice | Below::Memory => &request.path,
        };
        let byte = match request.kind {
            Below::Mapped => String::new(),
            Below::File | Below::BlockDevice | Below::Memory => format!(", byte {}", request.byte),
        };
        format!(
            "-> {} {} ({}): {}{byte}",
            request.kind.word(),
            self.look.paint(Paint::Name, path),
            request.number,
            span(request.at, request.sectors)
        )
    }
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn span(at: u64, sectors: u64) -> String {
    match sectors {
        0 | 1 => format!("sector {at}"),
        _ => format!(
            "sectors {at} to {} ({sectors})",
            at.saturating_add(sectors - 1)
        ),
    }
}

fn parts(parts: &[Part]) -> String {
    let mut shown: Vec<String> = parts
        .iter()
        .take(MOST_PARTS)
        .map(|part| match part.sectors {
            0 | 1 => part.at.to_string(),
            _ => format!("{}-{}", part.at, part.at.saturating_add(part.sectors - 1)),
        })
        .collect();
    if parts.len() > MOST_PARTS {
        shown.push(format!("and {} more", parts.len() - MOST_PARTS));
    }
    shown.join(", ")
}
