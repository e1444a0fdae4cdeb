//! The answer to one request, which any thread can give at any later time.

use std::ops::Range;

use super::connection::Connection;
use crate::fs::scratch;
use crate::io::{Errno, IoError, IoResult};
use crate::sync::Arc;

/// The right to answer a request, once. Dropped unused, as by a panic, it answers EIO: nobody waits for ever.
#[must_use]
pub struct Reply {
    unique: u64,
    /// `None` where it was answered.
    to: Option<Arc<Connection>>,
}

impl Reply {
    /// Will answer request `unique` that came from `connection`.
    pub fn new(unique: u64, connection: Arc<Connection>) -> Reply {
        Reply {
            unique,
            to: Some(connection),
        }
    }

    /// The request's number.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// True where another request waits for whoever has this one.
    pub fn keeps_others_waiting(&self) -> bool {
        self.to.as_ref().is_some_and(|to| to.has_request())
    }

    /// Says nothing: for requests that are not answered.
    pub fn none(mut self) {
        self.to = None;
    }

    /// Answers with a structure, or with nothing but success.
    #[inline]
    pub fn body(mut self, body: &[u8]) {
        self.send(Ok(body));
    }

    /// Answers with an error.
    pub fn error(mut self, error: impl Into<IoError>) {
        self.send(Err(error.into().errno()));
    }

    /// Answers with success or an error.
    pub fn result(mut self, result: IoResult) {
        self.send(result.map(|()| &[][..]).map_err(IoError::errno));
    }

    /// Answers with the part of `len` bytes of memory that `work` gives, or with its error.
    ///
    /// # Errors
    /// Gives itself back where `work` is put off ([`IoError::WOULD_WAIT`]).
    #[inline]
    pub fn data(
        mut self,
        len: usize,
        work: impl FnOnce(&mut [u8]) -> Result<Range<usize>, IoError>,
    ) -> Result<(), Reply> {
        scratch::with(len, |memory| match work(memory) {
            Err(IoError::WOULD_WAIT) => Err(self),
            Ok(range) => {
                self.send(memory.get(range).ok_or(Errno::IO));
                Ok(())
            }
            Err(error) => {
                self.send(Err(error.errno()));
                Ok(())
            }
        })
    }

    #[inline]
    fn send(&mut self, result: Result<&[u8], Errno>) {
        let Some(connection) = self.to.take() else {
            return;
        };
        match connection.answer(self.unique, result) {
            // Whoever asked was killed meanwhile, or the mount is gone.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED | Errno::PERM) => {}
            Err(error) => log::warn!("answering the kernel: {error}"),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.send(Err(Errno::IO));
    }
}
