//! Major numbers for devices that exist only in this process.
//!
//! The kernel gives dynamic majors from 254 downwards; we take, in the same order, numbers that no driver of
//! this machine has, so that a number in a table never means two devices.

use std::fs;

use crate::backing::loop_device::LOOP_MAJOR;

/// The first dynamic major the kernel tries.
const FIRST_DYNAMIC: u32 = 254;
/// Below this one the kernel's static assignments begin (Documentation/admin-guide/devices.txt).
const LAST_DYNAMIC: u32 = 234;

/// Majors of mapped devices and of backing files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Majors {
    /// Major of mapped devices.
    pub mapped: u32,
    /// Major of backing files and memory devices.
    pub files: u32,
}

impl Majors {
    /// The majors for this machine; `block_devices`: where each device is a loop device.
    pub fn choose(block_devices: bool) -> Majors {
        let majors = choose_beside(&fs::read_to_string("/proc/devices").unwrap_or_default());
        match block_devices {
            true => Majors {
                mapped: LOOP_MAJOR,
                ..majors
            },
            false => majors,
        }
    }
}

fn choose_beside(proc_devices: &str) -> Majors {
    let taken: Vec<u32> = proc_devices
        .lines()
        .skip_while(|line| !line.starts_with("Block devices"))
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    let mut free = (LAST_DYNAMIC..=FIRST_DYNAMIC)
        .rev()
        .filter(|major| !taken.contains(major));
    let mapped = free.next().unwrap_or(FIRST_DYNAMIC);
    Majors {
        mapped,
        files: free.next().unwrap_or(FIRST_DYNAMIC - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::{Majors, choose_beside};

    #[test]
    fn majors_of_other_drivers_are_left_alone() {
        let devices =
            "Character devices:\n252 x\n\nBlock devices:\n  7 loop\n254 virtblk\n259 blkext\n";
        assert_eq!(
            choose_beside(devices),
            Majors {
                mapped: 253,
                files: 252
            }
        );
        assert_eq!(
            choose_beside(""),
            Majors {
                mapped: 254,
                files: 253
            }
        );
    }
}
