//! Transports: how requests come from the kernel and answers go back.
//!
//! A mount is negotiated once (greeting); then workers (classic) take requests off the connection, one at a
//! time each, have them served and write the answers; or ring threads (uring) take many at a time from memory that
//! they share with the kernel.

mod backing;
mod choice;
mod classic;
mod clone;
mod connection;
mod crew;
mod greeting;
mod reply;
mod trial;
mod uring;

pub use backing::Backing;
pub use choice::{Offer, Transport, prepare, start};
pub use classic::spread;
pub use connection::Connection;
pub use crew::MOST as MOST_WORKERS;
pub use greeting::{Agreed, greet};
pub use reply::Reply;
