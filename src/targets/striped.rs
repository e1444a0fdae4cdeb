//! `striped <#stripes> <chunk_sectors> [<dev> <offset>]{#stripes}`: chunks dealt over devices in turn.
//!
//! Keeps nothing on disk. A request over several chunks goes to each stripe as one (vectored) request: the
//! chunks of a stripe lie one after the other there. An I/O error marks its stripe `D` in the status.

use crate::io::{
    Buffer, DevRef, Extent, IoError, IoResult, Limits, Op, Part, Piece, Plan, Request, Unplanned,
    Watch, fan_out,
};
use crate::sync::{Arc, AtomicU32, Ordering};
use crate::target::{
    Behaviour, BuildArgs, BuildError, EventSink, Mapping, ModelRow, Naming, Rules, Target,
    TargetKind,
};
use crate::unit::{Bytes, SECTOR_SIZE, Sector, Sectors};

/// The registry's entry.
pub static KIND: TargetKind = TargetKind {
    name: "striped",
    version: [1, 6, 0],
    summary: "chunks dealt over several devices in turn",
    syntax: "striped <#stripes> <chunk_sectors> [<dev> <offset>]{#stripes}",
    rules: Rules::NONE,
    build,
    model: &[
        ModelRow {
            len: 441,
            args: "3 7 {0} 0 {1} 8 {2} 16",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 2048,
            args: "2 128 {0} 3 {1} 5",
            behaves: Behaviour::Disk,
        },
        ModelRow {
            len: 64,
            args: "1 8 {0} 1",
            behaves: Behaviour::Disk,
        },
    ],
};

/// Errors of one stripe beyond which no further event is raised (dm-stripe.c: DM_IO_ERROR_THRESHOLD).
const EVENTS_PER_STRIPE: u32 = 15;

struct Striped {
    stripes: Vec<Stripe>,
    chunk: u64,
    /// A stripe's device makes the caller wait.
    waits: bool,
}

struct Stripe {
    range: DevRef,
    errors: Arc<StripeErrors>,
}

/// How often a stripe has failed, and who is told.
struct StripeErrors {
    count: AtomicU32,
    events: Arc<dyn EventSink>,
}

impl StripeErrors {
    fn note(&self, error: IoError) {
        if error != IoError::UNSUPPORTED && !error.is_put_off() {
            let before = self.count.fetch_add(1, Ordering::Relaxed);
            if before + 1 < EVENTS_PER_STRIPE {
                self.events.raise();
            }
        }
    }
}

/// Notes how a part of a plan on one stripe ends.
struct StripeWatch(Arc<StripeErrors>);

impl Watch for StripeWatch {
    fn ended(self: Box<Self>, result: IoResult) {
        if let Err(error) = result {
            self.0.note(error);
        }
    }

    fn put_off(self: Box<Self>) {}
}

