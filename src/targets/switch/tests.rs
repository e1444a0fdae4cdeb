#![allow(clippy::unwrap_used)]

use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::mappings::{mappings, set_mappings};
use super::regions::Regions;
use crate::io::Errno;
use crate::target::Naming;
use crate::targets::tests::{MemoryOpener, build, build_on, each_is_refused, message, read, write};

#[test]
fn lines_are_refused_in_the_kernels_words() {
    each_is_refused(&[
        ("0 8 switch", "Invalid number of paths (-EINVAL)"),
        ("0 8 switch 0 8 0", "Invalid number of paths (-EINVAL)"),
        (
            "0 8 switch x 8 0 {0} 0",
            "Invalid number of paths (-EINVAL)",
        ),
        (
            "0 8 switch 262143 8 0 {0} 0",
            "Invalid number of paths (-EINVAL)",
        ),
        (
            "0 8 switch 262140 8 0 {0} 0",
            "Incorrect number of path arguments (-EINVAL)",
        ),
        ("0 8 switch 1", "Invalid region size (-EINVAL)"),
        ("0 8 switch 1 0 0 {0} 0", "Invalid region size (-EINVAL)"),
        ("0 8 switch 1 x 0 {0} 0", "Invalid region size (-EINVAL)"),
        // 2^32, of which the kernel reads 0.
        (
            "0 8 switch 1 4294967296 0 {0} 0",
            "Invalid region size (-EINVAL)",
        ),
        (
            "0 8 switch 1 8",
            "Invalid number of optional args (-EINVAL)",
        ),
        (
            "0 8 switch 1 8 x {0} 0",
            "Invalid number of optional args (-EINVAL)",
        ),
        (
            "0 8 switch 1 8 1 x {0} 0",
            "Invalid number of optional args (-EINVAL)",
        ),
        (
            "0 8 switch 1 8 0",
            "Incorrect number of path arguments (-EINVAL)",
        ),
        (
            "0 8 switch 1 8 0 {0}",
            "Incorrect number of path arguments (-EINVAL)",
        ),
        (
            "0 8 switch 1 8 0 {0} 0 {1} 0",
            "Incorrect number of path arguments (-EINVAL)",
        ),
        (
            "0 8 switch 1 8 0 {0} x",
            "Invalid device starting offset (-EINVAL)",
        ),
        (
            "0 8 switch 2 8 0 {0} 0 {1} x",
            "Invalid device starting offset (-EINVAL)",
        ),
        (
            "0 8 switch 1 8 0 nosuch x",
            "Device lookup failed (-ENODEV)",
        ),
        (
            "0 9007199254740992 switch 1 1 0 {0} 0",
            "Region table too large (-EINVAL)",
        ),
    ]);
}

#[test]
fn tables_are_shown_as_by_the_kernel() {
    for args in ["1 7 0 {0} 5", "3 64 0 {0} 0 {1} 8 {2} 16"] {
        let table = build(&format!("0 2000 switch {args}")).unwrap();
        let target = table.rows()[0].target();
        assert_eq!(target.args(Naming::Paths), args);
        assert_eq!(target.status(Naming::Paths), "");
    }
}

/// Recorded from Linux 6.1, one after the other over 32 regions and 3 paths.
#[test]
fn messages_are_answered_in_the_kernels_words() {
    let table = build("0 2000 switch 3 64 0 {0} 0 {1} 8 {2} 16").unwrap();
    let argument = |word: &str| Some(format!("invalid set_region_mappings argument: '{word}'"));
    let line = |line: &str| Some(format!("invalid set_region_mappings {line}"));
    for (words, answer) in [
        ("", None),
        ("0:0", None),
        ("0:3", line("device: 3 >= 3")),
        ("20:0", line("region number: 32 >= 32")),
        ("9999:0", line("region number: 39321 >= 32")),
        ("1F:2", None),
        ("1f:2 :1", line("region number: 32 >= 32")),
        (":1 :2", None),
        ("R1,1", None),
        ("R0,1", line("cycle length: 18446744073709551615 > 0")),
        ("5:1 r3,4", None),
        ("R,1", argument("R,1")),
        ("R1", argument("R1")),
        ("R1,", argument("R1,")),
        ("R1,x", argument("R1,x")),
        ("R1,1x", argument("R1,1x")),
        ("0:", argument("0:")),
        ("0", argument("0")),
        ("x:0", argument("x:0")),
        ("0:x", argument("0:x")),
        ("0:1x", argument("0:1x")),
        (":", argument(":")),
        ("0:1 R2,1", line("cycle length: 1 > 0")),
        ("0:1 R1,1f", None),
        ("0:1 R1,20", line("region number: 0 + 32 >= 32")),
        (
            "0:1 R1,ffffffffffffffff",
            line("region number: 0 + 18446744073709551615 >= 32"),
        ),
        // 2^64: the kernel keeps the lower digits.
        ("10000000000000000:1", None),
        ("0:10000000000000000", None),
        ("R1,0", None),
        ("0:1 R1,0", None),
    ] {
        let text = format!("set_region_mappings {words}");
        let answered = message(&table, text.trim_end()).map_err(|error| {
            assert_eq!(error.errno, Errno::INVAL);
            assert!(error.expected.is_some());
            error.line
        });
        let expected = match answer {
            Some(line) => Err(Some(format!("switch: {line}"))),
            None => Ok(String::new()),
        };
        assert_eq!(answered, expected, "{words}");
    }
    for text in ["nonsense", "foo bar"] {
        let line = message(&table, text).unwrap_err().line;
        assert_eq!(
            line.as_deref(),
            Some("switch: Unrecognised message received.")
        );
    }
    assert!(message(&table, "SET_REGION_MAPPINGS 0:1").is_ok());
}

