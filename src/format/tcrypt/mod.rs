//! TrueCrypt and VeraCrypt (TrueCrypt User's Guide 7.1a and VeraCrypt documentation, "Volume Format Specification").
//!
//! Nothing of a volume is in clear but the 64 bytes of salt that it begins with: which hash, cipher and version it has is
//! found by trying. Here is what there is to try: [`STRETCHINGS`], [`CHAINS`], the places of headers ([`Which`]) and what a
//! deciphered header says ([`Header`]).
//!
//! | from | bytes | field of the deciphered 448 bytes, big-endian |
//! |---|---|---|
//! | 0 | 4 | `TRUE` or `VERA` |
//! | 4 | 2 | version of the header |
//! | 6 | 2 | version of the program that is needed |
//! | 8 | 4 | CRC-32 of the keys |
//! | 28 | 8 | bytes of the hidden volume; 0 in the header of another |
//! | 36 | 8 | bytes of the volume |
//! | 44 | 8 | first byte of the data; 0 where it follows the header |
//! | 52 | 8 | bytes of the data |
//! | 60 | 4 | flags: 1 system encryption, 2 encrypted in place |
//! | 64 | 4 | bytes of a sector; 0 for 512 |
//! | 188 | 4 | CRC-32 of what is before, from version 4 on |
//! | 192 | 256 | keys |

mod chain;
mod header;
mod place;
mod stretching;

pub use chain::{CHAINS, Chain, HEADER_KEY_BYTES, Mode};
pub use header::{BODY_BYTES, Family, HEADER_BYTES, Header, Keys, SALT_BYTES};
pub use place::Which;
pub use stretching::{STRETCHINGS, Stretching};

#[cfg(test)]
mod tests;
