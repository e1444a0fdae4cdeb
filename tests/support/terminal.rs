//! A program on a terminal of its own.

use super::mount::Mount;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take to show something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program whose input and output are a terminal of 24 lines.
pub struct OnTerminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl OnTerminal {
    /// Starts `tool` of the mount's folder with further variables in its environment.
    pub fn start(
        mount: &Mount,
        tool: &str,
        words: &[&str],
        columns: u16,
        variables: &[(&str, &str)],
    ) -> OnTerminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let side = OpenOptions::new()
            .read(true)
            .write(true)
            .open(OsStr::from_bytes(name.as_bytes()))
            .unwrap();
        let mut command = mount.program(tool);
        mount
            .environment(&mut command)
            .args(words)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .stdin(side.try_clone().unwrap())
            .stdout(side.try_clone().unwrap())
            .stderr(side);
        let child = command.spawn().unwrap();
        // It holds the other side of the terminal, whose end is the end of what is to be read.
        drop(command);
        let keyboard = File::from(terminal);
        let mut from = keyboard.try_clone().unwrap();
        let (shown, screen) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO when nobody has the other side any more.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if shown.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        OnTerminal {
            child,
            keyboard,
            screen,
            seen: Vec::new(),
        }
    }

    /// Waits until `text` has been shown.
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(error) => panic!("{error}: no {text:?} in {:?}", self.shown()),
            }
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// What has been shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits for the program's end; how it ended and all that was shown.
    pub fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{error}: it goes on after {:?}", self.shown()),
            }
        }
        (self.child.wait().unwrap(), self.shown())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
