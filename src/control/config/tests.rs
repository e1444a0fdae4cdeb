#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use tempfile::TempDir;

use super::{Config, DeviceSpec, Terms, apply, check, check_concise, check_text, dump, read};
use crate::backing::BackingStore;
use crate::control::Registry;
use crate::control::protocol::mount::MetricsAddress;
use crate::device::{CachePolicy, Directory, Identity};
use crate::io::BlockDev;
use crate::sync::Arc;
use crate::table::RowSpec;
use crate::target::{Access, escape_word};
use crate::targets::KINDS;
use crate::unit::{Bytes, Sector, Sectors};

const TERMS: Terms = Terms {
    kinds: KINDS,
    major: 253,
};

fn read_in(folder: &TempDir, text: &str) -> Result<Config, Vec<String>> {
    check_text(text, "x.toml", folder.path(), TERMS)
        .map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

fn mistakes(text: &str) -> Vec<String> {
    read_in(&TempDir::new().unwrap(), text).unwrap_err()
}

fn only_mistake(text: &str) -> String {
    let found = mistakes(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

/// A device with this table.
fn device(name: &str, table: &str) -> String {
    format!("[[device]]\nname = {name:?}\ntable = '''\n{table}\n'''\n")
}

fn registry() -> Arc<Registry> {
    Registry::new(KINDS, 253, BackingStore::new(254))
}

fn apply_to(registry: &Arc<Registry>, config: &Config) -> Result<(), String> {
    apply(config, registry, &|| true).map_err(|error| error.to_string())
}

fn names(registry: &Registry) -> Vec<String> {
    registry.list().iter().map(|device| device.name()).collect()
}

/// Without what only errors need.
fn bare(config: Config) -> Config {
    let devices = config.devices.into_iter().map(|device| DeviceSpec {
        place: None,
        ..device
    });
    Config {
        origin: String::new(),
        folder: "/".into(),
        devices: devices.collect(),
        ..config
    }
}

#[test]
fn everything_a_file_can_say_is_read() {
    let folder = TempDir::new().unwrap();
    let text = r#"
[defaults]
cache = "keep"
direct = true
readonly = true
[[file]]
path = "a.img"
size = "64K"
[[device]]
name = "low"
uuid = "DMFS-1"
minor = 0x3
readonly = false
table = "0 64 linear a.img 0  # the first half\n64 64 zero"
[[device]]
name = "high"
cache = "none"
direct = false
table = """
# over the other
0 128 linear /dev/mapper/low 0
"""
[[device]]
name = "empty"
"#;
    let config = read_in(&folder, text).unwrap();
    assert_eq!(config.files[0].size, Bytes(65536));
    assert_eq!(config.files[0].path, Path::new("a.img"));
    let [low, high, empty] = &config.devices[..] else {
        panic!("{config:?}")
    };
    assert_eq!(
        (low.uuid.as_str(), low.minor, low.access),
        ("DMFS-1", Some(3), Access::ReadWrite)
    );
    assert_eq!(
        (low.direct, high.direct, high.access),
        (true, false, Access::ReadOnly)
    );
    assert_eq!(
        (low.cache, high.cache),
        (Some(CachePolicy::Keep), Some(CachePolicy::None))
    );
    let rows = low.rows.as_ref().unwrap();
    assert_eq!(rows[0].params, "a.img 0");
    assert_eq!(
        (rows[1].start, rows[1].len, rows[1].kind.as_str()),
        (Sector(64), Sectors(64), "zero")
    );
    assert_eq!((high.minor, empty.rows.is_none()), (None, true));
    assert!(
        fs::read_dir(folder.path()).unwrap().next().is_none(),
        "checking made a file"
    );
}

#[test]
fn a_mistake_in_a_row_names_line_row_and_word() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.img"), [0; 4096]).unwrap();
    let text = device("joined", "0 8 linear a.img 0\n# half\n8 8 linear a.img x");
    let errors = check_text(&text, "mounts/x.toml", folder.path(), TERMS).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "mounts/x.toml:6: device joined: row 2, word 5: linear: Invalid device sector: \
         expected a sector number (plain decimal), found 'x'"
    );
    assert_eq!(errors.0[0].place.unwrap().column, 18);
}

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    let text = r#"colour = "red"
[defaults]
direct = "yes"
raedonly = true
[[file]]
path = "no-such-folder/a.img"
size = "64Q"
[[file]]
size = "1K"
[[device]]
name = "a/b"
minor = 1048576
nmae = "c"
[[device]]
name = "c"
uuid = 5
cache = "write-back"
table = '''
0 8 zero
8 x zero
16 8 nosuch
'''
[[device]]
name = "c"
table = '''
0 8 linear missing.img 0
9 8 zero 1
17 0 zero
17 8 linear mem:4K y
'''
[[device]]
table = ""
"#;
    let want = [
        ":1: this file: unknown key 'colour': expected one of defaults, device, file, harden, luks, metrics, supervised, transport",
        ":3: [defaults]: 'direct': expected true or false, found the text \"yes\"",
        ":4: [defaults]: unknown key 'raedonly': did you mean 'readonly'?",
        ":6: file no-such-folder/a.img: cannot be made: expected a folder FOLDER/no-such-folder",
        ":7: file no-such-folder/a.img: size \"64Q\": expected a number of bytes, or a number with K, M, G, T, P or E",
        ":8: file 2: 'path' is missing: expected where the file is",
        ":11: device a/b: device name cannot contain '/'",
        ":12: device a/b: expected a minor number from 0 to 1048575, found 1048576",
        ":13: device a/b: unknown key 'nmae': did you mean 'name'?",
        ":16: device c: 'uuid': expected a text in quotes, found the number 5",
        ":17: device c: 'cache': expected one of none, keep, writeback, passthrough, found \"write-back\"",
        ":20: device c: table, line 2: expected its length in sectors, found 'x' (a row is START LENGTH TARGET [ARGUMENT...])",
        ":21: device c: row 2, word 3: nosuch: unknown target type: expected one of KINDS, found 'nosuch'",
        ":24: device c: this name is already that of the device on line 15",
        ":26: device c: row 1, word 4: linear: Device lookup failed: expected a device that can be opened (it does not exist, and no [[file]] section makes it), found 'missing.img'",
        ":27: device c: row 2, word 1: zero: Gap in table: expected sector 8, found '9'",
        ":28: device c: row 3, word 2: zero-length target: expected a length of at least 1 sector, found '0'",
        ":29: device c: row 4, word 5: linear: Invalid device sector: expected a sector number (plain decimal), found 'y'",
        ":31: device 4: 'name' is missing: expected what the device's file is called",
        ":31: device 4: populate_table: no targets specified: expected at least one row",
    ];
    let folder = TempDir::new().unwrap();
    let found = read_in(&folder, text).unwrap_err();
    let kinds: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    let want = want.map(|want| {
        format!(
            "x.toml{}",
            want.replace("FOLDER", folder.path().to_str().unwrap())
                .replace("KINDS", &kinds.join(", "))
        )
    });
    assert_eq!(found, want, "{found:#?}");
}

