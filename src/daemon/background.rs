//! A mount in the background: the program starts itself again, waits until the new process stands, and goes.
//!
//! The child's standard output is a pipe until it stands: what it says is passed on, and a NUL byte says that it
//! is ready. It then lets go of terminal and pipe.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use crate::io::bequeath_nothing;

/// Tells the child what it is.
const MARK: &str = "DMFS_IN_BACKGROUND";

/// True in the process that serves in the background.
pub fn is_child() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts the serving process and waits until it stands.
///
/// # Errors
/// Where it cannot be started, or ended instead; it has then said why itself.
pub fn start() -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot start in the background: {error}");
    // What whoever started us has open is not for a process that outlives him: a lock, or a pipe that he waits for.
    if let Err(error) = bequeath_nothing() {
        log::debug!("descriptors that were inherited stay open: {error}");
    }
    let program = std::env::current_exe().map_err(failed)?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        use std::os::unix::process::CommandExt;
        command.arg0(name);
    }
    let mut child = command
        .args(arguments)
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        let mut byte = [0];
        while output.read(&mut byte).map_err(failed)? == 1 {
            if byte[0] == 0 {
                return io::stdout().write_all(&said).map_err(failed);
            }
            said.push(byte[0]);
        }
    }
    let status = child.wait().map_err(failed)?;
    Err(format!(
        "the mount in the background did not come up ({status})"
    ))
}

/// Says that the mount stands, and lets go of terminal and pipe.
pub fn ready() {
    let _ = io::stdout()
        .write_all(&[0])
        .and_then(|()| io::stdout().flush());
    let_go();
}

/// Lets go of terminal, pipe and folder.
pub fn let_go() {
    if let Err(error) = rustix::process::setsid() {
        log::debug!("setsid: {error}");
    }
    let let_go = || -> io::Result<()> {
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        std::env::set_current_dir("/")
    };
    if let Err(error) = let_go() {
        log::debug!("letting go of the terminal: {error}");
    }
}
