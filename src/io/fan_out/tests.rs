#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fan_out;
use crate::io::{Errno, IoError, IoResult};
use crate::sync::{AtomicUsize, Ordering};

/// Carries out a piece per result, both ways, and tells the result after checking that all were carried out.
fn results(pieces: &[IoResult]) -> IoResult {
    let [in_turn, at_once] = [false, true].map(|waits| {
        let done = AtomicUsize::new(0);
        let result = fan_out(pieces, waits, |&piece| {
            done.fetch_add(1, Ordering::Relaxed);
            piece
        });
        assert_eq!(done.into_inner(), pieces.len());
        result
    });
    assert_eq!(in_turn, at_once);
    in_turn
}

#[test]
fn the_first_error_in_order_is_the_result() {
    let no_space: IoResult = Err(Errno::NOSPC.into());
    assert_eq!(results(&[]), Ok(()));
    assert_eq!(results(&[Ok(())]), Ok(()));
    assert_eq!(results(&[Ok(()), Ok(()), Ok(())]), Ok(()));
    assert_eq!(results(&[Ok(()), no_space, Err(IoError::IO)]), no_space);
    assert_eq!(
        results(&[Err(IoError::IO), Ok(()), no_space]),
        Err(IoError::IO)
    );
}

#[test]
fn an_error_for_good_comes_before_one_that_puts_off() {
    let (wait, requeue) = (Err(IoError::WOULD_WAIT), Err(IoError::REQUEUE));
    assert_eq!(results(&[Ok(()), wait, requeue]), wait);
    assert_eq!(results(&[requeue, Ok(()), wait]), requeue);
    assert_eq!(
        results(&[wait, Err(IoError::IO), requeue]),
        Err(IoError::IO)
    );
}

#[test]
fn pieces_own_what_they_fill() {
    let mut buffer = [0u8; 4096];
    let pieces = buffer.chunks_mut(512).enumerate();
    fan_out(pieces, true, |(index, piece)| {
        piece.fill(index as u8);
        Ok(())
    })
    .unwrap();
    assert!(
        buffer
            .iter()
            .enumerate()
            .all(|(at, &byte)| usize::from(byte) == at / 512)
    );
}

#[test]
fn a_nested_fan_out_ends() {
    let done = AtomicUsize::new(0);
    for _ in 0..100 {
        fan_out(0..8, true, |_| {
            fan_out(0..8, true, |_| {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        })
        .unwrap();
    }
    assert_eq!(done.into_inner(), 6_400);
}

#[test]
fn a_piece_that_panics_does_so_after_the_others_are_done() {
    let done = AtomicUsize::new(0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        fan_out(0..8, true, |piece| {
            if piece == 3 {
                panic!("piece three");
            }
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }));
    assert_eq!(
        *result.unwrap_err().downcast::<&str>().unwrap(),
        "piece three"
    );
    assert_eq!(done.into_inner(), 7);
}
