//! Cuts the connection where the daemon waits for memory that cannot come before it has answered.
//!
//! A loop device over a file of the mount writes back pages through the daemon. Where the daemon itself needs memory
//! and the kernel, to find some, waits for just those pages, both wait for good; not even `kill -9` helps, and every
//! `sync` of the machine hangs with them. Only cutting the connection frees them. The watchdog does that when it finds
//! a thread of ours in the kernel's search for memory in each look of a whole minute.
//!
//! It runs beside a daemon that may get no memory, so everything it needs is open, allocated and locked before; it
//! touches no file of the mount; and it cuts first and speaks afterwards, as standard error may be a file on the
//! device that hangs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::thread;
use std::time::Duration;

use super::connection::Connection;
use crate::sync::{Arc, Mutex};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row that find the same thread without memory before the connection is cut.
const PATIENCE: u32 = 60;
/// Threads that are looked at.
const MOST_THREADS: usize = 256;
/// Parts of the names of the kernel's functions that look for memory (mm/vmscan.c, mm/memcontrol.c).
const SEARCHES: [&[u8]; 5] = [
    b"shrink_",
    b"try_to_free_",
    b"try_charge_memcg",
    b"reclaim_throttle",
    b"mem_cgroup_handle_over_high",
];

/// A running watchdog.
pub struct Watchdog {
    cut: Arc<Mutex<Option<String>>>,
}

/// A thread of ours, and how it has been doing.
struct Watched {
    stack: File,
    looks: u32,
}

impl Watchdog {
    /// Starts to watch over `connection`.
    ///
    /// # Errors
    /// Where the kernel does not tell what threads wait for, or no thread can be started.
    pub fn start(connection: Connection) -> io::Result<Watchdog> {
        // Root alone may read it, and not every kernel has it.
        fs::read("/proc/self/stack")?;
        let cut = Arc::new(Mutex::new(None));
        let told = cut.clone();
        thread::Builder::new()
            .name("watchdog".into())
            .stack_size(256 << 10)
            .spawn(move || watch(&connection, &told))?;
        Ok(Watchdog { cut })
    }

    /// What it did, where it did something.
    pub fn report(&self) -> Option<String> {
        self.cut.lock().clone()
    }
}

fn watch(connection: &Connection, told: &Mutex<Option<String>>) {
    let mut threads = BTreeMap::new();
    let mut stack = vec![0; 16 << 10];
    let mut report = String::with_capacity(stack.len() + 1024);
    loop {
        if threads.values().all(|thread: &Watched| thread.looks == 0) {
            refresh(&mut threads);
        }
        thread::sleep(LOOK);
        for (id, thread) in &mut threads {
            let found = rustix::io::pread(&thread.stack, &mut stack, 0);
            let shown = found.ok().and_then(|n| stack.get(..n)).unwrap_or_default();
            thread.looks = match looks_for_memory(shown) {
                true => thread.looks + 1,
                false => 0,
            };
            if thread.looks < PATIENCE {
                continue;
            }
            let result = connection.cut();
            report += "thread ";
            report += id;
            report += " found no memory for a minute while the kernel waited for it, where it needed it:\n";
            report += &String::from_utf8_lossy(shown);
            if let Err(error) = result {
                report += &format!("and the connection could not be cut: {error}\n");
            }
            eprintln!("dmfs: watchdog: {report}");
            *told.lock() = Some(report);
            return;
        }
    }
}

/// True for the stack of a thread that is in the kernel's search for memory.
fn looks_for_memory(stack: &[u8]) -> bool {
    SEARCHES
        .iter()
        .any(|name| stack.windows(name.len()).any(|part| part == *name))
}

/// Opens what tells about threads that are new, and forgets those that have ended.
fn refresh(threads: &mut BTreeMap<String, Watched>) {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let present: Vec<String> = tasks
        .flatten()
        .filter_map(|task| task.file_name().into_string().ok())
        .take(MOST_THREADS)
        .collect();
    threads.retain(|id, _| present.contains(id));
    for id in present {
        if !threads.contains_key(&id)
            && let Ok(stack) = File::open(format!("/proc/self/task/{id}/stack"))
        {
            // The kernel allocates what a file of it needs at the first reading, and keeps that.
            let _ = rustix::io::pread(&stack, &mut [0; 64], 0);
            threads.insert(id, Watched { stack, looks: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::{looks_for_memory, refresh};

    #[test]
    fn a_search_for_memory_is_told_from_other_waits() {
        // As the kernel showed a daemon that had deadlocked, and one at rest.
        let stuck = b"[<0>] folio_wait_bit_common+0x12c/0x2f0\n\
            [<0>] shrink_folio_list+0x9f3/0xc40\n\
            [<0>] try_to_free_mem_cgroup_pages+0xe8/0x1d0\n";
        let idle = b"[<0>] fuse_dev_do_read+0x1f2/0x9a0\n[<0>] vfs_read+0x1f/0x2c0\n";
        let flushing =
            b"[<0>] folio_wait_bit_common+0x12c/0x2f0\n[<0>] file_write_and_wait_range+0x8d/0xd0\n";
        assert!(looks_for_memory(stuck));
        assert!(!looks_for_memory(idle) && !looks_for_memory(flushing) && !looks_for_memory(b""));
    }

    #[test]
    fn threads_come_and_go() {
        let mut threads = BTreeMap::new();
        refresh(&mut threads);
        if threads.is_empty() {
            // Not root: the kernel tells nothing, and the watchdog does not start.
            assert!(std::fs::read("/proc/self/stack").is_err());
            return;
        }
        let own = rustix::thread::gettid().as_raw_nonzero().to_string();
        assert!(threads.contains_key(&own));
        let gone = threads.remove(&own).unwrap();
        threads.insert("0".into(), gone);
        refresh(&mut threads);
        assert!(threads.contains_key(&own) && !threads.contains_key("0"));
    }
}
