//! What a process costs, and where threads may run.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::mem::MaybeUninit;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

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

/// Runs `work` with this thread, and what it starts, on the processors of `cpus` alone; on all that were allowed
/// before where `cpus` is empty.
///
/// # Errors
/// A sentence where these processors are not to be had.
pub fn on_cpus<R>(cpus: &[usize], work: impl FnOnce() -> R) -> Result<R, String> {
    if cpus.is_empty() {
        return Ok(work());
    }
    let failed = |error: rustix::io::Errno| format!("processors {cpus:?}: {error}");
    let before = sched_getaffinity(None).map_err(failed)?;
    let mut wanted = CpuSet::new();
    if let Some(cpu) = cpus.iter().find(|&&cpu| cpu >= CpuSet::MAX_CPU) {
        return Err(format!("processor {cpu}: there are not that many"));
    }
    cpus.iter().for_each(|&cpu| wanted.set(cpu));
    sched_setaffinity(None, &wanted).map_err(failed)?;
    let result = work();
    sched_setaffinity(None, &before).map_err(failed)?;
    Ok(result)
}
