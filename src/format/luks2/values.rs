//! How the JSON area writes numbers and bytes.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64 as Standard, Encoding};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a key slot, digest, segment or token: a decimal number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u32);

/// A number of 64 bits, written as a decimal text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(pub u64);

/// Bytes, written as base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        decimal(from, "a decimal number in quotes").map(Id)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Decimal, D::Error> {
        decimal(from, "a decimal number of 64 bits in quotes").map(Decimal)
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Standard::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Base64, D::Error> {
        let text = String::deserialize(from)?;
        Standard::decode_vec(&text)
            .map(Base64)
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"base64"))
    }
}

/// Digits alone: no sign, no blank, no leading zero.
fn decimal<'de, D: Deserializer<'de>, N: FromStr + ToString>(
    from: D,
    expected: &'static str,
) -> Result<N, D::Error> {
    let text = String::deserialize(from)?;
    match text.parse::<N>() {
        Ok(number) if number.to_string() == text => Ok(number),
        _ => Err(D::Error::invalid_value(Unexpected::Str(&text), &expected)),
    }
}
