//! `dmfs`, and `dmsetup` when called by that name.

use std::io::{BufWriter, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use dmfs::cli::{Daemon, run};
use dmfs::control::protocol::mount::MountOptions;

fn main() -> ExitCode {
    let daemon = Daemon { mount, check };
    let mut out = BufWriter::new(stdout().lock());
    run(std::env::args_os().collect(), daemon, &mut out, &mut stderr()).into()
}

fn mount(_options: MountOptions) -> Result<(), String> {
    Err("this build has no daemon".to_string())
}

fn check(_file: &Path) -> Result<String, String> {
    Err("this build has no daemon".to_string())
}
