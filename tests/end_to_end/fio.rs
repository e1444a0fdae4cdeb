//! fio writes, reads back and verifies, on the file and on a loop device, also while tables change.

use crate::support::loop_device::LoopDevice;
use crate::support::mount::Mount;
use crate::support::tools::{command, missing, run, text, word};
use std::path::Path;
use std::process::Stdio;

const MIB: u64 = 1 << 20;

/// The words of a fio run that writes all of `file` at random and verifies every block.
pub fn job(file: &Path, engine: &str, size: u64, rest: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = [
        "--name=verify",
        "--rw=randwrite",
        "--bsrange=512-64k",
        "--bs_unaligned=0",
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--do_verify=1",
        "--randseed=7",
        "--group_reporting",
        "--output-format=json",
    ]
    .map(str::to_owned)
    .to_vec();
    words.push(format!("--filename={}", word(file)));
    words.push(format!("--ioengine={engine}"));
    words.push(format!("--size={size}"));
    words.extend(rest.iter().map(|&word| word.to_owned()));
    words
}

/// A device of one linear row over each of two files, 16 MiB together.
fn joined() -> Mount {
    let mount = Mount::start();
    mount.create("d", &tables(&mount)[0]);
    mount
}

/// The same around the page cache: the table that opens the files first says so for those that follow.
fn joined_directly() -> Mount {
    let table = "0 16384 linear a 0\n16384 16384 linear b 0";
    Mount::from_toml(&format!(
        "[[file]]\npath = 'a'\nsize = '8M'\n\n[[file]]\npath = 'b'\nsize = '8M'\n\n\
         [[device]]\nname = 'd'\ndirect = true\ntable = \"\"\"\n{table}\n\"\"\"\n"
    ))
}

/// How much the daemon has asked of the disks below `mount` by io_uring, where there is io_uring and a disk.
fn asked_of_disks(mount: &Mount) -> Option<u64> {
    let in_memory = rustix::fs::statfs(mount.folder()).unwrap().f_type == 0x0102_1994;
    if in_memory || mount.log().contains("no io_uring") {
        println!("nothing to see: no disk below, or no io_uring");
        return None;
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fdinfo", mount.pid())).unwrap();
    let told = descriptors.map(|one| std::fs::read_to_string(one.unwrap().path()));
    // What a ring was ever asked is where the tail of its queue is.
    let tails = told.flatten().filter_map(|told| {
        let tail = told.lines().find_map(|line| line.strip_prefix("SqTail:"))?;
        tail.trim().parse::<u64>().ok()
    });
    Some(tails.sum())
}

/// Three tables that say the same in different words.
fn tables(mount: &Mount) -> [String; 3] {
    let file = |name| {
        let path = mount.folder().join(name);
        match path.exists() {
            true => path,
            false => mount.backing(name, 8 * MIB),
        }
    };
    let (a, b) = (file("a"), file("b"));
    let (a, b) = (a.display(), b.display());
    [
        format!("0 16384 linear {a} 0\n16384 16384 linear {b} 0\n"),
        format!("0 1001 linear {a} 0\n1001 15383 linear {a} 1001\n16384 16384 linear {b} 0\n"),
        format!(
            "0 16384 linear {a} 0\n16384 8 linear {b} 0\n16392 8184 linear {b} 8\n24576 8192 linear {b} 8192\n"
        ),
    ]
}

#[test]
fn what_fio_writes_to_the_file_it_reads_back() {
    let mount = joined();
    let device = mount.device("d");
    for (engine, direct) in [("libaio", "--direct=1"), ("psync", "--direct=0")] {
        run("fio", &job(&device, engine, 16 * MIB, &[direct]));
    }
    run(
        "fio",
        &job(
            &device,
            "psync",
            16 * MIB,
            &["--direct=0", "--fsync=16", "--numjobs=1"],
        ),
    );
    mount.stop();
}

#[test]
fn what_fio_writes_to_a_loop_device_it_reads_back() {
    let mount = joined();
    let attached = LoopDevice::attach(&mount.device("d"), &["--direct-io=on"]);
    run(
        "fio",
        &job(attached.path(), "libaio", 16 * MIB, &["--direct=1"]),
    );
    drop(attached);
    mount.stop();
}

#[test]
fn what_fio_writes_around_the_page_cache_it_reads_back() {
    let mount = joined_directly();
    let device = mount.device("d");
    for rest in [
        &["--direct=1", "--iodepth=32"][..],
        &["--direct=1", "--sync=1"],
        &["--direct=1", "--fsync=8"],
    ] {
        run("fio", &job(&device, "libaio", 16 * MIB, rest));
    }
    let asked = asked_of_disks(&mount);
    assert!(asked.is_none_or(|asked| asked > 500), "{asked:?}");
    mount.stop();
}

#[test]
fn swapping_tables_under_fio_loses_and_doubles_nothing() {
    let mount = joined();
    swap_under_fio(&mount);
    mount.stop();
}

#[test]
fn swapping_tables_around_the_page_cache_waits_for_what_is_on_its_way_to_the_disk() {
    let mount = joined_directly();
    swap_under_fio(&mount);
    let asked = asked_of_disks(&mount);
    assert!(asked.is_none_or(|asked| asked > 500), "{asked:?}");
    mount.stop();
}

fn swap_under_fio(mount: &Mount) {
    let device = mount.device("d");
    let tables = tables(mount);
    let mut fio = command("fio")
        .args(job(
            &device,
            "libaio",
            16 * MIB,
            &["--direct=1", "--loops=4", "--verify_backlog=64"],
        ))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}", missing("fio", &error)));
    let mut swaps = 0;
    while fio.try_wait().unwrap().is_none() {
        let table = &tables[swaps % tables.len()];
        mount.dmfs_fed(&["load", "d"], table).must();
        let noflush: &[&str] = match swaps % 2 {
            0 => &["suspend", "d"],
            _ => &["suspend", "--noflush", "d"],
        };
        mount.dmfs(noflush).must();
        mount.dmfs(&["resume", "d"]).must();
        assert_eq!(
            mount.dmfs(&["table", "d"]).must().lines().count(),
            table.lines().count()
        );
        swaps += 1;
    }
    let said = fio.wait_with_output().unwrap();
    assert!(
        said.status.success(),
        "{}{}",
        text(&said.stdout),
        text(&said.stderr)
    );
    assert!(swaps >= 10, "only {swaps} swaps while fio ran");
    let report: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["jobs"][0]["error"], 0, "{report}");
}

#[test]
fn moving_a_device_under_fio_keeps_every_write_on_one_side() {
    // Two halves swap places between two tables while a model runs on the other half: what is written
    // before a swap is found on the file that the table of that moment named.
    let mount = Mount::start();
    let (a, b) = (mount.backing("a", MIB), mount.backing("b", MIB));
    let over = |file: &Path| format!("0 2048 linear {} 0\n", file.display());
    mount.create("d", &over(&a));
    let device = mount.open("d");
    for round in 0..40_u8 {
        let (file, next) = match round % 2 {
            0 => (&a, &b),
            _ => (&b, &a),
        };
        use std::os::unix::fs::FileExt;
        let at = u64::from(round) * 512;
        device.write_all_at(&[round + 1; 512], at).unwrap();
        mount.dmfs_fed(&["load", "d"], &over(next)).must();
        mount.dmfs(&["resume", "d"]).must();
        let below = std::fs::read(file).unwrap();
        assert_eq!(below[at as usize], round + 1, "round {round}");
        let other = std::fs::read(next).unwrap();
        assert_eq!(other[at as usize], 0, "round {round}");
    }
    drop(device);
    mount.stop();
}
