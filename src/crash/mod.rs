//! What a log of log-writes is good for: listing it, replaying it, and every state that a power cut could have left,
//! each as a file.
//!
//! The rules of a disk: what an entry wrote before a flush is there once the flush is in the log, a durable write once
//! it is itself; of the rest any part may be there, sector by sector.

mod checks;
mod log;
mod plan;
mod replay;
mod show;
mod state;

pub use checks::crash_states;
pub use replay::log_writes;

#[cfg(test)]
mod tests;
