//! The registry: every kind of target that a table may name, one file each.

mod crypt;
mod delay;
mod dust;
mod ebs;
mod error;
mod flakey;
mod linear;
mod log_writes;
mod multipath;
mod striped;
mod switch;
mod unstriped;
mod zero;

use crate::target::TargetKind;

/// All kinds, in the order in which `dmsetup targets` shows them: the one registered last comes first.
pub static KINDS: &[&TargetKind] = &[
    &zero::KIND,
    &unstriped::KIND,
    &switch::KIND,
    &multipath::KIND,
    &log_writes::KIND,
    &flakey::KIND,
    &ebs::KIND,
    &dust::KIND,
    &delay::KIND,
    &crypt::KIND,
    &striped::KIND,
    &linear::KIND,
    &error::KIND,
];

#[cfg(test)]
pub(crate) mod tests;
