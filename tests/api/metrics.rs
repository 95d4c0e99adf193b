//! The listener for metrics and probes.

mod probes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chrono::TimeDelta;
use phone_identity::clock::{Clock as _, SystemClock};
use phone_identity::metrics::FAMILIES;
use phone_identity::proto::v1;
use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use tokio::time::{interval, timeout};
use tonic::Code;

use crate::support::binary::ServerProcess;
use crate::support::codes::{code_of, flag_of_keys, offered, wanted};
use crate::support::database::TestDatabase;
use crate::support::http;
use crate::support::place::Place;
use crate::support::{
    OTHER_PASSWORD, PASSWORD, channel, connect, credentials, next_phone_number, registration, validation,
};

const LISTEN: &str = "--metrics-listen=127.0.0.1:0";
const NUMBER: &str = "+998901234567";
const RPC: &str = "phone_identity.v1.PhoneIdentity";

/// A scrape: the value of each line, by its name with labels.
pub(crate) struct Scraped {
    text: String,
    values: BTreeMap<String, f64>,
}

impl Scraped {
    async fn from(address: SocketAddr) -> Self {
        let (status, head, text) = http::ask(address, "GET", "/metrics").await;
        assert_eq!(status, 200, "{text}");
        assert!(
            head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
            "{head}"
        );
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let values = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            (name.to_owned(), value)
        });
        let values = values.collect();
        Self { text, values }
    }

    pub(crate) fn has(&self, name: &str, value: f64) -> bool {
        self.values.get(name) == Some(&value)
    }

    pub(crate) fn get(&self, name: &str) -> f64 {
        *self
            .values
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in\n{}", self.text))
    }
}

/// Asks until the answer is a wanted one.
async fn asked_until<T, A: Future<Output = T>>(ask: impl Fn() -> A, is_wanted: impl Fn(&T) -> bool) -> T {
    let mut ticks = interval(Duration::from_millis(20));
    let asking = async {
        loop {
            ticks.tick().await;
            let answer = ask().await;
            if is_wanted(&answer) {
                break answer;
            }
        }
    };
    timeout(Duration::from_secs(20), asking)
        .await
        .expect("did not become so")
}

/// Scrapes until something is so.
pub(crate) async fn until(address: SocketAddr, is_so: impl Fn(&Scraped) -> bool) -> Scraped {
    asked_until(|| Scraped::from(address), is_so).await
}

/// Asks whether it is ready until this is the status of the answer.
pub(crate) async fn until_readyz_is(address: SocketAddr, status: u16) {
    asked_until(|| http::get(address, "/readyz"), |answer| answer.0 == status).await;
}

