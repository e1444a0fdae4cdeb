//! Commands to the FUSE device, as io_uring carries them: struct fuse_uring_cmd_req (linux/fuse.h) in the second half
//! of a submission of 128 bytes.

#![allow(unsafe_code)]

use io_uring::opcode::UringCmd80;
use io_uring::squeue::Entry128;
use io_uring::types::Fixed;

const REGISTER: u32 = 1;
const COMMIT_AND_FETCH: u32 = 2;
/// Where struct io_uring_sqe has the fields that the library does not fill in for a command.
const SQE_ADDR: usize = 16;
const SQE_LEN: usize = 24;

/// Hands an entry of queue `queue` to the kernel: `places` are struct iovec of its headers and its payload. They are
/// read when the command is submitted.
pub fn register(device: Fixed, queue: u16, places: &[libc::iovec; 2]) -> Entry128 {
    let mut entry = UringCmd80::new(device, REGISTER)
        .cmd(request(queue, 0))
        .build();
    let start = (&raw mut entry).cast::<u8>();
    let address = places.as_ptr() as u64;
    // SAFETY: an `Entry128` is a submission as it lies in the ring (repr(C)), 128 bytes without padding; the fields
    // take any value.
    unsafe {
        start.add(SQE_ADDR).cast::<u64>().write_unaligned(address);
        start.add(SQE_LEN).cast::<u32>().write_unaligned(2);
    }
    entry
}

/// Answers request `id`, and lends its entry to the kernel for the next one.
pub fn commit_and_fetch(device: Fixed, queue: u16, id: u64) -> Entry128 {
    UringCmd80::new(device, COMMIT_AND_FETCH)
        .cmd(request(queue, id))
        .build()
}

/// struct fuse_uring_cmd_req: flags, commit id, queue.
fn request(queue: u16, id: u64) -> [u8; 80] {
    let mut request = [0; 80];
    request[8..16].copy_from_slice(&id.to_ne_bytes());
    request[16..18].copy_from_slice(&queue.to_ne_bytes());
    request
}

#[cfg(test)]
mod tests {
    use io_uring::types::Fixed;

    use super::{commit_and_fetch, register, request};

    /// The numbers in how the library shows a submission.
    fn shown(entry: &io_uring::squeue::Entry128) -> String {
        format!("{entry:?}")
    }

    #[test]
    fn the_request_lies_as_the_kernel_reads_it() {
        let request = request(0x0203, 7);
        assert_eq!(request[..8], [0; 8]);
        assert_eq!(request[8..16], 7u64.to_ne_bytes());
        assert_eq!(request[16..24], [3, 2, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn an_entry_is_registered_by_its_two_places() {
        let places = [0, 1].map(|_| libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        });
        assert_eq!(size_of_val(&register(Fixed(0), 0, &places)), 128);
        assert!(!shown(&commit_and_fetch(Fixed(0), 1, 1)).is_empty());
    }
}
