//! LUKS2 volumes that are reencrypted, as they are opened meanwhile and as cryptsetup sees them.

use crate::support::mount::{Mount, Said};
use crate::support::pattern::sectors;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

const MIB: u64 = 1 << 20;
/// A key derivation that costs nothing.
const CHEAP: &str = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000";

fn dmfs(mount: &Mount, line: &str) -> Said {
    mount.shell(&format!("dmfs {line}"))
}

/// A mount with a volume of 4 MiB of data in the file `volume`, and its data.
fn volume() -> (Mount, Vec<u8>) {
    let mount = Mount::start();
    fs::write(mount.folder().join("pass"), "a passphrase").unwrap();
    mount.backing("volume", 20 * MIB);
    dmfs(
        &mount,
        &format!("luks format -q {CHEAP} --sector-size 512 volume pass"),
    )
    .must();
    let data = sectors(5, 8192);
    dmfs(&mount, "luks open volume v --key-file pass").must();
    mount.open("v").write_all_at(&data, 0).unwrap();
    dmfs(&mount, "luks close v").must();
    (mount, data)
}

/// Opens the volume that `words` name, and looks whether its data are there.
fn assert_holds(mount: &Mount, words: &str, data: &[u8]) {
    dmfs(mount, &format!("luks open {words} v --key-file pass")).must();
    let mut read = vec![0; data.len()];
    mount.open("v").read_exact_at(&mut read, 0).unwrap();
    assert!(read == data);
    dmfs(mount, "luks close v").must();
}

/// How often the header was written.
fn sequence(image: &Path) -> u64 {
    let mut number = [0; 8];
    let file = fs::File::open(image).unwrap();
    file.read_exact_at(&mut number, 16).unwrap();
    u64::from_be_bytes(number)
}

fn cryptsetup_opens(mount: &Mount, words: &str) {
    let line = format!("cryptsetup open --test-passphrase --key-file pass {words}");
    mount.shell(&line).must();
}

#[test]
fn a_killed_reencryption_is_opened_and_ended() {
    for resilience in ["checksum", "journal"] {
        let (mount, data) = volume();
        let image = mount.folder().join("volume");
        let line = format!(
            "luks reencrypt --init-only {CHEAP} --resilience {resilience} --cipher serpent-xts-plain64 --key-size 512 \
             --sector-size 4096 --force-offline-reencrypt volume --key-file pass"
        );
        dmfs(&mount, &line).must();
        cryptsetup_opens(&mount, "volume");
        for _ in 0..3 {
            let words = "luks reencrypt --hotzone-size 32k --key-file pass";
            let before = sequence(&image);
            let mut child = mount.program("dmfs");
            child
                .args(words.split(' '))
                .arg(&image)
                .stderr(Stdio::null());
            let mut child = child.spawn().unwrap();
            // Wherever it is, once it has done something.
            while sequence(&image) < before + 9 && child.try_wait().unwrap().is_none() {}
            child.kill().unwrap();
            child.wait().unwrap();
            assert_holds(&mount, "volume", &data);
        }
        dmfs(
            &mount,
            "luks reencrypt --resume-only volume --key-file pass",
        )
        .must();
        assert_holds(&mount, "volume", &data);
        cryptsetup_opens(&mount, "volume");
        let dump = mount.shell("cryptsetup luksDump volume").must();
        assert!(!dump.contains("reencrypt"), "{dump}");
        for line in [
            "cipher: serpent-xts-plain64",
            "sector: 4096 [bytes]",
            "  1: luks2",
        ] {
            assert!(dump.contains(line), "{line}: {dump}");
        }
        mount.stop();
    }
}

#[test]
fn data_are_decrypted_and_encrypted_in_their_place() {
    let (mount, data) = volume();
    fs::write(mount.folder().join("plain"), &data).unwrap();
    let encrypt = format!("luks reencrypt --encrypt {CHEAP} --header head plain --key-file pass");
    dmfs(&mount, &encrypt).must();
    cryptsetup_opens(&mount, "head");
    let bytes = || fs::read(mount.folder().join("plain")).unwrap();
    assert!(
        bytes()
            .iter()
            .zip(&data)
            .filter(|(one, other)| one == other)
            .count()
            < data.len() / 100
    );
    assert_holds(&mount, "--header head plain", &data);
    dmfs(
        &mount,
        "luks reencrypt --decrypt --init-only --header head plain --key-file pass",
    )
    .must();
    assert_holds(&mount, "--header head plain", &data);
    dmfs(&mount, "luks reencrypt --header head plain --key-file pass").must();
    assert!(bytes()[..data.len()] == data);
    mount.stop();
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    let (mount, _) = volume();
    mount.backing("blank", MIB);
    dmfs(&mount, "luks open volume v --key-file pass").must();
    let refused = dmfs(&mount, "luks reencrypt volume --key-file pass");
    assert_eq!(refused.status.code(), Some(5), "{}", refused.err);
    assert!(refused.err.contains("is in use"), "{}", refused.err);
    dmfs(&mount, "luks close v").must();
    let before = fs::read(mount.folder().join("volume")).unwrap();
    for (options, code, said) in [
        (
            "--resume-only volume",
            1,
            "Device volume is not in LUKS2 reencryption.",
        ),
        (
            "--init-only --resume-only volume",
            1,
            "Options --init-only and --resume-only are mutually exclusive.",
        ),
        (
            "--encrypt --decrypt volume",
            1,
            "Options --encrypt and --decrypt are mutually exclusive.",
        ),
        ("--encrypt volume", 1, "Device volume is already encrypted."),
        (
            "--encrypt blank",
            1,
            "Encryption needs a detached header (--header)",
        ),
        (
            "--decrypt volume",
            1,
            "Decryption needs a detached header (--header)",
        ),
        (
            "--resilience datashift volume",
            1,
            "Resilience datashift is not supported: expected checksum, journal or none.",
        ),
        (
            "--resilience-hash md4 volume",
            1,
            "Requested hash md4 is not supported.",
        ),
        (
            "--cipher rot13-xts-plain64 volume",
            1,
            "Cipher rot13-xts-plain64",
        ),
        (
            "--sector-size 100 volume",
            1,
            "Unsupported encryption sector size",
        ),
        (
            "--sector-size 4096 volume",
            1,
            "Encryption sector size increase on offline device is not supported",
        ),
        ("--key-slot 3 volume", 1, "Keyslot 3 is not active."),
        ("blank", 1, "Device blank is not a valid LUKS2 device."),
        (
            "nowhere",
            4,
            "Device nowhere does not exist or access denied.",
        ),
    ] {
        let found = dmfs(
            &mount,
            &format!("luks reencrypt {CHEAP} --key-file pass {options}"),
        );
        assert_eq!(
            found.status.code(),
            Some(code),
            "{options}: {}{}",
            found.out,
            found.err
        );
        assert!(
            found.err.starts_with(said) && found.err.lines().count() == 1,
            "{options}: {}",
            found.err
        );
    }
    assert!(fs::read(mount.folder().join("volume")).unwrap() == before);
    mount.stop();
}
