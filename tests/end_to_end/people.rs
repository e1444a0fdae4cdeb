//! What is made for people: where a request goes, pictures, texts on a terminal and in a pipe.

use crate::support::mount::Mount;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// `low` on two files, `high` on `low` and nothing else.
fn two_layers() -> Mount {
    let mount = Mount::start();
    let (a, b) = (
        mount.backing("a.img", 1 << 20),
        mount.backing("b.img", 1 << 20),
    );
    let (a, b) = (a.display(), b.display());
    mount.create("low", &format!("0 1024 striped 2 8 {a} 16 {b} 0\n"));
    mount.create("high", "0 100 zero\n100 400 linear /dev/mapper/low 60\n");
    mount
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_explain_tells_is_where_the_data_lies() {
    let mount = two_layers();
    let device = mount.open("high");
    for sector in [100, 103, 104, 250, 499] {
        let mark = format!("sector {sector:>5}");
        device.write_all_at(mark.as_bytes(), sector * 512).unwrap();
        device.sync_all().unwrap();
        let told = json(
            &mount
                .dmfs(&["explain", "high", &sector.to_string(), "--json"])
                .must(),
        );
        let pieces = told["pieces"].as_array().unwrap();
        assert_eq!(pieces.len(), 2, "{told}");
        assert_eq!(pieces[0]["row"], 2);
        assert_eq!(pieces[1]["target"], "striped");
        let last = &pieces[1]["requests"][0];
        assert_eq!(last["kind"], "file");
        let file = File::open(last["path"].as_str().unwrap()).unwrap();
        let mut found = vec![0; mark.len()];
        file.read_exact_at(&mut found, last["byte"].as_u64().unwrap())
            .unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), mark);
    }
    drop(device);
    mount.stop();
}

#[test]
fn explain_tells_in_lines_how_a_request_splits() {
    let mount = two_layers();
    let text = mount.dmfs(&["explain", "high", "96", "20"]).must();
    let expected = format!(
        "\
high: sectors 96 to 115 (20) of 500
  sectors 96 to 99 (4) row 1: 0 100 zero
    reads give zeroes, writes are dropped
  sectors 100 to 115 (16) row 2: 100 400 linear {mnt}/low 60
    -> mapped device low (MAJOR:0): sectors 60 to 75 (16)
      sectors 60 to 75 (16) row 1: 0 1024 striped 2 8 {folder}/a.img 16 {folder}/b.img 0
        -> file {folder}/b.img (FILES:1): sectors 28 to 35 (8), byte 14336
          made of 60-63, 72-75
        -> file {folder}/a.img (FILES:0): sectors 48 to 55 (8), byte 24576
In all 2 requests to what lies below.
",
        mnt = mount.at().canonicalize().unwrap().display(),
        folder = mount.folder().display(),
    );
    let majors = regex::Regex::new(r"\((\d+):(\d)\): sector").unwrap();
    let numbers: Vec<&str> = majors
        .captures_iter(&text)
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    let expected = expected
        .replace("MAJOR", numbers[0])
        .replace("FILES", numbers[1]);
    assert_eq!(text, expected);
    for (words, expected) in [
        (
            ["explain", "high", "500"].as_slice(),
            "expected a sector below 500",
        ),
        (
            &["explain", "high", "0", "501"],
            "expected a length of 1 to 500",
        ),
        (
            &["explain", "high", "0", "0"],
            "expected a length of 1 to 500",
        ),
        (&["explain", "high", "x"], "expected a sector, found 'x'"),
        (&["explain", "nope", "0"], "nope"),
        (&["explain", "high", "0", "--inactive"], "inactive table"),
    ] {
        let said = mount.dmfs(words).must_fail();
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    mount.dmfs(&["suspend", "low"]).must();
    let text = mount.dmfs(&["explain", "high", "200"]).must();
    assert!(text.contains("is suspended"), "{text}");
    mount.dmfs(&["resume", "low"]).must();
    mount.stop();
}

#[test]
fn graphs_show_the_stack() {
    let mount = two_layers();
    mount.create("alone", "0 8 error\n");
    let dot = mount.dmfs(&["graph"]).must();
    assert!(dot.starts_with("digraph dmfs {"), "{dot}");
    for word in ["high\\n", "low\\n", "alone\\n", "a.img\\n", "zero + linear"] {
        assert!(dot.contains(word), "{word}: {dot}");
    }
    assert_eq!(dot.matches(" -> ").count(), 3, "{dot}");
    let part = mount.dmfs(&["graph", "low"]).must();
    assert!(!part.contains("high") && part.contains("b.img"), "{part}");
    let svg = mount.dmfs(&["graph", "--svg"]).must();
    assert!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
        "{svg}"
    );
    let stack = json(&mount.dmfs(&["graph", "--json"]).must());
    assert_eq!(stack["devices"].as_array().unwrap().len(), 3);
    assert_eq!(stack["below"].as_array().unwrap().len(), 2);
    let said = mount.dmfs(&["graph", "nope"]).must_fail();
    assert!(said.contains("found 'nope'"), "{said}");
    mount.stop();
}
