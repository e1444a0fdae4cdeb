//! The control path: what commands and the daemon say to each other.

pub mod protocol;
