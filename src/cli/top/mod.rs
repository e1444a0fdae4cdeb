//! `top`: what devices do, second by second; a picture on a terminal, a table after the other elsewhere.

mod rates;
mod screen;

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use super::columns::{Column, column, table};
use super::session::{Failure, Outcome, Session};
use super::task::Kind;
use super::verbs::mount::unexpected;
use crate::control::protocol::json::{DeviceCounters, JsonReply, JsonRequest};
use crate::terminal::{Look, Paint, cut};
use rates::{Order, Rate, rates};
use screen::{Key, Screen};

/// What is shown of each device, in the order of [`Rate::cells`].
const COLUMNS: &[Column] = &[
    column("Name", 16, 9),
    column("r/s", 8, 8),
    column("w/s", 8, 8),
    column("rMiB/s", 8, 7),
    column("wMiB/s", 8, 7),
    column("r-lat", 8, 6),
    column("w-lat", 8, 6),
    column("flush/s", 7, 3),
    column("f-lat", 8, 2),
    column("queue", 6, 5),
    column("errors", 6, 4),
];

/// Lines of a picture beside those of devices: title, headings, all together, what is left out.
const OTHER_LINES: usize = 4;

/// Seconds that an answer may take longer than the interval without a gap in what is measured.
const ANSWER_TIME: u32 = 5;

/// What was counted, and when.
struct Count {
    devices: Vec<DeviceCounters>,
    at: Instant,
}

/// `top [DEVICE...]`
pub fn top(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let order = order(session)?;
    let mut names = Vec::new();
    for word in words {
        names.push(session.task(Kind::Info, Some(word))?.name);
    }
    let interval = session.options.interval.unwrap_or(1);
    let first = count(session, &names, interval)?;
    let found = |name: &&String| first.devices.iter().any(|device| device.name == **name);
    if let Some(missing) = names.iter().find(|name| !found(name)) {
        return Err(Failure::new(format!(
            "dmfs: top: expected the name of a device of this mount, found '{missing}'"
        )));
    }
    let mut watch = Watch {
        names,
        order,
        before: first,
        interval,
        left: session.options.count.filter(|&count| count > 0),
    };
    if session.look.is_terminal && !session.options.json {
        let screen = Screen::take();
        session.print(Screen::opening())?;
        let outcome = watch.on_screen(session, &screen);
        session.print(Screen::closing())?;
        return outcome;
    }
    watch.in_lines(session)
}

fn order(session: &Session<'_>) -> Outcome<Order> {
    let Some(word) = session.options.sort.as_deref() else {
        return Ok(Order::default());
    };
    let found = Order::ALL.iter().find(|(known, _, _)| *known == word);
    found.map(|(_, _, order)| *order).ok_or_else(|| {
        let known: Vec<&str> = Order::ALL.iter().map(|(word, _, _)| *word).collect();
        let known = known.join(", ");
        Failure::new(format!(
            "dmfs: option --sort: expected one of {known}, found '{word}'"
        ))
    })
}

/// Counts, and has requests measured from now on.
fn count(session: &mut Session<'_>, names: &[String], interval: u32) -> Outcome<Count> {
    let request = JsonRequest::Counters {
        name: None,
        measure: Some(interval.saturating_add(ANSWER_TIME)),
    };
    match session.ask(&request)? {
        JsonReply::Counters { mut devices } => {
            devices.retain(|device| names.is_empty() || names.contains(&device.name));
            Ok(Count {
                devices,
                at: Instant::now(),
            })
        }
        other => Err(unexpected(&other)),
    }
}

struct Watch {
    names: Vec<String>,
    order: Order,
    before: Count,
    /// Seconds between two counts.
    interval: u32,
    /// How often still; without end if none.
    left: Option<u32>,
}

impl Watch {
    /// What was done since the last question, in order.
    fn next(&mut self, session: &mut Session<'_>) -> Outcome<(Vec<Rate>, f64)> {
        let now = count(session, &self.names, self.interval)?;
        let seconds = (now.at - self.before.at).as_secs_f64().max(1e-6);
        let rates = rates(&self.before.devices, &now.devices, seconds);
        self.before = now;
        Ok((self.sorted(rates), seconds))
    }

    fn sorted(&self, mut rates: Vec<Rate>) -> Vec<Rate> {
        rates.sort_by(|a, b| a.compare(b, self.order));
        rates
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(self.interval.into())
    }

    /// Counts down; whether that was the last time.
    fn is_last(&mut self) -> bool {
        self.left = self.left.map(|left| left - 1);
        self.left == Some(0)
    }

    fn in_lines(&mut self, session: &mut Session<'_>) -> Outcome {
        loop {
            sleep(self.pause());
            let (rates, seconds) = self.next(session)?;
            let text = match session.options.json {
                true => json_line(&rates, seconds),
                false => lines(&rates, session.look),
            };
            session.print(&text)?;
            session.flush();
            if self.is_last() {
                return Ok(());
            }
            if !session.options.json {
                session.print("\n")?;
            }
        }
    }

