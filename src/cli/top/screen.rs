//! The whole terminal for one picture: keys come as they are pressed, and when it is over all is as before.

use std::io::stdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// Another page of the terminal, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal while it is ours. Dropping it gives it back.
pub struct Screen {
    before: Option<Termios>,
    ended: Arc<AtomicBool>,
    signals: Vec<SigId>,
}

impl Screen {
    /// Takes the terminal over. [`Self::opening`] is to be printed after it, [`Self::closing`] before it is given back.
    pub fn take() -> Screen {
        let ended = Arc::new(AtomicBool::new(false));
        let signals = [SIGINT, SIGTERM, SIGHUP]
            .into_iter()
            .filter_map(|signal| flag::register(signal, ended.clone()).ok());
        Screen {
            signals: signals.collect(),
            before: keys_as_they_come(),
            ended,
        }
    }

    /// What makes room for the picture.
    pub fn opening() -> &'static str {
        ENTER
    }

    /// What brings back what was there before.
    pub fn closing() -> &'static str {
        LEAVE
    }

    /// A picture, from the top; what is left of the one before is wiped away.
    pub fn frame(lines: &str) -> String {
        let mut text = String::from("\x1b[H");
        for line in lines.lines() {
            text += line;
            text += "\x1b[K\r\n";
        }
        text + "\x1b[J"
    }

    /// Waits for a key, until `deadline`. None where none came.
    pub fn key(&self, deadline: Instant) -> Option<Key> {
        loop {
            if self.ended.load(Ordering::Relaxed) {
                return Some(Key::End);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            match self.wait(left) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => {
                    let mut byte = [0];
                    return match read(stdin(), &mut byte) {
                        Ok(1) => Some(Key::of(byte[0])),
                        // Nobody types any more.
                        _ => Some(Key::End),
                    };
                }
                Err(_) => return Some(Key::End),
            }
        }
    }

    fn wait(&self, left: Duration) -> Result<usize, Errno> {
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let stdin = stdin();
        match self.before {
            Some(_) => poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&left)),
            None => poll(&mut [], Some(&left)),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(stdin(), OptionalActions::Flush, before);
        }
        for signal in self.signals.drain(..) {
            low_level::unregister(signal);
        }
    }
}

/// Each key at once, unseen, also those that would be signals; what the terminal did before. None without a
/// terminal to type on.
fn keys_as_they_come() -> Option<Termios> {
    if !isatty(stdin()) {
        return None;
    }
    let before = tcgetattr(stdin()).ok()?;
    let mut now = before.clone();
    now.local_modes
        .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
    now.special_codes[SpecialCodeIndex::VMIN] = 1;
    now.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(stdin(), OptionalActions::Now, &now).ok()?;
    Some(before)
}

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The end: q, Ctrl-C, Ctrl-D, a signal.
    End,
    /// Another letter.
    Letter(u8),
}

impl Key {
    fn of(byte: u8) -> Key {
        match byte {
            b'q' | b'Q' | 3 | 4 => Key::End,
            letter => Key::Letter(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Screen};

    #[test]
    fn a_frame_wipes_what_was_there() {
        assert_eq!(
            Screen::frame("a\nb\n"),
            "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J"
        );
    }

    #[test]
    fn q_and_the_usual_keys_end_it() {
        for byte in *b"qQ\x03\x04" {
            assert_eq!(Key::of(byte), Key::End);
        }
        assert_eq!(Key::of(b'r'), Key::Letter(b'r'));
    }
}
