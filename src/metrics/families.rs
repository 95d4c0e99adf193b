//! All metrics there are.

use super::{Family, MetricKind, Sample, SampleValue};
use crate::domain::throttle::SubjectKind;
use crate::grpc::CODES;
use crate::telemetry::histogram::Times;

/// All metrics there are, in the order in which they are scraped.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "phone_identity_build_info",
        kind: MetricKind::Info,
        labels: &["version", "commit"],
        help: "Always 1; which version this is, and of which commit",
        read: |_| vec![of([env!("CARGO_PKG_VERSION"), COMMIT], 1_u64)],
    },
    Family {
        name: "phone_identity_grpc_requests_total",
        kind: MetricKind::Counter,
        labels: &["rpc", "code"],
        help: "Calls that have ended, by RPC (of health, reflection and unknown paths: other) and by the code of gRPC",
        read: |scrape| {
            let calls = scrape.calls.iter().flat_map(|calls| {
                let codes = CODES.into_iter().zip(calls.ended);
                // Of what never was there is a line for OK only.
                let seen = codes.filter(|(code, ended)| *ended > 0 || *code == "OK");
                seen.map(|(code, ended)| of([calls.rpc, code], ended))
            });
            calls.collect()
        },
    },
    Family {
        name: "phone_identity_grpc_request_duration_seconds",
        kind: MetricKind::Histogram,
        labels: &["rpc"],
        help: "How long calls took, from their headers to the answer",
        read: |scrape| {
            let calls = scrape.calls.iter();
            calls.map(|calls| of([calls.rpc], calls.times.clone())).collect()
        },
    },
    Family {
        name: "phone_identity_grpc_requests_in_flight",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Calls that have begun and not ended",
        read: |scrape| one(scrape.calls.iter().map(|calls| calls.in_flight).sum::<u64>()),
    },
    Family {
        name: "phone_identity_connections",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Connections of clients that are open",
        read: |scrape| one(scrape.connections.0),
    },
    Family {
        name: "phone_identity_connections_refused_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Connections that were closed at once, since there were more than --max-connections",
        read: |scrape| one(scrape.connections.1),
    },
    Family {
        name: "phone_identity_sign_ins_total",
        kind: MetricKind::Counter,
        labels: &["outcome"],
        help: "Sign-ins by password: success, invalid_credentials, account_deactivated, throttled, overloaded or error",
        read: |scrape| {
            let sign_ins = scrape.sign_ins.iter();
            sign_ins.map(|(outcome, count)| of([outcome], *count)).collect()
        },
    },
    Family {
        name: "phone_identity_throttled_total",
        kind: MetricKind::Counter,
        labels: &["rpc", "by"],
        help: "Calls that were refused with TOO_MANY_ATTEMPTS, by RPC and by what has to wait: number, phone_claim, person, \
               device, code, known_code, code_guess, known_code_guess, address, creation or service",
        read: |scrape| {
            let all = scrape.calls.iter().flat_map(|calls| {
                let kinds = SubjectKind::ALL.into_iter().zip(calls.throttled);
                let seen = kinds.filter(|(_, count)| *count > 0);
                seen.map(|(kind, count)| of([calls.rpc, kind.as_str()], count))
            });
            all.collect()
        },
    },
    Family {
        name: "phone_identity_codes_total",
        kind: MetricKind::Counter,
        labels: &["purpose", "outcome", "country"],
        help: "One-time codes, by purpose, by country of the number (two letters, 001 for none, or unknown), and by what came of \
               them: sent, not_sent (asked for, and nobody is there to get it), verified, or refused (another one was given)",
        read: |scrape| counted(&scrape.codes),
    },
    Family {
        name: "phone_identity_sms_messages_total",
        kind: MetricKind::Counter,
        labels: &["provider", "outcome", "country"],
        help: "Times that an SMS provider was asked to send a message, by country, and by what it answered: taken, failed (it may \
               pass), or refused",
        read: |scrape| counted(&scrape.messages),
    },
    Family {
        name: "phone_identity_sms_refusals_total",
        kind: MetricKind::Counter,
        labels: &["reason", "country"],
        help: "Messages that were asked for and refused, by country, and by reason: country_not_allowed; number, prefix, address, \
               service, country or total (of which there were too many); budget (what a day may cost is used up); or paused and \
               paused_for_source (codes to the prefix are hardly ever used, by all or by the client address that asks)",
        read: |scrape| counted(&scrape.sms_refusals),
    },
    Family {
        name: "phone_identity_outbox_messages",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "SMS in the database that were neither taken by a provider nor given up, by all replicas, when it was last looked \
               (every ten seconds)",
        read: |scrape| {
            scrape
                .backlog
                .map(|backlog| one(backlog.messages))
                .unwrap_or_default()
        },
    },
    Family {
        name: "phone_identity_outbox_age_seconds",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "How long the oldest of these SMS had been there then; 0 if there were none",
        read: |scrape| scrape.backlog.map(|backlog| one(backlog.age)).unwrap_or_default(),
    },
    Family {
        name: "phone_identity_audit_events",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Events in the audit log, an estimate of every --cleanup-interval; without --audit-max-rows they are not counted",
        read: |scrape| scrape.audit_rows.map(|(rows, _)| one(rows)).unwrap_or_default(),
    },
    Family {
        name: "phone_identity_audit_events_limit",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Maximum number of events in the audit log, --audit-max-rows",
        read: |scrape| scrape.audit_rows.map(|(_, limit)| one(limit)).unwrap_or_default(),
    },
    Family {
        name: "phone_identity_sessions_alive",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Sessions in the database that are neither revoked nor past a lifetime, when they were last cleaned up \
               (--cleanup-interval)",
        read: |scrape| scrape.sessions.alive.map(one).unwrap_or_default(),
    },
    Family {
        name: "phone_identity_session_cache_hits_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Session checks that were answered from memory",
        read: |scrape| one(scrape.sessions.hits),
    },
    Family {
        name: "phone_identity_session_cache_misses_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Session checks that might have been, and asked the database",
        read: |scrape| one(scrape.sessions.misses),
    },
    Family {
        name: "phone_identity_session_cache_entries",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Sessions in memory",
        read: |scrape| one(scrape.sessions.cached),
    },
    Family {
        name: "phone_identity_session_cache_evictions_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Sessions that made room in memory for others",
        read: |scrape| one(scrape.sessions.evictions),
    },
    Family {
        name: "phone_identity_change_log_age_seconds",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Time since which changes by other processes may be unknown here; above --staleness-bound, session checks ask \
               the database",
        read: |scrape| one(scrape.sessions.change_log_lag),
    },
    Family {
        name: "phone_identity_change_log_reads_failed_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Readings of the change log that failed",
        read: |scrape| one(scrape.sessions.change_log_failures),
    },
    Family {
        name: "phone_identity_hash_queue_jobs",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Passwords that wait to be hashed",
        read: |scrape| one(scrape.hasher.depth),
    },
    Family {
        name: "phone_identity_hash_queue_limit_jobs",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Most passwords that may wait to be hashed",
        read: |scrape| one(scrape.hasher.limit),
    },
    Family {
        name: "phone_identity_hash_queue_wait_seconds",
        kind: MetricKind::Histogram,
        labels: &[],
        help: "How long passwords waited to be hashed",
        read: |scrape| one(scrape.hasher.waits.clone()),
    },
    Family {
        name: "phone_identity_hash_queue_refused_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Passwords that were refused, since too many waited",
        read: |scrape| one(scrape.hasher.refused),
    },
    Family {
        name: "phone_identity_hash_queue_displaced_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Passwords of the longest flow that made room in a full queue for one of another flow",
        read: |scrape| one(scrape.hasher.displaced),
    },
    Family {
        name: "phone_identity_hash_queue_flows",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Flows (service, network, bucket of the number) with passwords that wait to be hashed",
        read: |scrape| one(scrape.hasher.flows),
    },
    Family {
        name: "phone_identity_hash_queue_abandoned_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Passwords that were not hashed, since their caller had gone",
        read: |scrape| one(scrape.hasher.dropped),
    },
    Family {
        name: "phone_identity_hashes_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Passwords that were hashed or checked",
        read: |scrape| one(scrape.hasher.completed),
    },
    Family {
        name: "phone_identity_hash_relief",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "1 while threads of ordinary priority hash, since other processes starve the hashing threads, else 0",
        read: |scrape| one(u64::from(scrape.hasher.is_relieved)),
    },
    Family {
        name: "phone_identity_hash_relief_jobs_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Passwords that these threads took",
        read: |scrape| one(scrape.hasher.relieved),
    },
    Family {
        name: "phone_identity_hash_duration_seconds",
        kind: MetricKind::Histogram,
        labels: &[],
        help: "How long it took to hash or check a password, without the wait",
        read: |scrape| one(scrape.hasher.hashes.clone()),
    },
    Family {
        name: "phone_identity_hash_threads",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Passwords that are hashed at a time",
        read: |scrape| one(scrape.hash_threads),
    },
    Family {
        name: "phone_identity_database_up",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Whether a database that accepts writes answers: 1 or 0",
        read: |scrape| one(u64::from(scrape.database_is_up)),
    },
    Family {
        name: "phone_identity_database_connections",
        kind: MetricKind::Gauge,
        labels: &["pool", "state"],
        help: "Connections to the database, used or idle, by pool: main, change_log and lists; of SQLite reader, writer, \
               change_log and lists",
        read: |scrape| {
            let pools = scrape.pools.iter().flat_map(|(pool, snapshot)| {
                let states = [("used", snapshot.used), ("idle", snapshot.idle)];
                states.map(|(state, count)| of([*pool, state], count))
            });
            pools.collect()
        },
    },
    Family {
        name: "phone_identity_database_acquire_wait_seconds",
        kind: MetricKind::Histogram,
        labels: &[],
        help: "How long was waited for a connection to the database",
        read: |scrape| {
            let waits = scrape.pools.iter().map(|(_, snapshot)| snapshot.waits.clone());
            let all = waits.reduce(|mut all: Times, waits| {
                all.add(&waits);
                all
            });
            all.map(one).unwrap_or_default()
        },
    },
    Family {
        name: "phone_identity_database_errors_total",
        kind: MetricKind::Counter,
        labels: &["kind"],
        help: "Errors of the database, by kind: conflict, wrong_server and stale (retried), unavailable or fault",
        read: |scrape| {
            let Some((_, first)) = scrape.pools.first() else {
                return Vec::new();
            };
            let kinds = first.errors.iter().enumerate().map(|(kind, (name, _))| {
                let counts = scrape.pools.iter().map(|(_, snapshot)| snapshot.errors[kind].1);
                of([name], counts.sum::<u64>())
            });
            kinds.collect()
        },
    },
    Family {
        name: "process_cpu_seconds_total",
        kind: MetricKind::Counter,
        labels: &[],
        help: "Processor time that the process has used",
        read: |scrape| one(scrape.process.cpu),
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Memory that the process has",
        read: |scrape| scrape.process.resident_bytes.map(one).unwrap_or_default(),
    },
    Family {
        name: "process_virtual_memory_bytes",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Address space that the process has",
        read: |scrape| scrape.process.virtual_bytes.map(one).unwrap_or_default(),
    },
    Family {
        name: "process_open_fds",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "File descriptors that are open",
        read: |scrape| scrape.process.open_fds.map(one).unwrap_or_default(),
    },
    Family {
        name: "process_max_fds",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "File descriptors that may be open",
        read: |scrape| scrape.process.max_fds.map(one).unwrap_or_default(),
    },
    Family {
        name: "process_start_time_seconds",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "When the process began, in seconds since 1970",
        read: |scrape| scrape.process.started.map(one).unwrap_or_default(),
    },
];

/// As the build was told.
const COMMIT: &str = match option_env!("PHONE_IDENTITY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// A family without labels.
fn one(value: impl Into<SampleValue>) -> Vec<Sample> {
    vec![of([], value)]
}

fn counted<const N: usize>(counts: &[([String; N], u64)]) -> Vec<Sample> {
    let samples = counts.iter().map(|(labels, count)| Sample {
        labels: labels.to_vec(),
        value: SampleValue::Count(*count),
    });
    samples.collect()
}

fn of<const N: usize>(labels: [&str; N], value: impl Into<SampleValue>) -> Sample {
    Sample {
        labels: labels.map(str::to_owned).into(),
        value: value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
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
        }
    }
}
