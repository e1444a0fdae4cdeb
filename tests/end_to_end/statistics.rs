//! What is counted of real requests, and who is told.

use crate::support::mount::Mount;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

const MIB: u64 = 1 << 20;

fn with_a_device(mount: &Mount) {
    let file = mount.backing("a", 4 * MIB);
    mount.create("d", &format!("0 8192 linear {} 0", file.display()));
}

#[test]
fn regions_count_what_programs_do() {
    let mount = Mount::start();
    with_a_device(&mount);
    let stats = |words: &str| {
        let words: Vec<&str> = ["stats"].into_iter().chain(words.split(' ')).collect();
        mount.dmfs(&words).must()
    };
    let made = stats("create --areas 2 --bounds 1us,60s d");
    assert_eq!(
        made,
        "d: Created new region with 2 area(s) as region ID 0\n"
    );
    let device = mount.open("d");
    device.write_all_at(&[1; 8192], 0).unwrap();
    device.read_exact_at(&mut [0; 4096], 2 * MIB).unwrap();
    device.sync_all().unwrap();
    let fields = "area_id,read_count,read_sector_count,write_count,write_sector_count,in_progress_count,hist_count";
    let print = stats("print --regionid 0 d");
    let report = stats(&format!(
        "report --area --noheadings --separator ; -o {fields} d"
    ));
    let report: Vec<String> = report.lines().map(|line| line.replace(' ', "")).collect();
    assert_eq!(report, ["0;0;0;1;16;0;010", "1;1;8;0;0;0;010"], "{print}");
    // A report starts again from 0, a picture does not.
    device.read_exact_at(&mut [0; 512], 0).unwrap();
    let svg = stats("report --svg d");
    assert!(
        svg.contains("1 requests") && svg.contains("1us to 60s"),
        "{svg}"
    );
    let json = stats("report --area --json -o read_count,await d");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["report"][0]["stats"][0]["read_count"], 1, "{json}");
    // A table that goes takes no counters with it; a device that goes does.
    mount.dmfs_fed(&["load", "d"], "0 8192 zero").must();
    mount.dmfs(&["resume", "d"]).must();
    assert!(stats("list d").contains("4.00m"));
    drop(device);
    mount.dmfs(&["remove", "d"]).must();
    with_a_device(&mount);
    assert_eq!(stats("list d"), "");
    mount.stop();
}

fn ask(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn counters_are_served_to_prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("metrics");
    let mount = Mount::start_with(&["--metrics", socket.to_str().unwrap()]);
    with_a_device(&mount);
    mount.open("d").write_all_at(&[1; 8192], 0).unwrap();
    mount
        .dmfs(&["stats", "create", "--bounds", "10ms", "d"])
        .must();
    let page = ask(&socket, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    for line in [
        "HTTP/1.1 200 OK\r",
        "dmfs_requests_total{device=\"d\",op=\"write\"} 1",
        "dmfs_request_bytes_total{device=\"d\",op=\"write\"} 8192",
        "dmfs_device_size_bytes{device=\"d\"} 4194304",
        "dmfs_region_duration_seconds_bucket{device=\"d\",region=\"0\",le=\"0.01\"} 0",
        "dmfs_region_duration_seconds_bucket{device=\"d\",region=\"0\",le=\"+Inf\"} 0",
    ] {
        assert!(
            page.lines().any(|told| told == line.trim_end()),
            "{line} is not in {page}"
        );
    }
    for nonsense in [
        "\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\u{0}\u{1}\n\n",
        &"x".repeat(9000),
    ] {
        assert!(
            ask(&socket, nonsense).starts_with("HTTP/1.1 4"),
            "{nonsense:?}"
        );
    }
    assert!(ask(&socket, "GET /metrics HTTP/1.0\n\n").contains("dmfs_requests_total"));
    mount.stop();
    assert!(!socket.exists());
}
