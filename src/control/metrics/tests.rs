#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use proptest::prelude::{any, proptest};

use super::{LONGEST, escaped, reply_to, serve};
use crate::backing::BackingStore;
use crate::control::Registry;
use crate::control::protocol::mount::MetricsAddress;
use crate::targets::KINDS;

fn status(request: &[u8]) -> Option<String> {
    let reply = reply_to(request, || "page\n".to_owned())?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let len = format!("Content-Length: {}", body.len());
    assert!(
        head.contains(&len) || request.starts_with(b"HEAD"),
        "{reply}"
    );
    Some(head.split_once("\r\n").unwrap().0.to_owned())
}

#[test]
fn only_one_page_is_there() {
    for (request, answer) in [
        (
            "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            "HTTP/1.1 200 OK",
        ),
        ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK"),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK"),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (
            "GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n",
            "HTTP/1.1 404 Not Found",
        ),
        (
            "POST /metrics HTTP/1.1\r\n\r\n",
            "HTTP/1.1 405 Method Not Allowed",
        ),
        ("GET /metrics\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("nonsense\n\n", "HTTP/1.1 400 Bad Request"),
    ] {
        assert_eq!(
            status(request.as_bytes()).as_deref(),
            Some(answer),
            "{request}"
        );
    }
    assert_eq!(status(b"GET /metrics HTTP/1.1\r\nHost:"), None);
    assert_eq!(status(&[b'a'; LONGEST]), None);
    let too_long = status(&[b'a'; LONGEST + 1]).unwrap();
    assert_eq!(too_long, "HTTP/1.1 431 Request Header Fields Too Large");
    assert_eq!(
        status(b"\xff\xfe / HTTP/1.1\r\n\r\n").as_deref(),
        Some("HTTP/1.1 400 Bad Request")
    );
}

proptest! {
    #[test]
    fn no_request_panics(request in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = status(&request);
    }
}

#[test]
fn addresses_stay_on_this_machine() {
    for good in ["/run/x.sock", "127.0.0.1:9100", "[::1]:9100", "127.9.9.9:1"] {
        assert_eq!(MetricsAddress::parse(good).unwrap().to_string(), good);
    }
    for bad in [
        "",
        "x.sock",
        "0.0.0.0:9100",
        "192.0.2.1:80",
        "127.0.0.1",
        "127.0.0.1:0",
        "localhost:9100",
    ] {
        let error = MetricsAddress::parse(bad).unwrap_err();
        assert!(error.contains("Unix socket"), "{error}");
    }
}

#[test]
fn labels_cannot_be_broken_out_of() {
    assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
}

#[test]
fn the_page_is_served_until_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics");
    let registry = Registry::new(KINDS, 252, BackingStore::new(251));
    let address = MetricsAddress::Unix(path.clone());
    let metrics = serve(&address, registry.clone()).unwrap();
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Somebody who says nothing and leaves is in nobody's way.
    drop(UnixStream::connect(&path).unwrap());
    let mut caller = UnixStream::connect(&path).unwrap();
    caller.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    caller.write_all(b"\r\n").unwrap();
    let mut page = String::new();
    caller.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(
        page.contains("# TYPE dmfs_requests_total counter"),
        "{page}"
    );
    let taken = serve(&address, registry);
    assert!(taken.is_err(), "somebody is there");
    drop(metrics);
    assert!(!path.exists());
}