#[test]
fn broken_toml_is_told_line_by_line_and_hides_nothing_else() {
    let found = mistakes(
        "[[device]\nname = \"a\"\n[[device]]\nname = b\ntable = '''\n0 8 zero 1\n'''\n[[device]]\nnaem 1\n",
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("x.toml:1: column "), "{found:#?}");
    assert!(found[1].starts_with("x.toml:4: column "), "{found:#?}");
    assert!(
        found[2].starts_with("x.toml:6: device b: row 1"),
        "{found:#?}"
    );
    assert!(found[3].starts_with("x.toml:9: column "), "{found:#?}");
    for bad in [
        "a = ",
        "= 1",
        "[",
        "\"",
        "'''",
        "a = 1\na = 2",
        "[[device]]\n[device]",
        "x = 1e",
        "\u{0}",
    ] {
        assert!(!mistakes(bad).is_empty(), "{bad:?}");
    }
}

#[test]
fn names_uuids_and_numbers_stand_for_one_device() {
    let text = "[[device]]\nname = 'a'\nuuid = 'U'\nminor = 1\n[[device]]\nname = 'b'\nuuid = 'U'\nminor = 1\n";
    assert_eq!(
        mistakes(text),
        [
            "x.toml:7: device b: the uuid 'U' is already that of the device on line 3",
            "x.toml:8: device b: the minor number 1 is already that of the device on line 4",
        ]
    );
    for name in ["", ".", "..", "control", "a/b", "a\u{0}b", &"x".repeat(128)] {
        only_mistake(&format!("[[device]]\nname = {}\n", toml::Value::from(name)));
    }
    only_mistake(&format!(
        "[[device]]\nname = 'a'\nuuid = '{}'\n",
        "u".repeat(129)
    ));
    for minor in ["-1", "1048576", "9999999999999999999", "1.5", "'1'", "[1]"] {
        only_mistake(&format!("[[device]]\nname = 'a'\nminor = {minor}\n"));
    }
}

