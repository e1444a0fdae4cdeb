//! Where dmfs differs from the traces' kernel on purpose. Each entry must still differ as it says.

use crate::player::Difference;

/// One answer that is not the traces' kernel's.
pub struct Deliberate {
    /// `GROUP/FIXTURE`.
    pub trace: &'static str,
    /// The step, as the player names it.
    pub step: &'static str,
    /// What the kernel of the traces (6.1) answered.
    pub kernel: &'static str,
    /// What dmfs answers.
    pub ours: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// All of them.
pub const DELIBERATE: &[Deliberate] = &[];

impl Deliberate {
    /// Whether this entry speaks of `difference` in `trace`.
    pub fn is(&self, trace: &str, difference: &Difference) -> bool {
        self.trace == trace
            && self.step == difference.step
            && self.kernel == difference.kernel
            && self.ours == difference.ours
    }
}
