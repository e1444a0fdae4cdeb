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

/// Newer kernels than the traces' have newer drivers.
const NEWER: &str = "version of kernel 6.12";
/// dm-target.c, io_err_ctr, since kernel 6.7.
const ERROR_TAKES_A_DEVICE: &str =
    "error takes a device and an offset since kernel 6.7, and 1 is no device";
/// What a device is differs by nature.
const FILES_ARE_DEVICES: &str = "a regular file is a device here; this one is too short";

const fn refused_error_row(
    step: &'static str,
    kernel: &'static str,
    ours: &'static str,
) -> Deliberate {
    Deliberate {
        trace: "badtables/badtables",
        step,
        kernel,
        ours,
        reason: ERROR_TAKES_A_DEVICE,
    }
}

/// All of them.
pub const DELIBERATE: &[Deliberate] = &[
    Deliberate {
        trace: "simple/targets",
        step: "targets",
        kernel: "zero             v1.1.0",
        ours: "zero             v1.2.0",
        reason: NEWER,
    },
    Deliberate {
        trace: "simple/targets",
        step: "targets",
        kernel: "error            v1.5.0",
        ours: "error            v1.7.0",
        reason: NEWER,
    },
    Deliberate {
        trace: "simple/targets",
        step: "version",
        kernel: "Library version:   1.02.185 (2022-05-18)",
        ours: concat!(
            "Library version:   1.02.185 (dmfs ",
            env!("CARGO_PKG_VERSION"),
            ")"
        ),
        reason: "it says who answers",
    },
    Deliberate {
        trace: "simple/targets",
        step: "version",
        kernel: "Driver version:    4.47.0",
        ours: "Driver version:    4.48.0",
        reason: NEWER,
    },
    Deliberate {
        trace: "badtables/badtables",
        step: "create bad: 0 8 linear /etc/passwd 0",
        kernel: "device-mapper: reload ioctl on bad (254:0) failed: No such device\nCommand failed.\n",
        ours: "device-mapper: reload ioctl on bad (254:0) failed: Invalid argument\nCommand failed.\n",
        reason: FILES_ARE_DEVICES,
    },
    Deliberate {
        trace: "badtables/badtables",
        step: "create bad: 0 8 linear /etc/passwd 0",
        kernel: "device-mapper: table: 254:0: linear: Device lookup failed (-ENODEV)\n\
                 device-mapper: ioctl: error adding target to table\n",
        ours: "device-mapper: table: 254:0: passwd too small for target: start=0, len=8, dev_size=2\n\
               device-mapper: core: Cannot calculate initial queue limits\n\
               device-mapper: ioctl: unable to set up device queue for new table.\n",
        reason: FILES_ARE_DEVICES,
    },
    refused_error_row(
        "create bad: 0 8 error 1 2",
        "",
        "device-mapper: reload ioctl on bad (254:0) failed: No such device\nCommand failed.\n",
    ),
    refused_error_row(
        "create bad: 0 8 error 1 2",
        "",
        "device-mapper: table: 254:0: error: Device lookup failed (-ENODEV)\n\
         device-mapper: ioctl: error adding target to table\n",
    ),
    refused_error_row(
        "table bad",
        "0 8 error ",
        "device-mapper: table ioctl on bad  failed: No such device or address\nCommand failed.",
    ),
    refused_error_row(
        "status bad",
        "0 8 error ",
        "Device does not exist.\nCommand failed.",
    ),
    refused_error_row(
        "info bad",
        "Name:              bad\nState:             ACTIVE\nTables present:    LIVE\n\
         Open count:        0\nNumber of targets: 1\n",
        "Device does not exist.\nCommand failed.",
    ),
    refused_error_row(
        "remove bad",
        "",
        "device-mapper: remove ioctl on bad  failed: No such device or address\nCommand failed.\n",
    ),
];

impl Deliberate {
    /// Whether this entry speaks of `difference` in `trace`.
    pub fn is(&self, trace: &str, difference: &Difference) -> bool {
        self.trace == trace
            && self.step == difference.step
            && self.kernel == difference.kernel
            && self.ours == difference.ours
    }
}
