#![allow(clippy::unwrap_used)]

use super::layout::{GAP, lay_out};
use super::{Graph, size};
use crate::control::protocol::stack::{Below, Stack, StackBelow, StackDevice, StackRows};

fn device(name: &str, number: &str, rows: &[(&str, u64, &[&str])]) -> StackDevice {
    StackDevice {
        name: name.into(),
        number: number.into(),
        sectors: 2048,
        rows: rows
            .iter()
            .map(|(target, rows, uses)| StackRows {
                target: (*target).into(),
                rows: *rows,
                sectors: 8,
                uses: uses.iter().map(|&number| number.into()).collect(),
            })
            .collect(),
        ..StackDevice::default()
    }
}

fn file(number: &str, path: &str) -> StackBelow {
    StackBelow {
        number: number.into(),
        path: path.into(),
        kind: Below::File,
        sectors: 3,
    }
}

/// `top` lies on `left` and, over two layers, on a file of `left`'s.
fn stack() -> Stack {
    Stack {
        devices: vec![
            device("left", "9:0", &[("linear", 2, &["8:0"]), ("error", 1, &[])]),
            device(
                "to\"p<",
                "9:1",
                &[("striped", 1, &["9:0", "8:0"]), ("linear", 3, &["8:0"])],
            ),
            device("alone", "9:2", &[("zero", 1, &[])]),
        ],
        below: vec![file("8:0", "/images/disk & co.img")],
    }
}

#[test]
fn sizes_are_exact_where_they_can_be() {
    assert_eq!(size(0), "0 B");
    assert_eq!(size(1), "512 B");
    assert_eq!(size(2048), "1 MiB");
    assert_eq!(size(3), "1.5 KiB");
    assert_eq!(size(u64::MAX), "8192.0 EiB");
}

#[test]
fn dot_names_every_device_and_target() {
    let dot = Graph::new(&stack()).dot();
    assert!(dot.starts_with("digraph dmfs {\n") && dot.ends_with("}\n"));
    for line in [
        r#"  "9:0" [label="left\n9:0, 1 MiB\n2 x linear + error"];"#,
        r#"  "9:1" [label="to\"p<\n9:1, 1 MiB\nstriped + 3 x linear"];"#,
        r#"  "8:0" [label="/images/disk & co.img\nfile 8:0, 1.5 KiB", shape=note, style=solid];"#,
        r#"  "9:0" -> "8:0" [label="2 x linear"];"#,
        r#"  "9:1" -> "8:0" [label="striped + 3 x linear"];"#,
        r#"  "9:1" -> "9:0" [label="striped"];"#,
    ] {
        assert!(dot.contains(line), "{line}\n{dot}");
    }
    assert_eq!(dot.matches(" -> ").count(), 3);
}

#[test]
fn users_stand_above_what_they_use_and_no_box_on_another() {
    let graph = Graph::new(&stack());
    let widths = [100.0, 150.0, 80.0, 200.0];
    let layout = lay_out(&graph, &widths);
    let layer = |place: usize| layout.boxes[place].1;
    assert_eq!((layer(1), layer(0), layer(3)), (0, 1, 2));
    assert_eq!(layout.layers, 3);
    for (a, (left, row)) in layout.boxes.iter().enumerate() {
        assert!(*left >= 0.0 && left + widths[a] <= layout.width + 0.01);
        for (b, (other, other_row)) in layout.boxes.iter().enumerate().skip(a + 1) {
            let apart =
                left + widths[a] + GAP <= other + 0.01 || other + widths[b] + GAP <= left + 0.01;
            assert!(row != other_row || apart, "{a} and {b}");
        }
    }
    // The long edge bends past the layer between.
    let ways: Vec<usize> = layout.ways.iter().map(|(_, way)| way.len()).collect();
    assert_eq!(ways, [2, 2, 3]);
}

#[test]
fn a_ring_is_drawn_and_does_not_hang() {
    let mut stack = stack();
    stack.devices[0].rows[0].uses = vec!["9:1".into()];
    assert!(Graph::new(&stack).svg().ends_with("</svg>\n"));
}

#[test]
fn svg_is_whole_and_its_text_escaped() {
    let svg = Graph::new(&stack()).svg();
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    assert!(svg.contains("to&quot;p&lt;") && svg.contains("disk &amp; co.img"));
    assert!(!svg.contains("href") && !svg.contains("NaN") && !svg.contains("inf"));
    for tag in ["g", "text", "title", "style", "svg"] {
        let opened =
            svg.matches(&format!("<{tag}>")).count() + svg.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let nothing = Graph::new(&Stack::default()).svg();
    assert!(
        nothing.ends_with("</svg>\n") && !nothing.contains("NaN") && !nothing.contains("inf"),
        "{nothing}"
    );
}

#[test]
fn a_part_of_the_stack_is_what_lies_below() {
    let names = |stack: &Stack| -> Vec<String> {
        stack
            .devices
            .iter()
            .map(|device| device.name.clone())
            .collect()
    };
    let below = stack().below(&["left".into()]);
    assert_eq!(names(&below), ["left"]);
    assert_eq!(below.below.len(), 1);
    let alone = stack().below(&["alone".into()]);
    assert_eq!(
        (names(&alone), alone.below.len()),
        (vec!["alone".to_string()], 0)
    );
    assert_eq!(
        names(&stack().below(&["to\"p<".into()])),
        ["left", "to\"p<"]
    );
}

#[test]
fn what_hangs_together_stands_together() {
    let graph = Graph::new(&stack());
    let layout = lay_out(&graph, &[100.0, 100.0, 100.0, 100.0]);
    let right = |place: usize| layout.boxes[place].0 + 100.0;
    let others = [0, 1, 3].map(right).into_iter().fold(0.0, f64::max);
    // "alone" is beside them, no further off than any neighbour, and above the files.
    assert!(layout.boxes[2].0 >= others && layout.boxes[2].0 <= others + 2.0 * GAP);
    assert_eq!(layout.boxes[2].1, 1);
}

#[test]
fn edges_leave_a_box_side_by_side() {
    let graph = Graph::new(&stack());
    let layout = lay_out(&graph, &[100.0, 150.0, 80.0, 200.0]);
    let from_top: Vec<f64> = layout
        .ways
        .iter()
        .filter(|way| way.0 == 0)
        .map(|way| way.1[0])
        .collect();
    assert_eq!(from_top.len(), 2);
    assert!((from_top[0] - from_top[1]).abs() >= 49.0, "{from_top:?}");
}