    fn on_screen(&mut self, session: &mut Session<'_>, screen: &Screen) -> Outcome {
        let mount = session.mount()?.mountpoint;
        let mut shown = Vec::new();
        let mut next = Instant::now() + self.pause();
        loop {
            session.look = Look::of(std::io::stdout());
            let picture = self.picture(&mount, &shown, session.look, height());
            session.print(&Screen::frame(&picture))?;
            match screen.key(next) {
                Some(Key::End) => return Ok(()),
                Some(Key::Letter(letter)) => {
                    let chosen = Order::ALL.iter().find(|(_, key, _)| *key == letter);
                    if let Some((_, _, order)) = chosen {
                        self.order = *order;
                        shown = self.sorted(shown);
                    }
                }
                None => {
                    (shown, _) = self.next(session)?;
                    next = (next + self.pause()).max(Instant::now());
                    if self.is_last() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn picture(&self, mount: &str, rates: &[Rate], look: Look, height: usize) -> String {
        let keys = Order::ALL.map(|(word, key, _)| format!("{} {word}", char::from(key)));
        let title = format!(
            "dmfs top {mount}: {} devices, every {} s, by {} (q quit; sort: {})",
            self.before.devices.len(),
            self.interval,
            self.order.word(),
            keys.join(", ")
        );
        let title = look.width.map_or(title.clone(), |width| cut(&title, width));
        let mut text = look.paint(Paint::Faint, &title) + "\n";
        if rates.is_empty() {
            return text + "measuring ...\n";
        }
        let room = height.saturating_sub(OTHER_LINES).max(1);
        let shown = rates.get(..room).unwrap_or(rates);
        let mut rows: Vec<Vec<String>> = shown.iter().map(Rate::cells).collect();
        rows.push(Rate::total(rates).cells());
        text += &table(COLUMNS, &rows, look);
        if rates.len() > shown.len() {
            text += &format!("... and {} more\n", rates.len() - shown.len());
        }
        text
    }
}

/// The lines of the terminal.
fn height() -> usize {
    tcgetwinsize(std::io::stdout())
        .map(|size| usize::from(size.ws_row))
        .ok()
        .filter(|&rows| rows > 0)
        .unwrap_or(24)
}

fn lines(rates: &[Rate], look: Look) -> String {
    let mut rows: Vec<Vec<String>> = rates.iter().map(Rate::cells).collect();
    if rates.len() != 1 {
        rows.push(Rate::total(rates).cells());
    }
    table(COLUMNS, &rows, look)
}

/// One document on one line, for who reads them as they come.
fn json_line(rates: &[Rate], seconds: f64) -> String {
    let devices: Vec<Value> = rates.iter().map(Rate::json).collect();
    format!("{}\n", json!({"seconds": seconds, "devices": devices}))
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, Count, Instant, Look, Order, Rate, Watch, json_line};

    fn watch() -> Watch {
        Watch {
            names: Vec::new(),
            order: Order::Name,
            before: Count {
                devices: Vec::new(),
                at: Instant::now(),
            },
            interval: 1,
            left: Some(2),
        }
    }

    fn rates(count: usize) -> Vec<Rate> {
        let rate = |number| Rate {
            name: format!("device-{number:02}"),
            reads: 5.0,
            ..Rate::default()
        };
        (0..count).map(rate).collect()
    }

    #[test]
    fn a_picture_fits_the_terminal() {
        for (width, height) in [(200, 50), (80, 24), (40, 10), (12, 5)] {
            let look = Look {
                is_terminal: true,
                colour: false,
                width: Some(width),
            };
            let picture = watch().picture("/mnt/dm", &rates(30), look, height);
            assert!(
                picture.lines().count() <= height,
                "{width} x {height}:\n{picture}"
            );
            for line in picture.lines().filter(|line| !line.starts_with("...")) {
                assert!(line.len() <= width, "{width}: {line}");
            }
            let left_out = 30_usize.saturating_sub(height - 4);
            assert_eq!(
                picture.contains(&format!("and {left_out} more")),
                left_out > 0
            );
        }
    }

    #[test]
    fn before_the_first_count_there_is_nothing_to_show() {
        let picture = watch().picture("/mnt/dm", &[], Look::PLAIN, 24);
        assert!(picture.ends_with("measuring ...\n"), "{picture}");
    }

    #[test]
    fn cells_and_columns_are_as_many() {
        assert_eq!(Rate::default().cells().len(), COLUMNS.len());
    }

    #[test]
    fn a_line_of_json_is_one_document() {
        let line = json_line(&rates(2), 1.5);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["devices"][1]["reads"], 5.0);
    }

    #[test]
    fn the_count_comes_to_its_end() {
        let mut watch = watch();
        assert!(!watch.is_last());
        assert!(watch.is_last());
        watch.left = None;
        assert!(!watch.is_last());
    }
}