#[test]
fn sections_of_the_wrong_shape_are_refused() {
    for text in [
        "device = 1",
        "[device]\nname = 'a'",
        "device = ['a']",
        "file = 'x'",
        "defaults = []",
        "[[defaults]]",
    ] {
        only_mistake(text);
    }
}

#[test]
fn devices_lie_on_devices_before_them() {
    let lies_on =
        |name: &str, below: &str| device(name, &format!("0 8 linear /dev/mapper/{below} 0"));
    let zero = device("zero", "0 8 zero");
    read_in(
        &TempDir::new().unwrap(),
        &(zero.clone() + &lies_on("a", "zero")),
    )
    .unwrap();
    let late = only_mistake(&(lies_on("a", "zero") + &zero));
    assert!(
        late.contains(":4: ") && late.contains("it is defined further down"),
        "{late}"
    );
    let itself = only_mistake(&lies_on("a", "a"));
    assert!(
        itself.contains("(it would lie on itself: a on a)"),
        "{itself}"
    );
    let round = mistakes(&(lies_on("a", "b") + &lies_on("b", "c") + &lies_on("c", "a")));
    assert_eq!(round.len(), 2, "{round:#?}");
    assert!(
        round[0].contains("itself: b on c on a on b)")
            && round[1].contains("itself: c on a on b on c)"),
        "{round:#?}"
    );
    let nobody = only_mistake(&lies_on("a", "nobody"));
    assert!(
        nobody.contains("no device of this mount has this name"),
        "{nobody}"
    );
    let short = only_mistake(&(zero + &device("a", "0 16 linear /dev/mapper/zero 0")));
    assert!(
        short.contains("too small for target: start=0, len=16, dev_size=8"),
        "{short}"
    );
}

#[test]
fn of_ten_thousand_devices_on_one_another_all_beyond_the_limit_are_refused() {
    let lies_on = |n: u32| {
        device(
            &format!("d{n}"),
            &format!("0 8 linear /dev/mapper/d{} 0", n - 1),
        )
    };
    let stack =
        |height: u32| device("d1", "0 8 zero") + &(2..=height).map(lies_on).collect::<String>();
    let folder = TempDir::new().unwrap();
    read_in(&folder, &stack(128)).unwrap();
    let found = read_in(&folder, &stack(10_000)).unwrap_err();
    assert_eq!(found.len(), 10_000 - 128);
    assert!(
        found[0].ends_with("device d129: expected at most 128 devices on one another"),
        "{}",
        found[0]
    );
}

