//! Volumes of TrueCrypt and VeraCrypt. Their headers are made here: no other program makes them without a kernel.

use crate::support::mount::{Mount, Said, size};
use crate::support::pattern::sectors;
use dmfs::crypto::KeyDerivation;
use dmfs::encrypted::tcrypt::encipher;
use dmfs::format::tcrypt::{
    CHAINS, Chain, Family, HEADER_KEY_BYTES, Header, Keys, Mode, SALT_BYTES,
};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the data of a volume begins, and how much of it there is.
const DATA_AT: u64 = 128 << 10;
const DATA_BYTES: u64 = 1 << 20;
const DEVICE_BYTES: u64 = DATA_BYTES + 2 * DATA_AT;

/// `dmfs LINE`; what follows `<<<` is the passphrase.
fn dmfs(mount: &Mount, line: &str) -> Said {
    match line.split_once(" <<<") {
        Some((line, passphrase)) => mount.shell(&format!("echo {passphrase} | dmfs {line}")),
        None => mount.shell(&format!("dmfs {line}")),
    }
}

fn chain(mode: Mode, name: &str) -> &'static Chain {
    let found = CHAINS
        .iter()
        .find(|chain| chain.mode == mode && chain.name() == name);
    found.unwrap()
}

/// A header for the data in the middle of the device, or for a hidden volume in its second half.
fn header(family: Family, hidden: bool) -> Header {
    let mut keys = [0; 256];
    (0_u8..=255)
        .zip(&mut keys)
        .for_each(|(n, key)| *key = n.wrapping_mul(3) ^ u8::from(hidden));
    let (data_at, data_bytes) = match hidden {
        true => (DATA_AT + DATA_BYTES / 2, DATA_BYTES / 4),
        false => (DATA_AT, DATA_BYTES),
    };
    Header {
        family,
        version: 5,
        needs: 0x0700,
        hidden_bytes: if hidden { data_bytes } else { 0 },
        volume_bytes: DATA_BYTES,
        data_at,
        data_bytes,
        flags: 0,
        sector_bytes: 512,
        keys: Keys(keys.into()),
    }
}

/// Puts a header under `passphrase` at byte `at` of `image`.
fn put(image: &Path, at: u64, header: &Header, chain: &Chain, iterations: u32, passphrase: &str) {
    let salt = [at as u8 ^ 0x77; SALT_BYTES];
    let mut key = [0; HEADER_KEY_BYTES];
    let derivation = KeyDerivation::Pbkdf2 {
        hash: "sha512".into(),
        iterations,
    };
    derivation
        .derive(passphrase.as_bytes(), &salt, &mut key)
        .unwrap();
    let body = encipher(chain, &key, &header.write()).unwrap();
    let file = fs::File::options().write(true).open(image).unwrap();
    file.write_all_at(&[&salt[..], &body[..]].concat(), at)
        .unwrap();
}

/// A mount, and an image with a normal and a hidden volume of TrueCrypt, and a backup of the first one's header.
fn mount() -> Mount {
    let mount = Mount::start();
    let image = mount.backing("image", DEVICE_BYTES);
    let cascade = chain(Mode::Xts, "aes-twofish-serpent");
    let normal = header(Family::TrueCrypt, false);
    put(&image, 0, &normal, cascade, 1000, "outer");
    put(
        &image,
        DEVICE_BYTES - (128 << 10),
        &normal,
        cascade,
        1000,
        "backup",
    );
    put(
        &image,
        64 << 10,
        &header(Family::TrueCrypt, true),
        chain(Mode::Xts, "aes"),
        1000,
        "inner",
    );
    mount
}

/// Looks for no more than what the test has made.
const QUICK: &str = "-h sha512 --disable-veracrypt";

