#![allow(clippy::unwrap_used)]

use super::{DeviceCounters, JsonReply, JsonRequest, VERSION};

#[test]
fn requests_read_as_documented() {
    let pairs = [
        (
            r#"{"request":"hello","version":1,"cwd":"/home"}"#,
            JsonRequest::Hello {
                version: VERSION,
                cwd: "/home".into(),
            },
        ),
        (r#"{"request":"mount-info"}"#, JsonRequest::MountInfo {}),
        (
            r#"{"request":"counters"}"#,
            JsonRequest::Counters {
                name: None,
                measure: None,
            },
        ),
        (
            r#"{"request":"attach","name":"a","link":true,"readonly":false}"#,
            JsonRequest::Attach {
                name: "a".into(),
                link: true,
                readonly: false,
            },
        ),
    ];
    for (text, request) in pairs {
        assert_eq!(serde_json::from_str::<JsonRequest>(text).unwrap(), request);
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
    }
}

#[test]
fn misspelt_members_and_requests_are_refused() {
    for text in [
        r#"{"request":"unmount","forse":true}"#,
        r#"{"request":"dump","name":"a"}"#,
        r#"{"request":"explode"}"#,
        r#"{"version":1}"#,
        "[]",
    ] {
        assert!(serde_json::from_str::<JsonRequest>(text).is_err(), "{text}");
    }
}

#[test]
fn replies_survive_and_tolerate_newer_members() {
    let reply = JsonReply::Counters {
        devices: vec![DeviceCounters {
            name: "a".into(),
            reads: 3,
            ..DeviceCounters::default()
        }],
    };
    let text = serde_json::to_string(&reply).unwrap();
    assert_eq!(serde_json::from_str::<JsonReply>(&text).unwrap(), reply);
    let newer = text.replace("\"reads\"", "\"latency\":1,\"reads\"");
    assert_eq!(serde_json::from_str::<JsonReply>(&newer).unwrap(), reply);
}
