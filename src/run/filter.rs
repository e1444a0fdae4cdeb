//! The filter that traps calls of a process tree: a classic BPF program over `struct seccomp_data`.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::control::protocol::run::Mode;

/// `AUDIT_ARCH_*` of the calls that are trapped; those of other architectures (32-bit programs) go on unchanged.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;
#[cfg(target_arch = "riscv64")]
const ARCH: u32 = 0xC000_00F3;

/// From here on call numbers are those of the x32 programs of x86.
const FIRST_X32: u32 = 0x4000_0000;
/// Type of the device mapper's ioctls.
pub(super) const DM_IOCTLS: u8 = 0xfd;
/// Type of the block layer's ioctls.
pub(super) const BLOCK_IOCTLS: u8 = 0x12;

const ARCH_AT: u32 = 4;
const NR_AT: u32 = 0;
/// The low half of the second argument: an ioctl's command.
const COMMAND_AT: u32 = 24;

/// Calls that name a file to open it or to take it away.
const OPENS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    libc::SYS_unlinkat,
];

/// Calls that ask about a file.
const STATS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_readlinkat,
];

/// A program for the kernel.
pub(super) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Traps what `mode` needs.
    pub(super) fn new(mode: Mode) -> Filter {
        let (stats, ioctls): (&[libc::c_long], &[u8]) = match mode {
            Mode::Root => (&[], &[DM_IOCTLS]),
            Mode::User => (STATS, &[DM_IOCTLS, BLOCK_IOCTLS]),
        };
        let mut program = vec![
            load(ARCH_AT),
            jump(libc::BPF_JEQ, ARCH, 1, 0),
            answer(libc::SECCOMP_RET_ALLOW),
            load(NR_AT),
        ];
        if cfg!(target_arch = "x86_64") {
            program.extend([
                jump(libc::BPF_JGE, FIRST_X32, 0, 1),
                answer(libc::SECCOMP_RET_ALLOW),
            ]);
        }
        let trap = answer(libc::SECCOMP_RET_USER_NOTIF);
        for call in OPENS.iter().chain(stats) {
            program.extend([jump(libc::BPF_JEQ, *call as u32, 0, 1), trap]);
        }
        program.extend([
            jump(libc::BPF_JEQ, libc::SYS_ioctl as u32, 1, 0),
            answer(libc::SECCOMP_RET_ALLOW),
            load(COMMAND_AT),
            statement(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 8),
            statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xff),
        ]);
        for kind in ioctls {
            program.extend([jump(libc::BPF_JEQ, u32::from(*kind), 0, 1), trap]);
        }
        program.push(answer(libc::SECCOMP_RET_ALLOW));
        Filter(program)
    }

    /// Puts this process, and all that it becomes and starts, under the filter; gives what hears of trapped calls.
    /// Who has not the right to do so gives up the right to gain rights for it (no_new_privs). Neither allocates nor
    /// locks.
    ///
    /// # Errors
    /// EBUSY under another such filter, EINVAL or ENOSYS where the kernel has none, EACCES or EPERM where it is
    /// forbidden.
    pub(super) fn install(&self) -> Result<OwnedFd, Errno> {
        let listen = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // A signal must not have a call begun twice.
        let patient = listen | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        match self.install_with(patient) {
            Err(Errno::INVAL) => self.install_with(listen),
            Err(Errno::ACCESS) => {
                rustix::thread::set_no_new_privs(true)?;
                match self.install_with(patient) {
                    Err(Errno::INVAL) => self.install_with(listen),
                    installed => installed,
                }
            }
            installed => installed,
        }
    }

    fn install_with(&self, flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.0.len()).map_err(|_| Errno::TOOBIG)?,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: seccomp(2) reads `program` and what it points to, both alive, and with NEW_LISTENER gives a
        // descriptor that nobody else owns.
        unsafe {
            let mode = libc::SECCOMP_SET_MODE_FILTER;
            match libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) {
                -1 => Err(Errno::from_raw_os_error(*libc::__errno_location())),
                fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
            }
        }
    }
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

fn load(at: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at)
}

fn answer(with: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, with)
}

/// Compares with `k`, and skips so many statements where it holds or not.
fn jump(compare: u32, k: u32, holds: u8, otherwise: u8) -> libc::sock_filter {
    libc::sock_filter {
        jt: holds,
        jf: otherwise,
        ..statement(libc::BPF_JMP | compare | libc::BPF_K, k)
    }
}

#[cfg(test)]
mod tests {
    use super::{ARCH, Filter};
    use crate::control::protocol::run::Mode;

    /// What the program answers to a call, as the kernel would run it.
    fn answer(filter: &Filter, arch: u32, nr: libc::c_long, command: u32) -> u32 {
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let step = filter.0[at];
            at += 1;
            match u32::from(step.code) {
                0x20 => {
                    value = match step.k {
                        0 => nr as u32,
                        4 => arch,
                        24 => command,
                        other => panic!("loads {other}"),
                    }
                }
                0x15 | 0x35 => {
                    let holds = match step.code {
                        0x15 => value == step.k,
                        _ => value >= step.k,
                    };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
                0x74 => value >>= step.k,
                0x54 => value &= step.k,
                0x06 => return step.k,
                other => panic!("statement {other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_needed_is_trapped() {
        let (allow, trap) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF);
        let (root, user) = (Filter::new(Mode::Root), Filter::new(Mode::User));
        for filter in [&root, &user] {
            assert_eq!(answer(filter, ARCH, libc::SYS_openat, 0), trap);
            assert_eq!(answer(filter, ARCH, libc::SYS_ioctl, 0xc138_fd00), trap);
            for call in [libc::SYS_read, libc::SYS_write, libc::SYS_pread64] {
                assert_eq!(answer(filter, ARCH, call, 0xc138_fd00), allow);
            }
            // TCGETS, and another architecture.
            assert_eq!(answer(filter, ARCH, libc::SYS_ioctl, 0x5401), allow);
            assert_eq!(answer(filter, 3, libc::SYS_openat, 0), allow);
        }
        assert_eq!(answer(&root, ARCH, libc::SYS_statx, 0), allow);
        assert_eq!(answer(&user, ARCH, libc::SYS_statx, 0), trap);
        assert_eq!(answer(&root, ARCH, libc::SYS_ioctl, 0x8008_1272), allow);
        assert_eq!(answer(&user, ARCH, libc::SYS_ioctl, 0x8008_1272), trap);
    }
}
