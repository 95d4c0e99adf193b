//! Sign-ins of others while one network, or ten numbers of a service that passes no addresses, flood the service: how
//! many succeed, and how long they take. One line for each flood.

use std::time::Duration;

use phone_identity::proto::v1::{AuthenticateRequest, ClientInfo};

use super::sign_ins::WARM_UP;
use crate::driver::percentile;
use crate::logins::{Flood, offer_requests};
use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, seed};

/// Calls of the flood in flight: twice what a queue of two threads holds by default.
const FLOOD: usize = 600;

/// Sign-ins of others a second.
const OTHERS: f64 = 10.0;

/// The first user of the other callers. The flood uses the users before it.
const FIRST_OTHER: usize = 500;

const WRONG: &str = "rivers and mountains";

/// A flood, and whether other callers use networks of their own.
struct Line {
    name: &'static str,
    request: fn(usize) -> AuthenticateRequest,
    has_addresses: bool,
}

const LINES: [Line; 6] = [
    Line {
        name: "right passwords, many numbers, one address",
        request: |number| at("192.0.2.7", number % FIRST_OTHER, seed::PASSWORD),
        has_addresses: true,
    },
    Line {
        name: "right passwords, one number, one address",
        request: |_| at("192.0.2.7", 0, seed::PASSWORD),
        has_addresses: true,
    },
    Line {
        name: "wrong passwords, many numbers, one address",
        request: |number| at("192.0.2.7", number % FIRST_OTHER, WRONG),
        has_addresses: true,
    },
    Line {
        name: "unknown numbers, /64s of one /48",
        request: |number| {
            let subnet = number % 0x1_0000;
            AuthenticateRequest {
                phone_number: format!("+99871{:07}", 2_000_000 + number % 1_000_000),
                ..at(&format!("2001:db8:7:{subnet:x}::1"), 0, WRONG)
            }
        },
        has_addresses: true,
    },
    Line {
        name: "right passwords, ten numbers, no addresses",
        request: |number| at("", number % 10, seed::PASSWORD),
        has_addresses: false,
    },
    Line {
        name: "wrong passwords, ten numbers, no addresses",
        request: |number| at("", number % 10, WRONG),
        has_addresses: false,
    },
];

fn at(address: &str, person: usize, password: &str) -> AuthenticateRequest {
    AuthenticateRequest {
        phone_number: seed::phone_number(person),
        password: password.to_owned(),
        client: Some(ClientInfo {
            ip_address: address.to_owned(),
            ..ClientInfo::default()
        }),
        ..AuthenticateRequest::default()
    }
}

/// By the queue alone: attempts have no limits.
const FLAGS: [&str; 3] = [
    "--throttle-number-attempts=0",
    "--throttle-address-attempts=0",
    "--throttle-success-attempts=0",
];

pub(super) fn fairness(bench: &mut Bench) -> Result<(), String> {
    let cores = bench.cores.both();
    for line in LINES {
        report::say(&format!("fairness: {}", line.name));
        let database = seed::scratch(bench);
        let server = Server::start(
            bench,
            &Setup {
                flags: &FLAGS,
                ..Setup::new(&database, &cores)
            },
        );
        let flood = Flood::start(server.address, FLOOD, bench.cores.driver, line.request);
        std::thread::sleep(WARM_UP);
        let lasting = bench.seconds.mul_f64(5.0).max(Duration::from_secs(5));
        let others = move |number: usize| {
            let person = FIRST_OTHER + number % (seed::PEOPLE - FIRST_OTHER);
            let address = format!("198.51.{}.{}", number / 250 % 250, number % 250 + 1);
            at(
                if line.has_addresses { &address } else { "" },
                person,
                seed::PASSWORD,
            )
        };
        let offered = offer_requests(server.address, OTHERS, lasting, bench.cores.driver, others);
        let answered = flood.stop();
        drop(server);
        let count = |calls: usize| f64::from(u32::try_from(calls).unwrap());
        let failed = offered.failures.len() + offered.hung;
        let all = offered.signed_in.len() + offered.refused.len() + failed;
        bench.report.add(Row {
            name: "fairness".to_owned(),
            a: format!("{} of others signed in", offered.signed_in.len()),
            b: format!("{all} beside {}", line.name),
            value: count(offered.signed_in.len()) / count(all.max(1)),
            unit: Unit::Ratio,
            bar: Bar::AtLeast(0.95, 1.0),
            is_information: false,
            notes: vec![format!(
                "{}: others p50 {}, p99 {}; {} refused, {failed} failed{}; the flood got {answered} answers",
                line.name,
                report::time(percentile(&offered.signed_in, 50)),
                report::time(percentile(&offered.signed_in, 99)),
                offered.refused.len(),
                offered
                    .failures
                    .first()
                    .map_or(String::new(), |first| format!(", the first with: {first}")),
            )],
        });
    }
    Ok(())
}
