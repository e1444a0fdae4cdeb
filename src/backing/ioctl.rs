//! The ioctls of block devices and of the loop driver (linux/loop.h) that have no safe wrapper elsewhere.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Getter, IntegerSetter, Ioctl, IoctlOutput, Opcode, Setter, ioctl, opcode};

const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);
const BLKROSET: Opcode = opcode::none(0x12, 93);
const BLKROGET: Opcode = opcode::none(0x12, 94);
const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKIOMIN: Opcode = opcode::none(0x12, 120);
const BLKIOOPT: Opcode = opcode::none(0x12, 121);
const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_SET_STATUS64: Opcode = 0x4C04;
const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_SET_BLOCK_SIZE: Opcode = 0x4C09;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_ADD: Opcode = 0x4C80;
const LOOP_CTL_REMOVE: Opcode = 0x4C81;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;

/// Nothing is written to the file (lo_flags).
pub(super) const LO_FLAGS_READ_ONLY: u32 = 1;
/// The device lets go of the file when it is closed by its last opener.
pub(super) const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// The file is used around the page cache.
pub(super) const LO_FLAGS_DIRECT_IO: u32 = 16;

/// struct loop_info64
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopInfo64 {
    /// st_dev of the file.
    pub device: u64,
    /// st_ino of the file.
    pub inode: u64,
    rdevice: u64,
    /// Where in the file the device begins, bytes.
    pub offset: u64,
    /// How much of the file is used, bytes; 0 for all.
    pub size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    /// LO_FLAGS_*
    pub flags: u32,
    /// The file's path, cut short, for people.
    pub file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// struct loop_config
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopConfig {
    /// Descriptor of the file.
    pub fd: u32,
    /// Logical block size, bytes; 0 for the driver's choice.
    pub block_size: u32,
    /// Everything else.
    pub info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232 && size_of::<LoopConfig>() == 304);

impl LoopConfig {
    /// The whole file behind the descriptor number `fd`.
    pub(super) fn new(fd: u32, block_size: u32, flags: u32) -> LoopConfig {
        let info = LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        };
        LoopConfig {
            fd,
            block_size,
            info,
            reserved: [0; 8],
        }
    }
}

/// An ioctl without argument that answers with its return value.
struct Returns<const OPCODE: Opcode>;

// SAFETY: the ioctl takes no pointer, and its answer is the return value.
unsafe impl<const OPCODE: Opcode> Ioctl for Returns<OPCODE> {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> Result<u32> {
        Ok(answer.unsigned_abs())
    }
}

/// Number of a loop device that holds no file; made where there is none.
///
/// # Errors
/// ENOTTY where `control` is not /dev/loop-control.
pub(super) fn loop_free_device(control: impl AsFd) -> Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number.
    unsafe { ioctl(control, Returns::<LOOP_CTL_GET_FREE>) }
}

/// Makes the loop device `index`.
///
/// # Errors
/// EEXIST where it is there, ENOTTY where `control` is not /dev/loop-control.
pub(super) fn loop_add(control: impl AsFd, index: u32) -> Result<()> {
    // SAFETY: LOOP_CTL_ADD takes a number.
    unsafe {
        ioctl(
            control,
            IntegerSetter::<LOOP_CTL_ADD>::new_usize(index as usize),
        )
    }
}

/// Takes the loop device `index` away.
///
/// # Errors
/// EBUSY where it holds a file or is open, ENODEV where it is not there.
pub(super) fn loop_remove(control: impl AsFd, index: u32) -> Result<()> {
    // SAFETY: LOOP_CTL_REMOVE takes a number.
    unsafe {
        let setter = IntegerSetter::<LOOP_CTL_REMOVE>::new_usize(index as usize);
        ioctl(control, setter)
    }
}

/// Sets a loop device up.
///
/// # Errors
/// EBUSY where it holds a file already; what is wrong with the file otherwise.
pub(super) fn loop_configure(device: impl AsFd, config: LoopConfig) -> Result<()> {
    // SAFETY: LOOP_CONFIGURE reads a struct loop_config.
    unsafe { ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }
}

/// Makes a loop device let go of its file, at once or when its last opener has closed it.
///
/// # Errors
/// ENXIO where it holds none.
pub(super) fn loop_clear(device: impl AsFd) -> Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    unsafe { ioctl(device, IntegerSetter::<LOOP_CLR_FD>::new_usize(0)) }
}

/// Makes a loop device as long as its file is by now.
///
/// # Errors
/// ENXIO where it holds none.
pub(super) fn loop_set_capacity(device: impl AsFd) -> Result<()> {
    // SAFETY: LOOP_SET_CAPACITY takes no argument.
    unsafe { ioctl(device, IntegerSetter::<LOOP_SET_CAPACITY>::new_usize(0)) }
}

/// Changes flags of a loop device that holds a file; of those here only LO_FLAGS_AUTOCLEAR can be changed.
///
/// # Errors
/// ENXIO where it holds none.
pub(super) fn loop_set_status(device: impl AsFd, info: LoopInfo64) -> Result<()> {
    // SAFETY: LOOP_SET_STATUS64 reads a struct loop_info64.
    unsafe { ioctl(device, Setter::<LOOP_SET_STATUS64, LoopInfo64>::new(info)) }
}

