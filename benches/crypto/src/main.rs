//! What AES over sectors costs: ours in each of its ways, AWS-LC and OpenSSL, in one interleaved run.
//!
//! Every candidate of a case works on the same MiB, in turn, one after the other, many times; what is printed are
//! medians of the thread's processor time, as bytes in a nanosecond and in units of AWS-LC. The results are compared before.
//! An argument names the cases that are wanted by a part of their names.

mod libraries;

use dmfs::crypto::{Arithmetic, CipherSpec, SectorCipher, SectorSize};
use libraries::{AwsLc, Library, OpenSsl};
use rustix::time::{ClockId, clock_gettime};

const BYTES: usize = 1 << 20;
const ROUNDS: usize = 61;

/// One comparison.
struct Case {
    spec: &'static str,
    key_len: usize,
    sector: u32,
    encrypt: bool,
}

const fn case(spec: &'static str, key_len: usize, sector: u32, encrypt: bool) -> Case {
    Case {
        spec,
        key_len,
        sector,
        encrypt,
    }
}

const CASES: &[Case] = &[
    case("aes-xts-plain64", 64, 4096, true),
    case("aes-xts-plain64", 64, 4096, false),
    case("aes-xts-plain64", 64, 512, true),
    case("aes-xts-plain64", 64, 512, false),
    case("aes-cbc-plain64", 32, 4096, true),
    case("aes-cbc-plain64", 32, 4096, false),
    case("aes-cbc-plain64", 32, 512, true),
    case("aes-cbc-plain64", 32, 512, false),
    case("aes-ctr-plain64", 32, 4096, true),
    case("aes-ctr-plain64", 32, 512, true),
    // What the processor does without any mode.
    case("aes-ecb", 32, 4096, true),
    case("aes-ecb", 32, 4096, false),
];

/// Encrypts or decrypts sectors from 0 on, in place.
trait Candidate {
    fn run(&mut self, data: &mut [u8]);
}

struct Ours {
    cipher: SectorCipher,
    encrypt: bool,
    /// Not in place, but from here.
    from: Option<Vec<u8>>,
}

impl Candidate for Ours {
    fn run(&mut self, data: &mut [u8]) {
        // In pieces that are left to one core.
        for (i, piece) in data.chunks_mut(128 << 10).enumerate() {
            let sector = (i * (128 << 10) / 512) as u64;
            match &self.from {
                Some(from) => {
                    let from = &from[i * (128 << 10)..][..piece.len()];
                    self.cipher.encrypt_to(sector, from, piece);
                }
                None if self.encrypt => self.cipher.encrypt(sector, piece),
                None => self.cipher.decrypt(sector, piece),
            }
        }
    }
}

struct Other<L> {
    library: L,
    sector: u32,
}

impl<L: Library> Candidate for Other<L> {
    fn run(&mut self, data: &mut [u8]) {
        let step = u64::from(self.sector / 512);
        for (i, sector) in data.chunks_mut(self.sector as usize).enumerate() {
            let mut iv = [0; 16];
            iv[..8].copy_from_slice(&(i as u64 * step).to_le_bytes());
            self.library.sector(&iv, sector);
        }
    }
}

fn thread_nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn candidates(case: &Case) -> Vec<(&'static str, Box<dyn Candidate>)> {
    let key: Vec<u8> = (0..case.key_len).map(|i| (i * 37 + 11) as u8).collect();
    let spec = CipherSpec::parse(case.spec).expect("a cipher of ours");
    let size = SectorSize {
        bytes: case.sector,
        counts_large: false,
    };
    let ours = |arithmetic, from: Option<Vec<u8>>| {
        let cipher = SectorCipher::computed(arithmetic, &spec, &key, size).expect("a key of ours");
        let encrypt = case.encrypt;
        Box::new(Ours {
            cipher,
            encrypt,
            from,
        }) as Box<dyn Candidate>
    };
    let mut all = vec![
        (
            "AWS-LC",
            Box::new(Other {
                library: AwsLc::new(case.spec, &key, case.encrypt),
                sector: case.sector,
            }) as Box<dyn Candidate>,
        ),
        (
            "OpenSSL",
            Box::new(Other {
                library: OpenSsl::new(case.spec, &key, case.encrypt),
                sector: case.sector,
            }),
        ),
        ("portable", ours(Arithmetic::Portable, None)),
        ("one block", ours(Arithmetic::Vectors1, None)),
        ("two blocks", ours(Arithmetic::Vectors2, None)),
        ("four blocks", ours(Arithmetic::Vectors4, None)),
    ];
    if case.encrypt {
        all.push((
            "best, to another place",
            ours(Arithmetic::Best, Some(vec![0x5a; BYTES])),
        ));
    }
    all
}

fn main() {
    println!(
        "| cipher, sector, direction | {} |",
        "candidate: bytes/ns (ratio to AWS-LC)"
    );
    println!("|---|---|");
    let wanted = std::env::args().nth(1).filter(|word| word != "--bench");
    let wanted = wanted.unwrap_or_default();
    for case in CASES {
        let direction = if case.encrypt { "encrypt" } else { "decrypt" };
        let name = format!("{} {} {direction}", case.spec, case.sector);
        if !name.contains(&wanted) {
            continue;
        }
        let mut all = candidates(case);
        let mut memory = vec![0x5a_u8; BYTES + 4096];
        let start = memory.as_ptr().align_offset(4096);
        let data = &mut memory[start..start + BYTES];
        let mut wanted: Option<Vec<u8>> = None;
        for (who, candidate) in &mut all {
            data.fill(0x5a);
            candidate.run(data);
            let wanted = wanted.get_or_insert_with(|| data.to_vec());
            assert!(wanted == data, "{name}: {who} differs");
        }
        let mut times = vec![Vec::new(); all.len()];
        for _ in 0..ROUNDS {
            for ((_, candidate), times) in all.iter_mut().zip(&mut times) {
                let before = thread_nanoseconds();
                candidate.run(data);
                times.push(thread_nanoseconds() - before);
            }
        }
        let medians: Vec<f64> = times
            .iter_mut()
            .map(|times| {
                times.sort_unstable();
                times[times.len() / 2] as f64
            })
            .collect();
        let told: Vec<String> = all
            .iter()
            .zip(&medians)
            .map(|((name, _), median)| {
                format!(
                    "{name}: {:.1} ({:.2})",
                    BYTES as f64 / median,
                    medians[0] / median
                )
            })
            .collect();
        println!("| {name} | {} |", told.join("; "));
    }
}
