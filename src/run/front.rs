//! The process that the caller of `dmfs run` waits for. It stops when the command stops, passes signals on, and ends as
//! the command ends. The terminal's own signals reach the command without it, as both are in one job.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::process::{Reaction, Side, fork, react};
use super::wire::News;
use super::{FAILED, NOT_FOUND, NOT_RUNNABLE, supervisor};
use crate::control::protocol::client::strerror;
use crate::control::protocol::json::MountInfo;
use crate::control::protocol::run::{Mode, RunOptions};
use rustix::io::Errno;

/// What the terminal sends to a whole job: the command's to react to.
const OF_THE_JOB: [i32; 5] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this exit status.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

/// Runs the command over `mount` until it ends.
///
/// # Errors
/// Where it cannot be supervised, with what to do.
pub(super) fn run(options: &RunOptions, mode: Mode, mount: &MountInfo) -> Result<Ended, String> {
    let failed = |error: std::io::Error| format!("its supervisor: {error}");
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    match fork().map_err(|errno| failed(errno.into()))? {
        Side::Child => {
            drop(ours);
            supervisor::supervise(options, mode, mount, theirs);
            std::process::exit(0)
        }
        Side::Parent => {
            drop(theirs);
            react(&OF_THE_JOB, Reaction::Ignore);
            watch(options, &ours)
        }
    }
}

fn watch(options: &RunOptions, supervisor: &UnixStream) -> Result<Ended, String> {
    let program = options.command.first().cloned().unwrap_or_default();
    let program = program.display();
    while let Some(news) = News::receive(supervisor) {
        match news {
            News::Started(pid) => pass_on_signals(pid)?,
            News::NotStarted(errno) => {
                let errno = Errno::from_raw_os_error(errno);
                eprintln!("dmfs: run: {program}: {}", strerror(errno));
                let is_there = is_somewhere(&options.command, std::env::var_os("PATH"));
                let status = match errno {
                    Errno::NOENT => NOT_FOUND,
                    _ if !is_there => NOT_FOUND,
                    _ => NOT_RUNNABLE,
                };
                return Ok(Ended::Exited(status));
            }
            News::NoFilter(errno) => return Err(no_filter(Errno::from_raw_os_error(errno))),
            News::Stopped(_) => {
                stop();
                // The shell has continued the job; the command may have left it.
                let _ = News::GoOn.send(supervisor);
            }
            News::Exited(status) => {
                return Ok(Ended::Exited(u8::try_from(status).unwrap_or(FAILED)));
            }
            News::Killed(signal) => return Ok(Ended::Killed(signal)),
            News::GoOn => {}
        }
    }
    Err("its supervisor has died: calls to the device mapper fail from now on".to_owned())
}

/// Whether there is such a command at all: a folder of the path that is closed to us makes the kernel say EACCES.
fn is_somewhere(command: &[OsString], path: Option<OsString>) -> bool {
    let Some(program) = command.first().map(Path::new) else {
        return false;
    };
    let is_path = program.components().count() > 1 || program.is_absolute();
    let path = path.unwrap_or_default();
    is_path || std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// What the kernel says to a filter that it does not take, in words.
fn no_filter(errno: Errno) -> String {
    match errno {
        Errno::BUSY => "this is under `dmfs run` (or another supervisor) already, and a process tree has one supervisor\n\
             run the command without `dmfs run`: it is served by the outer one, with its mount"
            .to_owned(),
        Errno::INVAL | Errno::NOSYS => format!(
            "this kernel cannot tell of system calls ({}): seccomp user notification is needed \
             (CONFIG_SECCOMP_FILTER, Linux 5.14)",
            strerror(errno)
        ),
        Errno::PERM | Errno::ACCESS => format!(
            "trapping system calls is forbidden here ({})\n\
             a container's seccomp profile may forbid it: allow the system call seccomp, or run outside",
            strerror(errno)
        ),
        errno => format!("trapping system calls: {}", strerror(errno)),
    }
}

fn stop() {
    let _ = kill_process(rustix::process::getpid(), Signal::STOP);
}

fn pass_on_signals(pid: i32) -> Result<(), String> {
    let Some(command) = Pid::from_raw(pid) else {
        return Ok(());
    };
    let failed = |error: std::io::Error| format!("signals: {error}");
    let passed = [SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM];
    let mut signals = Signals::new(passed).map_err(failed)?;
    let pass = move || {
        for signal in signals.forever() {
            if let Some(signal) = Signal::from_named_raw(signal) {
                let _ = kill_process(command, signal);
            }
        }
    };
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(pass).map(drop).map_err(failed)
}

/// The exit status to leave with; where a signal has ended the command it ends us here.
pub(super) fn leave_with(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(status) => status,
        Ended::Killed(raw) => {
            let none = Rlimit {
                current: Some(0),
                maximum: Some(0),
            };
            // The command has left a core, if any; we leave none.
            let _ = setrlimit(Resource::Core, none);
            react(&[raw], Reaction::Default);
            if let Some(signal) = Signal::from_named_raw(raw) {
                let _ = kill_process(rustix::process::getpid(), signal);
            }
            u8::try_from(128_i32.saturating_add(raw)).unwrap_or(FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_somewhere, no_filter};
    use rustix::io::Errno;

    #[test]
    fn commands_are_looked_for_in_the_path() {
        let is = |name: &str| is_somewhere(&[name.into()], Some("/nowhere:/bin".into()));
        assert!(is("sh") && is("/no/such") && is("./x"));
        assert!(!is("no-such-command"));
        assert!(!is_somewhere(&[], None));
    }

    #[test]
    fn who_cannot_be_supervised_is_told_what_to_do() {
        assert!(no_filter(Errno::BUSY).contains("without `dmfs run`"));
        assert!(no_filter(Errno::INVAL).contains("Linux 5.14"));
        assert!(no_filter(Errno::PERM).contains("seccomp profile"));
    }
}
