//! Sectors of a device under a key.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use super::algorithm::Algorithm;
use super::iv::{Diffuser, LoopAes, Numbering, Whitening};
use super::modes::{Data, Direction, IvBlock, MOST_UNITS, Mode};
use super::secret::overwrite_stack;
use super::spec::IvKind;
use super::{Arithmetic, CipherError, CipherSpec, Hidden};

/// log2 of the bytes of the smallest sector, in which sectors are counted.
const SECTOR_SHIFT: u32 = 9;

/// Microseconds of work for which another core is woken. That core has to fetch the data from the caches of this one, and
/// looks for more work for a while before it sleeps again.
const WORTH_WAKING: usize = 100;
/// Sectors of a small request.
const FEW: usize = 8;

/// The unit of encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorSize {
    /// Bytes: 512, 1024, 2048 or 4096.
    pub bytes: u32,
    /// Vectors are counted in this unit, not in sectors of 512 bytes (`iv_large_sectors`).
    pub counts_large: bool,
}

impl SectorSize {
    /// Sectors of 512 bytes.
    pub const SMALL: SectorSize = SectorSize {
        bytes: 512,
        counts_large: false,
    };
}

/// Encrypts and decrypts sectors: a cipher string with its keys.
///
/// ```
/// use dmfs::crypto::{SectorCipher, SectorSize};
/// let cipher = SectorCipher::new("aes-xts-plain64", &[7; 64], SectorSize::SMALL)?;
/// let mut sectors = [0; 2 * 512];
/// cipher.encrypt(100, &mut sectors);
/// cipher.decrypt(100, &mut sectors);
/// assert_eq!(sectors, [0; 2 * 512]);
/// # Ok::<(), dmfs::crypto::CipherError>(())
/// ```
pub struct SectorCipher {
    /// One for each key; a power of two of them.
    modes: Vec<Hidden<dyn Mode>>,
    vectors: Vectors,
    size: usize,
    /// Vectors count sectors shifted by this.
    shift: u32,
}

/// How vectors come about, and what is done to the data besides.
enum Vectors {
    Numbered(Numbering),
    /// Numbered, and enciphered by the mode itself.
    Enciphered(Numbering),
    Elephant(Numbering, Diffuser),
    LoopAes(LoopAes),
    TrueCrypt(Whitening),
}

impl SectorCipher {
    /// The cipher that `spec`, a cipher string of dm-crypt, names, under `key`.
    ///
    /// # Errors
    /// The kernel's text and errno for a string, a key or a size that it refuses.
    pub fn new(spec: &str, key: &[u8], size: SectorSize) -> Result<SectorCipher, CipherError> {
        SectorCipher::keyed(&CipherSpec::parse(spec)?, key, size)
    }

    /// The cipher of `spec` under `key`.
    ///
    /// # Errors
    /// EINVAL where the key has no length that the cipher takes, or the vectors do not go with the cipher or the size.
    pub fn keyed(
        spec: &CipherSpec,
        key: &[u8],
        size: SectorSize,
    ) -> Result<SectorCipher, CipherError> {
        SectorCipher::computed(Arithmetic::Best, spec, key, size)
    }

