//! Initialization vectors of sectors, and what some of dm-crypt's modes do to the data besides.

mod elephant;
mod lmk;
mod tcw;

pub(super) use elephant::Diffuser;
pub(super) use lmk::LoopAes;
pub(super) use tcw::Whitening;

/// Writes a sector number into a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// All zeroes.
    Null,
    /// 32 bits, little-endian.
    Plain,
    /// 64 bits, little-endian.
    Plain64,
    /// 64 bits, big-endian, at the end.
    Plain64Be,
    /// The number of the sector's first narrow block, from 1, big-endian, at the end.
    Benbi {
        /// log2 of the blocks in a sector of 512 bytes.
        shift: u32,
    },
    /// The sector's place in bytes, to be enciphered.
    Bytes {
        /// Bytes of a sector.
        size: u64,
    },
}

impl Numbering {
    /// The vector of sector `number`.
    #[inline]
    pub(super) fn write(self, number: u64, iv: &mut [u8]) {
        iv.fill(0);
        let end = iv.len() - 8;
        match self {
            Numbering::Null => {}
            Numbering::Plain => iv[..4].copy_from_slice(&(number as u32).to_le_bytes()),
            Numbering::Plain64 => iv[..8].copy_from_slice(&number.to_le_bytes()),
            Numbering::Plain64Be => iv[end..].copy_from_slice(&number.to_be_bytes()),
            Numbering::Benbi { shift } => {
                let first = (number << shift).wrapping_add(1);
                iv[end..].copy_from_slice(&first.to_be_bytes());
            }
            Numbering::Bytes { size } => {
                iv[..8].copy_from_slice(&number.wrapping_mul(size).to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Numbering;

    fn iv(numbering: Numbering, number: u64) -> u128 {
        let mut iv = [0xff; 16];
        numbering.write(number, &mut iv);
        u128::from_be_bytes(iv)
    }

    #[test]
    fn numbers_stand_where_the_kernel_puts_them() {
        let number = 0x0102_0304_0506_0708;
        assert_eq!(iv(Numbering::Null, number), 0);
        assert_eq!(iv(Numbering::Plain, number), 0x0807_0605 << 96);
        assert_eq!(iv(Numbering::Plain64, number), 0x0807_0605_0403_0201 << 64);
        assert_eq!(iv(Numbering::Plain64Be, number), number.into());
        assert_eq!(iv(Numbering::Benbi { shift: 5 }, 1), 0x21);
        assert_eq!(iv(Numbering::Bytes { size: 4096 }, 1), 0x0010 << 112);
    }
}
