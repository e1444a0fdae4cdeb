//! Control: who owns the devices, and how they are told what to do.
//!
//! `cli` -> socket -> server -> [`transaction`] (the kernel's commands) -> [`Registry`] -> device, table, targets.

pub mod config;
mod leaf;
pub mod loops;
pub mod majors;
pub mod metrics;
pub mod mount;
pub mod nodes;
mod openers;
pub mod protocol;
mod refusal;
mod registry;
mod resolver;
pub mod server;
mod stack;
pub mod state;
pub mod transaction;

pub use refusal::Refusal;
pub use registry::{MountIdentity, Registry, Surroundings};
pub use resolver::Resolver;
