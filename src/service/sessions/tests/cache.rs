//! Size of a session in the cache, and eviction.

use std::sync::atomic::Ordering;

use chrono::DateTime;

use super::super::cache::Cache;
use super::super::metrics::RareCounters;
use super::world::someone;
use super::*;
use crate::domain::token::{PlainToken, TokenHash};
use crate::service::revocation::fence::Fence;

/// The size classes of the allocator are 256 and 320 bytes.
#[test]
fn a_session_is_small() {
    let counters = 2 * size_of::<usize>();
    let size = size_of::<KnownSession>() + counters;
    assert!(size <= 256, "{size}");
}

#[test]
fn an_evicted_session_is_counted_and_a_refreshed_one_is_not() {
    let metrics = Arc::new(RareCounters::default());
    let evictions = || metrics.evictions.load(Ordering::Relaxed);
    let cache = Cache::new(100, metrics.clone());
    let position = Fence::new(BOUND).position();
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let (user, session) = someone(1, now);
    let known = || Arc::new(KnownSession::new(user.clone(), session.clone(), position));
    let token = || PlainToken::generate().unwrap().hash();
    let first: TokenHash = token();
    for _ in 0..3 {
        cache.insert(first, known());
        assert_eq!((evictions(), cache.len()), (0, 1));
    }
    // Many come back, some after they were taken out.
    let tokens: Vec<TokenHash> = (0..300).map(|_| token()).collect();
    let mut came = 1;
    for number in 0..10_000 {
        for asked in [number % 7, number % 61, number * number % 300] {
            if cache.get(&tokens[asked]).is_none() {
                cache.insert(tokens[asked], known());
                came += 1;
            }
        }
    }
    let left = u64::try_from(cache.len()).unwrap();
    assert!(left <= 100, "{left}");
    assert_eq!(evictions(), came - left);
}
