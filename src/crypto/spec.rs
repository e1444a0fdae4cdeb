//! Cipher strings of dm-crypt, `aes-xts-plain64` or `capi:xts(aes)-plain64`, read as dm-crypt.c does.

use super::CipherError;
use super::algorithm::{Algorithm, known};
use rustix::io::Errno;

/// The longest name of an algorithm in the kernel (CRYPTO_MAX_ALG_NAME).
const LONGEST_NAME: usize = 128;

/// Each has memory of its own. Loop-AES has 64.
const MOST_KEYS: usize = 1 << 10;

/// A cipher string, taken apart.
#[derive(Clone, Debug)]
pub struct CipherSpec {
    text: String,
    pub(super) algorithm: Algorithm,
    /// Keys, of which sector after sector takes the next one; a power of two.
    pub(super) n_keys: usize,
    pub(super) iv: IvKind,
}

/// How the vector of a sector comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IvKind {
    None,
    Plain,
    Plain64,
    Plain64Be,
    Benbi,
    Null,
    Eboiv,
    Elephant,
    Lmk,
    Tcw,
    Random,
}

impl IvKind {
    const NAMES: &[(&str, IvKind)] = &[
        ("plain", IvKind::Plain),
        ("plain64", IvKind::Plain64),
        ("plain64be", IvKind::Plain64Be),
        // The mode itself enciphers them.
        ("essiv", IvKind::Plain64),
        ("benbi", IvKind::Benbi),
        ("null", IvKind::Null),
        ("eboiv", IvKind::Eboiv),
        ("elephant", IvKind::Elephant),
        ("lmk", IvKind::Lmk),
        ("tcw", IvKind::Tcw),
        ("random", IvKind::Random),
    ];

    fn named(name: &str) -> Result<IvKind, CipherError> {
        let found = IvKind::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|&(_, kind)| kind).ok_or_else(|| {
            let names: Vec<_> = IvKind::NAMES.iter().map(|(name, _)| *name).collect();
            CipherError::invalid("Invalid IV mode", format!("one of {}", names.join(", ")))
        })
    }
}

/// What a cipher string says, before anything is looked up.
struct Parts<'t> {
    /// The kernel's name of the algorithm.
    api: String,
    n_keys: usize,
    iv: Option<&'t str>,
}

impl CipherSpec {
    /// Reads `text`, of a device without authentication.
    ///
    /// # Errors
    /// As the kernel: EINVAL for what is malformed, ENOENT for ciphers there are not.
    pub fn parse(text: &str) -> Result<CipherSpec, CipherError> {
        let parts = match text.strip_prefix("capi:") {
            Some(api) => Parts::of_api(api)?,
            None => Parts::of_old(text)?,
        };
        if parts.api.len() >= LONGEST_NAME {
            return Err(CipherError {
                errno: Errno::NOMEM,
                text: "Cannot allocate cipher strings",
                expected: format!("a cipher of less than {LONGEST_NAME} bytes"),
            });
        }
        if parts.n_keys > MOST_KEYS {
            return Err(CipherError {
                errno: Errno::NOMEM,
                ..CipherError::unknown(format!("at most {MOST_KEYS} keys"))
            });
        }
        let algorithm =
            Algorithm::parse(&parts.api).ok_or_else(|| CipherError::unknown(known()))?;
        let iv = match parts.iv {
            // A cipher without vectors takes any name of one, and makes none.
            Some(name) if algorithm.iv_size() > 0 => IvKind::named(name)?,
            _ => IvKind::None,
        };
        Ok(CipherSpec {
            text: text.into(),
            algorithm,
            n_keys: parts.n_keys,
            iv,
        })
    }

    /// The string itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that `text` names a cipher that authenticates what it encrypts. There is none here yet: its tags have no
    /// place to be kept.
    ///
    /// # Errors
    /// EINVAL for the old style, ENOENT for a cipher that does not authenticate.
    pub fn check_authenticated(text: &str) -> Result<(), CipherError> {
        const NAMES: [&str; 5] = ["gcm(", "ccm(", "authenc(", "rfc7539(", "aegis128"];
        let Some(name) = text.strip_prefix("capi:") else {
            return Err(CipherError::invalid(
                "Bad cipher specification",
                "capi: and the kernel's name of the cipher, as in capi:gcm(aes)-random",
            ));
        };
        match NAMES.iter().any(|known| name.starts_with(known)) {
            true => Ok(()),
            false => Err(CipherError::unknown(
                "a cipher that authenticates: gcm, ccm, authenc, rfc7539 or aegis128",
            )),
        }
    }

