//! How far something is that takes longer than a second: a line that is drawn anew on a terminal, now and then a
//! line of its own elsewhere. What is over sooner says nothing.

use std::fmt::Write as _;
use std::io::{Write, stderr};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Look, cut};
use crate::sync::{Arc, Condvar, Mutex};

/// What takes no longer is not told of.
const SILENCE: Duration = Duration::from_secs(1);
/// Between two drawings on a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// Between the first two lines elsewhere; each pause is twice the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(4);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Columns of a bar.
const BAR: usize = 24;

/// How much is done, and of how much if that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Done.
    pub done: u64,
    /// To be done in all; 0 where that is not known.
    pub of: u64,
}

/// Something that goes on. It is over when this is dropped.
pub struct Progress {
    shared: Arc<Shared>,
    teller: Option<JoinHandle<()>>,
}

struct Shared {
    label: String,
    look: Look,
    begun: Instant,
    /// A leaf in the lock order; held while something is drawn or printed.
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    amount: Amount,
    is_over: bool,
    drawn: bool,
}

impl Progress {
    /// Begins to watch; tells on standard error, which looks so. `label` says what goes on.
    pub fn begin(label: &str, look: Look) -> Progress {
        Progress::measured(label, look, None)
    }

    /// As [`Progress::begin`], for something that can be asked how far it is.
    pub fn asking(label: &str, look: Look, ask: impl Fn() -> Amount + Send + 'static) -> Progress {
        Progress::measured(label, look, Some(Box::new(ask)))
    }

    fn measured(label: &str, look: Look, ask: Option<Box<Ask>>) -> Progress {
        let shared = Arc::new(Shared {
            label: label.to_owned(),
            look,
            begun: Instant::now(),
            state: Mutex::new(State::default()),
            over: Condvar::new(),
        });
        let told = shared.clone();
        // Without a thread nothing is told: what goes on goes on all the same.
        let teller = thread::Builder::new()
            .name("progress".into())
            .spawn(move || told.tell(ask.as_deref()))
            .ok();
        Progress { shared, teller }
    }

    /// So much is to be done in all.
    pub fn expect(&self, of: u64) {
        self.shared.state.lock().amount = Amount { done: 0, of };
    }

    /// One more is done.
    pub fn step(&self) {
        self.shared.state.lock().amount.done += 1;
    }

    /// Does something that prints, with what was drawn out of its way.
    pub fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        let mut state = self.shared.state.lock();
        state.clear();
        print()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.state.lock().is_over = true;
        self.shared.over.notify_all();
        if let Some(teller) = self.teller.take() {
            // It has nothing to answer.
            let _ = teller.join();
        }
    }
}

/// Says how far something is.
type Ask = dyn Fn() -> Amount + Send;

impl Shared {
    fn tell(&self, ask: Option<&Ask>) {
        let (mut pause, mut next) = (FIRST_PAUSE, self.begun + SILENCE);
        let mut turn = 0;
        let mut state = self.state.lock();
        while !state.is_over {
            if Instant::now() < next {
                let _ = self.over.wait_until(&mut state, next);
                continue;
            }
            if let Some(ask) = ask {
                drop(state);
                let amount = ask();
                state = self.state.lock();
                state.amount = amount;
            }
            let elapsed = self.begun.elapsed();
            if self.look.is_terminal {
                let line = self.line(state.amount, elapsed, turn);
                state.draw(&line);
                turn += 1;
                next += REDRAW;
            } else {
                // Nobody can be told that standard error is closed.
                let _ = writeln!(
                    stderr(),
                    "{}",
                    plain_line(&self.label, state.amount, elapsed)
                );
                next += pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        state.clear();
    }

    fn line(&self, amount: Amount, elapsed: Duration, turn: usize) -> String {
        let line = drawn_line(&self.label, amount, elapsed, turn);
        self.look
            .width
            .map_or(line.clone(), |width| cut(&line, width.saturating_sub(1)))
    }
}

impl State {
    fn draw(&mut self, line: &str) {
        self.drawn = true;
        let _ = write!(stderr(), "\r{line}\x1b[K").and_then(|()| stderr().flush());
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(stderr(), "\r\x1b[K").and_then(|()| stderr().flush());
        }
    }
}

fn drawn_line(label: &str, amount: Amount, elapsed: Duration, turn: usize) -> String {
    let mut line = String::new();
    let seconds = elapsed.as_secs();
    if amount.of == 0 {
        let sign = ["|", "/", "-", "\\"][turn % 4];
        let _ = write!(line, "{label} {sign} {seconds} s");
        return line;
    }
    let done = amount.done.min(amount.of);
    let filled = (u128::from(done) * BAR as u128 / u128::from(amount.of)) as usize;
    let _ = write!(
        line,
        "{label} [{}{}] {done} of {} {seconds} s",
        "#".repeat(filled),
        " ".repeat(BAR - filled),
        amount.of
    );
    line
}

fn plain_line(label: &str, amount: Amount, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match amount.of {
        0 => format!("dmfs: {label}: goes on after {seconds} s"),
        of => format!(
            "dmfs: {label}: {} of {of} after {seconds} s",
            amount.done.min(of)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Duration, drawn_line, plain_line};

    const FOUR: Duration = Duration::from_millis(4200);

    #[test]
    fn a_bar_shows_how_much_is_done() {
        let half = Amount { done: 50, of: 100 };
        let line = drawn_line("remove", half, FOUR, 0);
        assert_eq!(line, "remove [############            ] 50 of 100 4 s");
        let more_than_all = Amount { done: 9, of: 8 };
        assert!(drawn_line("x", more_than_all, FOUR, 0).contains("8 of 8"));
        let huge = Amount {
            done: u64::MAX,
            of: u64::MAX,
        };
        assert!(drawn_line("x", huge, FOUR, 0).contains(&"#".repeat(24)));
    }

    #[test]
    fn without_an_end_there_is_no_bar() {
        assert_eq!(
            drawn_line("umount", Amount::default(), FOUR, 5),
            "umount / 4 s"
        );
    }

    #[test]
    fn lines_are_plain_elsewhere() {
        let some = Amount { done: 3, of: 7 };
        assert_eq!(
            plain_line("remove", some, FOUR),
            "dmfs: remove: 3 of 7 after 4 s"
        );
        let unknown = plain_line("suspend d", Amount::default(), FOUR);
        assert_eq!(unknown, "dmfs: suspend d: goes on after 4 s");
    }
}
