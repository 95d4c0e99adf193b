//! Fairness of the hash queue: during a flood from one network or calling service, the sign-ins of others succeed.
//!
//! The test holds the hashing threads while the flood fills the queue and the others arrive, so it does not depend on
//! the speed of the machine.

use std::sync::Arc;

use phone_identity::domain::access::Caller;
use phone_identity::domain::phone::PhoneNumber;
use phone_identity::proto::v1;
use phone_identity::service::hasher::Flow;
use tokio::task::JoinSet;
use tonic::{Code, Request, Response, Status};

use crate::access::{REQUIRE_KEY, make_key, with_key};
use crate::support::refusal::refusal;
use crate::support::{
    Client, OTHER_PASSWORD, PASSWORD, TestServer, UNTHROTTLED, credentials, eventually, next_phone_number,
    registration,
};
use crate::throttle::from;

/// Passwords that may wait.
const QUEUE: usize = 24;

/// Calls of a flood at once.
const FLOOD: usize = 40;

/// Sign-ins of others at once: fewer than the half of the queue that is the share of another service.
const OTHERS: usize = 10;

/// Nothing but the queue keeps the flood out.
const FLAGS: [&str; 4] = [
    "--hash-queue=24",
    "--throttle-success-attempts=0",
    UNTHROTTLED[0],
    UNTHROTTLED[1],
];

type Make = Arc<dyn Fn(usize) -> Request<v1::AuthenticateRequest> + Send + Sync>;

type Address = fn(usize) -> String;

type Outcome = Result<Response<v1::AuthenticateResponse>, Status>;

fn begin(clients: &[Client], calls: &mut JoinSet<Outcome>, request: Request<v1::AuthenticateRequest>) {
    let mut client = clients[calls.len() % clients.len()].clone();
    calls.spawn(async move { client.authenticate(request).await });
}

fn is_overloaded(outcome: &Outcome) -> bool {
    let refused = outcome.as_ref().err().map(refusal);
    refused
        .is_some_and(|refusal| (refusal.code, refusal.reason.as_str()) == (Code::Unavailable, "OVERLOADED"))
}

/// Fills the queue with a flood, then has others sign in, in rounds. Returns how many of the others succeeded.
async fn successes_beside(
    server: &TestServer,
    name: &str,
    flood: &Make,
    others: &[Request<v1::AuthenticateRequest>],
) -> usize {
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(server.client().await);
    }
    let mut succeeded = 0;
    for others in others.chunks(OTHERS) {
        let held = server.hasher.hold();
        let mut flooding = JoinSet::new();
        for number in 0..FLOOD {
            begin(&clients, &mut flooding, flood(number));
        }
        // All that the queue does not hold is refused, each time for another job of the same flood.
        for _ in QUEUE..FLOOD {
            let outcome = flooding.join_next().await.unwrap().unwrap();
            assert!(is_overloaded(&outcome), "{name}: {outcome:?}");
        }
        server.waiting(QUEUE).await;
        let counted = server.hasher.snapshot();
        let mut calls = JoinSet::new();
        for request in others {
            let mut copy = Request::new(request.get_ref().clone());
            *copy.metadata_mut() = request.metadata().clone();
            begin(&clients, &mut calls, copy);
        }
        let come = u64::try_from(others.len()).unwrap();
        eventually(|| {
            let now = server.hasher.snapshot();
            now.displaced + now.refused >= counted.displaced + counted.refused + come
        })
        .await;
        assert_eq!(server.hasher.snapshot().depth, QUEUE);
        drop(held);
        succeeded += calls
            .join_all()
            .await
            .iter()
            .filter(|outcome| outcome.is_ok())
            .count();
        flooding.join_all().await;
    }
    succeeded
}

/// The promise: 95 %.
fn assert_most(name: &str, succeeded: usize, all: usize) {
    assert!(succeeded * 100 >= all * 95, "{name}: {succeeded} of {all}");
}

async fn numbers(server: &TestServer, count: usize) -> Arc<[String]> {
    let people = server.people(count).await;
    people.into_iter().map(|person| person.phone_number).collect()
}

/// The credentials of a flood.
#[derive(Clone)]
struct Pick {
    all: Arc<[String]>,
    /// The number of calls of a flood.
    numbers: usize,
    password: &'static str,
}

impl Pick {
    fn call(&self, number: usize) -> (String, &'static str) {
        (self.all[number % self.numbers].clone(), self.password)
    }
}

