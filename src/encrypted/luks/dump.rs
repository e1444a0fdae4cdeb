//! A header for people, as cryptsetup's `luksDump` prints it.

use std::fmt::Write as _;

use super::{Luks, Refused};
use crate::format::luks1::Luks1;
use crate::format::luks2::{Id, Keyslot, Luks2, Segment};

/// The text of `luksDump` for the header of `device`.
pub fn text(luks: &Luks, device: &str) -> String {
    match luks {
        Luks::One(luks) => text_of_1(luks, device),
        Luks::Two(luks) => text_of_2(luks),
    }
}

/// The metadata as JSON (LUKS2).
///
/// # Errors
/// LUKS1 has none.
pub fn json_text(luks: &Luks) -> Result<String, Refused> {
    let Luks::Two(luks) = luks else {
        return Err(Refused::invalid("Dump of JSON metadata is of LUKS2 only."));
    };
    serde_json::to_string_pretty(&luks.metadata)
        .map_err(|error| Refused::invalid(error.to_string()))
}

/// Bytes as `luksDump` prints them: sixteen on a line, each with a blank behind it.
fn spaced(bytes: &[u8], indent: &str) -> String {
    let line = |bytes: &[u8]| {
        let mut line = String::new();
        for byte in bytes {
            let _ = write!(line, "{byte:02x} ");
        }
        line
    };
    let lines: Vec<String> = bytes.chunks(16).map(line).collect();
    lines.join(&format!("\n{indent}"))
}

fn text_of_1(luks: &Luks1, device: &str) -> String {
    let mut out = format!(
        "LUKS header information for {device}\n\n\
         Version:       \t1\n\
         Cipher name:   \t{}\n\
         Cipher mode:   \t{}\n\
         Hash spec:     \t{}\n\
         Payload offset:\t{}\n\
         MK bits:       \t{}\n\
         MK digest:     \t{}\n\
         MK salt:       \t{}\n\
         MK iterations: \t{}\n\
         UUID:          \t{}\n\n",
        luks.cipher_name,
        luks.cipher_mode,
        luks.hash,
        luks.payload,
        u64::from(luks.key_bytes) * 8,
        // All of it on one line.
        spaced(&luks.digest, "").replace('\n', ""),
        spaced(&luks.digest_salt, "               \t"),
        luks.digest_iterations,
        luks.uuid,
    );
    for (index, slot) in luks.slots.iter().enumerate() {
        if !slot.is_active {
            let _ = writeln!(out, "Key Slot {index}: DISABLED");
            continue;
        }
        let _ = writeln!(
            out,
            "Key Slot {index}: ENABLED\n\
             \tIterations:         \t{}\n\
             \tSalt:               \t{}\n\
             \tKey material offset:\t{}\n\
             \tAF stripes:            \t{}",
            slot.iterations,
            spaced(&slot.salt, "\t                      \t"),
            slot.material,
            slot.stripes,
        );
    }
    out
}

fn text_of_2(luks: &Luks2) -> String {
    let (header, metadata) = (&luks.header, &luks.metadata);
    let or = |text: &str, none: &str| match text.is_empty() {
        true => none.to_owned(),
        false => text.to_owned(),
    };
    let flags = or(&metadata.flags().join(" "), "(no flags)");
    let mut out = format!(
        "LUKS header information\n\
         Version:       \t2\n\
         Epoch:         \t{}\n\
         Metadata area: \t{} [bytes]\n\
         Keyslots area: \t{} [bytes]\n\
         UUID:          \t{}\n\
         Label:         \t{}\n\
         Subsystem:     \t{}\n\
         Flags:       \t{flags}\n",
        header.sequence,
        header.size,
        metadata.config.keyslots_size.0,
        or(&header.uuid, "(no UUID)"),
        or(&header.label, "(no label)"),
        or(&header.subsystem, "(no subsystem)"),
    );
    if !metadata.mandatory().is_empty() {
        let _ = writeln!(out, "Requirements:\t{}", metadata.mandatory().join(" "));
    }
    out += "\nData segments:\n";
    for (id, segment) in &metadata.segments {
        out += &segment_text(*id, segment);
    }
    out += "Keyslots:\n";
    for (id, keyslot) in &metadata.keyslots {
        out += &keyslot_text(*id, keyslot, luks);
    }
    out += "Tokens:\n";
    for (id, token) in &metadata.tokens {
        let _ = writeln!(out, "  {id}: {}", token.kind);
        if let ("luks2-keyring", Some(description)) =
            (token.kind.as_str(), token.rest.get("key_description"))
        {
            let description = description.as_str().unwrap_or_default();
            let _ = writeln!(out, "\tKey description: {description}");
        }
        for slot in &token.keyslots {
            let _ = writeln!(out, "\tKeyslot:    {slot}");
        }
    }
    out += "Digests:\n";
    for (id, digest) in &metadata.digests {
        let indent = "\t            ";
        let _ = writeln!(
            out,
            "  {id}: {}\n\tHash:       {}\n\tIterations: {}\n\tSalt:       {}\n\tDigest:     {}",
            digest.kind,
            digest.hash.as_deref().unwrap_or_default(),
            digest.iterations.unwrap_or_default(),
            spaced(&digest.salt.0, indent),
            spaced(&digest.digest.0, indent),
        );
    }
    out
}

