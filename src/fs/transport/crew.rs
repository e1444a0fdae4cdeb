//! How many workers wait for requests.
//!
//! A request wakes the worker that has waited longest. Where requests come one after the other, one worker who waits or
//! two are enough; which is better is found out by [trying](Trial), as more of them take turns and are cold when their turn
//! comes. A worker calls another where it finds a request waiting behind the one it has just taken; that one goes off
//! duty again when it has found none behind its own for a while.
//!
//! Whoever takes long over a request might keep the next one waiting without knowing of it. While there are
//! requests, the first of those off duty looks every few milliseconds whether that is so, and steps in.

use std::time::{Duration, Instant};

use super::trial::Trial;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering};

/// The most workers of a crew.
pub const MOST: usize = 4;
/// One request in so many is looked behind, where requests are short.
const SHORT_REQUESTS: u32 = 8;
/// The same while everybody is on duty and there is enough to do.
const SHORT_REQUESTS_AT_WORK: u32 = 64;
/// From this length on, a look costs little beside the request.
const LONG_REQUEST: usize = 64 << 10;
/// Who has found nothing behind its requests so often goes off duty.
const QUIET_LOOKS: u32 = 32;
/// Requests of the first worker in a period.
const PERIOD: u32 = 32;
/// How long a request may keep all of the crew busy unnoticed.
const TICK: Duration = Duration::from_millis(5);
/// The same where nothing had happened for a tick.
const SLOW_TICK: Duration = Duration::from_secs(1);

/// The workers of one mount.
pub struct Crew {
    size: usize,
    /// Workers with a lower number are on duty.
    on_duty: AtomicUsize,
    /// So many are on duty even when nothing waits.
    fewest: AtomicUsize,
    progress: [Progress; MOST],
    /// The one who looks after the others has stopped doing so often.
    slow: AtomicBool,
    ended: AtomicBool,
    /// A leaf in the lock order.
    door: Mutex<()>,
    /// Something changed for those off duty.
    called: Condvar,
}

/// Twice the requests that a worker has served, and one more while it serves another.
#[derive(Default)]
#[repr(align(64))]
struct Progress(AtomicU64);

/// What a worker remembers between requests.
#[derive(Default)]
pub struct Looks {
    /// Requests until the next look.
    left: u32,
    quiet: u32,
    /// Of the first worker.
    period: Period,
}

/// A stretch of requests that the first worker serves, to be compared with others.
#[derive(Default)]
struct Period {
    left: u32,
    /// When it began, and all that had been served by then.
    begun: Option<(Instant, u64)>,
    trial: Trial,
}

impl Crew {
    /// A crew of `size`, [`MOST`] at most, of whom the first two are on duty.
    pub fn new(size: usize) -> Crew {
        let size = size.clamp(1, MOST);
        Crew {
            size,
            on_duty: AtomicUsize::new(size.min(2)),
            fewest: AtomicUsize::new(size.min(2)),
            progress: Default::default(),
            slow: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            door: Mutex::new(()),
            called: Condvar::new(),
        }
    }

    /// True where `worker` is on duty.
    pub fn is_on_duty(&self, worker: usize) -> bool {
        worker < self.on_duty.load(Ordering::Relaxed)
    }

    /// Waits until `worker` is on duty; false where the crew was dismissed.
    pub fn wait_for_duty(&self, worker: usize) -> bool {
        if worker < self.on_duty.load(Ordering::Relaxed) {
            return true;
        }
        let mut door = self.door.lock();
        let mut before = None;
        while !self.ended.load(Ordering::Relaxed) {
            let on_duty = self.on_duty.load(Ordering::Relaxed);
            if worker < on_duty {
                return true;
            }
            if worker > on_duty {
                self.called.wait(&mut door);
                continue;
            }
            let now = self.progress_of(on_duty);
            let is_busy = now.iter().all(|progress| progress % 2 == 1);
            if before == Some(now) && is_busy {
                self.on_duty.store(on_duty + 1, Ordering::Relaxed);
                self.called.notify_all();
                return true;
            }
            let is_slow = before == Some(now);
            self.slow.store(is_slow, Ordering::Relaxed);
            let tick = if is_slow { SLOW_TICK } else { TICK };
            self.called.wait_for(&mut door, tick);
            before = Some(now);
        }
        false
    }

    /// The progress of the first `count` workers, odd for the others.
    fn progress_of(&self, count: usize) -> [u64; MOST] {
        let mut all = [1; MOST];
        for (seen, progress) in all.iter_mut().zip(&self.progress).take(count) {
            *seen = progress.0.load(Ordering::Relaxed);
        }
        all
    }

    /// `worker` has taken a request of `len` bytes; `is_backlog` tells whether another one waits behind it.
    #[inline]
    pub fn taken(
        &self,
        worker: usize,
        len: usize,
        looks: &mut Looks,
        is_backlog: impl FnOnce() -> bool,
    ) {
        self.step(worker);
        if self.size == 1 {
            return;
        }
        if self.slow.load(Ordering::Relaxed) {
            self.slow.store(false, Ordering::Relaxed);
            self.call();
        }
        if worker == 0 {
            match looks.period.left.checked_sub(1) {
                Some(left) => looks.period.left = left,
                None => self.end_period(&mut looks.period),
            }
        }
        if looks.left > 0 && len < LONG_REQUEST {
            looks.left -= 1;
            return;
        }
        looks.left = SHORT_REQUESTS - 1;
        let on_duty = self.on_duty.load(Ordering::Relaxed);
        if !is_backlog() {
            looks.quiet += 1;
            let is_spare = worker + 1 == on_duty && on_duty > self.fewest.load(Ordering::Relaxed);
            if is_spare && looks.quiet >= QUIET_LOOKS {
                looks.quiet = 0;
                self.change(on_duty, worker);
            }
        } else {
            looks.quiet = 0;
            if on_duty < self.size {
                self.change(on_duty, on_duty + 1);
            } else {
                looks.left = SHORT_REQUESTS_AT_WORK - 1;
            }
        }
    }

