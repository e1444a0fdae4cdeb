//! The command line: cryptsetup's grammar. Options stand anywhere, words after `--` are no options.

use std::ffi::OsString;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::options::{OPTIONS, OptionDef, Takes};
use crate::encrypted::Refused;

/// A command line, taken apart.
pub struct Arguments {
    matches: ArgMatches,
    /// What stands on it beside options.
    pub words: Vec<String>,
}

fn to_arg(option: &OptionDef) -> Arg {
    let mut arg = Arg::new(option.long).long(option.long).help(option.help);
    if let Some(alias) = option.alias {
        arg = arg.visible_alias(alias);
    }
    if let Some(short) = option.short {
        arg = arg.short(short);
    }
    match option.takes {
        Takes::Nothing => arg.action(ArgAction::SetTrue),
        // Of key files there may be several.
        Takes::Text(what) if option.long == "key-file" => arg
            .value_name(what)
            .action(ArgAction::Append)
            .allow_hyphen_values(true),
        Takes::Text(what) | Takes::Number(what) => arg.value_name(what).allow_hyphen_values(true),
        Takes::Size => arg.value_name("BYTES").allow_hyphen_values(true),
    }
}

/// The grammar, with the options that `wanted` says.
pub fn grammar(wanted: impl Fn(&OptionDef) -> bool) -> Command {
    let options = OPTIONS.iter().filter(|option| wanted(option));
    Command::new("dmfs")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .args(options.map(to_arg))
}

impl Arguments {
    /// Takes apart what follows the program's name.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn parse(args: Vec<OsString>) -> Result<Arguments, Refused> {
        let words = Arg::new("words").num_args(0..);
        let matches = grammar(|_| true)
            .arg(words)
            .try_get_matches_from(args)
            .map_err(|error| Refused::invalid(wrong(&error)))?;
        let words = matches.get_many::<String>("words");
        let words = words.unwrap_or_default().cloned().collect();
        let arguments = Arguments { matches, words };
        for option in OPTIONS {
            match option.takes {
                Takes::Number(_) => drop(arguments.number::<u64>(option.long)?),
                Takes::Size => drop(arguments.size(option.long)?),
                Takes::Text(_) | Takes::Nothing => {}
            }
        }
        Ok(arguments)
    }

    /// The options given.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let is_given = |option: &&OptionDef| {
            let source = self.matches.value_source(option.long);
            source == Some(clap::parser::ValueSource::CommandLine)
        };
        OPTIONS.iter().filter(is_given).map(|option| option.long)
    }

    /// Whether a flag is given.
    pub fn flag(&self, long: &str) -> bool {
        matches!(self.matches.try_get_one::<bool>(long), Ok(Some(true)))
    }

    /// An option's text; of one that is given several times the last.
    pub fn text(&self, long: &str) -> Option<&str> {
        self.texts(long).last()
    }

    /// All texts of an option.
    pub fn texts(&self, long: &str) -> impl Iterator<Item = &str> {
        let texts = self.matches.try_get_many::<String>(long);
        texts
            .ok()
            .flatten()
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// An option's number.
    ///
    /// # Errors
    /// What is no number, or none of this size.
    pub fn number<N: FromStr>(&self, long: &str) -> Result<Option<N>, Refused> {
        let Some(text) = self.text(long) else {
            return Ok(None);
        };
        let number = text.trim().parse().map_err(|_| {
            Refused::invalid(format!(
                "--{long}: expected a number in range, found '{text}'"
            ))
        })?;
        Ok(Some(number))
    }

    /// An option's number of bytes.
    ///
    /// # Errors
    /// What is no size.
    pub fn size(&self, long: &str) -> Result<Option<u64>, Refused> {
        let Some(text) = self.text(long) else {
            return Ok(None);
        };
        let size = parse_size(text).ok_or_else(|| {
            let expected =
                "a number of bytes, with a suffix such as k, M, GiB or MB, or S for sectors";
            Refused::invalid(format!("--{long}: expected {expected}, found '{text}'"))
        })?;
        Ok(Some(size))
    }
}

/// Bytes of `12`, `16k`, `1MiB` (1024 each), `1MB` (1000 each), `8S` (sectors).
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    if suffix.is_empty() {
        return Some(number);
    }
    if suffix.eq_ignore_ascii_case("s") {
        return number.checked_mul(512);
    }
    let mut letters = suffix.chars();
    let power = match letters.next()?.to_ascii_lowercase() {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        _ => return None,
    };
    let base: u64 = match letters.as_str() {
        "" | "iB" => 1024,
        "B" => 1000,
        _ => return None,
    };
    number.checked_mul(base.checked_pow(power)?)
}

fn wrong(error: &clap::Error) -> String {
    let context = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let option = context.split([' ', '=']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => format!("{option}: unknown option"),
        ErrorKind::InvalidValue | ErrorKind::NoEquals | ErrorKind::WrongNumberOfValues => {
            format!("{option}: missing argument")
        }
        ErrorKind::TooManyValues => format!("{option}: takes no argument"),
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Arguments, parse_size};

    fn parse(line: &str) -> Result<Arguments, String> {
        let words = line.split(' ').map(Into::into).collect();
        Arguments::parse(words).map_err(|error| error.message)
    }

    #[test]
    fn options_stand_anywhere() {
        let parsed = parse("-q open a --key-file - -S 3 b --luks2-metadata-size 16k").unwrap();
        assert_eq!(parsed.words, ["open", "a", "b"]);
        assert_eq!(parsed.text("key-file"), Some("-"));
        assert_eq!(parsed.number("key-slot"), Ok(Some(3_u32)));
        assert_eq!(parsed.size("luks2-metadata-size"), Ok(Some(16384)));
        assert!(parsed.flag("batch-mode") && !parsed.flag("readonly"));
        let given: Vec<_> = parsed.given().collect();
        assert_eq!(
            given,
            ["batch-mode", "key-file", "key-slot", "luks2-metadata-size"]
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, said) in [
            ("open --foo", "--foo: unknown option"),
            (
                "open -S x",
                "--key-slot: expected a number in range, found 'x'",
            ),
            (
                "open --size -1",
                "--size: expected a number in range, found '-1'",
            ),
            (
                "open --keyfile-size 1x",
                "--keyfile-size: expected a number of bytes",
            ),
            ("open --cipher", "--cipher: missing argument"),
        ] {
            let error = parse(line).err().unwrap();
            assert!(error.starts_with(said), "{line}: {error}");
        }
    }

    #[test]
    fn sizes_have_suffixes() {
        for (text, size) in [
            ("0", Some(0)),
            ("16k", Some(16384)),
            ("2M", Some(2 << 20)),
            ("1MiB", Some(1 << 20)),
            ("1MB", Some(1_000_000)),
            ("8S", Some(4096)),
            ("", None),
            ("k", None),
            ("1kb", None),
            ("99999999999999999999", None),
            ("99999999T", None),
        ] {
            assert_eq!(parse_size(text), size, "{text}");
        }
    }
}
