//! The control socket's language, shared by the daemon and by the commands.
//!
//! Everything here is pure: bytes in, values out. Decoders read what a hostile peer may have
//! written: they check every bound, allocate nothing before a length was compared with its limit, and
//! answer with a typed error instead of panicking. `docs/protocol.md` holds the byte tables.
//!
//! - [`concise`], [`table_text`]: devices and tables as text, as dmsetup reads them.
//! - [`client`]: a connection to a mount, and finding the mount to talk to.
//! - [`crash`]: what the commands about logs hand to the program.
//! - [`dm_ioctl`]: `struct dm_ioctl` and the payload of each command, as the kernel defines them.
//! - [`frame`]: how such a transaction, or a JSON one, travels over a Unix stream socket.
//! - [`json`]: requests that the kernel's interface has no word for.
//! - [`mount`]: what the command that starts a mount hands to the daemon.
//! - [`run`]: what the command that runs others asks of the program.
//! - [`socket_path`]: where a mount's socket lives.

pub mod client;
pub mod concise;
pub mod crash;
pub mod dm_ioctl;
pub mod frame;
pub mod json;
pub mod mount;
pub mod run;
pub mod socket_path;
pub mod stack;
pub mod table_text;