#[tokio::test]
async fn every_family_is_scraped_and_nothing_else_and_without_personal_data() {
    let place = Place::new().await;
    let flags = [
        LISTEN,
        "--cleanup-interval=200ms",
        "--throttle-number-attempts=2",
        "--throttle-base-delay=1h",
        "--throttle-max-delay=1h",
        "--sms-providers=log",
        "--sms-countries=UZ,US",
    ];
    let server = ServerProcess::start(&place, &flags).await;
    let mut client = connect(server.address).await;
    let signed_in = client
        .register(registration(NUMBER, PASSWORD))
        .await
        .unwrap()
        .into_inner();
    let token = signed_in.session_token;
    for _ in 0..3 {
        client.validate_session(validation(&token)).await.unwrap();
    }
    client.validate_session(validation("nonsense")).await.unwrap_err();
    let mut refusals = Vec::new();
    for _ in 0..3 {
        let refused = client.authenticate(credentials(NUMBER, OTHER_PASSWORD)).await;
        refusals.push(refused.unwrap_err().code());
    }
    assert_eq!(
        refusals,
        [
            Code::Unauthenticated,
            Code::Unauthenticated,
            Code::ResourceExhausted
        ]
    );

    let mut codes = PhoneVerificationClient::new(channel(server.address).await);
    for number in [NUMBER, "+12015550123"] {
        let sent = codes
            .send_code(wanted(v1::CodePurpose::SignIn, number))
            .await
            .unwrap();
        let challenge = sent.into_inner().challenge_id;
        for (id, code) in [
            (challenge.as_str(), "1234"),
            ("00000000-0000-4000-8000-000000000000", "1234"),
        ] {
            let wrong = offered(id, v1::CodePurpose::SignIn, code);
            codes.verify_code(wrong).await.unwrap_err();
        }
    }

    let elsewhere = codes
        .send_code(wanted(v1::CodePurpose::SignIn, "+77012345678"))
        .await;
    assert_eq!(elsewhere.unwrap_err().code(), Code::FailedPrecondition);

    let metrics = server.metrics.unwrap();
    let taken = "phone_identity_sms_messages_total{provider=\"log\",outcome=\"taken\",country=\"UZ\"}";
    let scraped = until(metrics, |scraped| {
        scraped.has("phone_identity_sessions_alive", 1.0) && scraped.values.contains_key(taken)
    })
    .await;
    for (labels, count) in [
        ("outcome=\"sent\",country=\"UZ\"", 1.0),
        ("outcome=\"not_sent\",country=\"US\"", 1.0),
        ("outcome=\"refused\",country=\"UZ\"", 1.0),
        ("outcome=\"refused\",country=\"US\"", 1.0),
        ("outcome=\"refused\",country=\"unknown\"", 2.0),
    ] {
        let name = format!("phone_identity_codes_total{{purpose=\"sign_in\",{labels}}}");
        assert_eq!(scraped.get(&name), count, "{name}");
    }
    assert_eq!(scraped.get(taken), 1.0);
    let refused = "phone_identity_sms_refusals_total{reason=\"country_not_allowed\",country=\"KZ\"}";
    assert_eq!(scraped.get(refused), 1.0);
    let described: Vec<&str> = scraped
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let expected: Vec<String> = FAMILIES
        .iter()
        .map(|family| format!("{} {}", family.name, family.kind.as_str()))
        .collect();
    assert_eq!(described, expected);
    for family in FAMILIES {
        let of_family = |name: &str| {
            let suffix = name.split('{').next().unwrap().strip_prefix(family.name);
            suffix.is_some_and(|suffix| matches!(suffix, "" | "_bucket" | "_sum" | "_count"))
        };
        let samples: Vec<_> = scraped.values.keys().filter(|name| of_family(name)).collect();
        assert!(!samples.is_empty(), "{} has no value", family.name);
        let help = format!("# HELP {} {}\n", family.name, family.help);
        assert!(scraped.text.contains(&help), "{help}");
    }

    let calls = |rpc: &str, code: &str| {
        scraped.get(&format!(
            "phone_identity_grpc_requests_total{{rpc=\"{RPC}/{rpc}\",code=\"{code}\"}}"
        ))
    };
    assert_eq!(calls("Register", "OK"), 1.0);
    assert_eq!(calls("ValidateSession", "OK"), 3.0);
    assert_eq!(calls("ValidateSession", "UNAUTHENTICATED"), 1.0);
    assert_eq!(calls("Authenticate", "UNAUTHENTICATED"), 2.0);
    assert_eq!(calls("Authenticate", "RESOURCE_EXHAUSTED"), 1.0);
    assert_eq!(calls("DeleteProfile", "OK"), 0.0);
    let took = |suffix: &str| {
        scraped.get(&format!(
            "phone_identity_grpc_request_duration_seconds_{suffix}{{rpc=\"{RPC}/ValidateSession\"}}"
        ))
    };
    assert_eq!(took("count"), 4.0);
    assert!(took("sum") > 0.0);
    let throttled = format!("phone_identity_throttled_total{{rpc=\"{RPC}/Authenticate\",by=\"number\"}}");
    assert_eq!(scraped.get(&throttled), 1.0);
    for (name, value) in [
        ("grpc_requests_in_flight", 0.0),
        ("connections", 2.0),
        ("connections_refused_total", 0.0),
        ("sign_ins_total{outcome=\"invalid_credentials\"}", 2.0),
        ("sign_ins_total{outcome=\"throttled\"}", 1.0),
        ("sign_ins_total{outcome=\"success\"}", 0.0),
        // The number is hashed to be taken, and twice checked; what is refused is not hashed.
        ("hashes_total", 3.0),
        ("hash_duration_seconds_count", 3.0),
        ("hash_queue_jobs", 0.0),
        ("session_cache_entries", 1.0),
        ("change_log_reads_failed_total", 0.0),
        ("database_up", 1.0),
        ("database_connections{pool=\"change_log\",state=\"used\"}", 0.0),
        ("database_errors_total{kind=\"fault\"}", 0.0),
    ] {
        assert_eq!(scraped.get(&format!("phone_identity_{name}")), value, "{name}");
    }
    let hits = scraped.get("phone_identity_session_cache_hits_total");
    let misses = scraped.get("phone_identity_session_cache_misses_total");
    assert_eq!(hits + misses, 3.0);
    assert!(scraped.get("phone_identity_change_log_age_seconds") < 20.0);
    assert!(scraped.get("process_resident_memory_bytes") > 1_000_000.0);
    assert!(scraped.get("process_start_time_seconds") > 1_700_000_000.0);

    for secret in [NUMBER, "998901234567", "901234567", PASSWORD, &token, &token[4..]] {
        assert!(!scraped.text.contains(secret), "{secret}");
    }
}

