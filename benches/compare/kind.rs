//! What is compared: the columns of the table.

/// How dmfs talks with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// read and write on `/dev/fuse`.
    Classic,
    /// FUSE over io_uring.
    Ring,
}

impl Transport {
    /// The word of `--transport`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Classic => "classic",
            Transport::Ring => "io_uring",
        }
    }
}

/// A device of dmfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// One linear row over all of the file but its first MiB, so that it is never the file itself.
    Linear,
    /// One striped row over the two halves of the file.
    Striped,
    /// Ten linear devices on top of each other.
    Stack,
    /// One device of 10,000 linear rows.
    Rows,
    /// One row of AES-256-XTS in sectors of 4096 bytes over all of the file but its first MiB.
    Crypt,
    /// One linear row over all of the file, which the kernel goes to by itself.
    Passthrough,
    /// One row of another target that has nothing to do but pass requests on.
    Idle(Idle),
    /// As `Linear`, with statistics of the whole device kept.
    Counted,
}

/// A row for a target at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Idle {
    /// The column's name.
    pub name: &'static str,
    /// Target and arguments; `FILE` stands for the backing file, of which 2048 sectors are left out where that can be said.
    pub row: &'static str,
}

/// One way to serve the backing file as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The backing file itself.
    Backing,
    /// The passthrough of one file on the `fuser` crate.
    Plain,
    /// The passthrough of one file without a library.
    Bare,
    /// A device of dmfs.
    Dmfs(Device, Transport),
    /// qemu-storage-daemon's FUSE export of the raw file.
    Qemu,
    /// nbdkit's file plugin under nbdfuse.
    Nbd,
}

const CLASSIC: Transport = Transport::Classic;
const RING: Transport = Transport::Ring;

/// One linear row, by the ordinary transport.
pub const LINEAR: Kind = Kind::Dmfs(Device::Linear, CLASSIC);

/// The whole file, past the daemon.
pub const PASSTHROUGH: Kind = Kind::Dmfs(Device::Passthrough, CLASSIC);

/// All kinds, in the table's order.
pub const KINDS: &[Kind] = &[
    Kind::Backing,
    Kind::Plain,
    Kind::Bare,
    PASSTHROUGH,
    LINEAR,
    Kind::Dmfs(Device::Striped, CLASSIC),
    Kind::Dmfs(Device::Stack, CLASSIC),
    Kind::Dmfs(Device::Rows, CLASSIC),
    Kind::Dmfs(Device::Crypt, CLASSIC),
    Kind::Dmfs(Device::Linear, RING),
    Kind::Dmfs(Device::Striped, RING),
    Kind::Dmfs(Device::Stack, RING),
    Kind::Dmfs(Device::Rows, RING),
    Kind::Dmfs(Device::Crypt, RING),
    Kind::Qemu,
    Kind::Nbd,
    idle("delay-0", "delay FILE 2048 0"),
    idle("flakey", "flakey FILE 2048 1000000 1"),
    idle("dust", "dust FILE 2048 4096"),
    idle("switch", "switch 2 128 0 FILE 2048 FILE 2048"),
    idle("ebs", "ebs FILE 2048 8"),
    idle("multipath", "multipath 0 0 1 1 round-robin 0 1 1 FILE 1000"),
    // Its log takes no writes for long: only reads say something.
    idle("log-writes", "log-writes FILE mem:16M"),
    COUNTED,
];

/// With statistics.
pub const COUNTED: Kind = Kind::Dmfs(Device::Counted, CLASSIC);

const fn idle(name: &'static str, row: &'static str) -> Kind {
    Kind::Dmfs(Device::Idle(Idle { name, row }), CLASSIC)
}

impl Kind {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Backing => "backing-file",
            Kind::Plain => "plain-fuser",
            Kind::Bare => "bare",
            Kind::Dmfs(Device::Linear, Transport::Classic) => "linear",
            Kind::Dmfs(Device::Striped, Transport::Classic) => "striped",
            Kind::Dmfs(Device::Stack, Transport::Classic) => "stack-10",
            Kind::Dmfs(Device::Rows, Transport::Classic) => "rows-10000",
            Kind::Dmfs(Device::Crypt, Transport::Classic) => "crypt",
            Kind::Dmfs(Device::Crypt, Transport::Ring) => "crypt-uring",
            Kind::Dmfs(Device::Passthrough, _) => "passthrough",
            Kind::Dmfs(Device::Idle(idle), _) => idle.name,
            Kind::Dmfs(Device::Counted, _) => "counted",
            Kind::Dmfs(Device::Linear, Transport::Ring) => "linear-uring",
            Kind::Dmfs(Device::Striped, Transport::Ring) => "striped-uring",
            Kind::Dmfs(Device::Stack, Transport::Ring) => "stack-10-uring",
            Kind::Dmfs(Device::Rows, Transport::Ring) => "rows-10000-uring",
            Kind::Qemu => "qemu-storage-daemon",
            Kind::Nbd => "nbdfuse",
        }
    }

    /// True for what is measured only where it is asked for.
    pub fn is_rare(self) -> bool {
        matches!(self, Kind::Dmfs(Device::Idle(_) | Device::Counted, _))
    }

    /// The programs that have to be installed.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Backing | Kind::Plain | Kind::Bare | Kind::Dmfs(..) => &[],
            Kind::Qemu => &["qemu-storage-daemon"],
            Kind::Nbd => &["nbdkit", "nbdfuse"],
        }
    }

    /// True if only root can start it.
    pub fn needs_root(self) -> bool {
        matches!(self, Kind::Bare | Kind::Dmfs(Device::Passthrough, _))
    }

    /// What its rate has to be known in units of; the most important first.
    pub fn compared_with(self) -> &'static [Kind] {
        match self {
            Kind::Backing | Kind::Plain => &[],
            Kind::Bare => &[Kind::Plain],
            Kind::Dmfs(Device::Passthrough, _) => &[Kind::Backing],
            Kind::Dmfs(Device::Linear, _) => &[Kind::Plain, Kind::Bare],
            Kind::Dmfs(_, Transport::Classic) => &[LINEAR],
            Kind::Dmfs(_, Transport::Ring) => &[Kind::Dmfs(Device::Linear, RING)],
            Kind::Qemu | Kind::Nbd => &[LINEAR],
        }
    }

    /// How well its ratios have to be known, in units of what was asked for: it takes little to tell that
    /// something is several times as slow.
    pub fn tolerance(self) -> f64 {
        match self {
            Kind::Qemu | Kind::Nbd => 5.0,
            _ => 1.0,
        }
    }
}