#[test]
fn a_cascade_is_a_device_on_each_other() {
    let mount = mount();
    dmfs(&mount, &format!("tcrypt open {QUICK} image v <<<outer")).must();
    for name in ["v", "v_1", "v_2"] {
        assert_eq!(size(&mount.device(name)), DATA_BYTES, "{name}");
    }
    let tables: Vec<String> = ["v", "v_1", "v_2"]
        .map(|name| dmfs(&mount, &format!("table {name}")).must())
        .into();
    for (table, cipher) in tables.iter().zip(["aes", "twofish", "serpent"]) {
        assert!(
            table.starts_with(&format!("0 2048 crypt {cipher}-xts-plain64 ")),
            "{table}"
        );
        assert!(table.contains(&"0".repeat(128)), "a key is shown: {table}");
    }
    assert!(
        tables[2].trim_end().ends_with("/image 256"),
        "{}",
        tables[2]
    );
    let data = sectors(9, 512);
    mount.open("v").write_all_at(&data, 65536).unwrap();
    mount.open("v").sync_all().unwrap();
    let again = dmfs(&mount, &format!("tcrypt open {QUICK} image v <<<outer"));
    assert_eq!(
        (again.status.code(), again.err.as_str()),
        (Some(5), "Device v already exists.\n")
    );
    dmfs(&mount, "tcrypt close v").must();
    assert_eq!(dmfs(&mount, "ls").must(), "No devices found\n");
    // What is on the disk is ciphertext, which the backup of the header opens, too.
    let image = fs::read(mount.folder().join("image")).unwrap();
    assert!(!image.windows(512).any(|sector| sector == &data[..512]));
    dmfs(
        &mount,
        &format!("tcrypt open -r --tcrypt-backup {QUICK} image v <<<backup"),
    )
    .must();
    let mut read = vec![0; data.len()];
    fs::File::open(mount.device("v"))
        .unwrap()
        .read_exact_at(&mut read, 65536)
        .unwrap();
    assert!(read == data);
    dmfs(&mount, "tcrypt close v").must();
    mount.stop();
}

#[test]
fn a_hidden_volume_has_its_own_passphrase() {
    let mount = mount();
    dmfs(
        &mount,
        &format!("tcrypt open --tcrypt-hidden {QUICK} image h <<<inner"),
    )
    .must();
    assert_eq!(size(&mount.device("h")), DATA_BYTES / 4);
    let table = dmfs(&mount, "table h").must();
    // Sectors count from the start of the device, as those of the outer volume.
    assert!(
        table.contains(" 1280 ") && table.trim_end().ends_with("/image 1280"),
        "{table}"
    );
    dmfs(&mount, "tcrypt close h").must();
    let dump = dmfs(
        &mount,
        &format!("tcrypt dump --tcrypt-hidden {QUICK} image <<<inner"),
    )
    .must();
    assert_eq!(
        dump,
        "TCRYPT header information for image\n\
         Version:       \t5\n\
         Driver req.:\t7.0\n\
         Sector size:\t512\n\
         MK offset:\t655360\n\
         PBKDF2 hash:\tsha512\n\
         Cipher chain:\taes\n\
         Cipher mode:\txts-plain64\n\
         MK bits:       \t512\n"
    );
    mount.stop();
}

