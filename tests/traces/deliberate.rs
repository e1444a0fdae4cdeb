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
/// A block device's page cache writes whole pages, one by one.
const LOGGED_AS_ASKED: &str =
    "the log has the writes as they were asked for, not pages of a block device's cache";
/// What a device is differs by nature.
const FILES_ARE_DEVICES: &str = "a regular file is a device here; this one is too short";

/// dm-flakey.c, flakey_status.
const FLAKEY_TABLE: &str = "newer kernels end the table without a blank, and name error_reads";
/// dm-flakey.c, flakey_end_io: newer kernels save the place of the data before the device below moves it on.
const FLAKEY_READS: &str = "this kernel fails to corrupt what is read; newer ones do it";

/// What the kernel of this trace says of every ebs row.
const NO_EBS: &str = "device-mapper: table: 254:0: ebs: unknown target type\n\
                      device-mapper: ioctl: error adding target to table\n";

const fn ebs_row(step: &'static str, kernel: &'static str, ours: &'static str) -> Deliberate {
    Deliberate {
        trace: "badtables/badtables",
        step,
        kernel,
        ours,
        reason: "this trace was made by a kernel that was built without ebs",
    }
}

const fn flakey_table(
    trace: &'static str,
    step: &'static str,
    kernel: &'static str,
    ours: &'static str,
) -> Deliberate {
    Deliberate {
        trace,
        step,
        kernel,
        ours,
        reason: FLAKEY_TABLE,
    }
}

const fn flakey_read(step: &'static str, kernel: &'static str, ours: &'static str) -> Deliberate {
    Deliberate {
        trace: "simple/flakey-corrupt_read",
        step,
        kernel,
        ours,
        reason: FLAKEY_READS,
    }
}

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

/// Target types that the kernel of the list of types was built without.
pub const TYPES_BUILT_WITHOUT: [&str; 1] = ["ebs"];

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
        step: "targets",
        kernel: "delay            v1.3.0",
        ours: "delay            v1.4.0",
        reason: NEWER,
    },
    Deliberate {
        trace: "simple/targets",
        step: "targets",
        kernel: "crypt            v1.24.0",
        ours: "crypt            v1.28.0",
        reason: NEWER,
    },
    Deliberate {
        trace: "crypt/key-messages",
        step: "message cr 0 key wipe",
        kernel: "trusted_key: device-mapper: crypt: not suspended during key manipulation.\n",
        ours: "device-mapper: crypt: not suspended during key manipulation.\n",
        reason: "the build of the traces' kernel names the wrong module in front",
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
    Deliberate {
        trace: "simple/delay",
        step: "image-sha256 b",
        kernel: "7dbb9d9c4f70ece8a0a62307180b58b6d09960a8418fd2e819471dd7ed20a437",
        ours: "797dbbd7ab523c42732725aa43e15b6fc2fdb967ba28f0aa29cd6ac7fe6c507b",
        reason: "the page cache over the kernel's device fills a page of 8 sectors from the device for reads, changes 4 \
                 of them and writes all to the one for writes; here 4 are written",
    },
    ebs_row(
        "create bad: 0 8 ebs {a} 0",
        NO_EBS,
        "device-mapper: table: 254:0: ebs: Invalid argument count (-EINVAL)\n\
         device-mapper: ioctl: error adding target to table\n",
    ),
    ebs_row(
        "create bad: 0 8 ebs {a} 0 1 3",
        NO_EBS,
        "device-mapper: table: 254:0: ebs: Invalid underlying block size (-EINVAL)\n\
         device-mapper: ioctl: error adding target to table\n",
    ),
    ebs_row(
        "create bad: 0 8 ebs {a} 0 x",
        NO_EBS,
        "device-mapper: table: 254:0: ebs: Invalid emulated block size (-EINVAL)\n\
         device-mapper: ioctl: error adding target to table\n",
    ),
    ebs_row(
        "create bad: 0 8 ebs {a} 1 2",
        NO_EBS,
        "device-mapper: table: 254:0: start=1 not aligned to h/w logical block size 1024 of a.img\n\
         device-mapper: core: Cannot calculate initial queue limits\n\
         device-mapper: ioctl: unable to set up device queue for new table.\n",
    ),
    flakey_table(
        "simple/flakey-corrupt_read",
        "table fl",
        "0 1000 flakey {data} 8 0 60 5 corrupt_bio_byte 32 r 1 0 ",
        "0 1000 flakey {data} 8 0 60 5 corrupt_bio_byte 32 r 1 0",
    ),
    flakey_table(
        "simple/flakey-corrupt_write",
        "table fl",
        "0 1000 flakey {data} 8 0 60 5 corrupt_bio_byte 224 w 0 0 ",
        "0 1000 flakey {data} 8 0 60 5 corrupt_bio_byte 224 w 0 0",
    ),
    flakey_table(
        "simple/flakey-drop_writes",
        "table fl",
        "0 1000 flakey {data} 8 0 60 1 drop_writes ",
        "0 1000 flakey {data} 8 0 60 1 drop_writes",
    ),
    flakey_table(
        "simple/flakey-error_writes",
        "table fl",
        "0 1000 flakey {data} 8 0 60 1 error_writes ",
        "0 1000 flakey {data} 8 0 60 1 error_writes",
    ),
    flakey_table(
        "simple/flakey-plain",
        "table fl",
        "0 1000 flakey {data} 8 0 60 0 ",
        "0 1000 flakey {data} 8 0 60 2 error_reads error_writes",
    ),
    flakey_table(
        "simple/flakey-up",
        "table f2",
        "0 1000 flakey {data} 8 600 60 1 drop_writes ",
        "0 1000 flakey {data} 8 600 60 1 drop_writes",
    ),
    flakey_read(
        "read fl 16 8",
        "32c1f2c0a3cdd857a1ef736f4a0a87d0c7cf083066db67cdd281d822b3471206",
        "be8db963baa8a0d8abe2d229084bd2f5ff2f8c4c5142b4522e28813e2e144375",
    ),
    flakey_read(
        "read fl 0 1000",
        "c2e65e41711a5829d04985300194f0118cd8d1a2bb8766e7914ef7ab369e5b56",
        "40df529e631629c39091810579f4845d1d0a0e5abe17e4d30cd4a9548d980414",
    ),
    flakey_read(
        "read fl 100 8",
        "e9ef7e147edf9e938255eab72c8388b125536e0ead0792b5374c02ced10ccb2d",
        "84a6683195c8c52006f47374a468e8c07e647413589a3c6dcbbefeefbf3a9d7d",
    ),
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
    Deliberate {
        trace: "simple/log-writes",
        step: "status lw",
        kernel: "0 2048 log-writes 10 42",
        ours: "0 2048 log-writes 9 37",
        reason: LOGGED_AS_ASKED,
    },
    Deliberate {
        trace: "simple/log-writes",
        step: "image-sha256 log",
        kernel: "57d55316f2944bdd4bf57bfccb90992538d0f8526e9de8b4cb13d0274848b6d6",
        ours: "cfd816bfe69480962c55e33f8d7d0ca53411d841c73257b0a6772a045ffbd130",
        reason: LOGGED_AS_ASKED,
    },
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
