//! The row of a table that maps a volume.

use zeroize::Zeroizing;

use super::secret::{Secret, hex};
use crate::target::escape_word;
use crate::unit::{Sector, Sectors};

/// A row of the crypt target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CryptRow {
    /// Where the row begins.
    pub start: Sector,
    /// Its length.
    pub len: Sectors,
    /// Cipher as dm-crypt names it; none where the data is not encrypted.
    pub cipher: Option<String>,
    /// Key.
    pub key: Secret,
    /// What vectors count from.
    pub iv_offset: u64,
    /// Where the data begins on its device.
    pub offset: Sector,
    /// Optional arguments.
    pub options: Vec<String>,
}

impl CryptRow {
    /// The target's name.
    pub fn target(&self) -> &'static str {
        match self.cipher {
            Some(_) => "crypt",
            None => "linear",
        }
    }

    /// The target's arguments for data on `device`.
    pub fn params(&self, device: &str) -> Zeroizing<String> {
        let device = escape_word(device);
        let Some(cipher) = &self.cipher else {
            return Zeroizing::new(format!("{device} {}", self.offset));
        };
        let key = match self.key.is_empty() {
            true => Zeroizing::new("-".to_owned()),
            false => hex(&self.key),
        };
        let mut text = Zeroizing::new(String::with_capacity(key.len() + device.len() + 200));
        for word in [
            cipher,
            &*key,
            &self.iv_offset.to_string(),
            &device,
            &self.offset.to_string(),
        ] {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        if !self.options.is_empty() {
            text.push_str(&format!(
                " {} {}",
                self.options.len(),
                self.options.join(" ")
            ));
        }
        text
    }
}