    /// The same, computed in a way of its own, for comparisons. A way that the processor does not have is as
    /// [`Arithmetic::Portable`].
    ///
    /// # Errors
    /// Those of [`Self::keyed`].
    pub fn computed(
        arithmetic: Arithmetic,
        spec: &CipherSpec,
        key: &[u8],
        size: SectorSize,
    ) -> Result<SectorCipher, CipherError> {
        if spec.iv == IvKind::Elephant && key.len() > 64 {
            // The kernel has no text for this one.
            return Err(CipherError::invalid(
                "Unknown error",
                "a key of 32 to 64 bytes",
            ));
        }
        let refused = || {
            CipherError::key(format!(
                "a key of {}, not of {}",
                spec.key_lengths(),
                key.len()
            ))
        };
        let extra = extra_key_len(spec, key.len());
        let ciphers_len = key.len().checked_sub(extra).ok_or_else(refused)?;
        let (of_ciphers, extra) = key.split_at(ciphers_len);
        let len = ciphers_len / spec.n_keys;
        let modes: Option<Vec<_>> = (0..spec.n_keys)
            .map(|i| {
                spec.algorithm
                    .keyed(&of_ciphers[i * len..][..len], arithmetic)
            })
            .collect();
        overwrite_stack();
        let modes = modes
            .filter(|modes| !modes.is_empty())
            .ok_or_else(refused)?;
        let vectors = Vectors::new(spec.iv, &*modes[0], extra, size)?;
        let shift = match size.counts_large {
            true => size.bytes.trailing_zeros().saturating_sub(SECTOR_SHIFT),
            false => 0,
        };
        if !size.bytes.is_power_of_two() || !(512..=4096).contains(&size.bytes) {
            return Err(CipherError::invalid(
                "Invalid feature value for sector_size",
                "512, 1024, 2048 or 4096",
            ));
        }
        Ok(SectorCipher {
            modes,
            vectors,
            size: size.bytes as usize,
            shift,
        })
    }

    /// Encrypts whole sectors in place; `sector` is the number of the first, counted in 512 bytes.
    ///
    /// # Panics
    /// Where `data` is not whole sectors of the size given to [`Self::new`].
    pub fn encrypt(&self, sector: u64, data: &mut [u8]) {
        self.in_place(Direction::Encrypt, sector, data);
    }

    /// Decrypts whole sectors in place; `sector` is the number of the first, counted in 512 bytes.
    ///
    /// # Panics
    /// Where `data` is not whole sectors of the size given to [`Self::new`].
    pub fn decrypt(&self, sector: u64, data: &mut [u8]) {
        self.in_place(Direction::Decrypt, sector, data);
    }

    /// Encrypts `from` into `to`.
    ///
    /// # Panics
    /// Where the two differ in length, or are not whole sectors.
    pub fn encrypt_to(&self, sector: u64, from: &[u8], to: &mut [u8]) {
        assert_eq!(from.len(), to.len(), "two places of one length");
        let encrypt = |sector, from, to| {
            if let Ok(data) = Data::new(from, to) {
                self.transform(Direction::Encrypt, sector, data);
            }
        };
        match self.share(from.len()) {
            None => encrypt(sector, from, to),
            Some(share) => from
                .par_chunks(share)
                .zip(to.par_chunks_mut(share))
                .enumerate()
                .for_each(|(i, (from, to))| encrypt(after(sector, i * share), from, to)),
        }
    }

    fn in_place(&self, direction: Direction, sector: u64, data: &mut [u8]) {
        match self.share(data.len()) {
            None => self.transform(direction, sector, data.into()),
            Some(share) => data
                .par_chunks_mut(share)
                .enumerate()
                .for_each(|(i, data)| {
                    self.transform(direction, after(sector, i * share), data.into());
                }),
        }
    }

    /// How many bytes each core gets of so many; none where waking another one costs more than it would do.
    fn share(&self, len: usize) -> Option<usize> {
        let worth = WORTH_WAKING.saturating_mul(self.modes[0].speed());
        if len / 2 < worth {
            return None;
        }
        let cores = rayon::current_num_threads().min(len / worth);
        let share = len.div_ceil(cores.max(1)).next_multiple_of(self.size);
        (share < len).then_some(share)
    }

    fn transform(&self, direction: Direction, sector: u64, data: Data<'_, '_>) {
        assert!(data.len().is_multiple_of(self.size), "whole sectors");
        // Clearing room for many vectors costs a small request something.
        match data.len() / self.size <= FEW {
            true => {
                self.transform_with(&mut [IvBlock::default(); 2 * FEW], direction, sector, data)
            }
            false => {
                let ivs = &mut [IvBlock::default(); 2 * MOST_UNITS];
                self.transform_with(ivs, direction, sector, data);
            }
        }
    }