/// A right code is counted when it gives something, and not when it is refused for another reason.
#[tokio::test]
async fn a_right_code_is_counted_once() {
    let place = Place::new().await;
    let keys = flag_of_keys();
    let server = ServerProcess::start(&place, &[LISTEN, "--sms-providers=log", &keys]).await;
    let registered = connect(server.address)
        .await
        .register(registration(NUMBER, PASSWORD))
        .await;
    let user_id = registered.unwrap().into_inner().user.unwrap().user_id;
    let purpose = v1::CodePurpose::ResetPassword;
    let mut codes = PhoneVerificationClient::new(channel(server.address).await);
    let sent = codes.send_code(wanted(purpose, NUMBER)).await.unwrap();
    let challenge = sent.into_inner().challenge_id;
    let mut offer = offered(
        &challenge,
        purpose,
        &code_of(&challenge, purpose, NUMBER, Some(&user_id)),
    );
    for (password, is_taken) in [(NUMBER, false), (NUMBER, false), (OTHER_PASSWORD, true)] {
        offer.new_password = password.to_owned();
        assert_eq!(codes.verify_code(offer.clone()).await.is_ok(), is_taken);
    }
    let scraped = Scraped::from(server.metrics.unwrap()).await;
    let of = |outcome| {
        let labels = format!("purpose=\"reset_password\",outcome=\"{outcome}\"");
        let count = |(name, count): (&String, &f64)| name.contains(&labels).then_some(*count);
        scraped.values.iter().find_map(count)
    };
    assert_eq!(
        (of("sent"), of("verified"), of("refused")),
        (Some(1.0), Some(1.0), None)
    );
}

/// The alert is for an attacker that stops all users. Without addresses, all callers share one pause.
#[tokio::test]
async fn a_pause_for_all_is_told_from_one_for_an_address() {
    let place = Place::new().await;
    let keys = flag_of_keys();
    let flags = [LISTEN, "--sms-providers=log", "--sms-pumping-codes=12", &keys];
    let server = ServerProcess::start(&place, &flags).await;
    let mut codes = PhoneVerificationClient::new(channel(server.address).await);
    let mut ask = async |address: &str| {
        let mut request = wanted(v1::CodePurpose::SignIn, &next_phone_number());
        request.client = Some(v1::ClientInfo {
            ip_address: address.to_owned(),
            ..v1::ClientInfo::default()
        });
        codes
            .send_code(request)
            .await
            .map(|_| ())
            .map_err(|status| status.code())
    };
    for (address, needed) in [("192.0.2.1", 4), ("", 12)] {
        for _ in 0..needed {
            ask(address).await.unwrap();
        }
    }
    // So that their time is over.
    let database = TestDatabase::open(&place).await;
    let an_hour_ago = SystemClock.now() - TimeDelta::hours(1);
    let age = "UPDATE sms_counters SET lately_since = ?";
    database.execute_with(age, vec![an_hour_ago.into()]).await;
    for (address, reasons) in [("192.0.2.1", (None, Some(1.0))), ("", (Some(1.0), Some(1.0)))] {
        assert_eq!(ask(address).await, Err(Code::ResourceExhausted), "{address}");
        let scraped = Scraped::from(server.metrics.unwrap()).await;
        let of = |reason| {
            let name = format!("phone_identity_sms_refusals_total{{reason=\"{reason}\",country=\"UZ\"}}");
            scraped.values.get(&name).copied()
        };
        assert_eq!((of("paused"), of("paused_for_source")), reasons, "{address}");
    }
}

/// No label has a value from a caller, which could fill the memory of Prometheus.
#[tokio::test]
async fn invented_values_of_callers_become_no_label() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[LISTEN]).await;
    let mut client = tonic::client::Grpc::new(channel(server.address).await);
    for path in [
        "/made.up.Service/Method",
        "/phone_identity.v1.PhoneIdentity/998901234567",
    ] {
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = path.parse().unwrap();
        let refused = client.unary(tonic::Request::new(()), path, codec).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    }
    let scraped = Scraped::from(server.metrics.unwrap()).await;
    let other = "phone_identity_grpc_requests_total{rpc=\"other\",code=\"UNIMPLEMENTED\"}";
    assert_eq!(scraped.get(other), 2.0);
    assert!(!scraped.text.contains("made.up") && !scraped.text.contains("998901234567"));
}
