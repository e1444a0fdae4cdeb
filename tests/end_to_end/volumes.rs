//! Real file systems, disk images and the tools that know them.

use crate::model::{Dice, assert_equal};
use crate::support::loop_device::{LoopDevice, Mounted};
use crate::support::mount::{Mount, size};
use crate::support::tools::{output, run, shell, text, word};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// A striped device `d` of 64 MiB over two files.
fn striped() -> Mount {
    let mount = Mount::start();
    let (a, b) = (mount.backing("a", 32 * MIB), mount.backing("b", 32 * MIB));
    mount.create(
        "d",
        &format!(
            "0 131072 striped 2 128 {} 0 {} 0\n",
            a.display(),
            b.display()
        ),
    );
    mount
}

/// Our own sources, which every checkout has.
fn source_tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn fsck(device: &Path) {
    let said = output("e2fsck", &["-f", "-n", word(device)]);
    assert!(
        said.status.success(),
        "{}{}",
        text(&said.stdout),
        text(&said.stderr)
    );
}

#[test]
fn mkfs_works_on_the_file_itself() {
    let mount = striped();
    let device = mount.device("d");
    run("mkfs.ext4", &["-q", "-F", word(&device)]);
    fsck(&device);
    let list = run("debugfs", &["-R", "ls -l /", word(&device)]);
    assert!(list.contains("lost+found"), "{list}");
    mount.stop();
}

#[test]
fn a_file_system_on_a_loop_device_keeps_a_source_tree() {
    let mount = striped();
    let device = mount.device("d");
    run("mkfs.ext4", &["-q", "-F", word(&device)]);
    let at = mount.folder().join("fs");
    fs::create_dir(&at).unwrap();
    for round in 0..2 {
        let attached = LoopDevice::attach(&device, &["--direct-io=on"]);
        let mounted = Mounted::new(attached.path(), &at, "discard");
        if round == 0 {
            run("cp", &["-a", word(&source_tree()), word(&at)]);
            run("fstrim", &[word(&at)]);
        } else {
            run("diff", &["-r", word(&source_tree()), word(&at.join("src"))]);
        }
        mounted.unmount();
        run("e2fsck", &["-f", "-n", attached.word()]);
        drop(attached);
    }
    fsck(&device);
    mount.stop();
}

#[test]
fn trimming_through_the_loop_punches_holes_below() {
    let mount = striped();
    let below = mount.folder().join("a");
    {
        let attached = LoopDevice::attach(&mount.device("d"), &["--direct-io=on"]);
        run(
            "dd",
            &[
                "if=/dev/urandom",
                &format!("of={}", attached.word()),
                "bs=1M",
                "count=64",
                "oflag=direct",
                "status=none",
            ],
        );
        let full = allocated(&below);
        run("blkdiscard", &[attached.word()]);
        let after = allocated(&below);
        assert!(after + MIB < full, "{full} bytes before, {after} after");
    }
    assert!(fs::read(&below).unwrap().iter().all(|&byte| byte == 0));
    mount.stop();
}

fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().blocks() * 512
}

/// Cuts `image` into pieces at odd sectors, each into a file at an offset of its own, and gives the
/// table that joins them again.
fn cut(mount: &Mount, image: &Path) -> String {
    let whole = fs::read(image).unwrap();
    assert_eq!(whole.len() % 512, 0);
    let mut dice = Dice::new(whole.len() as u64);
    let mut table = String::new();
    let mut at = 0;
    let sectors = whole.len() as u64 / 512;
    // Six pieces over three files; the files' other bytes are noise.
    let files: Vec<File> = (0..3)
        .map(|index| {
            let path = mount.backing(&format!("piece{index}"), 0);
            let mut file = File::options().write(true).open(path).unwrap();
            file.write_all(&dice.bytes(4096)).unwrap();
            file
        })
        .collect();
    let mut ends = [8_u64; 3];
    for piece in 0..6 {
        let left = sectors - at;
        let len = match piece {
            5 => left,
            _ => (sectors / 6 + dice.below(99)).min(left),
        };
        let index = (piece * 2 + piece / 3) % 3;
        let place = ends[index] + dice.below(7);
        let bytes = &whole[(at * 512) as usize..((at + len) * 512) as usize];
        files[index].write_all_at(bytes, place * 512).unwrap();
        ends[index] = place + len;
        let path = mount.folder().join(format!("piece{index}"));
        table += &format!("{at} {len} linear {} {place}\n", path.display());
        at += len;
    }
    assert_eq!(at, sectors);
    table
}

/// Joins `image` again as device `whole`, which must be the same to the byte.
fn join(mount: &Mount, image: &Path) -> PathBuf {
    let table = cut(mount, image);
    mount.create("whole", &table);
    let device = mount.device("whole");
    assert_eq!(size(&device), fs::metadata(image).unwrap().len());
    run("cmp", &[word(image), word(&device)]);
    device
}

#[test]
fn a_file_system_cut_into_pieces_is_joined_by_a_table() {
    let mount = Mount::start();
    let image = mount.backing("image", 24 * MIB);
    run(
        "mkfs.ext4",
        &["-q", "-F", "-d", word(&source_tree()), word(&image)],
    );
    let device = join(&mount, &image);
    fsck(&device);
    let at = mount.folder().join("fs");
    fs::create_dir(&at).unwrap();
    let attached = LoopDevice::attach(&device, &["--direct-io=on", "--read-only"]);
    let mounted = Mounted::new(attached.path(), &at, "ro");
    for entry in fs::read_dir(source_tree()).unwrap() {
        let entry = entry.unwrap();
        let copy = at.join(entry.file_name());
        run("diff", &["-r", word(&entry.path()), word(&copy)]);
    }
    mounted.unmount();
    drop(attached);
    mount.stop();
}