/// Sets the logical block size of a loop device, bytes.
///
/// # Errors
/// EINVAL for a size that a block cannot have, EBUSY where somebody has claimed the device, EAGAIN where it is busy
/// writing.
pub(super) fn loop_set_block_size(device: impl AsFd, bytes: u32) -> Result<()> {
    // SAFETY: LOOP_SET_BLOCK_SIZE takes a number.
    unsafe {
        let setter = IntegerSetter::<LOOP_SET_BLOCK_SIZE>::new_usize(bytes as usize);
        ioctl(device, setter)
    }
}

/// What a loop device holds.
///
/// # Errors
/// ENXIO where it holds nothing, ENOTTY where it is no loop device.
pub(super) fn loop_status(device: impl AsFd) -> Result<LoopInfo64> {
    // SAFETY: LOOP_GET_STATUS64 stores a struct loop_info64, in which every bit pattern is a value.
    unsafe { ioctl(device, Getter::<LOOP_GET_STATUS64, LoopInfo64>::new()) }
}

/// Length of a block device, bytes.
///
/// # Errors
/// ENOTTY where it is none.
pub(super) fn device_size(fd: impl AsFd) -> Result<u64> {
    // SAFETY: BLKGETSIZE64 stores one u64 (its size_t is part of the number only).
    unsafe { ioctl(fd, Getter::<BLKGETSIZE64, u64>::new()) }
}

/// True where the kernel lets nobody write to a block device, whoever may open it for writing.
///
/// # Errors
/// ENOTTY where it is none.
pub(super) fn is_read_only(fd: impl AsFd) -> Result<bool> {
    // SAFETY: BLKROGET stores one int.
    unsafe { ioctl(fd, Getter::<BLKROGET, u32>::new()) }.map(|read_only| read_only != 0)
}

/// Lets nobody write to a block device, or everybody who may.
///
/// # Errors
/// ENOTTY where it is none, EACCES for whoever may not.
pub(super) fn set_read_only(fd: impl AsFd, read_only: bool) -> Result<()> {
    // SAFETY: BLKROSET reads an int.
    unsafe { ioctl(fd, Setter::<BLKROSET, u32>::new(read_only.into())) }
}

/// Smallest preferred request of a block device, bytes.
///
/// # Errors
/// ENOTTY where it is none.
pub(super) fn io_min(fd: impl AsFd) -> Result<u32> {
    // SAFETY: BLKIOMIN stores one unsigned int.
    unsafe { ioctl(fd, Getter::<BLKIOMIN, u32>::new()) }
}

/// Preferred request of a block device for streaming, bytes; 0 where it has none.
///
/// # Errors
/// ENOTTY where it is none.
pub(super) fn io_opt(fd: impl AsFd) -> Result<u32> {
    // SAFETY: BLKIOOPT stores one unsigned int.
    unsafe { ioctl(fd, Getter::<BLKIOOPT, u32>::new()) }
}

/// Discards `len` bytes of a block device from `offset`.
///
/// # Errors
/// EOPNOTSUPP where it does not discard, EINVAL for a range that is not whole logical blocks.
pub(super) fn discard(fd: impl AsFd, offset: u64, len: u64) -> Result<()> {
    // SAFETY: BLKDISCARD reads an array of two u64, offset and length.
    unsafe { ioctl(fd, Setter::<BLKDISCARD, [u64; 2]>::new([offset, len])) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{
        LoopConfig, device_size, discard, io_min, io_opt, is_read_only, loop_add, loop_clear,
        loop_configure, loop_free_device, loop_remove, loop_set_block_size, loop_set_capacity,
        loop_set_status, loop_status, set_read_only,
    };
    use crate::io::Errno;

    #[test]
    fn a_regular_file_is_told_from_a_block_device() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(device_size(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(is_read_only(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(io_min(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(io_opt(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(discard(&file, 0, 512).unwrap_err(), Errno::NOTTY);
        assert_eq!(loop_free_device(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(
            loop_configure(&file, LoopConfig::new(0, 512, 0)).unwrap_err(),
            Errno::NOTTY
        );
        assert_eq!(loop_clear(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(loop_set_capacity(&file).unwrap_err(), Errno::NOTTY);
        assert!(loop_status(&file).is_err());
        assert_eq!(loop_remove(&file, 0).unwrap_err(), Errno::NOTTY);
        assert_eq!(loop_add(&file, 0).unwrap_err(), Errno::NOTTY);
        assert_eq!(loop_set_block_size(&file, 512).unwrap_err(), Errno::NOTTY);
        let info = LoopConfig::new(0, 512, 0).info;
        assert_eq!(loop_set_status(&file, info).unwrap_err(), Errno::NOTTY);
        assert_eq!(set_read_only(&file, true).unwrap_err(), Errno::NOTTY);
    }
}