    /// Has the trial say how many are to wait from now on.
    #[cold]
    fn end_period(&self, period: &mut Period) {
        let now = Instant::now();
        let served = self.progress_of(self.size).iter().sum::<u64>() / 2;
        period.left = PERIOD;
        let Some((begun, before)) = period.begun.replace((now, served)) else {
            return;
        };
        let requests = served.saturating_sub(before);
        let fewest = period.trial.period(requests, now - begun);
        let was = self.fewest.swap(fewest, Ordering::Relaxed);
        if fewest != was {
            self.change(was, fewest);
        }
    }

    /// `worker` has served what it had taken.
    #[inline]
    pub fn served(&self, worker: usize) {
        self.step(worker);
    }

    fn step(&self, worker: usize) {
        if let Some(Progress(progress)) = self.progress.get(worker) {
            let now = progress.load(Ordering::Relaxed).wrapping_add(1);
            progress.store(now, Ordering::Relaxed);
        }
    }

    /// Where somebody else was faster, the next look decides anew.
    #[cold]
    fn change(&self, from: usize, to: usize) {
        let relaxed = Ordering::Relaxed;
        if self
            .on_duty
            .compare_exchange(from, to, relaxed, relaxed)
            .is_ok()
        {
            self.call();
        }
    }

    #[cold]
    fn call(&self) {
        let _door = self.door.lock();
        self.called.notify_all();
    }

    /// Everybody goes home: the mount is gone.
    pub fn dismiss(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.call();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::{Crew, LONG_REQUEST, Looks, QUIET_LOOKS, SHORT_REQUESTS};
    use crate::sync::{Arc, Ordering};

    fn on_duty(crew: &Crew) -> usize {
        crew.on_duty.load(Ordering::Relaxed)
    }

    /// Of whom one is on duty at least, and at present.
    fn lone(size: usize) -> Crew {
        let crew = Crew::new(size);
        crew.on_duty.store(1, Ordering::Relaxed);
        crew.fewest.store(1, Ordering::Relaxed);
        crew
    }

    fn take(crew: &Crew, worker: usize, len: usize, looks: &mut Looks, is_backlog: bool) {
        crew.taken(worker, len, looks, || is_backlog);
        crew.served(worker);
    }

    #[test]
    fn a_backlog_calls_another_and_a_quiet_time_sends_it_off() {
        let crew = lone(3);
        let mut first = Looks::default();
        take(&crew, 0, 4096, &mut first, false);
        for _ in 1..SHORT_REQUESTS {
            take(&crew, 0, 4096, &mut first, true);
        }
        assert_eq!(on_duty(&crew), 1);
        take(&crew, 0, 4096, &mut first, true);
        assert_eq!(on_duty(&crew), 2);
        let mut second = Looks::default();
        take(&crew, 1, LONG_REQUEST, &mut second, true);
        assert_eq!(on_duty(&crew), 3);
        take(&crew, 1, LONG_REQUEST, &mut second, true);
        assert_eq!(on_duty(&crew), 3);
        // Only the last one goes, and the first one never.
        for _ in 0..2 * QUIET_LOOKS {
            take(&crew, 1, LONG_REQUEST, &mut second, false);
            take(&crew, 0, LONG_REQUEST, &mut first, false);
        }
        assert_eq!(on_duty(&crew), 3);
        let mut third = Looks::default();
        for _ in 0..QUIET_LOOKS {
            take(&crew, 2, LONG_REQUEST, &mut third, false);
        }
        assert_eq!(on_duty(&crew), 2);
    }

    #[test]
    fn two_wait_and_one_alone_now_and_then_to_see_what_is_faster() {
        let crew = Crew::new(4);
        let (mut first, mut second) = (Looks::default(), Looks::default());
        let mut seen = [0; 2];
        for _ in 0..60_000 {
            take(&crew, 0, 4096, &mut first, false);
            take(&crew, 1, 4096, &mut second, false);
            seen[on_duty(&crew) - 1] += 1;
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        let crew = Crew::new(1);
        take(&crew, 0, 4096, &mut first, true);
        assert_eq!(on_duty(&crew), 1);
    }

    #[test]
    fn one_who_is_off_duty_steps_in_for_one_who_takes_long() {
        let crew = Arc::new(lone(2));
        let second = crew.clone();
        let waiting = thread::spawn(move || second.wait_for_duty(1));
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        // A request that is never done, and a look behind it that found nothing.
        crew.taken(0, LONG_REQUEST, &mut Looks::default(), || false);
        assert!(waiting.join().is_ok_and(|is_on_duty| is_on_duty));
        assert_eq!(on_duty(&crew), 2);
    }

    #[test]
    fn those_off_duty_go_home_with_the_others() {
        let crew = Arc::new(lone(4));
        let waiting: Vec<_> = (1..4)
            .map(|worker| {
                let crew = crew.clone();
                thread::spawn(move || crew.wait_for_duty(worker))
            })
            .collect();
        crew.dismiss();
        for worker in waiting {
            assert!(worker.join().is_ok_and(|is_on_duty| !is_on_duty));
        }
    }
}
