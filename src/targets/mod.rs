//! The registry: every kind of target that a table may name, one file each.

mod dust;
mod error;
mod flakey;
mod linear;
mod multipath;
mod striped;
mod unstriped;
mod zero;

use crate::target::TargetKind;

/// All kinds, in the order in which `dmsetup targets` shows them: the one registered last comes first.
pub static KINDS: &[&TargetKind] = &[
    &zero::KIND,
    &unstriped::KIND,
    &multipath::KIND,
    &flakey::KIND,
    &dust::KIND,
    &striped::KIND,
    &linear::KIND,
    &error::KIND,
];

#[cfg(test)]
pub(crate) mod tests;