fn build(args: &mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError> {
    args.check_count(|left| left >= 2, "Not enough arguments", KIND.syntax)?;
    let count = args.positive_u32("Invalid stripe count", "a number of stripes")?;
    let chunk = args.positive_u32("Invalid chunk_size", "a chunk size in sectors")?;
    let (count_sectors, chunk) = (u64::from(count), u64::from(chunk));
    if !args.len.0.is_multiple_of(count_sectors) {
        return Err(args.refuse(
            "Target length not divisible by number of stripes",
            format!(
                "a length that is a multiple of {count} stripes, not {}",
                args.len
            ),
        ));
    }
    let stripe_len = args.len.0 / count_sectors;
    if !stripe_len.is_multiple_of(chunk) {
        return Err(args.refuse(
            "Target length not divisible by chunk size",
            format!("a length per stripe that is a multiple of {chunk} sectors, not {stripe_len}"),
        ));
    }
    args.check_count(
        |left| left as u64 == 2 * count_sectors,
        "Not enough destinations specified",
        &format!("a device and its first sector for each of {count} stripes"),
    )?;
    let stripes = (0..count)
        .map(|_| {
            let text = "Couldn't parse stripe destination";
            let range = args.device_range(Sectors(stripe_len), text, text)?;
            let errors = Arc::new(StripeErrors {
                count: AtomicU32::new(0),
                events: args.events.clone(),
            });
            Ok(Stripe { range, errors })
        })
        .collect::<Result<Vec<_>, BuildError>>()?;
    let waits = stripes.iter().any(|stripe| stripe.range.limits().waits);
    Ok(Box::new(Striped {
        waits,
        stripes,
        chunk,
    }))
}

impl Striped {
    /// The stripe that holds the sector `at` of the row, and the sector there.
    #[inline]
    fn place(&self, at: Sector) -> (usize, Sector) {
        let count = self.stripes.len() as u64;
        let (chunk, inside) = (at.0 / self.chunk, at.0 % self.chunk);
        (
            (chunk % count) as usize,
            Sector(chunk / count * self.chunk + inside),
        )
    }

    fn submit_to(&self, stripe: usize, request: Request<'_>) -> IoResult {
        let stripe = &self.stripes[stripe];
        let result = stripe.range.submit(request);
        result.inspect_err(|&error| stripe.errors.note(error))
    }

    /// Plans a part that lies on one stripe.
    fn plan_on(&self, stripe: usize, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        let stripe = &self.stripes[stripe];
        let first = plan.n_pieces();
        stripe.range.plan(part, plan)?;
        plan.watch(first, Box::new(StripeWatch(stripe.errors.clone())));
        Ok(())
    }

    /// Where on stripe `index` the part of a range of the row begins or ends, if the range does at `at`: a place
    /// on another stripe counts as the nearest chunk boundary of this one (dm-stripe.c: stripe_map_range_sector).
    fn boundary(&self, index: usize, at: Sector) -> Sector {
        let (stripe, sector) = self.place(at);
        if stripe == index {
            return sector;
        }
        let chunk_start = sector.0 / self.chunk * self.chunk;
        Sector(if index < stripe {
            chunk_start + self.chunk
        } else {
            chunk_start
        })
    }

    /// Cuts a range of the row at chunk boundaries and hands each piece's stripe, place there and length to `deal`.
    fn deal(&self, mut at: Sector, end: Sector, mut deal: impl FnMut(usize, Sector, Sectors)) {
        while at < end {
            let len = Sectors((self.chunk - at.0 % self.chunk).min(end.0 - at.0));
            let (stripe, sector) = self.place(at);
            deal(stripe, sector, len);
            at = at + len;
        }
    }

    /// Carries out one request on each of several stripes.
    fn submit_all<'d>(&self, requests: impl Iterator<Item = (usize, Request<'d>)>) -> IoResult {
        fan_out(requests, self.waits, |(stripe, request)| {
            self.submit_to(stripe, request)
        })
    }

    fn submit_range<'d>(
        &self,
        at: Sector,
        end: Sector,
        make: impl Fn(Sector, Sectors) -> Request<'d>,
    ) -> IoResult {
        self.submit_all((0..self.stripes.len()).filter_map(|stripe| {
            let (begin, end) = (self.boundary(stripe, at), self.boundary(stripe, end));
            (begin < end).then(|| (stripe, make(begin, end - begin)))
        }))
    }

    /// Deals a buffer for `[at, end)` over the stripes: what each gets is in one piece of its device.
    fn share_out<P: Piece>(
        &self,
        at: Sector,
        end: Sector,
        buffer: Buffer<P>,
    ) -> impl Iterator<Item = Share<P>> {
        let mut shares: Vec<Share<P>> = (0..self.stripes.len()).map(Share::new).collect();
        let mut rest = buffer;
        self.deal(at, end, |stripe, sector, len| {
            let (piece, after) = std::mem::take(&mut rest).split_at(len.to_bytes());
            shares[stripe].add(sector, piece.into_pieces());
            rest = after;
        });
        shares.into_iter().filter(|share| !share.pieces.is_empty())
    }
}

/// What one stripe gets of a request: where it begins there, and its data in pieces.
struct Share<P> {
    stripe: usize,
    at: Sector,
    pieces: Vec<P>,
}

