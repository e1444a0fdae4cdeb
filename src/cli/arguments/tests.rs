#![allow(clippy::unwrap_used)]

use super::{Arguments, Style, atoi, parse};
use crate::cli::names::Mangling;

fn line(style: Style, words: &[&str]) -> Result<Arguments, Vec<String>> {
    parse(style, words.iter().map(Into::into).collect())
}

fn dmsetup(words: &[&str]) -> Arguments {
    line(Style::Dmsetup, words).unwrap()
}

fn refusal(words: &[&str]) -> String {
    line(Style::Dmsetup, words).unwrap_err().join("\n")
}

#[test]
fn options_stand_anywhere() {
    let found = dmsetup(&["-v", "info", "-c", "a", "--noheadings", "b"]);
    assert_eq!(found.verb.as_deref(), Some("info"));
    assert_eq!(found.words, ["a", "b"]);
    assert!(found.options.columns && found.options.noheadings);
    assert_eq!(found.options.verbose, 1);
}

#[test]
fn long_options_may_be_cut_and_letters_joined() {
    assert!(dmsetup(&["info", "--noh"]).options.noheadings);
    assert_eq!(dmsetup(&["ls", "-vvf"]).options.verbose, 2);
    let found = dmsetup(&["info", "-j253", "-m", "7"]).options;
    assert_eq!((found.major, found.minor), (Some(253), Some(7)));
    assert!(dmsetup(&["info", "-C"]).options.columns);
    assert_eq!(
        dmsetup(&["info", "--sep=:"]).options.separator.as_deref(),
        Some(":")
    );
}

#[test]
fn a_value_may_look_like_an_option() {
    let found = dmsetup(&["info", "-c", "-O", "-name", "-S", "!x"]).options;
    assert_eq!(found.sort.as_deref(), Some("-name"));
    assert_eq!(found.select.as_deref(), Some("!x"));
    let table = dmsetup(&["create", "x", "--table", "-1 8 zero"])
        .options
        .table;
    assert_eq!(table.as_deref(), Some("-1 8 zero"));
}

#[test]
fn the_last_of_a_repeated_option_counts() {
    let found = dmsetup(&["info", "-c", "-o", "name", "-o", "major"]).options;
    assert_eq!(found.options.as_deref(), Some("major"));
}

#[test]
fn two_dashes_end_the_options() {
    let found = dmsetup(&["message", "d", "0", "--", "-x", "--table"]);
    assert_eq!(found.words, ["d", "0", "-x", "--table"]);
}

#[test]
fn mistakes_are_told_as_getopt_does() {
    assert_eq!(
        refusal(&["--bogus"]),
        "dmsetup: unrecognized option '--bogus'"
    );
    assert_eq!(refusal(&["-Z"]), "dmsetup: invalid option -- 'Z'");
    assert_eq!(refusal(&["info", "-1"]), "dmsetup: invalid option -- '1'");
    assert_eq!(
        refusal(&["info", "--ver"]),
        "dmsetup: option '--ver' is ambiguous; possibilities: '--verbose' '--verifyudev' '--version'"
    );
    assert_eq!(
        refusal(&["info", "-j"]),
        "dmsetup: option requires an argument -- 'j'"
    );
    assert_eq!(
        refusal(&["info", "--select"]),
        "dmsetup: option '--select' requires an argument"
    );
    assert_eq!(
        refusal(&["ls", "--tree=x"]),
        "dmsetup: option '--tree' doesn't allow an argument"
    );
}

#[test]
fn values_are_checked() {
    let both = "Please specify both major number and minor number.";
    assert_eq!(refusal(&["info", "-j", "1"]), both);
    assert_eq!(
        refusal(&["create", "x", "-n", "--table", ""]),
        "--table and --notable are incompatible."
    );
    assert_eq!(
        refusal(&["--manglename", "bogus", "ls"]),
        "Unknown name mangling mode."
    );
    assert_eq!(refusal(&["info", "-m", "1"]), both);
    assert_eq!(
        refusal(&["-M", "9999", "create", "x"]),
        "Invalid argument for --mode: 9999. "
    );
    assert_eq!(
        refusal(&["info", "-c", "--count", "-1"]),
        "Count must be zero or greater."
    );
    assert_eq!(
        refusal(&["info", "-c", "--interval", "x"]),
        "Interval must be a positive integer."
    );
    assert_eq!(
        dmsetup(&["--manglename", "hex", "ls"]).options.mangling,
        Mangling::Hex
    );
}

#[test]
fn dmsetup_takes_what_is_no_number_for_zero_and_dmfs_refuses_it() {
    assert_eq!(
        dmsetup(&["create", "x", "-j1", "-m", "x"]).options.minor,
        Some(0)
    );
    let text = line(Style::Dmfs, &["create", "x", "-m", "x"])
        .unwrap_err()
        .join("\n");
    assert_eq!(text, "dmfs: option --minor: expected a number, found 'x'");
    assert_eq!(
        [atoi("12x"), atoi(""), atoi(" +7"), atoi("-1")],
        [12, 0, 7, u32::MAX]
    );
}

#[test]
fn only_dmfs_knows_its_own_options() {
    assert!(line(Style::Dmfs, &["ls", "--json"]).unwrap().options.json);
    assert_eq!(
        refusal(&["ls", "--json"]),
        "dmsetup: unrecognized option '--json'"
    );
    assert!(
        dmsetup(&["ls", "--mo", "600"]).words.is_empty(),
        "--mo is --mode without --mount"
    );
}

#[test]
fn the_word_after_concise_is_found_wherever_it_stands() {
    let at = |words: &[&str]| line(Style::Dmfs, words).unwrap().options.concise_word;
    assert_eq!(at(&["mount", "/m", "--concise", "a,,,,"]), Some(1));
    assert_eq!(at(&["mount", "--concise", "a,,,,", "/m"]), Some(0));
    assert_eq!(at(&["--concise", "mount", "a,,,,", "/m"]), Some(0));
    assert_eq!(at(&["mount", "/m", "a,,,,", "--concise"]), None);
}
