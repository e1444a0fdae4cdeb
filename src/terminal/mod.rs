//! What a stream can show: whether it is a terminal, how wide, and with colours or without.
//!
//! A pipe or a file gets plain text. So does a terminal where `NO_COLOR` is set, or `TERM` is `dumb`.

mod progress;
mod prompt;

use std::os::fd::AsFd;

use rustix::termios::{isatty, tcgetwinsize};

pub use progress::{Amount, Progress};
pub use prompt::{MAX_TYPED, ask, read_line, without_echo};

/// How text is shown on one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// It is a terminal.
    pub is_terminal: bool,
    /// It shows colours.
    pub colour: bool,
    /// Its columns, where it is a terminal that tells.
    pub width: Option<usize>,
}

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// A heading.
    Head,
    /// A name.
    Name,
    /// What a target is called.
    Kind,
    /// What is less important than the rest.
    Faint,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Wrong.
    Bad,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Head => "1",
            Paint::Name => "1;34",
            Paint::Kind => "36",
            Paint::Faint => "2",
            Paint::Good => "32",
            Paint::Warning => "33",
            Paint::Bad => "1;31",
        }
    }
}

impl Look {
    /// No terminal: plain text of any width.
    pub const PLAIN: Look = Look {
        is_terminal: false,
        colour: false,
        width: None,
    };

    /// What `stream` shows.
    pub fn of(stream: impl AsFd) -> Look {
        if !isatty(&stream) {
            return Look::PLAIN;
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let size = tcgetwinsize(stream).ok();
        Look {
            is_terminal: true,
            colour: !dumb && set("NO_COLOR").is_none(),
            width: size
                .map(|size| usize::from(size.ws_col))
                .filter(|&columns| columns > 0),
        }
    }

    /// `text` in the colour of what it is.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        match self.colour && !text.is_empty() {
            true => format!("\x1b[{}m{text}\x1b[0m", paint.code()),
            false => text.to_owned(),
        }
    }

    /// `text` in lines that fit, broken at blanks; lines after the first begin with `indent` blanks. The first
    /// begins `indent` columns further right already. A word longer than a line stays whole.
    pub fn wrap(self, text: &str, indent: usize) -> String {
        let Some(width) = self.width else {
            return text.to_owned();
        };
        let room = width.saturating_sub(indent).max(20);
        let mut out = String::new();
        let mut used = 0;
        for word in text.split(' ') {
            let len = word.chars().count();
            if used > 0 && used + 1 + len > room {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                used = 0;
            } else if used > 0 {
                out.push(' ');
                used += 1;
            }
            out.push_str(word);
            used += len;
        }
        out
    }
}

/// The first `width` columns of `text`, which ends in `..` where it had more.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(2)).collect();
    let mut cut = kept + "..";
    cut.truncate(
        cut.char_indices()
            .nth(width)
            .map_or(cut.len(), |(at, _)| at),
    );
    cut
}

#[cfg(test)]
mod tests {
    use super::{Look, Paint, cut};

    const NARROW: Look = Look {
        is_terminal: true,
        colour: true,
        width: Some(30),
    };

    #[test]
    fn plain_text_stays_as_it_is() {
        let text = "a text that is longer than thirty columns, in one line";
        assert_eq!(Look::PLAIN.paint(Paint::Bad, "x"), "x");
        assert_eq!(Look::PLAIN.wrap(text, 4), text);
    }

    #[test]
    fn a_terminal_gets_colours_and_lines_that_fit() {
        assert_eq!(NARROW.paint(Paint::Good, "ok"), "\x1b[32mok\x1b[0m");
        assert_eq!(NARROW.paint(Paint::Good, ""), "");
        let wrapped = NARROW.wrap("one two three four five six seven eight", 6);
        assert_eq!(wrapped, "one two three four five\n      six seven eight");
    }

    #[test]
    fn a_long_word_is_not_broken() {
        let word = "w".repeat(50);
        assert_eq!(NARROW.wrap(&word, 0), word);
    }

    #[test]
    fn what_is_cut_says_so_and_fits() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("too long", 5), "too..");
        assert_eq!(cut("too long", 1), ".");
        assert_eq!(cut("too long", 0), "");
    }

    #[test]
    fn a_file_is_no_terminal() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(Look::of(file), Look::PLAIN);
    }
}
