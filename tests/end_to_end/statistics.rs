//! What is counted of real requests, and who is told.

use crate::support::loop_device::{LoopDevice, Mounted};
use crate::support::mount::Mount;
use crate::support::tools::{run, word};
use std::fs::{self, File};
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

/// Words and answers are those of the real dmstats.
#[test]
fn regions_lie_where_the_data_of_a_file_lies() {
    let mount = Mount::start();
    let backing = mount.backing("a", 64 * MIB);
    mount.create("d", &format!("0 131072 linear {} 0", backing.display()));
    // Not at the device's begin, so that a file's place on its file system is not that on the device.
    let device = mount.device("d");
    let attached = LoopDevice::attach(&device, &["--direct-io=on", "--offset=1048576"]);
    run("mkfs.ext4", &["-q", "-b", "4096", attached.word()]);
    let folder = mount.folder().join("ext4");
    fs::create_dir(&folder).unwrap();
    let ext4 = Mounted::new(attached.path(), &folder, "errors=remount-ro");
    let path = folder.join("file");
    let file = File::create(&path).unwrap();
    for piece in 0..3_u8 {
        let data = vec![piece + 1; 65536];
        file.write_all_at(&data, u64::from(piece) * 3 * 65536)
            .unwrap();
        file.sync_all().unwrap();
        // So that the next piece lies elsewhere.
        fs::write(folder.join(piece.to_string()), &data).unwrap();
        File::open(folder.join(piece.to_string()))
            .and_then(|file| file.sync_all())
            .unwrap();
    }
    let path = word(&path);
    let stats = |words: &[&str]| mount.dmfs(&[&["stats"], words].concat());
    let made = stats(&["create", "--filemap", path]).must();
    let wanted = format!("{path}: Created new group with 3 region(s) as group ID 0.\n");
    assert_eq!(made, wanted);
    let listed = mount.dmfs(&["message", "d", "0", "@stats_list"]).must();
    assert!(listed.contains("DMS_GROUP=file:0-2#-"), "{listed}");
    // What the regions say is there, is there.
    let mut seen = vec![0; 65536];
    for (line, piece) in listed.lines().zip(1_u8..) {
        let range = line.split(' ').nth(1).unwrap();
        let (start, len) = range.split_once('+').unwrap();
        assert_eq!(len, "128", "{listed}");
        let at = start.parse::<u64>().unwrap() * 512;
        File::open(&backing)
            .unwrap()
            .read_exact_at(&mut seen, at)
            .unwrap();
        assert!(seen.iter().all(|byte| *byte == piece), "{listed}");
    }
    // Only what is the file's is counted.
    let dd = |file: &str, more: &str| {
        run(
            "sh",
            &[
                "-c",
                &format!("dd if={file} of=/dev/null bs=64k iflag=direct {more} status=none"),
            ],
        );
    };
    dd(&format!("{}/0", word(&folder)), "");
    dd(path, "skip=3 count=1");
    let report = stats(&[
        "report",
        "--group",
        "--noheadings",
        "-o",
        "read_sector_count",
        "d",
    ]);
    assert_eq!(report.must().trim(), "128");

    // A file that goes on has a region more, and the others go on counting; one that was cut loses some.
    dd(path, "skip=3 count=1");
    file.write_all_at(&vec![9; 65536], 30 * 65536).unwrap();
    let updated = stats(&["update_filemap", "--groupid", "0", path]).must();
    let wanted = format!("{path}: Updated group ID 0 with 4 region(s).\n");
    assert_eq!(updated, wanted);
    let counted = stats(&["print", "--regionid", "1", "d"]).must();
    assert!(counted.contains("+128 1 0 128 "), "{counted}");
    file.set_len(65536).unwrap();
    file.sync_all().unwrap();
    let updated = stats(&["update_filemap", "--groupid", "0", path]).must();
    let wanted = format!("{path}: Updated group ID 0 with 1 region(s).\n");
    assert_eq!(updated, wanted);
    let made = stats(&["create", "--filemap", "--nogroup", "--bounds", "1ms", path]).must();
    let wanted = format!("{path}: Created new region with 1 area as region ID 1.\n");
    assert_eq!(made, wanted);

    let refused: [(&[&str], &str); 8] = [
        (
            &["create", "--filemap"],
            "--filemap requires a file path argument\n",
        ),
        (
            &["create", "--filemap", "/nowhere"],
            "Could not canonicalize file name: /nowhere\n",
        ),
        (
            &["create", "--filemap", "/proc/self/status"],
            "Cannot map file: not a device-mapper device.\nCould not create regions from file /proc/self/status.\n",
        ),
        (
            &["create", "--filemap", "/"],
            "Not a regular file\nCould not create regions from file /.\n",
        ),
        (
            &["create", "--filemap", "--areas", "2", path],
            "--filemap is incompatible with --areas and --area-size.\n",
        ),
        (
            &["create", "--filemap", "--segments", path],
            "--filemap and --segments are incompatible.\n",
        ),
        (
            &["update_filemap", path],
            "--groupid is required to update a filemap group.\n",
        ),
        (
            &["update_filemap", "--groupid", "77", path],
            &format!("Group ID 77 does not exist.\nCould not update regions from file {path}\n"),
        ),
    ];
    for (words, told) in refused {
        let refused = stats(words).must_fail();
        assert_eq!(refused, format!("{told}Command failed.\n"));
    }
    drop(file);
    ext4.unmount();
    drop(attached);
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
