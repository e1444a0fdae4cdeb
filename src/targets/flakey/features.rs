//! What a flakey device does while it is down, as its table line says it.

use std::fmt;

use crate::io::{Flags, OpKind};
use crate::target::{BuildArgs, BuildError};

/// A write that is to be durable, in the kernel's request flags (REQ_FUA).
const FUA: u32 = 1 << 17;

/// What becomes of requests while the device is down.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) error_reads: bool,
    pub(super) writes: Writes,
    pub(super) corruption: Option<Corruption>,
    random_read: u32,
    random_write: u32,
}

/// What becomes of writes and flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writes {
    #[default]
    Pass,
    /// They succeed, and do nothing.
    Drop,
    Fail,
}

/// A byte that is replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Corruption {
    /// Which one of a request, from 1.
    pub(super) nth: u32,
    writes: bool,
    /// What it becomes.
    pub(super) value: u8,
    /// Of requests with all of these of the kernel's request flags.
    flags: u32,
}

impl Corruption {
    /// Whether a request is one of those.
    pub(super) fn concerns(&self, kind: OpKind, flags: Flags) -> bool {
        let (operation, writes) = match kind {
            OpKind::Read => (0, false),
            OpKind::Write => (1, true),
            // These have no data.
            OpKind::Flush | OpKind::Discard | OpKind::WriteZeroes => return false,
        };
        let has = operation | if flags.fua { FUA } else { 0 };
        self.writes == writes && has & self.flags == self.flags
    }
}

impl Features {
    /// Reads the features, which end the line; what follows them is not looked at, as in the kernel (dm-flakey.c:
    /// parse_features).
    ///
    /// # Errors
    /// EINVAL with the kernel's text.
    pub(super) fn read(args: &mut BuildArgs<'_>) -> Result<Features, BuildError> {
        let mut features = Features::default();
        if args.left() > 0 {
            // How many words are left of those that were announced. More may be taken: the kernel's count then wraps, and
            // the words run out.
            let mut announced = args.group(
                0..=11,
                "Invalid number of feature args",
                "a number of feature words",
            )?;
            while announced > 0 {
                let before = args.left();
                features.read_one(announced - 1, args)?;
                announced = announced.wrapping_sub(before - args.left());
            }
        }
        features.check(args)?;
        if features == Features::default() {
            features.error_reads = true;
            features.writes = Writes::Fail;
        }
        Ok(features)
    }

    /// Reads one feature, after whose name `announced` words are still said to come.
    fn read_one(&mut self, announced: usize, args: &mut BuildArgs<'_>) -> Result<(), BuildError> {
        const NAMES: &str = "error_reads, drop_writes, error_writes, corrupt_bio_byte, random_read_corrupt or \
                             random_write_corrupt";
        let name = args.word("Insufficient feature arguments", NAMES)?;
        match name.to_ascii_lowercase().as_str() {
            "error_reads" => {
                if std::mem::replace(&mut self.error_reads, true) {
                    let text = "Feature error_reads duplicated";
                    return Err(args.refuse_last(text, "it once"));
                }
            }
            "drop_writes" => self.set_writes(Writes::Drop, args)?,
            "error_writes" => self.set_writes(Writes::Fail, args)?,
            "corrupt_bio_byte" => {
                if announced == 0 {
                    let text = "Feature corrupt_bio_byte requires parameters";
                    let expected = "4 more feature words: <nth_byte> <r|w> <value> <flags>";
                    return Err(args.refuse_last(text, expected));
                }
                self.corruption = Some(Corruption::read(args)?);
            }
            "random_read_corrupt" => {
                self.random_read = read_probability("random_read_corrupt", announced, args)?;
            }
            "random_write_corrupt" => {
                self.random_write = read_probability("random_write_corrupt", announced, args)?;
            }
            _ => return Err(args.refuse_last("Unrecognised flakey feature requested", NAMES)),
        }
        Ok(())
    }

