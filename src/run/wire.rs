//! What the supervisor tells the front, and what it is told: a letter and a number each.

use std::io::{Read, Result, Write};
use std::os::unix::net::UnixStream;

/// What becomes of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It runs, as this process.
    Started(i32),
    /// It could not be started: errno.
    NotStarted(i32),
    /// The filter could not be installed: errno.
    NoFilter(i32),
    /// It has been stopped by this signal.
    Stopped(i32),
    /// It has ended with this status.
    Exited(i32),
    /// This signal has ended it.
    Killed(i32),
    /// To the supervisor: it is to go on after a stop.
    GoOn,
}

impl News {
    fn parts(self) -> (u8, i32) {
        match self {
            News::Started(pid) => (b'p', pid),
            News::NotStarted(errno) => (b'n', errno),
            News::NoFilter(errno) => (b'f', errno),
            News::Stopped(signal) => (b's', signal),
            News::Exited(status) => (b'e', status),
            News::Killed(signal) => (b'k', signal),
            News::GoOn => (b'g', 0),
        }
    }

    fn of(letter: u8, number: i32) -> Option<News> {
        let all = [
            News::Started(number),
            News::NotStarted(number),
            News::NoFilter(number),
            News::Stopped(number),
            News::Exited(number),
            News::Killed(number),
            News::GoOn,
        ];
        all.into_iter().find(|news| news.parts().0 == letter)
    }

    /// Tells it.
    ///
    /// # Errors
    /// Where nobody listens.
    pub(super) fn send(self, mut to: &UnixStream) -> Result<()> {
        let (letter, number) = self.parts();
        let [a, b, c, d] = number.to_le_bytes();
        to.write_all(&[letter, a, b, c, d])
    }

    /// Waits for news; `None` where none will come.
    pub(super) fn receive(mut from: &UnixStream) -> Option<News> {
        let mut bytes = [0; 5];
        from.read_exact(&mut bytes).ok()?;
        let [letter, a, b, c, d] = bytes;
        News::of(letter, i32::from_le_bytes([a, b, c, d]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixStream;

    use super::News;

    #[test]
    fn news_arrive_as_they_were_sent() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for news in [
            News::Started(7),
            News::Killed(9),
            News::NotStarted(2),
            News::GoOn,
        ] {
            news.send(&ours).unwrap();
            assert_eq!(News::receive(&theirs), Some(news));
        }
        drop(ours);
        assert_eq!(News::receive(&theirs), None);
    }
}
