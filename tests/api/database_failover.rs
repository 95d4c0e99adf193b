//! Database failover: the service follows to the new primary by itself, and keeps its promises meanwhile. Each test
//! starts a cluster of its own. Promised are: writes succeed within five seconds of the moment at which the new primary
//! is reachable, a revocation is known within the staleness bound and by STRONG checks at once, and a valid session is
//! never refused. SQLite has no server: see scripts/test.sh.

mod closed;
mod credentials;
mod deallocation;
mod galera;
mod hosts;
mod isolated;
mod load;
mod promotion;
mod readiness;
mod scene;
mod split;
mod stale_plan;
mod watch;
mod writes;
