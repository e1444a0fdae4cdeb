//! cryptsetup's steps, done by our own binary under that name.
//!
//! A format makes random salts, so a header of our own making is compared without them. Once nothing changes the
//! header any more, the image as the fixture keeps it takes its place, if it does: from there on everything is
//! compared, to the last byte.

use super::Player;
use crate::language::{Trace, What};
use regex::Regex;
use std::fs;
use std::os::unix::fs::symlink;

/// Actions that change a header.
const CHANGES: [&str; 5] = [
    " luksFormat ",
    " luksAddKey ",
    " luksKillSlot ",
    " config ",
    " --persistent ",
];

fn is_cryptsetup(line: &str) -> bool {
    line.split(' ').any(|word| word == "cryptsetup")
}

fn changes_a_header(line: &str) -> bool {
    is_cryptsetup(line) && CHANGES.iter().any(|change| line.contains(change))
}

/// Key files by name, as the makers of the traces had them.
fn key_files(trace: &Trace) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("p1".to_owned(), b"correct horse".to_vec()),
        ("p2".to_owned(), b"second-one".to_vec()),
        ("p3".to_owned(), b"third key".to_vec()),
    ];
    let key_file = Regex::new(r"\bkf=([0-9a-f]+)").unwrap();
    let in_table = Regex::new(r" crypt \S+ ([0-9a-f]{64,}) ").unwrap();
    let mut volume_key = None;
    for step in &trace.steps {
        match &step.what {
            What::Remark(text) => {
                if let Some((_, passphrase)) = text.split_once("; passphrase: ") {
                    files[0].1 = passphrase.as_bytes().to_vec();
                }
                if let Some(found) = key_file.captures(text) {
                    files.push(("kf".to_owned(), from_hex(&found[1])));
                }
            }
            What::Fact(line) => {
                if let Some(key) = line.strip_prefix("volume-key ") {
                    volume_key = Some(from_hex(key));
                }
            }
            What::Said { lines, .. } if volume_key.is_none() => {
                let found = lines.iter().find_map(|line| in_table.captures(line));
                volume_key = found.map(|found| from_hex(&found[1]));
            }
            _ => {}
        }
    }
    for name in ["vk", "vk32", "vk96"] {
        files.push((name.to_owned(), volume_key.clone().unwrap_or_default()));
    }
    files
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

impl Player<'_> {
    /// Whether `line` is a step of cryptsetup's.
    pub(super) fn is_cryptsetup(line: &str) -> bool {
        is_cryptsetup(line)
    }

    pub(super) fn cryptsetup(&mut self, line: &str, out: &[String], exit: i32) {
        self.put_key_files();
        let mut words = self.with_paths(line);
        // A loop device has blocks of 512 bytes; a file has its file system's, which a format goes by.
        if words.contains(" luksFormat ")
            && words.contains(" luks2 ")
            && !words.contains(" --sector-size ")
        {
            words = words.replace(" luksFormat ", " luksFormat --sector-size 512 ");
        }
        let said = self.mount.shell(&format!("{words} 2>&1"));
        let (kernel, ours) = (super::joined(out), self.neutral(&said.out));
        self.same_lines(&self.unmade(&kernel), &self.unmade(&ours));
        let status = said.status.code().unwrap_or(-1).to_string();
        self.same(&exit.to_string(), &status);
        self.note_devices(line);
        if changes_a_header(line) {
            self.own_headers = true;
            // A device that is open has the uuid of our header.
            if !line.contains(" open ") {
                self.take_stored_images();
            }
        }
    }

    /// Devices that an action made or took away.
    fn note_devices(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let action = |name| words.contains(&name);
        if action("open") {
            let at = words.iter().rposition(|word| *word == "{data}");
            let name = at.and_then(|at| words.get(at + 1)).unwrap();
            self.created.push((*name).to_owned());
        } else if action("close") {
            let name = words.last().unwrap();
            self.created.retain(|created| created != name);
        }
    }

    fn put_key_files(&self) {
        let program = self.mount.folder().join("cryptsetup");
        if program.exists() {
            return;
        }
        symlink("dmfs", program).unwrap();
        for (name, bytes) in key_files(self.trace) {
            fs::write(self.mount.folder().join(name), bytes).unwrap();
        }
    }

    /// Puts the images that the fixture keeps in place of ours, if no later step changes a header.
    fn take_stored_images(&mut self) {
        let at = self.at.0;
        let more_to_come = self.trace.steps.iter().any(|step| {
            let what = &step.what;
            step.line > at && matches!(what, What::Command { line, .. } if changes_a_header(line))
        });
        if more_to_come {
            return;
        }
        let mut missing = false;
        for (name, path) in self.images.clone() {
            let stored = self.folder.join(format!("{name}.img.zst"));
            // An image that can be made from the steps alone need not be there.
            let is_header = self.trace.steps.iter().any(|step| match &step.what {
                What::Command { line, .. } => match line.contains("--header ") {
                    true => line.contains(&format!("--header {{{name}}}")),
                    false => line.contains(&format!("{{{name}}}")),
                },
                _ => false,
            });
            match fs::read(&stored) {
                Ok(packed) => {
                    let image = zstd::decode_all(packed.as_slice()).unwrap();
                    fs::write(path, image).unwrap();
                }
                Err(_) => missing |= is_header,
            }
        }
        self.own_headers = missing;
    }

    /// `text` without what a format chooses at random, where the header is of our own making.
    pub(super) fn unmade(&self, text: &str) -> String {
        if !self.own_headers {
            return text.to_owned();
        }
        let bytes = Regex::new(r"\b[0-9a-f]{2}( [0-9a-f]{2})+ ?").unwrap();
        let uuid = Regex::new(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
            .unwrap();
        let text = bytes.replace_all(text, "BYTES");
        uuid.replace_all(&text, "UUID").into_owned()
    }
}