impl<P: Piece> Share<P> {
    fn new(stripe: usize) -> Share<P> {
        Share {
            stripe,
            at: Sector(0),
            pieces: Vec::new(),
        }
    }

    fn add(&mut self, at: Sector, pieces: Vec<P>) {
        if self.pieces.is_empty() {
            self.at = at;
        }
        self.pieces.extend(pieces);
    }

    fn request<'d>(self, make: impl Fn(Sector, Buffer<P>) -> Request<'d>) -> (usize, Request<'d>) {
        (self.stripe, make(self.at, Buffer::from_pieces(self.pieces)))
    }
}

impl Target for Striped {
    fn submit(&self, mut request: Request<'_>) -> IoResult {
        let (at, end, flags) = (request.at, request.end(), request.flags);
        if at.0 % self.chunk + request.len.0 <= self.chunk {
            let (stripe, sector) = self.place(at);
            request.at = sector;
            return self.submit_to(stripe, request);
        }
        match request.op {
            Op::Read(buffer) => self.submit_all(self.share_out(at, end, buffer).map(|share| {
                share.request(|at, buffer| Request::read(at, buffer).with_flags(flags))
            })),
            Op::Write(buffer) => self.submit_all(self.share_out(at, end, buffer).map(|share| {
                share.request(|at, buffer| Request::write(at, buffer).with_flags(flags))
            })),
            Op::Discard => self.submit_range(at, end, |at, len| {
                Request::discard(at, len).with_flags(flags)
            }),
            Op::WriteZeroes { may_unmap } => self.submit_range(at, end, |at, len| {
                Request::write_zeroes(at, len, may_unmap).with_flags(flags)
            }),
            // The core flushes the devices by itself.
            Op::Flush => Ok(()),
        }
    }

    fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        let mut result = Ok(());
        let mut data = part.data;
        self.deal(part.at, part.end(), |stripe, at, len| {
            if result.is_ok() {
                result = self.plan_on(stripe, Part { at, len, data }, plan);
                data = Bytes(data.0 + len.to_bytes().0);
            }
        });
        result
    }

    fn args(&self, naming: Naming) -> String {
        let mut args = format!("{} {}", self.stripes.len(), self.chunk);
        for stripe in &self.stripes {
            args.push_str(&format!(
                " {} {}",
                naming.of(&stripe.range),
                stripe.range.start()
            ));
        }
        args
    }

    fn status(&self, naming: Naming) -> String {
        let mut status = self.stripes.len().to_string();
        for stripe in &self.stripes {
            status.push(' ');
            status.push_str(&naming.of(&stripe.range));
        }
        status.push_str(" 1 ");
        status.extend(self.stripes.iter().map(|stripe| {
            if stripe.errors.count.load(Ordering::Relaxed) == 0 {
                'A'
            } else {
                'D'
            }
        }));
        status
    }

    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef)) {
        self.stripes.iter().for_each(|stripe| visit(&stripe.range));
    }

    fn limits(&self, stacked: &mut Limits) {
        let chunk_bytes = u32::try_from(self.chunk * SECTOR_SIZE).unwrap_or(0);
        let width = u32::try_from(self.stripes.len())
            .ok()
            .and_then(|count| chunk_bytes.checked_mul(count));
        stacked.stack(&Limits {
            io_min: chunk_bytes,
            io_opt: width.unwrap_or(0),
            ..Limits::STACKING
        });
    }

    fn mapping_at(&self, at: Sector, _row_len: Sectors) -> Mapping<'_> {
        let (stripe, sector) = self.place(at);
        let left_in_chunk = Sectors(self.chunk - at.0 % self.chunk);
        Mapping::to(&self.stripes[stripe].range, sector, left_in_chunk)
    }

    fn extent_at(&self, at: Sector, row_len: Sectors) -> Extent {
        let (stripe, sector) = self.place(at);
        let below = self.stripes[stripe].range.extent_at(sector);
        let in_chunk = (below.end - sector).0.min(self.chunk - at.0 % self.chunk);
        Extent {
            end: Sector((at.0 + in_chunk).min(row_len.0)),
            ..below
        }
    }
}
