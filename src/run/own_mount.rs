//! A mount for one command.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::control::protocol::client::{self, Client};
use crate::control::protocol::json::JsonRequest;
use crate::control::protocol::run::Mode;
use crate::control::protocol::socket_path::{prepare_folder, socket_folder};

/// How long the mount may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mount that was started for one command.
pub(super) struct OwnMount {
    at: PathBuf,
}

impl OwnMount {
    /// Starts it, empty.
    ///
    /// # Errors
    /// Where it does not come up; it has then said why itself.
    pub(super) fn start(mode: Mode) -> Result<OwnMount, String> {
        let folder = socket_folder();
        prepare_folder(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let at = folder.join(format!("run-{}", std::process::id()));
        let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
        let mut command = Command::new(program);
        command.args(["mount", "--background"]);
        if mode == Mode::Root {
            command.arg("--block-devices");
        }
        let started = command
            .arg(&at)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("a mount of its own: {error}"))?;
        match started.success() {
            true => Ok(OwnMount { at }),
            false => Err("a mount of its own did not come up".to_owned()),
        }
    }

    /// Connects to it.
    ///
    /// # Errors
    /// Where it does not answer.
    pub(super) fn connect(&self) -> Result<Client, String> {
        client::connect(Some(&self.at.display().to_string())).map_err(|error| error.to_string())
    }

    /// Ends it unless somebody still uses it, who is named then.
    pub(super) fn end(&self) {
        let shown = self.at.display();
        let request = JsonRequest::Unmount {
            force: false,
            lazy: false,
        };
        let why = match self.connect() {
            Err(_) => return,
            Ok(mut client) => match client.json(&request) {
                Ok(Ok(_)) => return self.wait_until_gone(),
                Ok(Err(refusal)) => client::reason(&refusal),
                Err(error) => error.to_string(),
            },
        };
        eprintln!("dmfs: run: its mount stays: {why}; end it with: dmfs umount {shown}");
    }

    fn wait_until_gone(&self) {
        let start = Instant::now();
        while self.connect().is_ok() && start.elapsed() < PATIENCE {
            sleep(Duration::from_millis(5));
        }
        // The daemon removes the folder that it made, in the end.
        let _ = fs::remove_dir(&self.at);
    }
}