    /// True where the vectors of writes are random and have to be kept beside the data.
    pub fn keeps_vectors(&self) -> bool {
        self.iv == IvKind::Random
    }

    /// Lengths of key, bytes, that the cipher takes, for people.
    pub fn key_lengths(&self) -> String {
        let one = self.algorithm.key_lengths();
        let extra = match self.iv {
            IvKind::Lmk => " and perhaps one more as seed",
            IvKind::Tcw => " and 32 bytes more",
            IvKind::Elephant => " and as much again",
            _ => "",
        };
        match self.n_keys {
            1 => format!("{one} bytes{extra}"),
            n => format!("{n} times {one} bytes{extra}"),
        }
    }
}

impl<'t> Parts<'t> {
    /// `cipher[:keys]-mode-iv[:options]`.
    fn of_old(text: &'t str) -> Result<Parts<'t>, CipherError> {
        if text.contains('(') {
            return Err(CipherError::invalid(
                "Bad cipher specification",
                "cipher[:keys]-mode-iv[:options], or capi: before a name of the kernel's crypto API",
            ));
        }
        let (cipher, rest) = split(text, '-');
        let (cipher, n_keys) = split(cipher, ':');
        let n_keys = n_keys.map_or(Ok(1), count)?;
        let (mode, rest) = rest.map_or((None, None), |rest| {
            let (mode, rest) = split(rest, '-');
            (Some(mode), rest)
        });
        let (iv, options) = rest.map_or((None, None), |rest| {
            let (iv, options) = split(rest, ':');
            (Some(iv), options)
        });
        // Of the time before there were modes.
        let (mode, iv) = match (mode, iv) {
            (None, _) | (Some("plain"), None) => ("cbc", Some("plain")),
            (Some(mode), iv) => (mode, iv),
        };
        if mode != "ecb" && iv.is_none() {
            return Err(CipherError::invalid(
                "IV mechanism required",
                format!("{cipher}-{mode}-plain64 or the like"),
            ));
        }
        let inner = format!("{mode}({cipher})");
        let api = with_essiv(inner, iv, options)?;
        Ok(Parts { api, n_keys, iv })
    }

    /// `algorithm-iv[:options]`, the algorithm in the words of the kernel's crypto API.
    fn of_api(text: &'t str) -> Result<Parts<'t>, CipherError> {
        let (rest, options) = split_last(text, ':');
        let (api, iv) = split_last(rest, '-');
        let api = with_essiv(api.to_owned(), iv, options)?;
        // Loop-AES has no other place to say so here.
        let n_keys = if iv == Some("lmk") { 64 } else { 1 };
        Ok(Parts { api, n_keys, iv })
    }
}

fn with_essiv(
    inner: String,
    iv: Option<&str>,
    options: Option<&str>,
) -> Result<String, CipherError> {
    match (iv, options) {
        (Some("essiv"), Some(hash)) => Ok(format!("essiv({inner},{hash})")),
        (Some("essiv"), None) => Err(CipherError::invalid(
            "Digest algorithm missing for ESSIV mode",
            "a hash after essiv, as in essiv:sha256",
        )),
        _ => Ok(inner),
    }
}

/// How many keys: a power of two.
fn count(text: &str) -> Result<usize, CipherError> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let count = is_plain.then(|| text.parse::<u32>().ok()).flatten();
    count
        .filter(|count| count.is_power_of_two())
        .map(|count| count as usize)
        .ok_or_else(|| {
            CipherError::invalid(
                "Bad cipher key count specification",
                "a number of keys that is a power of two",
            )
        })
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    }
}

fn split_last(text: &str, at: char) -> (&str, Option<&str>) {
    match text.rsplit_once(at) {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    }
}