#[test]
fn files_are_looked_at_and_left_alone() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("there"), [1; 4096]).unwrap();
    fs::write(folder.path().join("short"), "x").unwrap();
    let on = |file: &str| device("a", &format!("0 8 linear {file} 0"));
    let planned = |file: &str, size: &str| format!("[[file]]\npath = '{file}'\nsize = '{size}'\n");
    let of = |text: &str| read_in(&folder, text).map_err(|found| found.join("\n"));
    of(&on("there")).unwrap();
    of(&(planned("./new", "4K") + &on("new"))).unwrap();
    of(&(planned("there", "4K") + &on("there"))).unwrap();
    let cases = [
        (
            planned("there", "8K"),
            "is there with 4096 bytes: expected 8192 bytes, or no file",
        ),
        (
            planned(".", "8K"),
            "expected a regular file, or nothing, there",
        ),
        (planned("", "8K"), "expected the path of a file"),
        (
            planned("new", "4K") + &planned("./new", "8K"),
            "already in the section on line 2",
        ),
        (
            planned("new", "3K") + &on("new"),
            "new too small for target: start=0, len=8, dev_size=6",
        ),
        (on("short"), "it is shorter than a sector"),
        (on("."), "it is neither a regular file nor a block device"),
        (
            on("/dev/null"),
            "it is neither a regular file nor a block device",
        ),
        (on("7:999999"), "there is no such block device"),
        (on("mem:x"), "expected a number of bytes"),
        (
            device("a", "0 8 linear mem:4K:m 0\n8 8 linear mem:8K:m 0"),
            "this memory has 4096 bytes elsewhere",
        ),
    ];
    for (text, want) in cases {
        let found = of(&text).unwrap_err();
        assert!(found.contains(want) && !found.contains('\n'), "{found}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_mistake() {
    let folder = TempDir::new().unwrap();
    let of = |path: &Path| check(path, TERMS).unwrap_err().to_string();
    let missing = folder.path().join("no.toml");
    assert!(of(&missing).starts_with(&format!("{}: cannot be read: ", missing.display())));
    assert!(of(folder.path()).contains("cannot be read"));
    assert!(of(Path::new("/dev/zero")).contains("longer than a mount file may be"));
    let latin = folder.path().join("latin.toml");
    fs::write(&latin, b"# one\n# caf\xe9\n").unwrap();
    assert!(of(&latin).contains("line 2: a byte that is not UTF-8"));
}

#[test]
fn mounting_makes_files_and_devices() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("m.toml");
    let text = "[[file]]\npath = 'a.img'\nsize = '4K'\n".to_owned()
        + &device("low", "0 8 linear a.img 0")
        + &device("high", "0 4 linear /dev/mapper/low 4\n4 4 zero")
        + "[[device]]\nname = 'first'\nminor = 0\nuuid = 'U'\n";
    fs::write(&file, text).unwrap();
    let config = check(&file, TERMS).unwrap();
    let registry = registry();
    apply_to(&registry, &config).unwrap();
    assert_eq!(names(&registry), ["first", "high", "low"]);
    let number = |name: &str| registry.by_name(name).unwrap().number().minor;
    assert_eq!((number("first"), number("low"), number("high")), (0, 1, 2));
    assert_eq!(registry.by_uuid("U").unwrap().name(), "first");
    assert_eq!(registry.by_name("high").unwrap().capacity(), Sectors(8));
    assert_eq!(
        fs::metadata(folder.path().join("a.img")).unwrap().len(),
        4096
    );
    let shown = dump(&registry, true);
    let again = check_text(&shown, "dump", Path::new("/"), TERMS).unwrap();
    assert!(shown.contains("linear /dev/mapper/low 4"), "{shown}");
    let order: Vec<&str> = again
        .devices
        .iter()
        .map(|device| device.name.as_str())
        .collect();
    assert_eq!(order, ["low", "high", "first"]);
    registry.shut_down();
}

#[test]
fn what_fails_is_taken_back_as_a_whole() {
    let folder = TempDir::new().unwrap();
    let text = "[[file]]\npath = 'new.img'\nsize = '4K'\n[[file]]\npath = 'old.img'\nsize = '4K'\n"
        .to_owned()
        + &device("low", "0 8 linear new.img 0")
        + &device("mid", "0 8 linear /dev/mapper/low 0")
        + &device("taken", "0 8 zero");
    fs::write(folder.path().join("old.img"), [7; 4096]).unwrap();
    let config = read_in(&folder, &text).unwrap();
    let registry = registry();
    registry
        .create(
            Identity {
                name: "taken".into(),
                uuid: String::new(),
            },
            None,
        )
        .unwrap();
    let error = apply_to(&registry, &config).unwrap_err();
    assert!(error.starts_with("x.toml:17: device taken: "), "{error}");
    assert_eq!(names(&registry), ["taken"]);
    assert!(!folder.path().join("new.img").exists());
    assert_eq!(fs::read(folder.path().join("old.img")).unwrap(), [7; 4096]);
}