#[test]
fn old_modes_and_multipliers_are_known() {
    let mount = Mount::start();
    for (mode, name, tables) in [
        (
            Mode::Lrw,
            "twofish-aes",
            &["twofish-lrw-benbi", "aes-lrw-benbi"][..],
        ),
        (Mode::Cbc, "serpent", &["serpent-cbc-tcw"]),
    ] {
        let image = mount.backing("old", DEVICE_BYTES);
        let header = header(Family::TrueCrypt, false);
        put(&image, 0, &header, chain(mode, name), 1000, "old");
        dmfs(&mount, &format!("tcrypt open {QUICK} old v <<<old")).must();
        for (device, cipher) in ["v", "v_1"].iter().zip(tables) {
            let table = dmfs(&mount, &format!("table {device}")).must();
            assert!(table.contains(cipher), "{table}");
        }
        let data = sectors(3, 64);
        mount.open("v").write_all_at(&data, 0).unwrap();
        let mut read = vec![0; data.len()];
        mount.open("v").read_exact_at(&mut read, 0).unwrap();
        assert!(read == data);
        dmfs(&mount, "tcrypt close v").must();
    }
    let image = mount.backing("outer", DEVICE_BYTES);
    put(
        &image,
        0,
        &header(Family::TrueCrypt, false),
        chain(Mode::OuterCbc, "serpent-twofish"),
        1000,
        "old",
    );
    let refused = dmfs(&mount, &format!("tcrypt open {QUICK} outer v <<<old"));
    assert_eq!(
        (refused.status.code(), refused.err.as_str()),
        (
            Some(1),
            "Kernel does not support activation for this TCRYPT legacy mode.\n"
        )
    );
    let image = mount.backing("vera", DEVICE_BYTES);
    put(
        &image,
        0,
        &header(Family::VeraCrypt, false),
        chain(Mode::Xts, "camellia"),
        16_000,
        "vera",
    );
    let dump = dmfs(
        &mount,
        "tcrypt dump -h sha512 --veracrypt-pim 1 vera <<<vera",
    )
    .must();
    assert!(
        dump.starts_with("VERACRYPT header") && dump.contains("camellia"),
        "{dump}"
    );
    mount.stop();
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    let mount = mount();
    mount.shell("cp image damaged; printf x | dd of=damaged bs=1 seek=300 conv=notrunc status=none; head -c 70000 image >short").must();
    let test = format!("tcrypt open --test-passphrase {QUICK}");
    for (line, code, said) in [
        (
            format!("{test} image <<<other"),
            2,
            "No device header detected with this passphrase.",
        ),
        (
            format!("{test} --tcrypt-hidden image <<<outer"),
            2,
            "No device header detected with this passphrase.",
        ),
        (
            format!("{test} damaged <<<outer"),
            1,
            "The header is damaged: key CRC-32: the checksum is wrong.",
        ),
        (
            format!("{test} nowhere <<<outer"),
            4,
            "Device nowhere does not exist or access denied.",
        ),
        (
            format!("{test} -d nowhere image <<<outer"),
            1,
            "Failed to open key file nowhere",
        ),
        (
            format!("{test} image <<<{}", "x".repeat(65)),
            2,
            "Maximum TCRYPT passphrase length (64) exceeded.",
        ),
        (
            format!("tcrypt open {QUICK} short v <<<outer"),
            4,
            "The header tells of 2048 sectors from sector 256 on",
        ),
        (
            format!("tcrypt open {QUICK} image <<<outer"),
            1,
            "Command requires device and mapped name as arguments.",
        ),
        (
            "tcrypt open --tcrypt-hidden --allow-discards image v <<<inner".into(),
            1,
            "Option --tcrypt-hidden cannot be combined with --allow-discards.",
        ),
        (
            "tcrypt dump --disable-veracrypt --veracrypt-pim 1 image <<<outer".into(),
            1,
            "Option --veracrypt-pim is supported only for VeraCrypt compatible devices.",
        ),
        (
            "tcrypt dump --veracrypt-pim 4294967295 image <<<outer".into(),
            1,
            "Invalid PIM value: outside of range.",
        ),
        (
            "tcrypt dump --key-size 1 image <<<outer".into(),
            1,
            "dmfs tcrypt: Option --key-size is not allowed with dump action.",
        ),
        (
            "luks open -d image -d image image v".into(),
            1,
            "Only one --key-file argument is allowed.",
        ),
    ] {
        let found = dmfs(&mount, &line);
        assert_eq!(
            found.status.code(),
            Some(code),
            "{line}: {}{}",
            found.out,
            found.err
        );
        assert!(
            found.err.starts_with(said) && found.err.lines().count() == 1,
            "{line}: {}",
            found.err
        );
    }
    assert_eq!(dmfs(&mount, "ls").must(), "No devices found\n");
    mount.stop();
}
