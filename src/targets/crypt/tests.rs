//! Rows as the kernel takes, refuses and shows them (asked of a kernel 6.1, see docs/testing.md), and what a request
//! comes to below.
#![allow(clippy::unwrap_used)]

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use crate::io::{Errno, IoError, ReadBuf, Request, WriteBuf};
use crate::table::Table;
use crate::target::{DeviceOpener, Naming};
use crate::targets::tests::{
    MemoryOpener, build, build_on, each_is_refused, message, read, refused, write,
};
use crate::unit::Sector;

const K64: &str = "6c935edff30bbf3cf0ebbdc1d898321305952ca520a74df6f69023e52e625bf7\
                   31585b2b7b1373f60798b716505e9273cc2e1ae6bc570e4cb60f6aa3b854e1b9";
const K32: &str = "6c935edff30bbf3cf0ebbdc1d898321305952ca520a74df6f69023e52e625bf7";

/// A table line: 8 sectors of crypt, `K16` to `K64` standing for keys of so many bytes.
fn line(args: &str) -> String {
    let args = args
        .replace("K64", K64)
        .replace("K48", &K64[..96])
        .replace("K32", K32)
        .replace("K16", &K64[..32]);
    format!("0 8 crypt {args}")
}

fn args_of(table: &Table) -> String {
    table.rows()[0].target().args(Naming::Paths)
}

#[test]
fn rows_are_shown_as_the_kernel_shows_them() {
    for (given, shown) in [
        (
            "aes-cbc-plain64 K320 0 {0} 0",
            "aes-cbc-plain64 K32 0 {0} 0",
        ),
        ("aes-cbc-essiv:md5 K32 0 {0} 0", ""),
        ("aes-ecb-bogus K32 0 {0} 0", ""),
        ("aes-ctr-essiv:sha256 K32 0 {0} 0", ""),
        ("aes-xts-essiv:sha256 K64 0 {0} 0", ""),
        ("aes-lrw-essiv:sha256 K48 0 {0} 0", ""),
        ("aes-ctr-benbi K32 0 {0} 0", ""),
        ("aes-xts-eboiv K64 0 {0} 0", ""),
        ("aes-xts-elephant K64 0 {0} 0", ""),
        ("aes-cbc-elephant K48 0 {0} 0", ""),
        ("aes-cbc-tcw K64 0 {0} 0", ""),
        ("aes-cbc-lmk K32 0 {0} 0", ""),
        ("aes:2-cbc-plain64 K32ff 0 {0} 0", ""),
        ("aes-cbc-plain64:foo K32 0 {0} 0", ""),
        ("aes-plain K32 0 {0} 0", ""),
        ("capi:xts(aes) K64 0 {0} 0", ""),
        ("capi:xts(aes)-plain64:bar K64 0 {0} 0", ""),
        ("capi:cbc(aes)-essiv:sha256 K32 0 {0} 0", ""),
        ("capi:essiv(cbc(aes),sha256)-essiv:sha256 K32 0 {0} 0", ""),
        ("capi:adiantum(xchacha12,aes)-benbi K32 0 {0} 0", ""),
        ("aes-xts-plain64 K64 18446744073709551615 {0} 0", ""),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 sector_size:66048",
            "aes-xts-plain64 K64 0 {0} 0",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 Allow_Discards",
            "aes-xts-plain64 K64 0 {0} 0 1 allow_discards",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 2 allow_discards allow_discards",
            "aes-xts-plain64 K64 0 {0} 0 1 allow_discards",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 0 extra words",
            "aes-xts-plain64 K64 0 {0} 0",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 allow_discards extra words",
            "aes-xts-plain64 K64 0 {0} 0 1 allow_discards",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 8 integrity_key_size:32 iv_large_sectors sector_size:4096 \
             no_write_workqueue no_read_workqueue submit_from_crypt_cpus high_priority same_cpu_crypt",
            "aes-xts-plain64 K64 0 {0} 0 8 same_cpu_crypt high_priority submit_from_crypt_cpus \
             no_read_workqueue no_write_workqueue sector_size:4096 iv_large_sectors integrity_key_size:32",
        ),
        ("cipher_null-ecb - 0 {0} 0", ""),
        (
            "aes-cbc-plain64 00FF00FF00FF00FF00FF00FF00FF00FF 0 {0} 0",
            "aes-cbc-plain64 00ff00ff00ff00ff00ff00ff00ff00ff 0 {0} 0",
        ),
        ("serpent-cbc-plain64 001122 0 {0} 0", ""),
        ("serpent-cbc-plain64 - 0 {0} 0", ""),
        ("serpent-cbc-plain64 K16aa 0 {0} 0", ""),
    ] {
        let shown = if shown.is_empty() { given } else { shown };
        let table = build(&line(given)).unwrap_or_else(|error| panic!("{given}: {error:?}"));
        assert_eq!(format!("0 8 crypt {}", args_of(&table)), line(shown));
        assert_eq!(table.rows()[0].target().status(Naming::Paths), "");
    }
}

