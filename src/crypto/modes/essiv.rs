//! ESSIV (Fruhwirth 2005): the vectors are enciphered under a digest of the key.

use super::super::Hidden;
use super::{Data, Direction, IvBlock, Mode};

/// A mode whose vectors another cipher, in ECB, has enciphered.
pub(in crate::crypto) struct Essiv {
    inner: Hidden<dyn Mode>,
    of_vectors: Hidden<dyn Mode>,
}

impl Essiv {
    pub(in crate::crypto) fn new(inner: Hidden<dyn Mode>, of_vectors: Hidden<dyn Mode>) -> Essiv {
        Essiv { inner, of_vectors }
    }
}

impl Mode for Essiv {
    fn block_size(&self) -> usize {
        self.inner.block_size()
    }

    fn iv_size(&self) -> usize {
        self.inner.iv_size()
    }

    fn speed(&self) -> usize {
        self.inner.speed()
    }

    fn transform(
        &self,
        direction: Direction,
        ivs: &mut [IvBlock],
        data: Data<'_, '_>,
        unit: usize,
    ) {
        let size = self.inner.iv_size();
        if size == 16 {
            let bytes = IvBlock::slice_as_flattened_mut(ivs);
            self.of_vectors
                .transform(Direction::Encrypt, &mut [], bytes.into(), size);
        } else {
            for iv in ivs.iter_mut() {
                self.of_vectors.transform(
                    Direction::Encrypt,
                    &mut [],
                    (&mut iv[..size]).into(),
                    size,
                );
            }
        }
        self.inner.transform(direction, ivs, data, unit);
    }
}
