//! The JSON area as structs. Members that nobody here knows are kept, and written back as they were.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Malformed;
use super::values::{Base64, Decimal, Id};

/// Members of an object that nobody here knows.
type Rest = Map<String, Value>;

/// The whole area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Key slots.
    pub keyslots: BTreeMap<Id, Keyslot>,
    /// Tokens.
    pub tokens: BTreeMap<Id, Token>,
    /// Segments: what the data area holds.
    pub segments: BTreeMap<Id, Segment>,
    /// Digests: what tells a right volume key.
    pub digests: BTreeMap<Id, Digest>,
    /// What concerns the device as a whole.
    pub config: Config,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A key slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keyslot {
    /// `luks2` or `reencrypt`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes of the key in it.
    pub key_size: u32,
    /// How the key material is stretched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub af: Option<Af>,
    /// Where it lies.
    pub area: Area,
    /// How a passphrase becomes the key of the area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdf: Option<Kdf>,
    /// 0: only where it is named; 1: normal; 2: first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Anti-forensic stretching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Af {
    /// `luks1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Stripes.
    pub stripes: u32,
    /// Hash of the diffusion.
    pub hash: String,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A place for key material.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Area {
    /// `raw`, or a kind of reencryption's.
    #[serde(rename = "type")]
    pub kind: String,
    /// First byte, from the header's start.
    pub offset: Decimal,
    /// Bytes.
    pub size: Decimal,
    /// Cipher of a raw area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// Bytes of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_size: Option<u32>,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A key derivation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kdf {
    /// `pbkdf2`, `argon2i` or `argon2id`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Passes of argon2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<u32>,
    /// Memory of argon2, KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// Lanes of argon2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Hash of PBKDF2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Iterations of PBKDF2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u32>,
    /// Salt.
    pub salt: Base64,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What tells a right volume key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// `pbkdf2`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Key slots that hold the key.
    pub keyslots: Vec<Id>,
    /// Segments that it is the key of.
    pub segments: Vec<Id>,
    /// Hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Iterations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u32>,
    /// Salt.
    pub salt: Base64,
    /// What must come out.
    pub digest: Base64,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A piece of the data area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// `crypt`, `linear` or one of hardware's.
    #[serde(rename = "type")]
    pub kind: String,
    /// First byte on the data device.
    pub offset: Decimal,
    /// Bytes, or `dynamic`: up to the device's end.
    pub size: String,
    /// What IVs count from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iv_tweak: Option<Decimal>,
    /// Cipher as dm-crypt names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// Bytes of an encrypted unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_size: Option<u32>,
    /// Integrity protection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
    /// Flags of reencryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Integrity protection of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Integrity {
    /// Algorithm.
    #[serde(rename = "type")]
    pub kind: String,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A token: a way to a passphrase that only its own kind understands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Key slots that it opens.
    pub keyslots: Vec<Id>,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What concerns the device as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Bytes of the JSON area.
    pub json_size: Decimal,
    /// Bytes for key slots.
    pub keyslots_size: Decimal,
    /// Flags of activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// What a reader must understand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What a reader must understand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requirements {
    /// Who does not know one of these must neither use nor change the device.
    #[serde(default)]
    pub mandatory: Vec<String>,
    /// The rest.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Metadata {
    /// Reads a JSON area: a text, a NUL, and nothing but zeroes.
    ///
    /// # Errors
    /// Where the text is no JSON, or not of this form.
    pub(super) fn read(area: &[u8]) -> Result<Metadata, Malformed> {
        let wrong = |message: String| Malformed::new("JSON area", message);
        let end = area
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(|| wrong("no NUL ends the text".into()))?;
        let (text, rest) = area.split_at(end);
        if rest.iter().any(|&byte| byte != 0) {
            return Err(wrong("something follows the text".into()));
        }
        serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))
    }

    /// The text of the area.
    ///
    /// # Errors
    /// None that is known of.
    pub fn write(&self) -> Result<String, Malformed> {
        serde_json::to_string(self).map_err(|error| Malformed::new("JSON area", error.to_string()))
    }

    /// The segments that make the device, in order: without those kept for a reencryption.
    pub fn live_segments(&self) -> impl Iterator<Item = (Id, &Segment)> {
        self.segments
            .iter()
            .filter(|(_, segment)| !segment.is_backup())
            .map(|(&id, segment)| (id, segment))
    }

    /// The digest of the key in `keyslot`.
    pub fn digest_of_keyslot(&self, keyslot: Id) -> Option<(Id, &Digest)> {
        self.digests
            .iter()
            .find(|(_, digest)| digest.keyslots.contains(&keyslot))
            .map(|(&id, digest)| (id, digest))
    }

    /// The digest of the key of `segment`.
    pub fn digest_of_segment(&self, segment: Id) -> Option<(Id, &Digest)> {
        self.digests
            .iter()
            .find(|(_, digest)| digest.segments.contains(&segment))
            .map(|(&id, digest)| (id, digest))
    }

    /// What a reader must understand.
    pub fn mandatory(&self) -> &[String] {
        match &self.config.requirements {
            Some(requirements) => &requirements.mandatory,
            None => &[],
        }
    }

    /// Flags of activation.
    pub fn flags(&self) -> &[String] {
        self.config.flags.as_deref().unwrap_or_default()
    }
}

impl Segment {
    /// Bytes of the segment; none where it reaches to the device's end.
    pub fn bytes(&self) -> Option<u64> {
        self.size.parse().ok()
    }

    /// Whether a reencryption keeps it for later, and it is no part of the device.
    pub fn is_backup(&self) -> bool {
        self.has_flag(|flag| flag.starts_with("backup-"))
    }

    /// Whether it is being reencrypted.
    pub fn is_in_reencryption(&self) -> bool {
        self.has_flag(|flag| flag == "in-reencryption")
    }

    fn has_flag(&self, is_it: impl Fn(&str) -> bool) -> bool {
        self.flags.iter().flatten().any(|flag| is_it(flag))
    }
}

impl Keyslot {
    /// 0: only where it is named; 1: normal; 2: first.
    pub fn priority(&self) -> u8 {
        self.priority.unwrap_or(1)
    }
}
