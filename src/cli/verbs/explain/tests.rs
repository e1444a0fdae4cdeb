#![allow(clippy::unwrap_used)]

use super::Teller;
use crate::control::protocol::stack::{Below, Explanation, Part, Piece, Request};
use crate::terminal::Look;

fn request(kind: Below, path: &str, at: u64, sectors: u64) -> Request {
    Request {
        number: "251:0".into(),
        path: path.into(),
        kind,
        at,
        byte: at * 512,
        sectors,
        parts: vec![Part { at: 10, sectors }],
        pieces: Vec::new(),
    }
}

fn piece(depth: u32, target: &str, args: &str) -> Piece {
    Piece {
        depth,
        at: 10,
        sectors: 4,
        row: 1,
        row_sectors: 100,
        target: target.into(),
        args: args.into(),
        ..Piece::default()
    }
}

fn told() -> Explanation {
    let mut top = piece(0, "linear", "/dev/dm/low 0");
    let mut down = request(Below::Mapped, "/mnt/dm/low", 10, 4);
    down.pieces = vec![1];
    top.requests = vec![down];
    let mut low = piece(1, "striped", "2 2 a 0 b 0");
    let mut first = request(Below::File, "/d/a", 6, 2);
    first.parts = vec![Part { at: 10, sectors: 1 }, Part { at: 12, sectors: 1 }];
    low.requests = vec![first, request(Below::Memory, "mem:65536", 6, 1)];
    Explanation {
        name: "high".into(),
        sector: 10,
        sectors: 4,
        device_sectors: 100,
        pieces: vec![top, low],
        ..Explanation::default()
    }
}

#[test]
fn each_piece_stands_under_what_made_it() {
    let text = Teller::new(&told(), Look::PLAIN).tell();
    let expected = "\
high: sectors 10 to 13 (4) of 100
  sectors 10 to 13 (4) row 1: 0 100 linear /dev/dm/low 0
    -> mapped device low (251:0): sectors 10 to 13 (4)
      sectors 10 to 13 (4) row 1: 0 100 striped 2 2 a 0 b 0
        -> file /d/a (251:0): sectors 6 to 7 (2), byte 3072
          made of 10, 12
        -> memory mem:65536 (251:0): sector 6, byte 3072
In all 2 requests to what lies below.
";
    assert_eq!(text, expected);
}

#[test]
fn what_is_left_off_and_what_waits_is_said() {
    let mut told = told();
    told.left_off = true;
    told.suspended = true;
    told.pieces[1].requests[0].parts = vec![Part { at: 1, sectors: 2 }; 10];
    let text = Teller::new(&told, Look::PLAIN).tell();
    assert!(text.contains("1-2, 1-2, and 2 more\n"), "{text}");
    assert!(text.contains("more than is told here"), "{text}");
    assert!(text.contains("is suspended"), "{text}");
    assert!(!text.contains("In all"), "{text}");
}

#[test]
fn places_that_lead_back_end() {
    let mut told = told();
    told.pieces[1].requests[0].pieces = vec![0, 1, 99];
    assert!(Teller::new(&told, Look::PLAIN).tell().len() < 2000);
}
