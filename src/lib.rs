//! The device mapper without the kernel.
