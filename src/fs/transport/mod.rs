//! Transports: how requests come from the kernel and answers go back.
//!
//! A mount is negotiated once (greeting); then workers (classic) take requests off the connection, one at a
//! time each, have them served and write the answers.

mod backing;
mod classic;
mod clone;
mod connection;
mod crew;
mod greeting;
mod reply;

pub use backing::Backing;
pub use classic::{spread, start};
pub use connection::Connection;
pub use crew::MOST as MOST_WORKERS;
pub use greeting::{Agreed, greet};
pub use reply::Reply;