fn segment_text(id: Id, segment: &Segment) -> String {
    let length = match segment.bytes() {
        Some(bytes) => format!("{bytes} [bytes]"),
        None => "(whole device)".to_owned(),
    };
    let mut out = format!(
        "  {id}: {}\n\toffset: {} [bytes]\n\tlength: {length}\n",
        segment.kind, segment.offset.0
    );
    if let Some(cipher) = &segment.encryption {
        let _ = writeln!(out, "\tcipher: {cipher}");
    }
    if let Some(size) = segment.sector_size {
        let _ = writeln!(out, "\tsector: {size} [bytes]");
    }
    if let Some(integrity) = &segment.integrity {
        let _ = writeln!(out, "\tintegrity: {}", integrity.kind);
    }
    if let Some(flags) = segment.flags.as_ref().filter(|flags| !flags.is_empty()) {
        let _ = writeln!(out, "\tflags : {}", flags.join(", "));
    }
    out + "\n"
}

fn keyslot_text(id: Id, keyslot: &Keyslot, luks: &Luks2) -> String {
    let digest = luks.metadata.digest_of_keyslot(id);
    let unbound = digest.is_some_and(|(_, digest)| digest.segments.is_empty());
    let priority = match keyslot.priority() {
        0 => "ignored",
        2 => "preferred",
        _ => "normal",
    };
    let mut out = format!(
        "  {id}: {}{}\n\tKey:        {} bits\n\tPriority:   {priority}\n",
        keyslot.kind,
        if unbound { " (unbound)" } else { "" },
        u64::from(keyslot.key_size) * 8,
    );
    if let (Some(cipher), Some(size)) = (&keyslot.area.encryption, keyslot.area.key_size) {
        let bits = u64::from(size) * 8;
        let _ = writeln!(out, "\tCipher:     {cipher}\n\tCipher key: {bits} bits");
    }
    if let Some(kdf) = &keyslot.kdf {
        let _ = writeln!(out, "\tPBKDF:      {}", kdf.kind);
        if let (Some(hash), Some(iterations)) = (&kdf.hash, kdf.iterations) {
            let _ = writeln!(out, "\tHash:       {hash}\n\tIterations: {iterations}");
        }
        if let (Some(time), Some(memory), Some(cpus)) = (kdf.time, kdf.memory, kdf.cpus) {
            let _ = writeln!(
                out,
                "\tTime cost:  {time}\n\tMemory:     {memory}\n\tThreads:    {cpus}"
            );
        }
        let _ = writeln!(
            out,
            "\tSalt:       {}",
            spaced(&kdf.salt.0, "\t            ")
        );
    }
    if let Some(af) = &keyslot.af {
        let _ = writeln!(
            out,
            "\tAF stripes: {}\n\tAF hash:    {}",
            af.stripes, af.hash
        );
    }
    let _ = writeln!(
        out,
        "\tArea offset:{} [bytes]\n\tArea length:{} [bytes]",
        keyslot.area.offset.0, keyslot.area.size.0
    );
    if let Some((digest, _)) = digest {
        let _ = writeln!(out, "\tDigest ID:  {digest}");
    }
    out
}
