//! What a session in memory takes, and who makes room.

use super::super::cache::Cache;
use super::super::metrics::RareCounters;
use super::*;
use crate::domain::token::TokenHash;
use crate::service::revocation::fence::Fence;

/// Of what the allocator gives, 256 bytes are followed by 320.
#[test]
fn a_session_is_small() {
    let counters = 2 * size_of::<usize>();
    let size = size_of::<KnownSession>() + counters;
    assert!(size <= 256, "{size}");
}

#[test]
fn who_makes_room_for_another_is_counted_and_who_is_read_again_is_not() {
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
