//! An example of each verb, with which its help and its man page end.

use super::definitions::VerbDef;

/// Verbs and a command line each, as a shell takes it.
const EXAMPLES: &[(&str, &str)] = &[
    ("help", "dmfs help create"),
    (
        "create",
        "dmfs create disk --table '0 131072 linear disk.img 0'",
    ),
    ("remove", "dmfs remove --retry disk"),
    ("remove_all", "dmfs remove_all --deferred"),
    ("suspend", "dmfs suspend --noflush disk"),
    ("resume", "dmfs resume disk"),
    ("load", "dmfs load disk --table '0 131072 linear new.img 0'"),
    ("clear", "dmfs clear disk"),
    ("wipe_table", "dmfs wipe_table --force disk"),
    ("rename", "dmfs rename disk archive"),
    ("measure", "dmfs measure disk"),
    ("message", "dmfs message pool 0 create_thin 1"),
    ("run", "dmfs run -- lvm vgchange -ay"),
    ("stats", "dmfs stats create --bounds 100us,1ms,10ms disk"),
    ("ls", "dmfs ls --tree -o ascii"),
    ("info", "dmfs info -c -o name,open,segments -O -open"),
    ("deps", "dmfs deps -o devname disk"),
    ("status", "dmfs status --target striped"),
    ("table", "dmfs table disk"),
    ("wait", "dmfs wait disk 0"),
    ("mknodes", "dmfs mknodes"),
    ("mangle", "dmfs mangle --manglename hex 'my disk'"),
    ("udevcreatecookie", "dmfs udevcreatecookie"),
    ("udevreleasecookie", "dmfs udevreleasecookie 0xd4d0001"),
    ("udevflags", "dmfs udevflags 0xd4d0001"),
    ("udevcomplete", "dmfs udevcomplete 0xd4d0001"),
    ("udevcomplete_all", "dmfs udevcomplete_all 30"),
    ("udevcookies", "dmfs udevcookies"),
    ("target-version", "dmfs target-version linear striped"),
    ("targets", "dmfs targets --json"),
    ("version", "dmfs version"),
    ("luks", "dmfs luks open disk.img secret"),
    ("plain", "dmfs plain status secret"),
    ("tcrypt", "dmfs tcrypt open volume.hc secret"),
    ("setgeometry", "dmfs setgeometry disk 16 255 63 0"),
    ("splitname", "dmfs splitname vg0-home LVM"),
    (
        "mount",
        "dmfs mount --background mounts/quickstart.toml ./dm",
    ),
    ("umount", "dmfs umount --lazy ./dm"),
    ("upgrade", "dmfs upgrade --program /usr/local/bin/dmfs ./dm"),
    ("mounts", "dmfs mounts --json"),
    ("check", "dmfs check mounts/quickstart.toml"),
    ("doctor", "dmfs doctor"),
    ("dump", "dmfs dump --mount ./dm"),
    ("counters", "dmfs counters disk"),
    ("cache", "dmfs cache disk keep"),
    ("limits", "dmfs limits disk"),
    ("top", "dmfs top --interval 5 --count 12 --sort bytes"),
    ("explain", "dmfs explain striped 100 256"),
    ("graph", "dmfs graph --svg disk"),
    ("attach", "dmfs attach --link disk"),
    ("detach", "dmfs detach disk"),
    (
        "log-writes",
        "dmfs log-writes replay log.img disk.img --end-mark made",
    ),
    (
        "crash-states",
        "dmfs crash-states base.img log.img --check 'e2fsck -fp {}'",
    ),
    ("generate", "dmfs generate completions bash"),
];

/// An example of `verb`; none for a verb that has none, which a test does not let be.
pub fn example(verb: &VerbDef) -> Option<&'static str> {
    let found = EXAMPLES.iter().find(|(name, _)| *name == verb.name);
    found.map(|(_, example)| *example)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsString;

    use super::{EXAMPLES, example};
    use crate::cli::arguments::{Style, parse};
    use crate::cli::definitions::{VERBS, verb};

    /// The words of a command line, with single quotes taken as the shell takes them.
    fn words(line: &str) -> Vec<OsString> {
        let mut words = Vec::new();
        for (place, part) in line.split('\'').enumerate() {
            match place % 2 {
                0 => words.extend(part.split_whitespace().map(OsString::from)),
                _ => words.push(part.into()),
            }
        }
        assert_eq!(line.matches('\'').count() % 2, 0, "{line}: an open quote");
        words
    }

    #[test]
    fn every_verb_has_an_example_that_is_read_as_it() {
        for verb in VERBS {
            let line = example(verb).unwrap_or_else(|| panic!("{} has no example", verb.name));
            let (program, rest) = words(line)
                .split_first()
                .map(|(first, rest)| (first.clone(), rest.to_vec()))
                .unwrap();
            assert_eq!(program, "dmfs", "{line}");
            let read = parse(Style::Dmfs, rest).unwrap_or_else(|error| panic!("{line}: {error:?}"));
            assert_eq!(read.verb.as_deref(), Some(verb.name), "{line}");
            let count = read.words.len();
            assert!(
                count >= verb.min && verb.max.is_none_or(|max| count <= max),
                "{line}: {count} words"
            );
        }
    }

    #[test]
    fn every_example_is_of_a_verb() {
        for (name, _) in EXAMPLES {
            assert!(verb(name, false).is_some(), "{name} is no verb");
        }
    }
}