/// The floods: right passwords, wrong ones, and unknown numbers; one number, ten or many.
fn floods(known: &Arc<[String]>) -> Vec<(String, Pick)> {
    let unknown: Arc<[String]> = (0..FLOOD).map(|_| next_phone_number()).collect();
    let mut floods = Vec::new();
    for (what, all, password) in [
        ("right", known, PASSWORD),
        ("wrong", known, OTHER_PASSWORD),
        ("unknown", &unknown, PASSWORD),
    ] {
        for numbers in [1, 10, all.len()] {
            let pick = Pick {
                all: all.clone(),
                numbers,
                password,
            };
            floods.push((format!("{what}, {numbers} numbers"), pick));
        }
    }
    floods
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_network_does_not_keep_other_networks_out() {
    let server = TestServer::start_with(&FLAGS).await;
    let flooded = numbers(&server, FLOOD).await;
    let others = numbers(&server, OTHERS).await;
    let one = |_| "192.0.2.7".to_owned();
    let of_one_site = |number| format!("2001:db8:7:{number:x}::1");
    let places: [(&str, Address); 2] = [("one address", one), ("/64s of one /48", of_one_site)];
    for (where_from, address) in places {
        for (what, pick) in floods(&flooded) {
            let flood: Make = Arc::new(move |number| {
                let (phone_number, password) = pick.call(number);
                Request::new(from(&address(number), &phone_number, password))
            });
            let others: Vec<_> = others
                .iter()
                .enumerate()
                .map(|(place, number)| {
                    let address = format!("198.51.100.{}", place + 1);
                    Request::new(from(&address, number, PASSWORD))
                })
                .collect();
            let name = format!("{what}, {where_from}");
            let succeeded = successes_beside(&server, &name, &flood, &others).await;
            assert_most(&name, succeeded, others.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_service_does_not_keep_other_services_out() {
    let flags = [&FLAGS[..], &[REQUIRE_KEY]].concat();
    let server = TestServer::start_with(&flags).await;
    let (_, key) = make_key(&server.place, "game", "all").await;
    let (_, other_key) = make_key(&server.place, "bank", "all").await;
    let mut client = server.client().await;
    let mut people = Vec::new();
    for _ in 0..OTHERS {
        let number = next_phone_number();
        client
            .register(with_key(&key, registration(&number, PASSWORD)))
            .await
            .unwrap();
        people.push(number);
    }
    let people: Arc<[String]> = people.into();
    let others: Vec<_> = people
        .iter()
        .map(|number| with_key(&other_key, credentials(number, PASSWORD)))
        .collect();
    for (what, pick) in floods(&people) {
        let key = key.clone();
        // Each call is from another network.
        let flood: Make = Arc::new(move |number| {
            let (phone_number, password) = pick.call(number);
            let address = format!("203.0.113.{}", number + 1);
            with_key(&key, from(&address, &phone_number, password))
        });
        let succeeded = successes_beside(&server, &what, &flood, &others).await;
        assert_most(&what, succeeded, others.len());
    }
}

/// As a backend does that passes no addresses: one network, in which the numbers take turns. One number in a hundred
/// shares the bucket of one of ten. The test leaves such numbers out, so that the random key of the buckets does not
/// decide whether it passes.
#[tokio::test(flavor = "multi_thread")]
async fn without_addresses_a_flood_of_ten_numbers_does_not_keep_other_numbers_out() {
    let server = TestServer::start_with(&FLAGS).await;
    let flooded = numbers(&server, 10).await;
    let floods: Vec<_> = floods(&flooded)
        .into_iter()
        .filter(|(_, pick)| pick.numbers <= 10)
        .collect();
    let flow = |number: &str| {
        let number = PhoneNumber::parse(number, None).unwrap();
        Flow::new(&Caller::default(), None, &number)
    };
    let mut taken: Vec<Flow> = Vec::new();
    for (_, pick) in &floods {
        taken.extend((0..FLOOD).map(|number| flow(&pick.call(number).0)));
    }
    let mut others = Vec::new();
    for number in numbers(&server, 50).await.iter() {
        let own = flow(number);
        if others.len() < 4 * OTHERS && !taken.contains(&own) {
            taken.push(own);
            others.push(Request::new(credentials(number, PASSWORD)));
        }
    }
    assert_eq!(others.len(), 4 * OTHERS);
    for (what, pick) in floods {
        let flood: Make = Arc::new(move |number| {
            let (phone_number, password) = pick.call(number);
            Request::new(credentials(&phone_number, password))
        });
        let succeeded = successes_beside(&server, &what, &flood, &others).await;
        assert_most(&what, succeeded, others.len());
    }
}

/// A known device does not share the turns of its number: whatever strangers do to the number, its owner is not behind
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_a_number_does_not_keep_its_known_device_out() {
    let server = TestServer::start_with(&FLAGS).await;
    let person = server.person().await;
    let request = v1::AuthenticateRequest {
        remember_device: true,
        ..credentials(&person.phone_number, PASSWORD)
    };
    let remembered = server.client().await.authenticate(request).await.unwrap();
    let device_token = remembered.into_inner().device_token;
    let number = person.phone_number.clone();
    let flood: Make = Arc::new(move |_| Request::new(credentials(&number, OTHER_PASSWORD)));
    let own = Request::new(v1::AuthenticateRequest {
        device_token,
        ..credentials(&person.phone_number, PASSWORD)
    });
    assert_eq!(successes_beside(&server, "one number", &flood, &[own]).await, 1);
}
