//! What is made for people: where a request goes, pictures, texts on a terminal and in a pipe.

use crate::support::mount::{Mount, as_nobody, new_folder, put_programs};
use crate::support::terminal::OnTerminal;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

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

/// Every verb that only tells.
const TELLING: [&[&str]; 13] = [
    &["ls"],
    &["ls", "--tree"],
    &["info"],
    &["info", "-c"],
    &["status"],
    &["table"],
    &["deps"],
    &["targets"],
    &["version"],
    &["counters"],
    &["limits", "low"],
    &["explain", "high", "0", "200"],
    &["help", "create"],
];

/// What `words` print on a terminal, with its line ends as in a pipe.
fn on_terminal(mount: &Mount, tool: &str, words: &[&str], variables: &[(&str, &str)]) -> String {
    let (status, shown) = OnTerminal::start(mount, tool, words, 200, variables).end();
    assert!(status.success(), "{tool} {words:?}: {shown}");
    shown.replace("\r\n", "\n")
}

#[test]
fn pipes_get_plain_text_and_dmsetup_is_plain_everywhere() {
    let mount = two_layers();
    for words in TELLING {
        let piped = mount.dmfs(words).must();
        assert!(!piped.contains('\x1b'), "{words:?}: {piped:?}");
        let without = on_terminal(&mount, "dmfs", words, &[("NO_COLOR", "1")]);
        assert_eq!(without, piped, "{words:?} with NO_COLOR");
        let dumb = on_terminal(&mount, "dmfs", words, &[("TERM", "dumb")]);
        assert_eq!(dumb, piped, "{words:?} on a dumb terminal");
    }
    for words in &TELLING[..8] {
        let piped = mount.dmsetup(words).must();
        let shown = on_terminal(&mount, "dmsetup", words, &[]);
        assert_eq!(shown, piped, "dmsetup {words:?}");
    }
    mount.stop();
}

#[test]
fn a_terminal_gets_the_same_text_in_colours() {
    let mount = two_layers();
    let colours = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    for words in TELLING {
        let piped = mount.dmfs(words).must();
        let shown = on_terminal(&mount, "dmfs", words, &[]);
        assert_eq!(colours.replace_all(&shown, ""), piped, "{words:?}");
    }
    for words in [
        &["info"][..],
        &["table"],
        &["info", "-c"],
        &["ls"],
        &["counters"],
        &["ls", "--tree"],
        &["limits", "low"],
    ] {
        let shown = on_terminal(&mount, "dmfs", words, &[]);
        assert!(colours.is_match(&shown), "{words:?}: {shown:?}");
    }
    let (status, shown) = OnTerminal::start(&mount, "dmfs", &["resume", "nope"], 80, &[]).end();
    assert_eq!(status.code(), Some(1));
    assert!(shown.contains("No such device"), "{shown}");
    mount.stop();
}

#[test]
fn tables_fit_a_narrow_terminal() {
    let mount = two_layers();
    let narrow = [("NO_COLOR", "1")];
    let (_, shown) = OnTerminal::start(&mount, "dmfs", &["counters"], 50, &narrow).end();
    for line in shown.lines() {
        assert!(line.len() <= 50, "{line}");
    }
    assert!(
        shown.contains("Reads") && !shown.contains("Zeroes"),
        "{shown}"
    );
    mount.stop();
}

#[test]
fn what_takes_long_says_so_in_lines_or_on_one() {
    let mount = two_layers();
    let held = mount.open("high");
    let words = ["remove", "--retry", "high"];
    thread::scope(|scope| {
        scope.spawn(|| {
            let said = mount.dmfs(&words).must_fail();
            assert!(
                said.starts_with("dmfs: remove high: goes on after 1 s\n"),
                "{said}"
            );
        });
        scope.spawn(|| {
            let said = mount.dmsetup(&words).must_fail();
            assert!(!said.contains("goes on"), "{said}");
        });
        let (_, shown) = OnTerminal::start(&mount, "dmfs", &words, 80, &[]).end();
        assert!(shown.contains("\rremove high | 1 s\x1b[K"), "{shown:?}");
        assert!(
            shown.contains("\r\x1b[K"),
            "what was drawn stays: {shown:?}"
        );
    });
    drop(held);
    mount.dmfs(&["remove", "--retry", "high"]).must();
    mount.stop();
}