    fn set_writes(&mut self, writes: Writes, args: &BuildArgs<'_>) -> Result<(), BuildError> {
        let refusal = match (self.writes, writes) {
            (Writes::Drop, Writes::Drop) => "Feature drop_writes duplicated",
            (Writes::Fail, Writes::Fail) => "Feature error_writes duplicated",
            (Writes::Fail, _) => "Feature drop_writes conflicts with feature error_writes",
            (Writes::Drop, _) => "Feature error_writes conflicts with feature drop_writes",
            (Writes::Pass, _) => {
                self.writes = writes;
                return Ok(());
            }
        };
        Err(args.refuse_last(refusal, "one of drop_writes and error_writes, once"))
    }

    /// Whether the features go together.
    fn check(&self, args: &BuildArgs<'_>) -> Result<(), BuildError> {
        let corrupts_writes = self.corruption.as_ref().is_some_and(|fixed| fixed.writes);
        let name = match self.writes {
            Writes::Drop if corrupts_writes => "drop_writes",
            Writes::Fail if corrupts_writes => "error_writes",
            Writes::Pass | Writes::Drop | Writes::Fail => return Ok(()),
        };
        let text = format!("{name} is incompatible with corrupt_bio_byte with the WRITE flag set");
        Err(args.refuse(
            &text,
            "writes that are corrupted, dropped or failed, one of these",
        ))
    }

    /// How likely a request is to be corrupted, in thousand millionths.
    pub(super) fn probability(&self, kind: OpKind) -> u32 {
        match kind {
            OpKind::Read => self.random_read,
            OpKind::Write => self.random_write,
            OpKind::Flush | OpKind::Discard | OpKind::WriteZeroes => 0,
        }
    }
}

impl Corruption {
    fn read(args: &mut BuildArgs<'_>) -> Result<Corruption, BuildError> {
        let nth = args.number(
            1..=u32::MAX,
            "Invalid corrupt bio byte",
            "which byte of a request, counted from 1",
        )?;
        let text = "Invalid corrupt bio direction (r or w)";
        let writes = match args.word(text, "r or w")? {
            "w" | "W" => true,
            "r" | "R" => false,
            _ => return Err(args.refuse_last(text, "r or w")),
        };
        let value = args.number(
            0..=255,
            "Invalid corrupt value to write into bio byte (0-255)",
            "a byte",
        )?;
        let flags = args.number(
            0..=u32::MAX,
            "Invalid corrupt bio flags mask",
            "a mask of request flags, 0 for any request",
        )?;
        Ok(Corruption {
            nth,
            writes,
            value: value as u8,
            flags,
        })
    }
}

fn read_probability(
    name: &str,
    announced: usize,
    args: &mut BuildArgs<'_>,
) -> Result<u32, BuildError> {
    let what = "a probability in thousand millionths";
    if announced == 0 {
        let text = format!("Feature {name} requires a parameter");
        return Err(args.refuse_last(&text, format!("one more feature word: {what}")));
    }
    args.number(0..=1_000_000_000, "Invalid random corrupt argument", what)
}

impl fmt::Display for Features {
    /// As the kernel shows them (6.12): their number of words, then the words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.error_reads {
            words.push("error_reads".to_owned());
        }
        match self.writes {
            Writes::Pass => {}
            Writes::Drop => words.push("drop_writes".to_owned()),
            Writes::Fail => words.push("error_writes".to_owned()),
        }
        if let Some(Corruption {
            nth,
            writes,
            value,
            flags,
        }) = &self.corruption
        {
            let direction = if *writes { 'w' } else { 'r' };
            words.push(format!(
                "corrupt_bio_byte {nth} {direction} {value} {flags}"
            ));
        }
        for (name, probability) in [
            ("random_read_corrupt", self.random_read),
            ("random_write_corrupt", self.random_write),
        ] {
            if probability > 0 {
                words.push(format!("{name} {probability}"));
            }
        }
        let text = words.join(" ");
        write!(f, "{}", text.split_ascii_whitespace().count())?;
        match text.is_empty() {
            true => Ok(()),
            false => write!(f, " {text}"),
        }
    }
}
