//! `dmfs run`: programs that drive the kernel's device mapper drive a mount instead, unchanged.
//!
//! ```text
//! front        waits in the caller's job: status, stops and signals pass through it
//!   |          a socket
//! supervisor   answers the trapped calls of the whole process tree (seccomp user notification)
//!   |  \       the mount's control socket
//!   |   daemon
//! COMMAND      under the filter, as are all its children
//! ```
//!
//! Only calls that may be about the device mapper are trapped: opening files, its ioctls and, without root, asking
//! about files. Those that are not go on in the kernel unchanged. A program can change its memory between our reading
//! a path and the kernel's: this is for programs that want to be served, and guards against nobody.

mod caller;
mod control_node;
mod device;
mod filter;
mod folders;
mod front;
mod listener;
mod opening;
mod own_mount;
mod paths;
mod process;
mod supervisor;
mod sysfs;
mod wire;

use crate::control::protocol::client::{self, Client};
use crate::control::protocol::run::{Mode, RunOptions};
use own_mount::OwnMount;

/// The exit status where a command could not be run for a reason of ours, as of `env` and `timeout`.
const FAILED: u8 = 125;
/// The exit status where the command is there and cannot be run.
const NOT_RUNNABLE: u8 = 126;
/// The exit status where there is no such command.
const NOT_FOUND: u8 = 127;

/// Runs a command over a mount, and gives its exit status; one that a signal ended ends us likewise.
pub fn run(options: RunOptions) -> u8 {
    match try_run(&options) {
        Ok(status) => status,
        Err(why) => {
            for line in why.lines() {
                eprintln!("dmfs: run: {line}");
            }
            FAILED
        }
    }
}

fn try_run(options: &RunOptions) -> Result<u8, String> {
    let mode = options.mode.unwrap_or_else(own_mode);
    let named = options.mount.clone().or_else(named_by_environment);
    let (client, own) = match named {
        Some(mountpoint) => {
            let client = client::connect(Some(&mountpoint)).map_err(|error| error.to_string())?;
            (client, None)
        }
        None => {
            let own = OwnMount::start(mode)?;
            (own.connect()?, Some(own))
        }
    };
    check_mode(&client, mode)?;
    let ended = front::run(options, mode, &client.mount);
    // It ends unless somebody uses it.
    drop(client);
    if let Some(own) = own {
        own.end();
    }
    Ok(front::leave_with(ended?))
}

fn own_mode() -> Mode {
    match rustix::process::geteuid().is_root() {
        true => Mode::Root,
        false => Mode::User,
    }
}

fn named_by_environment() -> Option<String> {
    std::env::var("DMFS_MOUNT")
        .ok()
        .filter(|path| !path.is_empty())
}

fn check_mode(client: &Client, mode: Mode) -> Result<(), String> {
    let mount = &client.mount;
    match mode {
        Mode::Root if !mount.block_devices => Err(format!(
            "{}: its devices are no block devices: mount it with --block-devices, or run with --user",
            mount.mountpoint
        )),
        Mode::User if mount.block_devices => Err(format!(
            "{}: its devices are block devices: run with --root",
            mount.mountpoint
        )),
        Mode::Root | Mode::User => Ok(()),
    }
}
