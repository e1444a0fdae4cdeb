//! The command line.

pub mod concise;
pub mod names;
pub mod report;
pub mod table_text;
pub mod tree;
