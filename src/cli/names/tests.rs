#![allow(clippy::unwrap_used)]
use super::{
    MangleStep, Mangling, SplitName, Subject, mangle_step, new_name_to_stored, to_shown, to_stored,
};
use proptest::prelude::{any, prop_assert_eq, proptest};

fn stored(text: &str, mode: Mangling) -> Result<String, String> {
    to_stored(text, Subject::Name, mode).map_err(|e| e.0)
}

fn shown(text: &str, mode: Mangling) -> Result<String, String> {
    to_shown(text, Subject::Name, mode).map_err(|e| e.0)
}

#[test]
fn characters_outside_the_list_are_written_as_hex() {
    assert_eq!(stored("a b", Mangling::Auto).unwrap(), "a\\x20b");
    assert_eq!(stored("x,y;z", Mangling::Auto).unwrap(), "x\\x2cy\\x3bz");
    assert_eq!(
        stored("#+-.:=@_Az09", Mangling::Auto).unwrap(),
        "#+-.:=@_Az09"
    );
    assert_eq!(stored("o\\p", Mangling::Auto).unwrap(), "o\\x5cp");
    assert_eq!(stored("\u{e9}", Mangling::Auto).unwrap(), "\\xc3\\xa9");
}

#[test]
fn auto_keeps_what_is_written_and_refuses_a_mixture() {
    assert_eq!(stored("c\\x20d", Mangling::Auto).unwrap(), "c\\x20d");
    assert_eq!(stored("m\\xzz", Mangling::Auto).unwrap(), "m\\xzz");
    for text in ["a\\x20b c", "a b\\x20c", "n\\x2"] {
        let why = stored(text, Mangling::Auto).unwrap_err();
        assert_eq!(
            why,
            format!(
                "The name \"{text}\" contains mixed mangled and unmangled characters or it's already mangled improperly.\nFailed to mangle device name \"{text}\"."
            )
        );
    }
    assert_eq!(stored("i\\x20j", Mangling::Hex).unwrap(), "i\\x5cx20j");
    assert_eq!(stored("e f", Mangling::None).unwrap(), "e f");
}

#[test]
fn stored_names_are_shown_by_mode() {
    assert_eq!(shown("a\\x20b", Mangling::Auto).unwrap(), "a b");
    assert_eq!(shown("a\\x20b", Mangling::None).unwrap(), "a\\x20b");
    assert_eq!(shown("m\\xzz", Mangling::Auto).unwrap(), "m\\xzz");
    assert_eq!(
        shown("e f", Mangling::Auto).unwrap_err(),
        "The name \"e f\" should be mangled but it contains blacklisted characters."
    );
    assert_eq!(
        shown("i\\x5cx20j", Mangling::Auto).unwrap_err(),
        "The name \"i\\x5cx20j\" seems to be mangled more than once. This is not allowed in auto mode."
    );
    assert_eq!(shown("i\\x5cx20j", Mangling::Hex).unwrap(), "i\\x20j");
}

#[test]
fn lengths_are_checked_before_and_after_writing() {
    assert!(stored(&"n".repeat(127), Mangling::Auto).is_ok());
    let long = "n".repeat(128);
    assert_eq!(
        stored(&long, Mangling::Auto).unwrap_err(),
        format!("Name \"{long}\" too long.")
    );
    let blanks = " ".repeat(100);
    assert!(
        stored(&blanks, Mangling::Auto)
            .unwrap_err()
            .starts_with("Mangled form of the name too long for")
    );
}

#[test]
fn uuids_are_measured_when_mangled_and_new_ones_at_once() {
    let long = "u".repeat(129);
    let why = |subject| to_stored(&long, subject, Mangling::Auto).unwrap_err().0;
    assert!(to_stored(&"u".repeat(128), Subject::Uuid, Mangling::Auto).is_ok());
    assert_eq!(
        why(Subject::Uuid),
        format!(
            "Mangled form of the UUID too long for \"{long}\".\nFailed to mangle device uuid \"{long}\"."
        )
    );
    assert_eq!(why(Subject::NewUuid), format!("Uuid \"{long}\" too long"));
}

#[test]
fn a_new_name_has_errors_of_its_own() {
    let why = |text: &str| new_name_to_stored(text, Mangling::Auto).unwrap_err().0;
    assert_eq!(why(""), "Non empty new name is required.");
    assert_eq!(why("a/b"), "Name \"a/b\" invalid. It contains \"/\".");
    assert!(why(&"n".repeat(128)).ends_with("too long"));
    assert!(why("u\\x20v w").ends_with("Failed to mangle new device name \"u\\x20v w\""));
}

#[test]
fn mangle_keeps_renames_or_refuses() {
    let line = |name, uuid, mode| match mangle_step(name, uuid, mode) {
        Ok(MangleStep::Keep(line) | MangleStep::Rename { line, .. }) => line,
        Err(why) => why.0,
    };
    assert_eq!(
        line("a", "", Mangling::Auto),
        "a: [no UUID]: name already in correct form"
    );
    assert_eq!(
        line("a", "U", Mangling::Auto),
        "a: U: name and UUID already in correct form"
    );
    assert_eq!(line("a b", "", Mangling::Auto), "a b: renaming to a\\x20b");
    assert_eq!(
        line("a\\x20b", "", Mangling::None),
        "a\\x20b: renaming to a b"
    );
    assert!(line("e f", "U V", Mangling::Auto).starts_with("e f: U V: UUID in incorrect form. \n"));
    assert!(line("i\\x5cx20j", "", Mangling::Auto).ends_with("required to rename the device."));
}

#[test]
fn lvm_names_split_at_single_hyphens() {
    let split = |name| {
        let SplitName { vg, lv, layer, .. } = SplitName::new(name, "LVM");
        (vg, lv, layer)
    };
    let parts = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(split("vg-lv"), parts("vg", "lv", ""));
    assert_eq!(split("vg-lv--x-real"), parts("vg", "lv-x", "real"));
    assert_eq!(split("vg-"), parts("vg-", "", ""));
    assert_eq!(split("--"), parts("-", "", ""));
    assert_eq!(split("vg---lv"), parts("vg-", "lv", ""));
    assert_eq!(split("vg----lv"), parts("vg--lv", "", ""));
    assert_eq!(split("a-b-c-d"), parts("a", "b", "c"));
    assert_eq!(SplitName::by_uuid("vg-lv", "CRYPT-1").vg, "");
    assert_eq!(SplitName::by_uuid("vg-lv", "LVM-1").lv, "lv");
}

proptest! {
    #[test]
    fn what_is_stored_is_shown_as_given(text in "[ -~]{0,30}") {
        if let Ok(stored) = to_stored(&text, Subject::Name, Mangling::Auto)
            && !text.contains("\\x")
        {
            prop_assert_eq!(to_shown(&stored, Subject::Name, Mangling::Auto).unwrap(), text);
        }
    }

    #[test]
    fn nothing_panics(text in any::<String>()) {
        for mode in [Mangling::Auto, Mangling::Hex, Mangling::None] {
            let _ = to_stored(&text, Subject::Uuid, mode);
            let _ = to_shown(&text, Subject::Name, mode);
            let _ = mangle_step(&text, &text, mode);
        }
        SplitName::new(&text, "LVM");
    }
}
