//! What a hostile peer may send over the control socket: frames, `struct dm_ioctl`, every payload.
#![no_main]

use dmfs::control::protocol::dm_ioctl::{Command, Header, payload};
use dmfs::control::protocol::frame;
use dmfs::control::protocol::json::{JsonReply, JsonRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut stream = bytes;
    while let Ok(Some(request)) = frame::read_request(&mut stream) {
        ioctl(&request.payload);
        let mut again = Vec::new();
        frame::write_request(&mut again, &request).expect("what was read fits its limits");
        let read = frame::read_request(&mut again.as_slice());
        assert_eq!(read.expect("what was written is a frame"), Some(request));
    }
    if let Ok(reply) = frame::read_reply(&mut &*bytes) {
        ioctl(&reply.payload);
    }
    let _ = serde_json::from_slice::<JsonRequest>(bytes);
    let _ = serde_json::from_slice::<JsonReply>(bytes);
    ioctl(bytes);
});

/// Both sides' decoders of every payload.
fn ioctl(buffer: &[u8]) {
    let Ok(header) = Header::decode_request(buffer).or_else(|_| Header::decode(buffer)) else {
        return;
    };
    for command in Command::ALL {
        let _ = header.check_address(command);
    }
    if let Ok(rows) = payload::read_load(&header, buffer) {
        assert_eq!(rows.len(), header.target_count as usize);
    }
    let _ = payload::read_message(&header, buffer);
    let _ = payload::read_rename(&header, buffer);
    let _ = payload::read_geometry(&header, buffer);
    let _ = payload::read_rows(&header, buffer);
    let _ = payload::read_deps(&header, buffer);
    let _ = payload::read_names(&header, buffer);
    let _ = payload::read_versions(&header, buffer);
    let _ = payload::read_reply(&header, buffer);
    let mut encoded = Vec::new();
    header.encode(&mut encoded);
    assert_eq!(Header::decode(&encoded).as_ref(), Ok(&header));
}
