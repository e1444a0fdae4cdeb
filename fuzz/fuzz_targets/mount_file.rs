//! Any text as a mount file, and as devices in the concise form: checked without touching the system.
#![no_main]

use dmfs::control::config::{Errors, Terms, check_concise, check_text};
use dmfs::targets::KINDS;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::path::Path;

fuzz_target!(|text: &str| {
    let terms = Terms {
        kinds: KINDS,
        major: 253,
    };
    let folder = Path::new("/nowhere");
    for checked in [
        check_text(text, "fuzz.toml", folder, terms),
        check_concise(text, folder, false, terms),
    ] {
        match checked {
            Ok(config) => {
                let names: BTreeSet<&str> = config
                    .devices
                    .iter()
                    .map(|device| device.name.as_str())
                    .collect();
                assert_eq!(names.len(), config.devices.len(), "two devices of one name");
            }
            Err(errors) => assert_named(&errors),
        }
    }
});

/// Every mistake is told in a line of its own that says where.
fn assert_named(errors: &Errors) {
    let text = errors.to_string();
    assert!(!text.trim().is_empty(), "refused without a word");
}