    /// Transforms sectors with room for the vectors of as many as there are, or of [`MOST_UNITS`].
    fn transform_with(
        &self,
        ivs: &mut [IvBlock],
        direction: Direction,
        mut sector: u64,
        data: Data<'_, '_>,
    ) {
        let n_at_once = match (&self.modes[..], &self.vectors) {
            ([_], Vectors::Numbered(_) | Vectors::Enciphered(_)) => MOST_UNITS,
            _ => 1,
        };
        let mut rest = data;
        while !rest.is_empty() {
            let n = (rest.len() / self.size).min(n_at_once);
            let (now, left) = rest.split_at(n * self.size);
            rest = left;
            let mode = &*self.modes[sector as usize & (self.modes.len() - 1)];
            let ivs = &mut ivs[..n * mode.iv_blocks()];
            self.transform_units(direction, mode, sector, ivs, now);
            sector = after(sector, n * self.size);
        }
    }

    /// Transforms the sectors for which `ivs` has room.
    fn transform_units(
        &self,
        direction: Direction,
        mode: &dyn Mode,
        sector: u64,
        ivs: &mut [IvBlock],
        mut data: Data<'_, '_>,
    ) {
        let number = sector >> self.shift;
        match &self.vectors {
            Vectors::Numbered(numbering) => {
                self.number(*numbering, mode, sector, ivs);
                mode.transform(direction, ivs, data, self.size);
            }
            Vectors::Enciphered(numbering) => {
                self.number(*numbering, mode, sector, ivs);
                self.encipher(ivs);
                mode.transform(direction, ivs, data, self.size);
            }
            Vectors::Elephant(numbering, diffuser) => {
                self.number(*numbering, mode, sector, ivs);
                self.encipher(ivs);
                let place = number.wrapping_mul(self.size as u64);
                match direction {
                    Direction::Encrypt => {
                        let data = data.into_out_with_copied_in();
                        diffuser.apply(direction, place, data);
                        mode.transform(direction, ivs, data.into(), self.size);
                    }
                    Direction::Decrypt => {
                        mode.transform(direction, ivs, data.reborrow(), self.size);
                        diffuser.apply(direction, place, data.get_out());
                    }
                }
            }
            Vectors::LoopAes(digest) => match direction {
                Direction::Encrypt => {
                    ivs[0].0 = digest.vector(number, data.get_in());
                    mode.transform(direction, ivs, data, self.size);
                }
                Direction::Decrypt => {
                    ivs[0].0 = [0; 16];
                    mode.transform(direction, ivs, data.reborrow(), self.size);
                    let data = data.get_out();
                    let iv = digest.vector(number, data);
                    for (byte, iv) in data.iter_mut().zip(iv) {
                        *byte ^= iv;
                    }
                }
            },
            Vectors::TrueCrypt(whitening) => {
                whitening.vector(number, &mut ivs[0][..mode.iv_size()]);
                match direction {
                    Direction::Encrypt => {
                        mode.transform(direction, ivs, data.reborrow(), self.size);
                        whitening.apply(number, data.get_out());
                    }
                    Direction::Decrypt => {
                        let data = data.into_out_with_copied_in();
                        whitening.apply(number, data);
                        mode.transform(direction, ivs, data.into(), self.size);
                    }
                }
            }
        }
    }

    /// Numbers the vectors of successive sectors from `sector` on.
    #[inline]
    fn number(&self, numbering: Numbering, mode: &dyn Mode, sector: u64, ivs: &mut [IvBlock]) {
        let iv_size = mode.iv_size();
        if iv_size == 0 {
            return;
        }
        let step = self.size as u64 >> SECTOR_SHIFT;
        for (i, iv) in ivs.chunks_exact_mut(mode.iv_blocks()).enumerate() {
            let number = sector.wrapping_add(i as u64 * step) >> self.shift;
            let iv = IvBlock::slice_as_flattened_mut(iv);
            numbering.write(number, &mut iv[..iv_size]);
        }
    }