#[test]
fn what_stands_before_a_mistake_is_set() {
    let table = build("0 128 switch 2 64 0 {0} 0 {1} 0").unwrap();
    write(&table, 0, &[7; 512]).unwrap();
    message(&table, "set_region_mappings 0:1 0:9 0:0").unwrap_err();
    assert_eq!(read(&table, 0, 1).unwrap(), [0; 512]);
    message(&table, "set_region_mappings 0:0").unwrap();
    assert_eq!(read(&table, 0, 1).unwrap(), [7; 512]);
}

#[test]
fn regions_keep_their_place_on_every_path() {
    let opener = MemoryOpener::new();
    let table = build_on(&opener, "0 256 switch 2 64 0 {0} 3 {1} 5").unwrap();
    let below = build_on(&opener, "0 256 linear {0} 3\n256 256 linear {1} 5").unwrap();
    let data: Vec<u8> = (0..256 * 512).map(|byte| (byte / 512) as u8 | 1).collect();
    write(&table, 0, &data).unwrap();
    for sector in 0..256 {
        let path = sector / 64 % 2;
        let seen = read(&below, path * 256 + sector, 1).unwrap();
        assert_eq!(seen, data[sector as usize * 512..][..512], "{sector}");
    }
}

#[test]
fn what_was_set_is_recalled_in_few_words() {
    let table = build("0 2000 switch 3 64 0 {0} 0 {1} 8 {2} 16").unwrap();
    let target = table.rows()[0].target();
    assert_eq!(target.recall(), Vec::<String>::new());
    let text = "set_region_mappings 3:1 :2 R1,c 1e:0";
    message(&table, text).unwrap();
    assert_eq!(target.recall(), [text]);
}

#[test]
fn a_table_of_many_regions_fits_a_few_bits_each() {
    // One entry takes 2, 4, 8, 16 and 32 bits.
    for n_paths in [1, 2, 3, 7, 15, 255, 256, 65535, 65536] {
        let regions = Regions::new(1000, n_paths).unwrap();
        for region in 0..1000 {
            assert_eq!(regions.path(region), region as usize % n_paths as usize);
            regions.set(region, region * 7 % u64::from(n_paths));
        }
        for region in 0..1000 {
            assert_eq!(regions.path(region) as u64, region * 7 % u64::from(n_paths));
        }
    }
    assert_eq!(Regions::new(u64::MAX, 1).err(), Some(Errno::TOOBIG));
}

const COUNT: u64 = 40;
const PATHS: u64 = 5;

#[derive(Clone, Debug)]
enum Word {
    Set(u64, u64),
    Next(u64),
    Repeat(u64, u64),
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        1 => (0..COUNT + 2, 0..PATHS + 1).prop_map(|(region, path)| Word::Set(region, path)),
        4 => (0..PATHS).prop_map(Word::Next),
        2 => (0..6u64, 0..9u64).prop_map(|(cycle, number)| Word::Repeat(cycle, number)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn mappings_are_what_their_words_say(messages in proptest::collection::vec(proptest::collection::vec(word(), 0..12), 1..12)) {
        let regions = Regions::new(COUNT, PATHS as u32).unwrap();
        let mut model: Vec<u64> = (0..COUNT).map(|region| region % PATHS).collect();
        for words in messages {
            let texts: Vec<String> = words.iter().map(|word| match word {
                Word::Set(region, path) => format!("{region:x}:{path:X}"),
                Word::Next(path) => format!(":{path:x}"),
                Word::Repeat(cycle, number) => format!("R{cycle:x},{number:x}"),
            }).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (mut last, mut is_right) = (0, true);
            for word in words {
                is_right = match word {
                    Word::Set(region, path) => {
                        last = region;
                        region < COUNT && path < PATHS && { model[region as usize] = path; true }
                    }
                    Word::Next(path) => {
                        last += 1;
                        last < COUNT && { model[last as usize] = path; true }
                    }
                    Word::Repeat(cycle, number) => {
                        let fits = cycle > 0 && cycle <= last + 1 && last + number < COUNT;
                        for _ in 0..if fits { number } else { 0 } {
                            last += 1;
                            model[last as usize] = model[(last - cycle) as usize];
                        }
                        fits
                    }
                };
                if !is_right {
                    break;
                }
            }
            assert_eq!(set_mappings(&regions, &texts).is_ok(), is_right);
            let seen = |regions: &Regions| -> Vec<u64> {
                (0..COUNT).map(|region| regions.path(region) as u64).collect()
            };
            assert_eq!(seen(&regions), model);
            let recalled = Regions::new(COUNT, PATHS as u32).unwrap();
            let words = mappings(&regions);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            set_mappings(&recalled, &words).unwrap();
            assert_eq!(seen(&recalled), model);
        }
    }

    #[test]
    fn no_word_panics(word in "[Rr:,0-9a-fx]{0,24}", before: bool, number in any::<u64>()) {
        let regions = Regions::new(COUNT, PATHS as u32).unwrap();
        let first = format!("{:x}:1", number % COUNT);
        let words: &[&str] = if before { &[&first, &word] } else { &[&word] };
        let _ = set_mappings(&regions, words);
    }
}
