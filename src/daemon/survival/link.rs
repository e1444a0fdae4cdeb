//! What supervisor and daemon say to each other: short messages, some with a descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::io::Errno;

/// The longest message, bytes.
const LONGEST: usize = 512;

/// One end.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// A message.
#[derive(Debug)]
pub enum Message {
    /// Keep this under a name, in place of what is kept under it.
    Keep(String, OwnedFd),
    /// Close what is kept under a name.
    Forget(String),
    /// To the daemon: that was everything; begin. With how many daemons there were before.
    Begin(u32),
    /// To the supervisor: the mount stands; from now on a daemon that dies has a successor.
    Ready,
    /// To the supervisor: the mount has ended; nothing is to go on.
    Bye,
    /// To the supervisor: go on with this program when this daemon is gone.
    Upgrade(OwnedFd),
}

impl Link {
    /// Two ends.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> io::Result<(Link, Link)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Link(one), Link(other)))
    }

    /// The end behind `descriptor`.
    pub fn new(descriptor: OwnedFd) -> Link {
        Link(descriptor)
    }

    /// Its descriptor.
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// Says keep `descriptor` under `name`.
    ///
    /// # Errors
    /// EPIPE where nobody listens any more.
    pub fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.send(&format!("keep {name}"), Some(descriptor))
    }

    /// Says go on with `program`, an open file.
    ///
    /// # Errors
    /// As for [`Self::keep`].
    pub fn upgrade(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.send("upgrade", Some(program))
    }

    /// Says a message without a descriptor.
    ///
    /// # Errors
    /// As for [`Self::keep`].
    pub fn say(&self, text: &str) -> io::Result<()> {
        self.send(text, None)
    }

    fn send(&self, text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if text.len() > LONGEST {
            return Err(io::Error::from(Errno::MSGSIZE));
        }
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::from(Errno::NOBUFS));
        }
        let parts = [IoSlice::new(text.as_bytes())];
        loop {
            match sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the next message; nothing where the other end is gone.
    ///
    /// # Errors
    /// What the system says, and `InvalidData` for what is no message.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut text = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let len = loop {
            let mut parts = [IoSliceMut::new(&mut text)];
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received.bytes,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        if len == 0 {
            return Ok(None);
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let text = str::from_utf8(text.get(..len).unwrap_or_default());
        let message = text.ok().and_then(|text| understand(text, descriptor));
        message
            .map(Some)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn understand(text: &str, descriptor: Option<OwnedFd>) -> Option<Message> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match word {
        "keep" => Message::Keep(rest.to_owned(), descriptor?),
        "forget" => Message::Forget(rest.to_owned()),
        "begin" => Message::Begin(rest.parse().ok()?),
        "ready" => Message::Ready,
        "bye" => Message::Bye,
        "upgrade" => Message::Upgrade(descriptor?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::{Link, Message};

    #[test]
    fn descriptors_arrive_open_under_their_names() {
        let (ours, theirs) = Link::pair().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        ours.keep("mem a b", writer.as_fd()).unwrap();
        ours.say("forget file 1:2").unwrap();
        ours.say("begin 3").unwrap();
        writer.write_all(b"1").unwrap();
        drop(writer);
        match theirs.receive().unwrap() {
            Some(Message::Keep(name, descriptor)) => {
                assert_eq!(name, "mem a b");
                File::from(descriptor).write_all(b"2").unwrap();
            }
            other => panic!("{other:?}"),
        }
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "12");
        assert!(
            matches!(theirs.receive().unwrap(), Some(Message::Forget(name)) if name == "file 1:2")
        );
        assert!(matches!(theirs.receive().unwrap(), Some(Message::Begin(3))));
        // What was said before the end is heard after it.
        ours.say("ready").unwrap();
        drop(ours);
        assert!(matches!(theirs.receive().unwrap(), Some(Message::Ready)));
        assert!(theirs.receive().unwrap().is_none());
        assert!(theirs.say("bye").is_err());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (ours, theirs) = Link::pair().unwrap();
        for text in ["keep x", "begin", "begin x", "upgrade", "else"] {
            ours.say(text).unwrap();
            assert!(theirs.receive().is_err(), "{text}");
        }
        assert!(ours.say(&"x".repeat(1000)).is_err());
    }
}
