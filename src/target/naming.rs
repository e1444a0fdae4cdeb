//! How devices are written in table and status lines.

use std::os::unix::ffi::OsStrExt;

use crate::io::DevRef;

/// How devices are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `major:minor`, as the kernel shows them.
    Numbers,
    /// Paths, escaped, so that a table can be kept and loaded again.
    Paths,
}

impl Naming {
    /// The device as one word of a table line.
    pub fn of(self, device: &DevRef) -> String {
        match self {
            Naming::Numbers => device.device().number.to_string(),
            Naming::Paths => escape_word(&String::from_utf8_lossy(
                device.device().path.as_os_str().as_bytes(),
            )),
        }
    }
}

/// Quotes white space and backslashes with a backslash, so that `text` is one word of a table line.
pub fn escape_word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_whitespace() || c == '\\' || c == '\u{b}' {
            word.push('\\');
        }
        word.push(c);
    }
    word
}
