//! Encrypted volumes, made and opened both ways with cryptsetup and qemu.

use crate::support::mount::{Mount, Said};
use crate::support::pattern::{sectors, sha256};
use crate::support::tools::{output, run, text, word};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// A key derivation that costs nothing.
const CHEAP: &str = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000";
const CHEAP_ARGON2: &str = "--pbkdf argon2id --pbkdf-memory 64 --pbkdf-force-iterations 4";

/// A mount, with key files `one` and `two` in its folder.
fn mount() -> Mount {
    let mount = Mount::start();
    fs::write(mount.folder().join("one"), "first passphrase").unwrap();
    fs::write(mount.folder().join("two"), "second\npassphrase\n").unwrap();
    mount
}

/// `dmfs LINE` in the mount's folder.
fn dmfs(mount: &Mount, line: &str) -> Said {
    mount.shell(&format!("dmfs {line}"))
}

/// Exit code of `cryptsetup open --test-passphrase`.
fn cryptsetup_opens(volume: &Path, key_file: &Path) -> bool {
    let words = [
        "open",
        "--test-passphrase",
        word(volume),
        "--key-file",
        word(key_file),
    ];
    let said = output("cryptsetup", &words);
    match said.status.code() {
        Some(0) => true,
        Some(2) => false,
        other => panic!("{other:?}: {}", text(&said.stderr)),
    }
}

fn dmfs_opens(mount: &Mount, volume: &str, key_file: &str) -> bool {
    let said = dmfs(
        mount,
        &format!("luks open --test-passphrase {volume} --key-file {key_file}"),
    );
    match said.status.code() {
        Some(0) => true,
        Some(2) => {
            assert_eq!(said.err, "No key available with this passphrase.\n");
            false
        }
        other => panic!("{other:?}: {}", said.err),
    }
}

#[test]
fn volumes_go_both_ways_with_cryptsetup() {
    let mount = mount();
    let (one, two) = (mount.folder().join("one"), mount.folder().join("two"));
    for format in [
        "--type luks1 --pbkdf-force-iterations 1000",
        "--type luks1 --pbkdf-force-iterations 1000 --cipher aes-cbc-essiv:sha256 --hash sha512 --key-size 128",
        &format!("--type luks2 {CHEAP}"),
        &format!("--type luks2 {CHEAP_ARGON2}"),
        "--type luks2 --pbkdf argon2i --pbkdf-memory 128 --pbkdf-parallel 2 --pbkdf-force-iterations 5",
        &format!(
            "--type luks2 {CHEAP} --hash blake2b-512 --sector-size 512 --label a --luks2-metadata-size 64k"
        ),
    ] {
        let add = if format.contains("luks1") {
            "--pbkdf-force-iterations 1000"
        } else {
            CHEAP
        };
        for ours_first in [true, false] {
            let volume = mount.backing("volume", 20 * MIB);
            let at = mount.folder().display();
            let make = format!("-q {format} {at}/volume {at}/one");
            let more = format!("{add} --key-file {at}/one {at}/volume {at}/two");
            if ours_first {
                dmfs(&mount, &format!("luks format {make}")).must();
                mount.shell(&format!("cryptsetup luksAddKey {more}")).must();
            } else {
                mount.shell(&format!("cryptsetup luksFormat {make}")).must();
                dmfs(&mount, &format!("luks addKey {more}")).must();
            }
            for (key_file, file) in [("one", &one), ("two", &two)] {
                assert!(cryptsetup_opens(&volume, file), "{format}");
                assert!(dmfs_opens(&mount, "volume", key_file), "{format}");
            }
            let theirs = run("cryptsetup", &["luksDump", word(&volume)]);
            let ours = dmfs(&mount, &format!("luks dump {at}/volume")).must();
            assert_eq!(ours, theirs, "{format}");
            dmfs(&mount, "luks killSlot -q volume 0 --key-file two").must();
            assert!(!cryptsetup_opens(&volume, &one) && cryptsetup_opens(&volume, &two));
            assert!(!dmfs_opens(&mount, "volume", "one"));
        }
    }
    mount.stop();
}

