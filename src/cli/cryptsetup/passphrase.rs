//! Where passphrases come from: a prompt on the terminal, a line of standard input, a key file.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::stdin;
use rustix::termios::isatty;

use super::{Context, Done};
use crate::encrypted::{Kind, Refused, Secret, plain_error, read_key_file};
use crate::terminal;

/// How often a passphrase may be typed.
const TRIES: u32 = 3;

/// Which options say where a passphrase lies.
#[derive(Clone, Default)]
pub struct Source {
    /// The file.
    pub file: Option<String>,
    /// Bytes of it to skip.
    pub offset: u64,
    /// Bytes of it to read.
    pub size: Option<u64>,
}

impl Context<'_, '_> {
    /// The existing passphrase's source.
    pub fn key_file(&self) -> Done<Source> {
        Ok(Source {
            file: self.arguments.text("key-file").map(str::to_owned),
            offset: self.arguments.size("keyfile-offset")?.unwrap_or(0),
            size: self.arguments.size("keyfile-size")?,
        })
    }

    /// A passphrase: from the source, or asked for.
    pub fn passphrase(&mut self, source: &Source, prompt: &str, twice: bool) -> Done<Secret> {
        if let Some(file) = &source.file {
            return read_key_file(Path::new(file), source.offset, source.size);
        }
        self.typed(prompt, twice)
    }

    /// What somebody types, or a line of standard input.
    pub fn ask(&mut self, prompt: &str) -> Done<Secret> {
        self.typed(prompt, false)
    }

    fn typed(&mut self, prompt: &str, twice: bool) -> Done<Secret> {
        if !isatty(stdin()) {
            return read_line();
        }
        let secret = self.prompt(prompt)?;
        if twice && !self.prompt("Verify passphrase: ")?.is(&secret) {
            return Err(Refused::new(Kind::Passphrase, "Passphrases do not match."));
        }
        Ok(secret)
    }

    fn prompt(&mut self, text: &str) -> Done<Secret> {
        self.session.flush();
        let timeout = self.arguments.number::<u32>("timeout")?;
        self.session.aside(|| {
            let mut err = std::io::stderr();
            let _ = write!(err, "{text}").and_then(|()| err.flush());
            let secret = terminal::without_echo(stdin(), || {
                if let Some(seconds) = timeout.filter(|seconds| *seconds > 0) {
                    wait_for_input(seconds)?;
                }
                read_line()
            });
            let secret = secret.unwrap_or_else(|error| {
                Err(Refused::invalid(format!(
                    "Error reading passphrase from terminal: {error}."
                )))
            });
            let _ = writeln!(err);
            secret
        })
    }

    /// Asks for a passphrase until `try_it` takes one.
    pub fn until_right<T>(
        &mut self,
        prompt: &str,
        try_it: impl FnMut(&mut Self, &Secret) -> Done<T>,
    ) -> Done<T> {
        let source = self.key_file()?;
        self.until(&source, prompt, try_it)
    }

    /// Takes passphrases from `source` until `try_it` takes one.
    pub fn until<T>(
        &mut self,
        source: &Source,
        prompt: &str,
        mut try_it: impl FnMut(&mut Self, &Secret) -> Done<T>,
    ) -> Done<T> {
        let asked = self.arguments.number("tries")?.unwrap_or(TRIES).max(1);
        let is_typed = source.file.is_none() && isatty(stdin());
        let mut left = if is_typed { asked } else { 1 };
        loop {
            let given = self.passphrase(source, prompt, false)?;
            left -= 1;
            match try_it(self, &given) {
                Err(refused) if refused.kind == Kind::Passphrase && left > 0 => {
                    self.warn(&refused.message);
                }
                result => return result,
            }
        }
    }

    /// Asks whether to go on.
    pub fn confirm(&mut self, warning: &str) -> Done {
        if self.arguments.flag("batch-mode") || !isatty(stdin()) {
            return Ok(());
        }
        self.session.flush();
        let question = "Are you sure? (Type 'yes' in capital letters): ";
        self.warn(&format!("\nWARNING!\n========\n{warning}\n"));
        let mut err = std::io::stderr();
        let _ = write!(err, "{question}").and_then(|()| err.flush());
        match read_line()?.is(b"YES") {
            true => Ok(()),
            false => Err(Refused::invalid("Operation aborted.")),
        }
    }
}

fn wait_for_input(seconds: u32) -> Done {
    let time = Timespec {
        tv_sec: i64::from(seconds),
        tv_nsec: 0,
    };
    let input = stdin();
    let mut fds = [PollFd::new(&input, PollFlags::IN)];
    match poll(&mut fds, Some(&time)) {
        Ok(0) => Err(Refused::invalid(
            "Error reading passphrase from terminal: no answer in time.",
        )),
        _ => Ok(()),
    }
}

/// A line of standard input.
fn read_line() -> Done<Secret> {
    match terminal::read_line(stdin()) {
        Ok(mut line) => Ok(Secret::from(std::mem::take(&mut *line))),
        Err(error) => Err(Refused::invalid(format!(
            "Error reading passphrase: {error}."
        ))),
    }
}

/// The volume key in a file, which must be as long as said.
///
/// # Errors
/// A file that cannot be read, or is shorter.
pub fn read_volume_key(file: &str, bytes: usize) -> Done<Secret> {
    let len = Path::new(file).metadata().map_or(0, |found| found.len());
    if len != 0 && len < bytes as u64 {
        return Err(Refused::invalid(format!(
            "Cannot read requested amount of data: the volume key has {bytes} bytes, {file} has {len}."
        )));
    }
    read_key_file(Path::new(file), 0, Some(bytes as u64))
}

/// Writes a volume key to a new file that only its owner can read.
///
/// # Errors
/// A file that exists, or cannot be made.
pub fn write_volume_key(file: &str, key: &[u8]) -> Done {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error: std::io::Error| {
        Refused::invalid(format!(
            "Cannot open keyfile {file} for write: {}.",
            plain_error(&error)
        ))
    };
    let mut made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(file)
        .map_err(failed)?;
    made.write_all(key).map_err(failed)?;
    made.sync_all().map_err(failed)
}
