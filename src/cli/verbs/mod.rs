//! The verbs, one file per family. What they do on the wire is what libdm does.

pub mod crash;
pub mod create;
pub mod explain;
pub mod info;
pub mod ls;
pub mod mount;
pub mod names;
pub mod remove;
pub mod rows;
pub mod serve;
pub mod slots;
pub mod stats;
pub mod versions;
