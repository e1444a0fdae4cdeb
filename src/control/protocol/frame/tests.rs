#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::{prop_assert_eq, proptest};

use super::{
    ErrorDetail, FrameError, Kind, MAX_JSON_REQUEST, REPLY_BYTES, REQUEST_BYTES, Reply, Request,
    read_reply, read_request, write_reply, write_request,
};

fn request(kind: Kind, payload: &[u8]) -> Request {
    Request {
        kind,
        command: 9,
        payload: payload.to_vec(),
    }
}

fn written(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_request(&mut bytes, request).unwrap();
    bytes
}

#[test]
fn requests_follow_each_other_until_the_peer_closes() {
    let (first, second) = (request(Kind::Ioctl, b"abc"), request(Kind::Json, b"{}"));
    let mut stream = Cursor::new([written(&first), written(&second)].concat());
    assert_eq!(read_request(&mut stream).unwrap(), Some(first));
    assert_eq!(read_request(&mut stream).unwrap(), Some(second));
    assert_eq!(read_request(&mut stream).unwrap(), None);
}

#[test]
fn request_bytes_are_the_documented_ones() {
    assert_eq!(
        written(&request(Kind::Ioctl, b"x")),
        b"DMFS\x01\0\x01\0\x09\0\0\0\x01\0\0\0x"
    );
}

#[test]
fn a_detail_travels_behind_the_payload() {
    let reply = Reply {
        kind: Kind::Ioctl,
        command: 9,
        errno: 22,
        payload: vec![1, 2, 3],
        detail: ErrorDetail {
            messages: vec!["table: 253:0: linear: Gap in table (-EINVAL)".into()],
            row: Some(2),
            word: Some(1),
            found: Some("16".into()),
            expected: Some("8".into()),
        },
    };
    let mut bytes = Vec::new();
    write_reply(&mut bytes, &reply).unwrap();
    assert_eq!(read_reply(&mut Cursor::new(bytes)).unwrap(), reply);
}

#[test]
fn no_detail_takes_no_bytes() {
    let reply = Reply {
        kind: Kind::Json,
        command: 0,
        errno: 0,
        payload: vec![],
        detail: ErrorDetail::default(),
    };
    let mut bytes = Vec::new();
    write_reply(&mut bytes, &reply).unwrap();
    assert_eq!(bytes.len(), REPLY_BYTES);
    assert_eq!(read_reply(&mut Cursor::new(bytes)).unwrap(), reply);
}

#[test]
fn another_version_is_named() {
    let mut bytes = written(&request(Kind::Ioctl, b""));
    bytes[4] = 2;
    let error = read_request(&mut Cursor::new(bytes)).unwrap_err();
    assert!(
        error.to_string().contains("version 2, this dmfs version 1"),
        "{error}"
    );
}

#[test]
fn foreign_bytes_and_kinds_are_refused() {
    let error = read_request(&mut Cursor::new(b"GET / HTTP/1.1\r\n")).unwrap_err();
    assert!(matches!(error, FrameError::Magic(found) if &found == b"GET "));
    let mut bytes = written(&request(Kind::Ioctl, b""));
    bytes[6] = 3;
    assert!(matches!(
        read_request(&mut Cursor::new(bytes)),
        Err(FrameError::Kind(3))
    ));
}

#[test]
fn lengths_over_their_limits_are_refused_unread() {
    let mut bytes = written(&request(Kind::Json, b""));
    bytes[12..16].copy_from_slice(&(MAX_JSON_REQUEST as u32 + 1).to_le_bytes());
    let error = read_request(&mut Cursor::new(bytes)).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { length, .. } if length == MAX_JSON_REQUEST + 1));
    let long = request(Kind::Json, &vec![b' '; MAX_JSON_REQUEST + 1]);
    let mut nothing = Vec::new();
    assert!(matches!(
        write_request(&mut nothing, &long),
        Err(FrameError::TooLong { .. })
    ));
    assert!(nothing.is_empty());
}

#[test]
fn a_stream_cut_anywhere_is_an_error() {
    let bytes = written(&request(Kind::Ioctl, b"abcdef"));
    for end in 1..bytes.len() {
        let error = read_request(&mut Cursor::new(&bytes[..end])).unwrap_err();
        assert!(matches!(error, FrameError::Io(_)), "cut at {end}: {error}");
    }
}

proptest! {
    #[test]
    fn requests_survive(command in any::<u32>(), json in any::<bool>(), payload in vec(any::<u8>(), 0..2000)) {
        let kind = if json { Kind::Json } else { Kind::Ioctl };
        let request = Request { kind, command, payload };
        let mut stream = Cursor::new(written(&request));
        prop_assert_eq!(read_request(&mut stream).unwrap(), Some(request));
    }

    #[test]
    fn hostile_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..100), framed in any::<bool>()) {
        if framed && bytes.len() >= REQUEST_BYTES {
            bytes[..8].copy_from_slice(b"DMFS\x01\0\x01\0");
        }
        let _ = read_request(&mut Cursor::new(&bytes));
        let _ = read_reply(&mut Cursor::new(&bytes));
    }
}
