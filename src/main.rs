//! `dmfs`, and `dmsetup` when called by that name.

use std::io::{BufWriter, stderr, stdout};
use std::process::ExitCode;

use dmfs::cli::{Daemon, run};
use dmfs::{crash, daemon};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("DMFS_LOG", "warn"))
        .format_target(false)
        .init();
    let daemon = Daemon {
        mount: daemon::mount,
        run: dmfs::run::run,
        check: daemon::check,
        log_writes: crash::log_writes,
        crash_states: crash::crash_states,
    };
    let mut out = BufWriter::new(stdout().lock());
    run(
        std::env::args_os().collect(),
        daemon,
        &mut out,
        &mut stderr(),
    )
    .into()
}