#[test]
fn the_concise_form_says_the_same() {
    let folder = TempDir::new().unwrap();
    let of = |text: &str| check_concise(text, folder.path(), true, TERMS);
    let config = of("a,U,7,ro,0 8 zero,8 8 error;b,,,,0 16 linear /dev/mapper/a 0").unwrap();
    let text = "[defaults]\ndirect = true\n[[device]]\nname = 'a'\nuuid = 'U'\nminor = 7\nreadonly = true\n\
        table = \"0 8 zero\\n8 8 error\"\n"
        .to_owned()
        + &device("b", "0 16 linear /dev/mapper/a 0");
    assert_eq!(bare(config), bare(read_in(&folder, &text).unwrap()));
    let found = of("a,,1048576,,0 8 zero 1,8 x zero;a,,,,0 8 nosuch;b")
        .unwrap_err()
        .to_string();
    assert_eq!(found.lines().count(), 7, "{found}");
    for want in [
        "--concise: device a: expected a minor number from 0 to 1048575, found 1048576",
        "--concise: device a: table, line 2: expected its length in sectors, found 'x'",
        "--concise: device a: row 1: zero: No arguments required: ",
        "--concise: device a: this name is already that of a device before",
        "--concise: device a: row 1, word 3: nosuch: unknown target type",
        "--concise: Five comma-separated fields are required for each device",
    ] {
        assert!(found.contains(want), "{want}\n{found}");
    }
}

#[test]
fn a_dump_says_who_goes_around_the_page_cache() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.img"), [0; 8192]).unwrap();
    let text = "[[device]]\nname = 'a'\ndirect = true\ntable = '0 8 linear a.img 0'\n".to_owned()
        + "[[device]]\nname = 'b'\ntable = '0 8 linear /dev/mapper/a 0'\n";
    let config = check_text(&text, "t", folder.path(), TERMS).unwrap();
    let registry = registry();
    apply_to(&registry, &config).unwrap();
    let shown = check_text(&dump(&registry, true), "dump", Path::new("/"), TERMS).unwrap();
    let direct: Vec<bool> = shown.devices.iter().map(|device| device.direct).collect();
    assert_eq!(direct, [true, false]);
    registry.shut_down();
}

#[test]
fn a_device_s_dump_follows_its_present_name() {
    let registry = registry();
    let text =
        device("low", "0 8 linear mem:4K:m 0") + &device("high", "0 8 linear /dev/mapper/low 0");
    let config = read_in(&TempDir::new().unwrap(), &text).unwrap();
    apply_to(&registry, &config).unwrap();
    registry
        .rename(&registry.by_name("low").unwrap(), "under")
        .unwrap();
    let shown = dump(&registry, true);
    assert!(shown.contains("0 8 linear /dev/mapper/under 0"), "{shown}");
    assert!(shown.contains("0 8 linear mem:4K:m 0"), "{shown}");
    registry.shut_down();
}

#[test]
fn the_examples_are_without_a_mistake_and_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mounts");
    for kind in KINDS {
        assert!(
            folder.join(kind.name).with_extension("toml").is_file(),
            "no example of {}",
            kind.name
        );
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let config = check(&path, TERMS).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(
            text.lines().count() <= 40 && text.starts_with("# "),
            "{}",
            path.display()
        );
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            text.contains(&format!("dmfs mount mounts/{name} ./dm")),
            "{name}"
        );
        let bytes: u64 = config.files.iter().map(|file| file.size.0).sum();
        assert!(
            bytes <= 64 << 20 && config.files.iter().all(|file| file.path.is_relative()),
            "{name}"
        );
    }
}

#[test]
fn examples_in_the_documentation_are_without_a_mistake() {
    let documentation = include_str!("../../../docs/config.md");
    let folder = TempDir::new().unwrap();
    let blocks: Vec<&str> = documentation.split("```toml\n").skip(1).collect();
    assert!(blocks.len() >= 2);
    for block in blocks {
        let (text, _) = block.split_once("```").unwrap();
        read_in(&folder, text).unwrap();
    }
}

#[test]
fn keys_are_documented() {
    let documentation = include_str!("../../../docs/config.md");
    for key in read::all_keys() {
        assert!(
            documentation.contains(&format!("`{key}`")) || documentation.contains(key),
            "{key}"
        );
    }
}

#[test]
fn a_hundred_thousand_mistakes_are_all_found() {
    let rows: String = (0..100_000)
        .map(|at| format!("{} 8 linear mem:1G:m {}\n", at * 8, at * 8))
        .collect();
    read_in(&TempDir::new().unwrap(), &device("big", &rows)).unwrap();
    let found = mistakes(&device("big", &rows.replace("mem:", "men:")));
    assert_eq!(found.len(), 100_000);
}