    /// Replaces vectors by what a block of zeroes with them becomes under the first key.
    fn encipher(&self, ivs: &mut [IvBlock]) {
        let mode = &*self.modes[0];
        let size = mode.iv_size();
        let mut zeroes = [0; 16 * MOST_UNITS];
        let enciphered = &mut zeroes[..size * ivs.len()];
        mode.transform(Direction::Encrypt, ivs, (&mut *enciphered).into(), size);
        for (iv, bytes) in ivs.iter_mut().zip(enciphered.chunks_exact(size)) {
            iv[..size].copy_from_slice(bytes);
        }
    }
}

/// The sector `bytes` further on.
fn after(sector: u64, bytes: usize) -> u64 {
    sector.wrapping_add((bytes >> SECTOR_SHIFT) as u64)
}

/// Bytes at the end of a key of `len` that are not the ciphers'.
fn extra_key_len(spec: &CipherSpec, len: usize) -> usize {
    match spec.iv {
        // A key more than there are sectors to take turns.
        IvKind::Lmk if !len.is_multiple_of(spec.n_keys) => len / (spec.n_keys + 1),
        IvKind::Tcw => Whitening::key_len(spec.algorithm.iv_size()),
        IvKind::Elephant => len / 2,
        _ => 0,
    }
}

impl Vectors {
    fn new(
        kind: IvKind,
        mode: &dyn Mode,
        extra: &[u8],
        size: SectorSize,
    ) -> Result<Vectors, CipherError> {
        let refused = |expected: &str| CipherError::invalid("Error creating IV", expected);
        let needs_small = |name: &str| match size.bytes {
            512 => Ok(()),
            _ => Err(refused(&format!("sectors of 512 bytes for {name}"))),
        };
        let in_bytes = Numbering::Bytes {
            size: u64::from(size.bytes),
        };
        let needs_block = || match mode.block_size() == mode.iv_size() {
            true => Ok(()),
            false => Err(refused("a cipher whose blocks are as long as its vectors")),
        };
        Ok(match kind {
            IvKind::None | IvKind::Null => Vectors::Numbered(Numbering::Null),
            IvKind::Plain => Vectors::Numbered(Numbering::Plain),
            IvKind::Plain64 => Vectors::Numbered(Numbering::Plain64),
            IvKind::Plain64Be => Vectors::Numbered(Numbering::Plain64Be),
            IvKind::Benbi => Vectors::Numbered(Numbering::Benbi {
                shift: SECTOR_SHIFT - mode.block_size().trailing_zeros(),
            }),
            IvKind::Eboiv => {
                needs_block()?;
                Vectors::Enciphered(in_bytes)
            }
            IvKind::Elephant => {
                needs_block()?;
                let cipher = Algorithm::AES_ECB
                    .keyed(extra, Arithmetic::Best)
                    .ok_or_else(|| {
                        CipherError::invalid(
                            "Error initialising IV",
                            "a second half of 16 or 32 bytes",
                        )
                    })?;
                Vectors::Elephant(in_bytes, Diffuser::new(cipher))
            }
            IvKind::Lmk => {
                needs_small("lmk")?;
                if mode.iv_size() != 16 {
                    return Err(refused("a cipher with vectors of 16 bytes for lmk"));
                }
                Vectors::LoopAes(LoopAes::new((!extra.is_empty()).then_some(extra)))
            }
            IvKind::Tcw => {
                needs_small("tcw")?;
                if mode.iv_size() > 16 {
                    return Err(refused("a cipher with vectors of 16 bytes at most for tcw"));
                }
                Vectors::TrueCrypt(Whitening::new(extra, mode.iv_size()))
            }
            IvKind::Random => {
                return Err(CipherError::invalid(
                    "Integrity profile not supported.",
                    "a device below that keeps the vectors (an integrity target, which there is not yet)",
                ));
            }
        })
    }
}
