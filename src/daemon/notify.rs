//! Tells a service manager how the mount is (sd_notify(3)): one datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! By hand, because it is no more than this. Who was not started by a manager tells nobody.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The mount stands, and shows what `status` says.
pub fn ready(status: &str) {
    let line = status.lines().next().unwrap_or_default();
    tell(&format!(
        "READY=1\nMAINPID={}\nSTATUS={line}\n",
        std::process::id()
    ));
}

/// The end has begun.
pub fn stopping() {
    tell("STOPPING=1\nSTATUS=unmounted; making everything durable\n");
}

fn tell(message: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, message) {
        log::warn!("service manager at {}: {error}", socket.display());
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => {
            let text = "NOTIFY_SOCKET: expected a path or @ and a name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::send;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_message_reaches_a_socket_in_a_folder_and_an_abstract_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1\n").unwrap();
        assert_eq!(received(&manager), "READY=1\n");
        let name = format!("dmfs-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1\n").unwrap();
        assert_eq!(received(&manager), "STOPPING=1\n");
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(send(folder.path().join("nobody").as_os_str(), "READY=1\n").is_err());
        assert!(send(OsStr::new("relative"), "READY=1\n").is_err());
        assert!(send(OsStr::new("vsock:2:1"), "READY=1\n").is_err());
    }
}
