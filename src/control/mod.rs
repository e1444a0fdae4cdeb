//! Control: who owns the devices, and how they are told what to do.
//!
//! `cli` -> socket -> server -> [`transaction`] (the kernel's commands) -> [`Registry`] -> device, table, targets.

pub mod protocol;
mod refusal;
mod registry;
mod resolver;
pub mod transaction;

pub use refusal::Refusal;
pub use registry::{MountIdentity, Registry};
pub use resolver::Resolver;
