#![allow(clippy::unwrap_used)]

use crate::io::{IoError, Request};
use crate::target::Naming;
use crate::targets::tests::{build, each_is_refused, message, read, write};
use crate::unit::{Sector, Sectors};

#[test]
fn lines_are_refused_in_the_kernels_words() {
    each_is_refused(&[
        ("0 8 error {0} x", "Invalid device sector (-EINVAL)"),
        ("0 8 error nosuch x", "Invalid device sector (-EINVAL)"),
        ("0 8 error nosuch 0", "Device lookup failed (-ENODEV)"),
    ]);
}

#[test]
fn other_words_are_ignored() {
    for (given, shown) in [("", ""), ("x", ""), ("{0} 0 1", ""), ("{0} 8", "{0} 8")] {
        let table = build(&format!("0 8 error {given}")).unwrap();
        let target = table.rows()[0].target();
        assert_eq!(
            (
                target.args(Naming::Paths).as_str(),
                target.status(Naming::Paths).as_str()
            ),
            (shown, "")
        );
    }
}

#[test]
fn everything_fails_but_a_flush() {
    for line in ["0 8 error", "0 8 error {0} 8"] {
        let table = build(line).unwrap();
        let io = Err(IoError::IO);
        assert_eq!(read(&table, 0, 1).map(drop), io);
        assert_eq!(write(&table, 0, &[1; 512]), io);
        let discard = Request::discard(Sector(0), Sectors(8));
        assert_eq!(table.submit(discard), io, "{line}");
        let zeroes = Request::write_zeroes(Sector(0), Sectors(8), true);
        assert_eq!(table.submit(zeroes), io);
        assert_eq!(table.submit(Request::flush()), Ok(()));
        assert!(message(&table, "x").is_err());
    }
}
