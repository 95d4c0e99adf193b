//! Test helpers of the service layer: futures that are started and then wait.

use std::pin::Pin;
use std::task::{Context, Waker};

/// Polls a future once and asserts that it waits.
pub(crate) fn begun<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(is_waiting(&mut future));
    future
}

/// Polls a future and returns whether it still waits.
pub(crate) fn is_waiting<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context).is_pending()
}