#[test]
fn top_shows_what_devices_do() {
    let mount = two_layers();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let device = mount.open("high");
            while !stop.load(Ordering::Relaxed) {
                device.write_all_at(&[7; 4096], 200 * 512).unwrap();
                device.sync_all().unwrap();
            }
        });
        let text = mount.dmfs(&["top", "--count", "2", "--json"]).must();
        stop.store(true, Ordering::Relaxed);
        let counts: Vec<Value> = text.lines().map(json).collect();
        assert_eq!(counts.len(), 2, "{text}");
        for count in counts {
            let seconds = count["seconds"].as_f64().unwrap();
            assert!((0.5..30.0).contains(&seconds), "{seconds}");
            for (device, name) in ["high", "low"].into_iter().enumerate() {
                let told = &count["devices"][device];
                let number = |key: &str| {
                    told[key]
                        .as_f64()
                        .unwrap_or_else(|| panic!("{name}: {key}: {told}"))
                };
                assert_eq!(told["name"], name);
                assert!(number("writes") > 0.0 && number("flushes") > 0.0, "{told}");
                let bytes = number("write_bytes") / number("writes");
                assert!((bytes - 4096.0).abs() < 1.0 || name == "low", "{told}");
                assert!(
                    number("write_us") > 0.0 && number("flush_us") > 0.0,
                    "{told}"
                );
                assert!((0.0..=2.0).contains(&number("queue")), "{told}");
            }
        }
    });
    let text = mount.dmfs(&["top", "--count", "1"]).must();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["Name", "high", "low", "all"]);
    let one = mount.dmfs(&["top", "low", "--count", "1"]).must();
    assert!(!one.contains("high") && one.lines().count() == 2, "{one}");
    let said = mount.dmfs(&["top", "nope"]).must_fail();
    assert!(said.contains("found 'nope'"), "{said}");
    let said = mount.dmfs(&["top", "--sort", "size"]).must_fail();
    assert!(said.contains("expected one of name, requests"), "{said}");
    mount.stop();
}

#[test]
fn top_takes_the_terminal_and_gives_it_back() {
    let mount = two_layers();
    let mut top = OnTerminal::start(&mount, "dmfs", &["top"], 100, &[]);
    top.wait_for("measuring");
    top.wait_for("all ");
    top.press("b");
    top.wait_for("by bytes");
    top.press("q");
    let (status, shown) = top.end();
    assert!(status.success(), "{shown}");
    assert!(shown.starts_with("\x1b[?1049h\x1b[?25l"), "{shown:?}");
    assert!(shown.ends_with("\x1b[?25h\x1b[?1049l"), "{shown:?}");
    // A mount that goes ends it, with the terminal given back before the reason.
    let mut top = OnTerminal::start(&mount, "dmfs", &["top"], 100, &[]);
    top.wait_for("measuring");
    mount.stop();
    let (status, shown) = top.end();
    assert!(!status.success(), "{shown}");
    let (_, after) = shown.split_once("\x1b[?1049l").unwrap();
    assert!(after.contains("dmfs:"), "{after:?}");
}

#[test]
fn the_doctor_knows_that_mounts_work_here() {
    let (folder, _) = new_folder();
    put_programs(folder.path());
    let program = folder.path().join("dmfs");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let setpriv = as_nobody();
    for under in [&[][..], &setpriv] {
        let mut words = under.to_vec();
        words.push(program.display().to_string());
        let run = |option: &[&str]| {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).arg("doctor").args(option);
            let said = command.env_remove("XDG_RUNTIME_DIR").output().unwrap();
            assert!(said.status.success(), "{said:?}");
            String::from_utf8(said.stdout).unwrap()
        };
        let told = json(&run(&["--json"]));
        assert_eq!(told["can_mount"], true);
        let text = run(&[]);
        for check in told["checks"].as_array().unwrap() {
            let (name, state) = (
                check["name"].as_str().unwrap(),
                check["state"].as_str().unwrap(),
            );
            let line = text
                .lines()
                .find(|line| line.contains(&format!("  {name} ")));
            assert!(
                line.is_some_and(|line| line.starts_with(state)),
                "{name}: {text}"
            );
            assert_eq!(state == "ok", check["advice"] == "", "{check}");
        }
        assert!(
            text.lines().last().unwrap().starts_with("dmfs works here"),
            "{text}"
        );
    }
}