#[test]
fn a_disk_with_partitions_cut_into_pieces_is_joined_by_a_table() {
    let mount = Mount::start();
    let image = mount.backing("image", 32 * MIB);
    run(
        "sgdisk",
        &[
            "--new=1:2048:20479",
            "--new=2:20480:40959",
            "--new=3:0:0",
            "--change-name=2:second",
            word(&image),
        ],
    );
    let mut file = File::options().write(true).open(&image).unwrap();
    for partition in [2048, 20_480, 40_960_u64] {
        file.seek(SeekFrom::Start(partition * 512)).unwrap();
        file.write_all(&Dice::new(partition).bytes(100_000))
            .unwrap();
    }
    drop(file);
    let device = join(&mount, &image);
    let (ours, model) = (
        run("sfdisk", &["--dump", word(&device)]),
        run("sfdisk", &["--dump", word(&image)]),
    );
    let plain = |text: &str, path: &Path| text.replace(word(path), "DISK");
    assert_eq!(plain(&ours, &device), plain(&model, &image));
    assert_eq!(ours.matches("start=").count(), 3, "{ours}");
    let verified = run("sgdisk", &["--verify", word(&device)]);
    assert!(verified.contains("No problems found"), "{verified}");

    // A partition is a linear device over the joined one.
    mount.create(
        "second",
        &format!("0 20480 linear {} 20480\n", device.display()),
    );
    let bytes = fs::read(&image).unwrap();
    assert_equal(
        &fs::read(mount.device("second")).unwrap(),
        &bytes[20_480 * 512..40_960 * 512],
        "the second partition",
    );
    mount.stop();
}

#[test]
fn partition_tools_write_to_the_file() {
    let mount = striped();
    let device = mount.device("d");
    run(
        "sgdisk",
        &["--new=1:2048:+8M", "--new=2:0:0", word(&device)],
    );
    let listed = run("sfdisk", &["--dump", word(&device)]);
    assert_eq!(listed.matches("start=").count(), 2, "{listed}");
    mount.stop();
}

#[test]
fn qemu_reads_and_writes_the_file() {
    let mount = striped();
    let device = mount.device("d");
    let info = run(
        "qemu-img",
        &["info", "-f", "raw", "--output=json", word(&device)],
    );
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"], 64 * MIB);
    let commands = [
        "write -P 0x11 0 1M",
        "write -P 0x22 1048577 12345",
        "write -z 65536 65536",
        "discard 524288 65536",
        "flush",
        "read -P 0x11 0 65536",
        "read -P 0 65536 65536",
        "read -P 0x11 131072 393216",
        "read -P 0 524288 65536",
        "read -P 0x22 1048577 12345",
    ];
    for cache in ["none", "writeback"] {
        let mut args = vec!["-f", "raw", "-t", cache];
        args.extend(commands.iter().flat_map(|command| ["-c", *command]));
        args.push(word(&device));
        let said = run("qemu-io", &args);
        assert!(!said.contains("fail"), "{said}");
        let holes = run(
            "qemu-img",
            &["map", "-f", "raw", "--output=json", word(&device)],
        );
        assert!(holes.contains("\"data\": false"), "{holes}");
    }
    let (packed, back) = (mount.folder().join("q"), mount.folder().join("r"));
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            word(&device),
            word(&packed),
        ],
    );
    run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            word(&device),
            word(&packed),
        ],
    );
    run(
        "qemu-img",
        &["convert", "-O", "raw", word(&packed), word(&back)],
    );
    run("cmp", &[word(&device), word(&back)]);
    // And onto the device: -n, because it is there already.
    run(
        "dd",
        &[
            "if=/dev/zero",
            &format!("of={}", device.display()),
            "bs=1M",
            "count=64",
            "status=none",
            "conv=notrunc",
        ],
    );
    run(
        "qemu-img",
        &[
            "convert",
            "-n",
            "-f",
            "qcow2",
            "-O",
            "raw",
            word(&packed),
            word(&device),
        ],
    );
    run("cmp", &[word(&device), word(&back)]);
    mount.stop();
}

#[test]
fn a_loop_device_has_the_size_and_grows_with_the_file() {
    let mount = striped();
    let attached = LoopDevice::attach(&mount.device("d"), &["--direct-io=on"]);
    let sectors = || run("blockdev", &["--getsz", attached.word()]);
    assert_eq!(sectors().trim(), "131072");
    let c = mount.backing("c", MIB);
    let table = mount.dmfs(&["table", "d"]).must();
    let grown = format!("{table}131072 2048 linear {} 0\n", c.display());
    mount.dmfs_fed(&["load", "d"], &grown).must();
    mount.dmfs(&["resume", "d"]).must();
    run("losetup", &["--set-capacity", attached.word()]);
    assert_eq!(sectors().trim(), "133120");
    let dio = shell(&format!("losetup --noheadings -O DIO {}", attached.word()));
    assert_eq!(dio.trim(), "1");
    drop(attached);
    mount.stop();
}