#[test]
fn key_slots_are_managed_as_cryptsetup_expects() {
    let mount = mount();
    let volume = mount.backing("volume", 20 * MIB);
    let (one, two) = (mount.folder().join("one"), mount.folder().join("two"));
    dmfs(
        &mount,
        &format!("luks format -q {CHEAP} --sector-size 512 volume one"),
    )
    .must();
    dmfs(
        &mount,
        &format!("luks changeKey -q {CHEAP} volume --key-file one two"),
    )
    .must();
    assert!(!cryptsetup_opens(&volume, &one) && cryptsetup_opens(&volume, &two));
    dmfs(
        &mount,
        &format!("luks convertKey -q {CHEAP_ARGON2} volume --key-file two"),
    )
    .must();
    assert!(dmfs(&mount, "luks dump volume").must().contains("argon2id"));
    assert!(cryptsetup_opens(&volume, &two));
    dmfs(
        &mount,
        &format!("luks convertKey -q {CHEAP} volume --key-file two"),
    )
    .must();
    dmfs(&mount, "luks convert -q volume --type luks1").must();
    assert_eq!(
        mount
            .shell("cryptsetup luksDump volume | grep ^Version:")
            .must(),
        "Version:       \t1\n"
    );
    assert!(cryptsetup_opens(&volume, &two) && dmfs_opens(&mount, "volume", "two"));
    dmfs(&mount, "luks convert -q volume --type luks2").must();
    assert!(cryptsetup_opens(&volume, &two) && dmfs_opens(&mount, "volume", "two"));
    dmfs(&mount, "luks config volume --label name --subsystem sub").must();
    dmfs(&mount, "luks config volume --key-slot 0 --priority ignore").must();
    let dump = mount.shell("cryptsetup luksDump volume").must();
    for line in [
        "Label:         \tname",
        "Subsystem:     \tsub",
        "Priority:   ignored",
    ] {
        assert!(dump.contains(line), "{line}: {dump}");
    }
    assert!(
        !dmfs_opens(&mount, "volume", "two"),
        "an ignored slot is tried"
    );
    dmfs(
        &mount,
        "luks open --test-passphrase -S 0 volume --key-file two",
    )
    .must();
    fs::write(
        mount.folder().join("token"),
        r#"{"type":"mine","keyslots":["0"],"x":1}"#,
    )
    .unwrap();
    dmfs(
        &mount,
        "luks token import volume --json-file token --token-id 3",
    )
    .must();
    let token = mount
        .shell("cryptsetup token export volume --token-id 3")
        .must();
    assert!(
        token.contains(r#""type":"mine""#) && token.contains(r#""x":1"#),
        "{token}"
    );
    dmfs(&mount, "luks token remove volume --token-id 3").must();
    dmfs(
        &mount,
        "luks headerBackup volume --header-backup-file backup",
    )
    .must();
    dmfs(&mount, "luks erase -q volume").must();
    assert!(
        dmfs(&mount, "luks dump volume")
            .must()
            .contains("Keyslots:\nTokens:")
    );
    dmfs(
        &mount,
        "luks headerRestore -q volume --header-backup-file backup",
    )
    .must();
    mount
        .shell("cryptsetup open --test-passphrase -S 0 volume --key-file two")
        .must();
    mount.stop();
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    let mount = mount();
    mount.backing("blank", 20 * MIB);
    mount.backing("volume", 20 * MIB);
    let short = mount.backing("short", 20 * MIB);
    mount.backing("unknown", 20 * MIB);
    dmfs(&mount, &format!("luks format -q {CHEAP} volume one")).must();
    mount
        .shell("cp volume short; cp volume unknown; truncate -s 20K short")
        .must();
    dmfs(
        &mount,
        "luks format -q --type luks1 --pbkdf-force-iterations 1000 blank one",
    )
    .must();
    for slot in 1..8 {
        dmfs(
            &mount,
            &format!(
                "luks addKey -S {slot} --pbkdf-force-iterations 1000 --key-file one blank two"
            ),
        )
        .must();
    }
    mount
        .shell("cp blank full; truncate -s 0 blank; truncate -s 20M blank")
        .must();
    assert!(short.exists());
    for (line, code, said) in [
        (
            "luks open --test-passphrase volume --key-file two",
            2,
            "No key available with this passphrase.",
        ),
        (
            "luks open --test-passphrase blank --key-file one",
            1,
            "Device blank is not a valid LUKS device.",
        ),
        (
            "luks open --test-passphrase short --key-file one",
            4,
            "The device ends before its key material does.",
        ),
        (
            "luks open --test-passphrase nowhere --key-file one",
            4,
            "Device nowhere does not exist or access denied.",
        ),
        (
            "luks open --test-passphrase volume --key-file nowhere",
            1,
            "Failed to open key file nowhere",
        ),
        (
            "luks open --test-passphrase volume --key-file /",
            1,
            "Failed to read key file /: it is a folder.",
        ),
        (
            "luks open --test-passphrase -S 9 volume --key-file one",
            1,
            "No usable keyslot is available.",
        ),
        (
            "luks open volume",
            1,
            "Command requires device and mapped name as arguments.",
        ),
        (
            "luks open --label x volume v",
            1,
            "dmfs luks: Option --label is not allowed with open action.",
        ),
        (
            "luks open --nonsense volume v",
            1,
            "--nonsense: unknown option",
        ),
        (
            "luks openn volume v",
            1,
            "dmfs luks: unknown action 'openn'",
        ),
        (
            "luks dump",
            1,
            "dmfs luks: dump requires DEVICE as arguments",
        ),
        (
            "luks addKey full --key-file one two",
            1,
            "All key slots full.",
        ),
        (
            "luks addKey -S 0 volume --key-file one two",
            1,
            "Key slot 0 is full, please select another one.",
        ),
        (
            "luks killSlot volume 5 --key-file one",
            1,
            "Keyslot 5 is not active.",
        ),
        (
            "luks format -q --cipher rot13-xts-plain64 blank one",
            1,
            "Cipher rot13-xts-plain64",
        ),
        (
            "luks format -q --hash rot13 blank one",
            1,
            "Requested PBKDF hash rot13 is not supported.",
        ),
        (
            "luks format -q --integrity hmac-sha256 blank one",
            1,
            "Authenticated volumes",
        ),
        (
            "luks format -q --offset 64 --luks2-keyslots-size 128k blank one",
            1,
            "Requested data offset is too small",
        ),
        (
            "luks config volume --label 123456789012345678901234567890123456789012345678",
            1,
            "The header is damaged: label",
        ),
        ("luks status nothing", 4, ""),
        ("luks close nothing", 4, "Device nothing is not active."),
        (
            "plain open --size 99999999 --key-file one blank p",
            4,
            "Device is too small",
        ),
        (
            "plain open --hash md4 -q --cipher aes-xts-plain64 --key-size 512 blank p </dev/null",
            1,
            "Error reading passphrase",
        ),
        (
            "tcrypt open --test-passphrase --disable-veracrypt blank <one",
            2,
            "No device header detected with this passphrase.",
        ),
    ] {
        let found = dmfs(&mount, line);
        assert_eq!(
            found.status.code(),
            Some(code),
            "{line}: {}{}",
            found.out,
            found.err
        );
        let mut lines = found
            .err
            .lines()
            .filter(|line| !line.starts_with("WARNING: "));
        let first = lines.next().unwrap_or_default();
        assert!(first.starts_with(said), "{line}: {}", found.err);
        assert_eq!(lines.next(), None, "{line}: {}", found.err);
    }
    mount.stop();
}

/// A volume called `volume`, formatted with `options`, open as `v`.
fn open_volume(mount: &Mount, options: &str) -> PathBuf {
    let volume = mount.backing("volume", 20 * MIB);
    dmfs(mount, &format!("luks format -q {options} volume one")).must();
    dmfs(mount, "luks open volume v --key-file one").must();
    volume
}

#[test]
fn an_open_volume_is_a_device() {
    let mount = mount();
    open_volume(&mount, CHEAP);
    let data = sectors(7000, 2000);
    mount.open("v").write_all_at(&data, 4096).unwrap();
    let status = dmfs(&mount, "luks status v").must();
    for line in [
        "is active.",
        "type:    LUKS2",
        "cipher:  aes-xts-plain64",
        "keysize: 512 bits",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let again = dmfs(&mount, "luks open volume v --key-file one");
    assert_eq!(
        (again.status.code(), again.err.as_str()),
        (Some(5), "Device v already exists.\n")
    );
    // Nothing tells the key but whoever is asked for it.
    dmfs(
        &mount,
        "luks dump -q --dump-volume-key --volume-key-file key volume --key-file one",
    )
    .must();
    let key = fs::read(mount.folder().join("key")).unwrap();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    for said in [
        dmfs(&mount, "table v"),
        dmfs(&mount, "status v"),
        dmfs(&mount, "luks status v"),
    ] {
        assert!(!said.must().contains(&hex));
    }
    assert!(dmfs(&mount, "table --showkeys v").must().contains(&hex));
    assert!(!mount.log().contains(&hex));
    // Key slots change under an open volume.
    dmfs(
        &mount,
        &format!("luks addKey {CHEAP} volume --key-file one two"),
    )
    .must();
    dmfs(&mount, "luks resize v --size 4096").must();
    assert_eq!(crate::support::mount::size(&mount.device("v")), 4096 * 512);
    dmfs(&mount, "luks resize v").must();
    assert_eq!(crate::support::mount::size(&mount.device("v")), 4 * MIB);
    dmfs(&mount, "luks suspend v").must();
    dmfs(&mount, "luks resume v --key-file two").must();
    let mut read = vec![0; data.len()];
    mount.open("v").read_exact_at(&mut read, 4096).unwrap();
    assert_eq!(sha256(&read), sha256(&data));
    dmfs(&mount, "luks close v").must();
    dmfs(&mount, "luks open -r volume v --key-file two").must();
    mount
        .open_reading("v")
        .read_exact_at(&mut read, 4096)
        .unwrap();
    assert_eq!(sha256(&read), sha256(&data));
    dmfs(&mount, "luks close v").must();
    let raw = fs::read(mount.folder().join("volume")).unwrap();
    let plain = &data[..64];
    assert!(
        !raw.windows(64).any(|part| part == plain),
        "plain text on the disk"
    );
    mount.stop();
}

#[test]
fn qemu_reads_what_we_write_and_we_what_it_writes() {
    let mount = mount();
    let at = mount.folder().display();
    let secret = format!("--object secret,id=s,file={at}/one");
    let image = format!("--image-opts driver=luks,key-secret=s,file.filename={at}/volume");
    // Theirs: LUKS1, with a pattern inside.
    mount
        .shell(&format!(
            "qemu-img create -q -f luks {secret} -o key-secret=s,iter-time=10 volume 4M && \
         qemu-io {secret} {image} -c 'write -P 0x5a 64k 64k'"
        ))
        .must();
    dmfs(&mount, "luks open volume v --key-file one").must();
    let mut read = vec![0; 65536];
    mount.open("v").read_exact_at(&mut read, 65536).unwrap();
    assert!(read.iter().all(|byte| *byte == 0x5a));
    mount.open("v").write_all_at(&[0xa5; 65536], 0).unwrap();
    mount.open("v").sync_all().unwrap();
    dmfs(&mount, "luks close v").must();
    let said = mount.shell(&format!(
        "qemu-io {secret} {image} -c 'read -P 0xa5 0 64k' -c 'read -P 0x5a 64k 64k'"
    ));
    assert!(!said.must().contains("Pattern verification failed"));
    // Ours.
    open_volume(&mount, "--type luks1 --pbkdf-force-iterations 1000");
    mount.open("v").write_all_at(&[0x77; 65536], MIB).unwrap();
    mount.open("v").sync_all().unwrap();
    dmfs(&mount, "luks close v").must();
    let said = mount.shell(&format!(
        "qemu-io {secret} {image} -c 'read -P 0x77 1M 64k'"
    ));
    assert!(!said.must().contains("Pattern verification failed"));
    mount.stop();
}

#[test]
fn detached_headers_and_volume_key_files_open() {
    let mount = mount();
    mount.backing("data", 4 * MIB);
    fs::write(mount.folder().join("vk"), [9; 64]).unwrap();
    let options = format!("{CHEAP} --header header --volume-key-file vk --sector-size 4096");
    dmfs(&mount, &format!("luks format -q {options} data one")).must();
    assert!(cryptsetup_opens(
        &mount.folder().join("header"),
        &mount.folder().join("one")
    ));
    dmfs(
        &mount,
        "luks open --header header data v --volume-key-file vk",
    )
    .must();
    assert_eq!(crate::support::mount::size(&mount.device("v")), 4 * MIB);
    dmfs(&mount, "luks close v").must();
    fs::write(mount.folder().join("vk"), [8; 64]).unwrap();
    let wrong = dmfs(
        &mount,
        "luks open --header header data v --volume-key-file vk",
    );
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.err);
    mount.stop();
}

#[test]
fn a_volume_lies_on_a_device_of_the_mount() {
    let mount = mount();
    let disk = mount.backing("disk", 32 * MIB);
    mount.create("below", &format!("0 65536 linear {} 0\n", disk.display()));
    dmfs(
        &mount,
        &format!("luks format -q {CHEAP} /dev/mapper/below one"),
    )
    .must();
    dmfs(&mount, "luks open /dev/mapper/below v --key-file one").must();
    let data = sectors(1, 8);
    mount.open("v").write_all_at(&data, 0).unwrap();
    dmfs(&mount, "luks close v").must();
    mount.stop();
}

#[test]
fn a_mount_file_opens_volumes() {
    let toml = "[[file]]\npath = \"v.img\"\nsize = \"20M\"\n\n\
        [[luks]]\nname = \"v\"\ndevice = \"v.img\"\nformat = true\nkey-file = \"/proc/sys/kernel/ostype\"\n\n\
        [[device]]\nname = \"part\"\ntable = \"0 8 linear /dev/mapper/v 0\"\n";
    let mut mount = Mount::from_toml(toml);
    let data = sectors(3, 8);
    mount.open("part").write_all_at(&data, 0).unwrap();
    mount.open("part").sync_all().unwrap();
    mount.signal(rustix::process::Signal::TERM);
    assert!(mount.wait().success());
    let volume = mount.folder().join("v.img");
    assert!(cryptsetup_opens(
        &volume,
        Path::new("/proc/sys/kernel/ostype")
    ));
    let file = mount.folder().join("mount.toml");
    let words = ["mount", word(&file), word(mount.at())].map(str::to_owned);
    mount.run_daemon(&words);
    let mut read = vec![0; 4096];
    mount.open("part").read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, data);
    let file = File::open(volume).unwrap();
    assert!(file.metadata().unwrap().len() == 20 * MIB);
    mount.stop();
}

#[test]
fn plain_volumes_need_their_words_again() {
    let mount = mount();
    mount.backing("disk", MIB);
    fs::write(mount.folder().join("key"), [5; 64]).unwrap();
    let words = "--cipher aes-xts-plain64 --key-size 512 --key-file key";
    dmfs(
        &mount,
        &format!("plain open {words} --offset 8 --skip 3 --size 100 disk p"),
    )
    .must();
    let data = sectors(11, 100);
    mount.open("p").write_all_at(&data, 0).unwrap();
    assert_eq!(crate::support::mount::size(&mount.device("p")), 51200);
    let status = dmfs(&mount, "plain status p").must();
    assert!(
        status.contains("type:    PLAIN") && status.contains("skipped: 3 sectors"),
        "{status}"
    );
    dmfs(&mount, "plain close p").must();
    dmfs(
        &mount,
        &format!("plain open {words} --offset 8 --skip 4 disk p"),
    )
    .must();
    let mut read = vec![0; 512];
    mount.open("p").read_exact_at(&mut read, 0).unwrap();
    assert_ne!(read, data[..512]);
    dmfs(&mount, "plain close p").must();
    mount.stop();
}
