//! The answer to one request, which any thread can give at any later time.

use std::ops::{Deref, Range};

use super::connection::Connection;
use super::uring::{self, Slot};
use crate::io::{Errno, IoError, IoResult, scratch};
use crate::sync::Arc;

/// The right to answer a request, once. Dropped unused, as by a panic, it answers EIO: nobody waits for ever.
///
/// Most requests are answered by the worker that took them, which lends its connection; one that another thread answers
/// is [detached](Reply::detached) first.
#[must_use]
pub struct Reply<'w>(To<'w>);

/// Where the answer goes.
enum To<'w> {
    /// Nowhere: it was given.
    Nobody,
    Lent(u64, &'w Arc<Connection>),
    Connection(u64, Arc<Connection>),
    Entry(Slot),
}

impl<'w> Reply<'w> {
    /// Will answer request `unique` that came from `connection`.
    pub fn new(unique: u64, connection: &'w Arc<Connection>) -> Reply<'w> {
        Reply(To::Lent(unique, connection))
    }

    /// Will answer the request in an entry of a ring.
    pub fn into_entry(slot: Slot) -> Reply<'static> {
        Reply(To::Entry(slot))
    }

    /// The same, for any thread at any later time.
    pub fn detached(mut self) -> Reply<'static> {
        Reply(match self.take() {
            To::Nobody => To::Nobody,
            To::Lent(unique, connection) => To::Connection(unique, connection.clone()),
            To::Connection(unique, connection) => To::Connection(unique, connection),
            To::Entry(slot) => To::Entry(slot),
        })
    }

    /// The request's number.
    pub fn unique(&self) -> u64 {
        match &self.0 {
            To::Lent(unique, _) | To::Connection(unique, _) => *unique,
            To::Entry(slot) => slot.unique(),
            To::Nobody => 0,
        }
    }

    /// True where another request waits for whoever has this one.
    pub fn keeps_others_waiting(&self) -> bool {
        match &self.0 {
            To::Lent(_, connection) => connection.has_request(),
            To::Connection(_, connection) => connection.has_request(),
            // Whoever comes next comes to the same thread, and may be there already.
            To::Entry(_) => true,
            To::Nobody => false,
        }
    }

    /// Says nothing: for requests that are not answered.
    pub fn none(mut self) {
        match std::mem::replace(&mut self.0, To::Nobody) {
            To::Nobody | To::Lent(..) | To::Connection(..) => {}
            // What a ring brings is always answered: its entry comes back that way.
            To::Entry(slot) => slot.answer(Ok(&[])),
        }
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
    ) -> Result<(), Reply<'w>> {
        if let To::Entry(slot) = &mut self.0
            && let Some(memory) = slot.memory(len)
        {
            return match work(memory) {
                Err(IoError::WOULD_WAIT) => Err(self),
                Ok(range) => {
                    if let To::Entry(slot) = self.take() {
                        slot.answer_in_place(range);
                    }
                    Ok(())
                }
                Err(error) => {
                    self.send(Err(error.errno()));
                    Ok(())
                }
            };
        }
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

    /// Keeps `data`, with which the request came, for as long as the answer is owed: where it lies if that is the
    /// request's own memory, else as a copy.
    pub fn keep(mut self, data: &[u8]) -> Kept {
        match self.take() {
            To::Entry(slot) => match slot.keep(data) {
                Ok(kept) => Kept(Data::InPlace(kept)),
                Err(slot) => Kept(Data::Copy(data.into(), Reply(To::Entry(slot)))),
            },
            to => Kept(Data::Copy(data.into(), Reply(to).detached())),
        }
    }

    fn take(&mut self) -> To<'w> {
        std::mem::replace(&mut self.0, To::Nobody)
    }

    #[inline]
    fn send(&mut self, result: Result<&[u8], Errno>) {
        let sent = match self.take() {
            To::Nobody => Ok(()),
            To::Entry(slot) => {
                slot.answer(result);
                Ok(())
            }
            To::Lent(unique, connection) => connection.answer(unique, result),
            To::Connection(unique, connection) => connection.answer(unique, result),
        };
        match sent {
            // Whoever asked was killed meanwhile, or the mount is gone.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED | Errno::PERM) => {}
            Err(error) => log::warn!("answering the kernel: {error}"),
        }
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        self.send(Err(Errno::IO));
    }
}

/// Data of a request, and the right to answer it.
pub struct Kept(Data);

enum Data {
    Copy(Box<[u8]>, Reply<'static>),
    InPlace(uring::Kept),
}

impl Kept {
    /// The data is not needed any more.
    pub fn into_reply(self) -> Reply<'static> {
        match self.0 {
            Data::Copy(_, reply) => reply,
            Data::InPlace(kept) => Reply::into_entry(kept.into_slot()),
        }
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Data::Copy(data, _) => data,
            Data::InPlace(kept) => kept,
        }
    }
}