/// Kind and arguments of a row of 8 sectors, over memory or one of the `n` devices before.
fn any_row(n: usize) -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        Just(("zero".to_owned(), String::new())),
        Just(("error".to_owned(), String::new())),
        r#"[a-z'"\\=,]{1,8}"#.prop_map(|name| {
            let word = escape_word(&format!("mem:64K:{name}"));
            ("linear".to_owned(), format!("{word} 3"))
        }),
        (0..n.max(1)).prop_map(move |below| match n {
            0 => ("zero".to_owned(), String::new()),
            _ => ("linear".to_owned(), format!("/dev/mapper/d{below} 0")),
        }),
    ]
}

fn any_device(index: usize) -> impl Strategy<Value = DeviceSpec> {
    let rows = prop::option::of(prop::collection::vec(any_row(index), 1..4));
    let uuid = prop_oneof![
        Just(String::new()),
        "[ -~\u{e9}]{1,20}".prop_map(move |text| format!("{index}{text}"))
    ];
    let minor = prop::option::of(Just(index as u32 * 3));
    let cache = prop::option::of(Just(CachePolicy::Keep));
    (rows, uuid, minor, any::<bool>(), any::<bool>(), cache).prop_map(
        move |(rows, uuid, minor, readonly, direct, cache)| {
            let rows = rows.map(|rows| {
                let row = |(n, (kind, params))| RowSpec {
                    start: Sector(n * 8),
                    len: Sectors(8),
                    kind,
                    params,
                };
                (0u64..).zip(rows).map(row).collect()
            });
            let access = if readonly {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            };
            DeviceSpec {
                place: None,
                name: format!("d{index}"),
                uuid,
                minor,
                access,
                direct,
                cache,
                rows,
                luks: None,
                hidden: false,
            }
        },
    )
}

fn any_config() -> impl Strategy<Value = Config> {
    (
        any_device(0),
        any_device(1),
        any_device(2),
        any_device(3),
        any::<[bool; 3]>(),
    )
        .prop_map(|(a, b, c, d, [supervised, harden, metrics])| Config {
            supervised,
            transport: None,
            metrics: metrics.then(|| MetricsAddress::Unix("/run/x y".into())),
            harden,
            origin: String::new(),
            folder: "/".into(),
            files: Vec::new(),
            devices: vec![a, b, c, d],
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(config in any_config()) {
        let text = config.to_toml();
        let again = check_text(&text, "t", Path::new("/"), TERMS);
        prop_assert_eq!(again.map(bare), Ok(config), "{}", text);
    }

    #[test]
    fn a_mount_s_dump_makes_the_same_mount(config in any_config()) {
        let (first, second) = (registry(), registry());
        let config = Config { devices: config.devices.into_iter().map(|device| DeviceSpec { direct: false, ..device }).collect(), ..config };
        apply_to(&first, &config).unwrap();
        let text = dump(&first, true);
        let again = check_text(&text, "t", Path::new("/"), TERMS).unwrap();
        apply_to(&second, &again).unwrap();
        prop_assert_eq!(dump(&second, true), text);
        first.shut_down();
        second.shut_down();
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = check_text(&text, "t", Path::new("/nowhere"), TERMS);
    }

    #[test]
    fn no_text_near_a_mount_file_panics(parts in prop::collection::vec(prop_oneof![
        Just("[[device]]\n"), Just("[device]\n"), Just("[[file]]\n"), Just("[defaults]\n"), Just("name = "),
        Just("table = "), Just("\"\"\""), Just("'''"), Just("0 8 zero\n"), Just("8 8 linear mem:4K 0"),
        Just("minor = 1"), Just("\n"), Just("\\"), Just("\"a\""), Just("size = '1K'"), Just("path"), Just("."),
        Just("="), Just("{"), Just("}"), Just("["), Just("]"), Just("readonly=true"), Just("\u{e9}"), Just("\r"),
        Just("/dev/mapper/a"), Just(","),
    ], 0..24)) {
        let _ = check_text(&parts.concat(), "t", Path::new("/nowhere"), TERMS);
    }

    #[test]
    fn no_concise_text_panics(text in "[a-z0-9,; \\\\\u{e9}]{0,60}") {
        let _ = check_concise(&text, Path::new("/nowhere"), false, TERMS);
    }
}
