//! What a process costs, and where threads may run.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::process::{Pid, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// CPU seconds that process `pid` has used since it began: user and system, all its threads, those that ended too.
///
/// # Errors
/// A sentence where there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64, String> {
    let mut clock = MaybeUninit::<libc::clockid_t>::uninit();
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for a write of a clock's number.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, clock.as_mut_ptr()) };
    if error != 0 {
        let error = io::Error::from_raw_os_error(error);
        return Err(format!("the CPU clock of process {pid}: {error}"));
    }
    // SAFETY: clock_getcpuclockid has succeeded and so written `clock`; `time` is valid for a write.
    if unsafe { libc::clock_gettime(clock.assume_init(), time.as_mut_ptr()) } != 0 {
        let error = io::Error::last_os_error();
        return Err(format!("the CPU clock of process {pid}: {error}"));
    }
    // SAFETY: clock_gettime has succeeded and so written `time`.
    let time = unsafe { time.assume_init() };
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// A line of /proc/PID/status that counts KiB, as `VmHWM` (most memory ever resident) or `VmRSS`, in MiB.
///
/// # Errors
/// A sentence where there is no such process or line.
pub fn memory_mib(pid: u32, line: &str) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    text.lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok())
        .map(|kib| kib / 1024.0)
        .ok_or_else(|| format!("{path}: {line} in kB is expected"))
}

/// Lets this thread run on the processors of `cpus` alone; changes nothing where `cpus` is empty.
///
/// # Errors
/// A sentence where these processors are not to be had.
pub fn bind_this_thread(cpus: &[usize]) -> Result<(), String> {
    bind(None, cpus)
}

/// The same for all threads that process `pid` has now. It may already have counted the processors it could use.
///
/// # Errors
/// A sentence where there is no such process, or these processors are not to be had.
pub fn bind_process(pid: u32, cpus: &[usize]) -> Result<(), String> {
    let path = format!("/proc/{pid}/task");
    let failed = |error: io::Error| format!("{path}: {error}");
    for thread in fs::read_dir(&path).map_err(failed)? {
        let name = thread.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        bind(number.and_then(Pid::from_raw), cpus)?;
    }
    Ok(())
}

fn bind(thread: Option<Pid>, cpus: &[usize]) -> Result<(), String> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut wanted = CpuSet::new();
    if let Some(cpu) = cpus.iter().find(|&&cpu| cpu >= CpuSet::MAX_CPU) {
        return Err(format!("processor {cpu}: there are not that many"));
    }
    cpus.iter().for_each(|&cpu| wanted.set(cpu));
    sched_setaffinity(thread, &wanted).map_err(|error| format!("processors {cpus:?}: {error}"))
}

/// The share of the processors of this session as a whole (sched(7), the autogroup feature).
const SESSION: &str = "/proc/self/autogroup";

/// Gives this thread, and what it starts, another share of the processors: from -20, the most, to 19. Where the kernel
/// divides the processors among sessions first, all of this session.
///
/// # Errors
/// A sentence where this user may not.
pub fn be_nice(nice: i32) -> Result<(), String> {
    if Path::new(SESSION).exists() {
        return fs::write(SESSION, nice.to_string())
            .map_err(|error| format!("{SESSION}, nice {nice}: {error}"));
    }
    setpriority_process(None, nice).map_err(|error| format!("nice {nice}: {error}"))
}