#[cfg(feature = "legacy")]
#[test]
fn old_ciphers_are_taken() {
    for args in [
        "blowfish-cbc-essiv:sha256 K32 0 {0} 0",
        "blowfish-cbc-tcw K64 0 {0} 0",
        "blowfish-cbc-benbi K32 0 {0} 0",
        "des3_ede-cbc-plain64 K1600112233445566aa 0 {0} 0",
        "cast5-cbc-plain64 K16 0 {0} 0",
        "cast6-xts-plain64 K64 0 {0} 0",
        "camellia-cbc-plain64 K32 0 {0} 0",
    ] {
        assert_eq!(
            format!("0 8 crypt {}", args_of(&build(&line(args)).unwrap())),
            line(args)
        );
    }
}

#[test]
fn rows_are_refused_as_the_kernel_refuses_them() {
    const KEY: &str = "Error decoding and setting key";
    for (args, text) in [
        ("", "Not enough arguments (-EINVAL)"),
        (
            "aes-xts-plain64 K64 0 {0}",
            "Not enough arguments (-EINVAL)",
        ),
        ("aes-cbc-plain64 00zz 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-cbc-plain64 001 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-cbc-plain64 0011 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-cbc-plain64 - 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-cbc-plain64 1 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-cbc-essiv:sha1 K32 0 {0} 0", "BADKEY (-EINVAL)"),
        (
            "aes-ecb-essiv:sha256 K32 0 {0} 0",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        ("aes-ctr-eboiv K32 0 {0} 0", "Error creating IV (-EINVAL)"),
        ("aes-cbc-elephant K64K64 0 {0} 0", "Unknown error (-EINVAL)"),
        ("aes-cbc-elephant K16 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-cbc-tcw K32 0 {0} 0", "BADKEY (-EINVAL)"),
        (
            "aes-cbc-tcw K64 0 {0} 0 1 sector_size:4096",
            "Error creating IV (-EINVAL)",
        ),
        (
            "aes:4-cbc-lmk K64 0 {0} 0 1 sector_size:4096",
            "Error creating IV (-EINVAL)",
        ),
        (
            "aes:x-cbc-plain64 K32 0 {0} 0",
            "Bad cipher key count specification (-EINVAL)",
        ),
        (
            "aes:-cbc-plain64 K32 0 {0} 0",
            "Bad cipher key count specification (-EINVAL)",
        ),
        (
            "aes:0-cbc-plain64 K32 0 {0} 0",
            "Bad cipher key count specification (-EINVAL)",
        ),
        (
            "aes:3-cbc-plain64 K32 0 {0} 0",
            "Bad cipher key count specification (-EINVAL)",
        ),
        ("aes:64-xts-plain64 K64 0 {0} 0", "BADKEY (-EINVAL)"),
        (
            "aes-cbc-plain64-foo K32 0 {0} 0",
            "Invalid IV mode (-EINVAL)",
        ),
        (
            "aes-cbc-essiv:sha256-foo K32 0 {0} 0",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        (
            "aes-cbc-essiv K32 0 {0} 0",
            "Digest algorithm missing for ESSIV mode (-EINVAL)",
        ),
        (
            "aes-plain- K32 0 {0} 0",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        ("aes- K32 0 {0} 0", "IV mechanism required (-EINVAL)"),
        ("aes-cbc- K32 0 {0} 0", "Invalid IV mode (-EINVAL)"),
        (
            "-cbc-plain64 K32 0 {0} 0",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        (
            "xts(aes)-plain64 K64 0 {0} 0",
            "Bad cipher specification (-EINVAL)",
        ),
        (
            "capi:xts(ecb(aes))-plain64 K64 0 {0} 0",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        (
            "capi:cbc(aes)-essiv K32 0 {0} 0",
            "Digest algorithm missing for ESSIV mode (-EINVAL)",
        ),
        ("capi:cbc(aes)-lmk K32 0 {0} 0", "BADKEY (-EINVAL)"),
        (
            "capi:aes-plain64 K32 0 {0} 0",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        ("capi: K32 0 {0} 0", "Error allocating crypto tfm (-ENOENT)"),
        (
            "capi:adiantum(xchacha12,aes)-plain64 K16 0 {0} 0",
            "BADKEY (-EINVAL)",
        ),
        (
            "capi:adiantum(xchacha12,aes)-eboiv K32 0 {0} 0",
            "Error creating IV (-EINVAL)",
        ),
        (
            "capi:gcm(aes)-random K32 0 {0} 0",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        (
            "capi:gcm(aes)-random K32 0 {0} 0 1 integrity:28:aead",
            "Integrity profile not supported. (-EINVAL)",
        ),
        (
            "capi:gcm(aes)-plain64 K32 0 {0} 0 1 integrity:28:none",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        (
            "capi:xts(aes)-plain64 K64 0 {0} 0 1 integrity:16:aead",
            "Error allocating crypto tfm (-ENOENT)",
        ),
        (
            "capi:authenc(hmac(sha256),xts(aes))-random K64 0 {0} 0 1 integrity:48:AEAD",
            "Integrity profile not supported. (-EINVAL)",
        ),
        (
            "aes-gcm-random K32 0 {0} 0 1 integrity:28:aead",
            "Bad cipher specification (-EINVAL)",
        ),
        (
            "aes-xts-random K64 0 {0} 0",
            "Integrity profile not supported. (-EINVAL)",
        ),
        (
            "aes-xts-random K64 0 {0} 0 1 integrity:16:none",
            "Integrity profile not supported. (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 integrity:16:bogus",
            "Unknown integrity profile (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 integrity:16",
            "Unknown integrity profile (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 integrity:x:aead",
            "Invalid feature arguments (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 integrity:0:aead",
            "Invalid integrity arguments (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 integrity:500:aead",
            "Invalid integrity arguments (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 integrity_key_size:0",
            "Invalid integrity_key_size argument (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 sector_size:",
            "Invalid feature arguments (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 sector_size:1536",
            "Invalid feature value for sector_size (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 sector_size:8192",
            "Invalid feature value for sector_size (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 SECTOR_SIZE:512",
            "Invalid feature arguments (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1 bogus",
            "Invalid feature arguments (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 1",
            "Invalid number of feature args (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 10 a b c d e f g h i j",
            "Invalid number of feature args (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 x",
            "Invalid number of feature args (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} 0 high_priority",
            "Invalid number of feature args (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 x {0} 0",
            "Invalid iv_offset sector (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 3 {0} 0 1 sector_size:4096",
            "Invalid iv_offset sector (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 x nonesuch x",
            "Invalid iv_offset sector (-EINVAL)",
        ),
        (
            "aes-xts-plain64 K64 0 nonesuch x",
            "Device lookup failed (-ENODEV)",
        ),
        (
            "aes-xts-plain64 K64 0 {0} x",
            "Invalid device sector (-EINVAL)",
        ),
        (
            "aes-xts-plain64 :64 0 {0} 0",
            "Cannot parse key size (-EINVAL)",
        ),
        (
            "aes-xts-plain64 :x:user:a 0 {0} 0",
            "Cannot parse key size (-EINVAL)",
        ),
        ("aes-xts-plain64 :64: 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-xts-plain64 :64:user: 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-xts-plain64 :64::a 0 {0} 0", "BADKEY (-EINVAL)"),
        ("aes-xts-plain64 :64:user 0 {0} 0", "BADKEY (-EINVAL)"),
        (
            "aes-xts-plain64 :64:bogus:nokey 0 {0} 0",
            "BADKEY (-EINVAL)",
        ),
        (
            "aes-xts-plain64 :64:user:dmfs-no-such-key 0 {0} 0",
            "BADKEY (-ENOKEY)",
        ),
        ("cipher_null-ecb 00 0 {0} 0", "BADKEY (-EINVAL)"),
        ("cipher_null-ecb 0 0 {0} 0", "BADKEY (-EINVAL)"),
    ] {
        each_is_refused(&[(&line(args), &text.replace("BADKEY", KEY))]);
    }
    let unaligned = "0 9 crypt aes-xts-plain64 K64 0 {0} 0 1 sector_size:4096".replace("K64", K64);
    let text = "Device size is not multiple of sector_size feature (-EINVAL)";
    each_is_refused(&[(&unaligned, text)]);
}

/// Wherever a key stands in a row that is refused, nothing that is said holds it.
#[test]
fn no_error_tells_a_key() {
    for args in [
        "aes-xts-plain64 K64zz 0 {0} 0",
        "aes-xts-plain64 zzK64 0 {0} 0",
        "aes-cbc-plain64 K48ff 0 {0} 0",
        "K64 aes-xts-plain64 0 {0} 0",
        "aes-xts-plain64 - K64 {0} 0",
        "aes-xts-plain64 K64 K64 {0} 0",
        "aes-xts-plain64 K64 0 K64 0",
        "aes-xts-plain64 K64 0 {0} K64",
        "aes-xts-plain64 K64 0 {0} 0 K64",
        "aes-xts-plain64 K64 0 {0} 0 1 K64",
        "aes-xts-plain64 :K64 0 {0} 0",
    ] {
        let error = format!("{:?}", refused(&line(args)));
        assert!(!error.contains(&K32[..8]), "{args}: {error}");
    }
}

/// The device in the first place, with a table of crypt over it.
fn over(args: &str) -> (MemoryOpener, Table) {
    let opener = MemoryOpener::new();
    let table = build_on(&opener, &line(args).replace("0 8 ", "0 64 ")).unwrap();
    (opener, table)
}

fn below(opener: &MemoryOpener, at: u64, sectors: u64) -> Vec<u8> {
    let device = opener.open("{0}", crate::target::Access::ReadOnly).unwrap();
    let mut bytes = vec![0; sectors as usize * 512];
    device
        .dev
        .submit(Request::read(Sector(at), ReadBuf::new(&mut bytes)))
        .unwrap();
    bytes
}

#[test]
fn what_lies_below_is_encrypted_and_the_callers_data_is_not() {
    let (opener, table) = over("aes-xts-plain64 K64 7 {0} 3");
    let data = vec![0x5a; 8 * 512];
    write(&table, 2, &data).unwrap();
    assert!(data.iter().all(|byte| *byte == 0x5a));
    let mut wanted = data.clone();
    let key: Vec<u8> = (0..64)
        .map(|i| u8::from_str_radix(&K64[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let size = crate::crypto::SectorSize::SMALL;
    let cipher = crate::crypto::SectorCipher::new("aes-xts-plain64", &key, size).unwrap();
    cipher.encrypt(7 + 2, &mut wanted);
    assert_eq!(below(&opener, 5, 8), wanted);
    assert_eq!(read(&table, 2, 8).unwrap(), data);
}

#[test]
fn zeroes_are_written_encrypted_and_discards_need_a_word() {
    let (opener, table) = over("aes-xts-plain64 K64 0 {0} 0");
    table
        .submit(Request::write_zeroes(
            Sector(0),
            crate::unit::Sectors(8),
            true,
        ))
        .unwrap();
    assert!(read(&table, 0, 8).unwrap().iter().all(|byte| *byte == 0));
    assert!(below(&opener, 0, 8).iter().any(|byte| *byte != 0));
    let discard = || Request::discard(Sector(0), crate::unit::Sectors(8));
    assert_eq!(table.submit(discard()), Err(IoError::UNSUPPORTED));
    let (opener, table) = over("aes-xts-plain64 K64 0 {0} 0 1 allow_discards");
    write(&table, 0, &[1; 8 * 512]).unwrap();
    table.submit(discard()).unwrap();
    assert!(below(&opener, 0, 8).iter().all(|byte| *byte == 0));
}

#[test]
fn requests_are_whole_units_of_encryption() {
    let (_, table) = over("aes-xts-plain64 K64 0 {0} 0 1 sector_size:4096");
    let limits = table.limits();
    assert_eq!(
        (
            limits.logical_block_size,
            limits.physical_block_size,
            limits.io_min
        ),
        (4096, 4096, 4096)
    );
    assert_eq!(read(&table, 1, 8), Err(IoError::IO));
    assert_eq!(write(&table, 0, &[0; 512]), Err(IoError::IO));
    assert!(write(&table, 8, &[0; 4096]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However a caller's memory is cut, the same bytes go down and come back.
    #[test]
    fn memory_in_pieces_is_as_good_as_whole(
        cuts in prop::collection::vec(1..9_usize, 1..6),
        small in any::<bool>(),
        fill in any::<u8>(),
    ) {
        let size = if small { "512" } else { "4096" };
        let args = format!("aes-xts-plain64 K64 0 {{0}} 0 1 sector_size:{size}");
        let (opener, table) = over(&args);
        let len = cuts.iter().sum::<usize>().next_multiple_of(8) * 512;
        let data: Vec<u8> = (0..len).map(|i| (i / 3) as u8 ^ fill).collect();
        let (mut pieces, mut rest) = (Vec::new(), &data[..]);
        for cut in &cuts[..cuts.len() - 1] {
            let (piece, after) = rest.split_at(cut * 512);
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let (opener_whole, whole) = over(&args);
        table.submit(Request::write(Sector(8), WriteBuf::from_pieces(pieces.clone()))).unwrap();
        write(&whole, 8, &data).unwrap();
        let n = len as u64 / 512;
        assert!(below(&opener, 8, n) == below(&opener_whole, 8, n));
        let mut back = vec![0; len];
        let mut into = Vec::new();
        let mut rest = &mut back[..];
        for piece in &pieces {
            let (now, after) = rest.split_at_mut(piece.len());
            into.push(now);
            rest = after;
        }
        table.submit(Request::read(Sector(8), ReadBuf::from_pieces(into))).unwrap();
        assert!(back == data);
    }
}

/// A device that is suspended, as far as the target knows.
fn suspended(args: &str) -> Table {
    let (_, table) = over(args);
    table.lifecycles().for_each(|target| target.postsuspend());
    table
}

fn resume(table: &Table) -> Result<(), Errno> {
    for target in table.lifecycles() {
        target.preresume()?;
    }
    table.lifecycles().for_each(|target| target.resume());
    Ok(())
}

#[test]
fn keys_are_set_and_wiped_while_suspended() {
    let table = suspended("aes-xts-plain64 K64 0 {0} 0");
    let other = K64.replace('6', "7");
    assert_eq!(
        message(&table, &format!("KEY SET {}", other.to_uppercase())),
        Ok(String::new())
    );
    assert!(args_of(&table).contains(&other));
    assert_eq!(message(&table, "key wipe"), Ok(String::new()));
    assert!(args_of(&table).contains(&format!(" {} ", "0".repeat(128))));
    assert_eq!(read(&table, 0, 8), Err(IoError::IO));
    assert_eq!(resume(&table), Err(Errno::AGAIN));
    assert_eq!(
        message(&table, &format!("key set {K64}0")),
        Ok(String::new())
    );
    assert_eq!(resume(&table), Ok(()));
    assert!(args_of(&table).contains(K64));
}

#[test]
fn messages_are_refused_as_the_kernel_refuses_them() {
    let not_suspended = "crypt: not suspended during key manipulation.";
    let unknown = "crypt: unrecognised message received.";
    let (_, table) = over("aes-xts-plain64 K64 0 {0} 0");
    let refused = |table: &Table, text: &str| {
        let error = message(table, &text.replace("K64", K64).replace("K32", K32)).unwrap_err();
        assert!(error.expected.is_some(), "{text}");
        (error.errno, error.line)
    };
    for (text, line) in [
        ("key wipe", not_suspended),
        ("key set K64", not_suspended),
        ("key bogus", not_suspended),
        ("key", unknown),
        ("bogus", unknown),
        ("bogus arg", unknown),
    ] {
        assert_eq!(
            refused(&table, text),
            (Errno::INVAL, Some(line.to_owned())),
            "{text}"
        );
    }
    let table = suspended("aes-xts-plain64 K64 0 {0} 0");
    for text in [
        "key",
        "key set",
        "key set K64 extra",
        "key wipe extra",
        "key bogus",
        "foo bar",
    ] {
        assert_eq!(
            refused(&table, text),
            (Errno::INVAL, Some(unknown.to_owned())),
            "{text}"
        );
    }
    for (text, errno) in [
        ("key set K32", Errno::INVAL),
        ("key set zzK64", Errno::INVAL),
        ("key set -", Errno::INVAL),
        ("key set :32:user:dmfs-no-such-key", Errno::INVAL),
        ("key set :64:user:dmfs-no-such-key", Errno::NOKEY),
        ("key set :x:user:a", Errno::INVAL),
    ] {
        assert_eq!(refused(&table, text), (errno, None), "{text}");
    }
    let zz = format!("key set zz{}", &K64[2..]);
    assert_eq!(refused(&table, &zz), (Errno::INVAL, None));
    // What was refused has changed nothing.
    assert!(args_of(&table).contains(K64));
    assert_eq!(resume(&table), Ok(()));
}
