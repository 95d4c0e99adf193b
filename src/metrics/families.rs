//! Catalogue of the metrics: the one list of their names, labels, help texts and sources.

use super::{Family, label_counts, labelled, unlabelled};
use crate::domain::throttle::SubjectKind;
use crate::grpc::CODES;
use crate::telemetry::histogram::Times;

/// All metric families, in the order of the scrape.
pub const FAMILIES: &[Family] = &[
    Family::info(
        "phone_identity_build_info",
        "Always 1; the labels are the version of the program and the commit of its source",
        |_| vec![labelled([env!("CARGO_PKG_VERSION"), COMMIT], 1_u64)],
    )
    .with_labels(&["version", "commit"]),
    Family::counter(
        "phone_identity_grpc_requests_total",
        "Completed calls by RPC (other: health, reflection and unknown paths) and gRPC status code",
        |scrape| {
            let calls = scrape.calls.iter().flat_map(|calls| {
                let codes = CODES.into_iter().zip(calls.ended);
                // A code that never occurred has no sample, except OK.
                let seen = codes.filter(|(code, ended)| *ended > 0 || *code == "OK");
                seen.map(|(code, ended)| labelled([calls.rpc, code], ended))
            });
            calls.collect()
        },
    )
    .with_labels(&["rpc", "code"]),
    Family::histogram(
        "phone_identity_grpc_request_duration_seconds",
        "Duration of calls, from the request headers to the response",
        |scrape| {
            let calls = scrape.calls.iter();
            calls.map(|calls| labelled([calls.rpc], calls.times.clone())).collect()
        },
    )
    .with_labels(&["rpc"]),
    Family::gauge(
        "phone_identity_grpc_requests_in_flight",
        "Calls in flight",
        |scrape| unlabelled(scrape.calls.iter().map(|calls| calls.in_flight).sum::<u64>()),
    ),
    Family::gauge(
        "phone_identity_connections",
        "Open client connections",
        |scrape| unlabelled(scrape.connections.0),
    ),
    Family::counter(
        "phone_identity_connections_refused_total",
        "Connections closed at once because --max-connections was reached",
        |scrape| unlabelled(scrape.connections.1),
    ),
    Family::counter(
        "phone_identity_sign_ins_total",
        "Sign-ins by password: success, invalid_credentials, account_deactivated, throttled, overloaded or error",
        |scrape| {
            let sign_ins = scrape.sign_ins.iter();
            sign_ins.map(|(outcome, count)| labelled([outcome], *count)).collect()
        },
    )
    .with_labels(&["outcome"]),
    Family::counter(
        "phone_identity_throttled_total",
        "Calls rejected with TOO_MANY_ATTEMPTS, by RPC and by the subject that reached its limit. Subjects: \
         number, phone_claim, person, device, code, known_code, code_guess, known_code_guess, address, creation \
         or service",
        |scrape| {
            let all = scrape.calls.iter().flat_map(|calls| {
                let kinds = SubjectKind::ALL.into_iter().zip(calls.throttled);
                let seen = kinds.filter(|(_, count)| *count > 0);
                seen.map(|(kind, count)| labelled([calls.rpc, kind.as_str()], count))
            });
            all.collect()
        },
    )
    .with_labels(&["rpc", "by"]),
    Family::counter(
        "phone_identity_codes_total",
        "One-time codes by purpose, outcome and country of the number. Outcomes: sent, not_sent (requested, but \
         no account receives it), verified, or refused (a wrong code was submitted). Countries: two letters, 001 \
         for numbers without a country, or unknown",
        |scrape| label_counts(&scrape.codes),
    )
    .with_labels(&["purpose", "outcome", "country"]),
    Family::counter(
        "phone_identity_sms_messages_total",
        "Requests to SMS providers to send a message, by provider, outcome and country. Outcomes: taken, failed \
         (may be retried), or refused",
        |scrape| label_counts(&scrape.messages),
    )
    .with_labels(&["provider", "outcome", "country"]),
    Family::counter(
        "phone_identity_sms_refusals_total",
        "Requested SMS that a limit rejected, by reason and country. Reasons: country_not_allowed; number, \
         prefix, address, service, country or total (this limit is reached); budget (the daily budget is used \
         up); paused or paused_for_source (too few codes to the prefix are verified: of all clients, or of this \
         client address)",
        |scrape| label_counts(&scrape.sms_refusals),
    )
    .with_labels(&["reason", "country"]),
    Family::gauge(
        "phone_identity_outbox_messages",
        "SMS in the outbox, not yet accepted or given up, of all replicas; counted every 10 seconds",
        |scrape| {
            scrape
                .backlog
                .map(|backlog| unlabelled(backlog.messages))
                .unwrap_or_default()
        },
    ),
    Family::gauge(
        "phone_identity_outbox_age_seconds",
        "Age of the oldest of these SMS at the last count; 0 without any",
        |scrape| scrape.backlog.map(|backlog| unlabelled(backlog.age)).unwrap_or_default(),
    ),
    Family::gauge(
        "phone_identity_audit_events",
        "Estimated number of audit events, every --cleanup-interval; absent without --audit-max-rows",
        |scrape| scrape.audit_rows.map(|(rows, _)| unlabelled(rows)).unwrap_or_default(),
    ),
    Family::gauge(
        "phone_identity_audit_events_limit",
        "Maximum number of events in the audit log, --audit-max-rows",
        |scrape| scrape.audit_rows.map(|(_, limit)| unlabelled(limit)).unwrap_or_default(),
    ),
    Family::gauge(
        "phone_identity_sessions_alive",
        "Sessions that are neither revoked nor expired, at the last cleanup (--cleanup-interval)",
        |scrape| scrape.sessions.alive.map(unlabelled).unwrap_or_default(),
    ),
    Family::counter(
        "phone_identity_session_cache_hits_total",
        "Session checks answered from the cache",
        |scrape| unlabelled(scrape.sessions.hits),
    ),
    Family::counter(
        "phone_identity_session_cache_misses_total",
        "Session checks that may use the cache, but queried the database",
        |scrape| unlabelled(scrape.sessions.misses),
    ),
    Family::gauge(
        "phone_identity_session_cache_entries",
        "Sessions in the cache",
        |scrape| unlabelled(scrape.sessions.cached),
    ),
    Family::counter(
        "phone_identity_session_cache_evictions_total",
        "Sessions evicted because the cache was full",
        |scrape| unlabelled(scrape.sessions.evictions),
    ),
    Family::gauge(
        "phone_identity_change_log_age_seconds",
        "Age of the last complete change-log reading; above --staleness-bound, checks query the database",
        |scrape| unlabelled(scrape.sessions.change_log_lag),
    ),
    Family::counter(
        "phone_identity_change_log_reads_failed_total",
        "Failed readings of the change log",
        |scrape| unlabelled(scrape.sessions.change_log_failures),
    ),
    Family::gauge(
        "phone_identity_hash_queue_jobs",
        "Passwords that wait to be hashed",
        |scrape| unlabelled(scrape.hasher.depth),
    ),
    Family::gauge(
        "phone_identity_hash_queue_limit_jobs",
        "Maximum number of passwords that may wait to be hashed",
        |scrape| unlabelled(scrape.hasher.limit),
    ),
    Family::histogram(
        "phone_identity_hash_queue_wait_seconds",
        "Time that passwords waited to be hashed",
        |scrape| unlabelled(scrape.hasher.waits.clone()),
    ),
    Family::counter(
        "phone_identity_hash_queue_refused_total",
        "Passwords rejected because the queue was full",
        |scrape| unlabelled(scrape.hasher.refused),
    ),
    Family::counter(
        "phone_identity_hash_queue_displaced_total",
        "Passwords of the longest flow removed from a full queue in favour of another flow",
        |scrape| unlabelled(scrape.hasher.displaced),
    ),
    Family::gauge(
        "phone_identity_hash_queue_flows",
        "Flows (service, network, bucket of the number) with passwords that wait to be hashed",
        |scrape| unlabelled(scrape.hasher.flows),
    ),
    Family::counter(
        "phone_identity_hash_queue_abandoned_total",
        "Passwords not hashed because their caller had disconnected",
        |scrape| unlabelled(scrape.hasher.dropped),
    ),
    Family::counter(
        "phone_identity_hashes_total",
        "Passwords hashed or verified",
        |scrape| unlabelled(scrape.hasher.completed),
    ),
    Family::gauge(
        "phone_identity_hash_relief",
        "1 while ordinary-priority threads hash, because other processes starve the hashing threads; otherwise 0",
        |scrape| unlabelled(u64::from(scrape.hasher.is_relieved)),
    ),
    Family::counter(
        "phone_identity_hash_relief_jobs_total",
        "Passwords hashed or verified by these ordinary-priority threads",
        |scrape| unlabelled(scrape.hasher.relieved),
    ),
    Family::histogram(
        "phone_identity_hash_duration_seconds",
        "Time to hash or verify a password, without the wait",
        |scrape| unlabelled(scrape.hasher.hashes.clone()),
    ),
    Family::gauge(
        "phone_identity_hash_threads",
        "Maximum number of concurrent hashes",
        |scrape| unlabelled(scrape.hash_threads),
    ),
    Family::gauge(
        "phone_identity_database_up",
        "1 if a database that accepts writes responds, otherwise 0",
        |scrape| unlabelled(u64::from(scrape.database_is_up)),
    ),
    Family::gauge(
        "phone_identity_database_connections",
        "Database connections by pool and state (used or idle). Pools: main, change_log and lists; on SQLite \
         reader, writer, change_log and lists",
        |scrape| {
            let pools = scrape.pools.iter().flat_map(|(pool, snapshot)| {
                let states = [("used", snapshot.used), ("idle", snapshot.idle)];
                states.map(|(state, count)| labelled([*pool, state], count))
            });
            pools.collect()
        },
    )
    .with_labels(&["pool", "state"]),
    Family::histogram(
        "phone_identity_database_acquire_wait_seconds",
        "Time waited for a database connection",
        |scrape| {
            let waits = scrape.pools.iter().map(|(_, snapshot)| snapshot.waits.clone());
            let all = waits.reduce(|mut all: Times, waits| {
                all.add(&waits);
                all
            });
            all.map(unlabelled).unwrap_or_default()
        },
    ),
    Family::counter(
        "phone_identity_database_errors_total",
        "Database errors by kind: conflict, wrong_server and stale (retried), unavailable or fault",
        |scrape| {
            let Some((_, first)) = scrape.pools.first() else {
                return Vec::new();
            };
            let kinds = first.errors.iter().enumerate().map(|(kind, (name, _))| {
                let counts = scrape.pools.iter().map(|(_, snapshot)| snapshot.errors[kind].1);
                labelled([name], counts.sum::<u64>())
            });
            kinds.collect()
        },
    )
    .with_labels(&["kind"]),
    Family::counter(
        "process_cpu_seconds_total",
        "CPU time of the process, in seconds",
        |scrape| unlabelled(scrape.process.cpu),
    ),
    Family::gauge(
        "process_resident_memory_bytes",
        "Resident memory of the process",
        |scrape| scrape.process.resident_bytes.map(unlabelled).unwrap_or_default(),
    ),
    Family::gauge(
        "process_virtual_memory_bytes",
        "Virtual memory of the process",
        |scrape| scrape.process.virtual_bytes.map(unlabelled).unwrap_or_default(),
    ),
    Family::gauge(
        "process_open_fds",
        "Open file descriptors",
        |scrape| scrape.process.open_fds.map(unlabelled).unwrap_or_default(),
    ),
    Family::gauge(
        "process_max_fds",
        "Maximum number of open file descriptors",
        |scrape| scrape.process.max_fds.map(unlabelled).unwrap_or_default(),
    ),
    Family::gauge(
        "process_start_time_seconds",
        "Start time of the process, in seconds since 1970",
        |scrape| scrape.process.started.map(unlabelled).unwrap_or_default(),
    ),
];

/// The commit that the build script found, or `unknown`.
const COMMIT: &str = match option_env!("PHONE_IDENTITY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

#[cfg(test)]
mod tests {
    use super::super::MetricKind;
    use super::*;

    #[test]
    fn names_follow_the_prometheus_conventions() {
        for family in FAMILIES {
            let name = family.name;
            assert!(
                name.starts_with("phone_identity_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                family.kind == MetricKind::Counter,
                "{name}"
            );
            assert_eq!(name.ends_with("_info"), family.kind == MetricKind::Info, "{name}");
            if family.kind == MetricKind::Histogram {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            assert!(
                !family.help.ends_with('.') && !family.help.contains('\n'),
                "{name}"
            );
            assert!(family.summary().len() <= 120, "{name}");
        }
    }
}
