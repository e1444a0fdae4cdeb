//! Where a word of a table stands in the mount file: through TOML's quoting and escapes back to its place.

/// A TOML string as it stands in the file, quotes and all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal<'t> {
    /// Its place in the file.
    pub offset: usize,
    /// Its text there.
    pub raw: &'t str,
}

/// The letters that a string means, each with the place it comes from.
#[derive(Clone)]
pub(super) struct Letters<'t> {
    rest: &'t str,
    offset: usize,
    escapes: bool,
}

impl<'t> Literal<'t> {
    pub(super) fn letters(self) -> Letters<'t> {
        let Literal { offset, raw } = self;
        let quotes = ["\"\"\"", "'''", "\"", "'"];
        let quote = quotes
            .into_iter()
            .find(|quote| raw.starts_with(quote))
            .unwrap_or("");
        let inner = raw.get(quote.len()..).unwrap_or_default();
        let inner = inner.strip_suffix(quote).unwrap_or(inner);
        let mut letters = Letters {
            rest: inner,
            offset: offset + quote.len(),
            escapes: quote.contains('"'),
        };
        if quote.len() == 3 {
            // A newline right behind the quotes is dropped.
            let dropped = ["\r\n", "\n"]
                .into_iter()
                .find(|newline| inner.starts_with(newline));
            letters.pass(dropped.map_or(0, str::len));
        }
        letters
    }

    /// Where each line of the string's meaning begins.
    pub(super) fn lines(self) -> Vec<Letters<'t>> {
        let mut letters = self.letters();
        let mut lines = vec![letters.clone()];
        while let Some((_, letter)) = letters.next() {
            if letter == '\n' {
                lines.push(letters.clone());
            }
        }
        lines
    }
}

impl Letters<'_> {
    fn pass(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
        self.offset += bytes;
    }

    /// The place of the first letter of the line's word number `word`, from 1; of the first word where there
    /// is no such word. A backslash takes the next letter into the word, as in tables.
    pub(super) fn place_of_word(self, word: u32) -> usize {
        let mut first = None;
        let (mut n_words, mut inside, mut quoted) = (0, false, false);
        let here = self.offset;
        for (offset, letter) in self {
            let blank = !quoted && (letter.is_ascii_whitespace() || letter == '\u{b}');
            if !quoted && letter == '\n' {
                break;
            }
            if !blank && !inside {
                n_words += 1;
                first = first.or(Some(offset));
                if n_words == word {
                    return offset;
                }
            }
            inside = !blank;
            quoted = !quoted && letter == '\\';
        }
        first.unwrap_or(here)
    }
}

impl Iterator for Letters<'_> {
    type Item = (usize, char);

    fn next(&mut self) -> Option<(usize, char)> {
        loop {
            let offset = self.offset;
            let first = self.rest.chars().next()?;
            if first != '\\' || !self.escapes {
                self.pass(first.len_utf8());
                return Some((offset, first));
            }
            self.pass(1);
            let escape = self.rest.chars().next()?;
            if escape.is_whitespace() {
                // The line goes on behind the white space.
                let blank = self.rest.len() - self.rest.trim_start().len();
                self.pass(blank);
                continue;
            }
            self.pass(escape.len_utf8());
            return Some((offset, self.escaped(escape)));
        }
    }
}

impl Letters<'_> {
    fn escaped(&mut self, escape: char) -> char {
        let n_digits = match escape {
            'b' => return '\u{8}',
            't' => return '\t',
            'n' => return '\n',
            'f' => return '\u{c}',
            'r' => return '\r',
            'e' => return '\u{1b}',
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => return other,
        };
        let digits = self.rest.get(..n_digits).unwrap_or_default();
        let code = u32::from_str_radix(digits, 16).ok();
        self.pass(digits.len());
        code.and_then(char::from_u32)
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Literal;
    use proptest::prelude::{prop_assert_eq, proptest};

    fn meaning(raw: &str) -> String {
        Literal { offset: 0, raw }
            .letters()
            .map(|(_, letter)| letter)
            .collect()
    }

    #[test]
    fn the_meaning_is_toml_s() {
        for raw in [
            r#""a\tb\\c\"d\u00e9\x41\U0001F600\e""#,
            "'a\\tb'",
            "\"\"\"\n0 8 zero\n8 8 error\n\"\"\"",
            "'''\r\n0 8 linear a\\ b 0\n'''",
            "\"\"\"0 8 \\\n\n   zero\"\"\"",
            "\"\"\"ends in two quotes\"\"\"\"\"",
        ] {
            let document = format!("x = {raw}");
            let value: toml::Table = document.parse().unwrap();
            assert_eq!(meaning(raw), value["x"].as_str().unwrap(), "{raw}");
        }
    }

    #[test]
    fn words_are_found_in_the_file() {
        let document = "table = \"\"\"\n0 8 zero\n 8 8 linear a\\\\ b 0\n\"\"\"";
        let raw = &document[8..];
        let lines = Literal { offset: 8, raw }.lines();
        let at = |line: usize, word| &document[lines[line].clone().place_of_word(word)..];
        assert!(at(0, 1).starts_with("0 8 zero"));
        assert!(at(0, 3).starts_with("zero"));
        assert!(at(1, 4).starts_with("a\\\\ b 0"));
        assert!(at(1, 5).starts_with("0\n"));
        assert!(at(1, 9).starts_with("8 8 linear"));
    }

    proptest! {
        #[test]
        fn nothing_panics(raw in r#"["'\\\PC \n\tuUx0-9]{0,40}"#, word in 0..9u32) {
            let literal = Literal { offset: 3, raw: &raw };
            for line in literal.lines() {
                let place = line.place_of_word(word);
                prop_assert_eq!(place >= 3 && place <= raw.len() + 3, true);
            }
        }
    }
}
