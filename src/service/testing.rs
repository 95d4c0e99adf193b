//! What tests of this layer have in common: work that is begun, and waits for something.

use std::pin::Pin;
use std::task::{Context, Waker};

/// Begins what has to wait.
pub(crate) fn begun<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(is_waiting(&mut future));
    future
}

/// Goes on with it, and says whether it has to wait any longer.
pub(crate) fn is_waiting<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context).is_pending()
}
