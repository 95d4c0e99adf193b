//! Attempts in the database (`forgotten_at`, `last_at`), refusals in memory, and known devices (`expires_at`).

use std::time::Duration;

use phone_identity::clock::{Clock as _, Timestamp};
use phone_identity::proto::v1;
use tonic::Code;

use super::{DAY, HOUR, MAX_SKEW, SCENARIOS, Scenario, World};
use crate::support::{Client, OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials, next_phone_number};
use crate::throttle::{fail, wait_of};

/// The default of `--throttle-max-delay`.
const MAX_DELAY: Duration = Duration::from_mins(15);

/// Signs a user in, and waits for the delay of each rejection. Returns the total wait, which is at most `max`.
async fn signs_in_after(world: &World, person: &Person, max: Duration) -> Duration {
    let mut client = world.judge().client().await;
    let mut waited = Duration::ZERO;
    loop {
        let tried = client
            .authenticate(credentials(&person.phone_number, PASSWORD))
            .await;
        if tried.is_ok() {
            return waited;
        }
        let wait = wait_of(tried);
        assert!(!wait.is_zero() && wait <= max, "{:?}: {wait:?}", world.scenario);
        waited += wait;
        assert!(waited <= max, "{:?}: {waited:?}", world.scenario);
        world.advance(wait);
    }
}

/// Number of wrong passwords that are hashed before the first refusal.
async fn free_guesses(server: &TestServer, phone_number: &str) -> u32 {
    let mut client = server.client().await;
    let mut guesses = 0;
    while is_hashed(&mut client, phone_number).await {
        guesses += 1;
        assert!(guesses < 100);
    }
    guesses
}

/// Returns whether a wrong password is hashed, and not rejected by the rate limit.
async fn is_hashed(client: &mut Client, phone_number: &str) -> bool {
    let wrong = client
        .authenticate(credentials(phone_number, OTHER_PASSWORD))
        .await;
    wrong.unwrap_err().code() == Code::Unauthenticated
}

/// One wrong password on a clock two days ahead once made the owner wait for two days.
#[tokio::test]
async fn attempts_of_a_wrong_clock_delay_the_owner_for_the_longest_delay_at_most() {
    for scenario in SCENARIOS {
        for failures in [1, 2] {
            let world = World::start(scenario, &["--throttle-number-attempts=1"]).await;
            let person = world.writer.person().await;
            let mut client = world.writer.client().await;
            for _ in 0..failures {
                fail(&mut client, &person.phone_number, 1).await;
                // Puts a refusal into the memory of the writer.
                let refused = client
                    .authenticate(credentials(&person.phone_number, PASSWORD))
                    .await;
                assert!(wait_of(refused) <= Duration::from_secs(2));
                world.advance(Duration::from_secs(1));
            }
            world.corrected();
            signs_in_after(&world, &person, MAX_DELAY).await;
            // Both failures are forgotten, an hour each: one attempt is free, and the first delay is a second.
            world.advance(3 * HOUR);
            let server = world.judge();
            assert_eq!(
                free_guesses(server, &person.phone_number).await,
                1,
                "{scenario:?}"
            );
            let refused = server.client().await;
            let refused = { refused }
                .authenticate(credentials(&person.phone_number, PASSWORD))
                .await;
            assert_eq!(wait_of(refused), Duration::from_secs(1), "{scenario:?}");
        }
    }
}

/// The cache of refusals uses the monotonic clock.
#[tokio::test]
async fn a_refusal_in_memory_ends_after_a_second_whatever_the_wall_clock_does() {
    for scenario in [Scenario::Ahead, Scenario::Behind] {
        let world = World::start(
            scenario,
            &["--throttle-number-attempts=1", "--throttle-max-delay=10s"],
        )
        .await;
        let person = world.writer.person().await;
        let mut client = world.writer.client().await;
        fail(&mut client, &person.phone_number, 1).await;
        wait_of(
            client
                .authenticate(credentials(&person.phone_number, PASSWORD))
                .await,
        );
        world.corrected();
        let refused = client
            .authenticate(credentials(&person.phone_number, PASSWORD))
            .await;
        assert_eq!(wait_of(refused), Duration::from_secs(1), "{scenario:?}");
        world.advance(Duration::from_secs(1));
        person.sign_in_again(world.judge()).await;
    }
}

/// A correction allows one more set of free guesses at most; after a fast clock, only the rest of the first.
#[tokio::test]
async fn a_corrected_clock_gives_no_more_guesses_than_are_free() {
    for (scenario, most) in [
        (Scenario::Ahead, 2),
        (Scenario::Behind, 5),
        (Scenario::ReplicaAhead, 2),
        (Scenario::ReplicaBehind, 2),
    ] {
        let world = World::start(scenario, &["--throttle-number-attempts=5"]).await;
        let number = next_phone_number();
        fail(&mut world.writer.client().await, &number, 3).await;
        world.corrected();
        let guesses = free_guesses(world.judge(), &number).await;
        assert!((1..=most).contains(&guesses), "{scenario:?}: {guesses}");
    }
}

/// Number of guesses in an hour on two alternating replicas, one on each every ten seconds.
async fn guesses_by_alternating(minutes: i64, flags: &[&str]) -> u32 {
    let offset = chrono::TimeDelta::minutes(minutes);
    let world = World::start_off_by(Scenario::ReplicaAhead, offset, flags).await;
    let number = next_phone_number();
    let mut clients = [world.writer.client().await, world.judge().client().await];
    let mut guesses = 0;
    for _ in 0..360 {
        for client in &mut clients {
            guesses += u32::from(is_hashed(client, &number).await);
        }
        world.advance(Duration::from_secs(10));
    }
    guesses
}

/// Each replica enforces the delays by its monotonic clock: at most three times the guesses of equal clocks.
#[tokio::test]
async fn alternating_between_replicas_with_different_clocks_multiplies_no_guesses() {
    for flags in [
        &["--throttle-number-attempts=3"][..],
        &["--throttle-number-attempts=3", "--throttle-max-delay=1m"],
    ] {
        let same = guesses_by_alternating(0, flags).await;
        for minutes in [10, -10] {
            let differing = guesses_by_alternating(minutes, flags).await;
            assert!(differing <= 3 * same, "{flags:?} {minutes}: {differing}, {same}");
        }
    }
}

/// Signs in on a device, and gives its token.
async fn on_device(server: &TestServer, person: &Person, token: &str) -> String {
    let request = v1::AuthenticateRequest {
        remember_device: true,
        device_token: token.to_owned(),
        ..credentials(&person.phone_number, PASSWORD)
    };
    let signed_in = server.client().await.authenticate(request).await;
    signed_in.unwrap().into_inner().device_token
}

#[tokio::test]
async fn a_device_of_a_wrong_clock_is_known_for_its_lifetime_after_a_sign_in() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, &["--device-lifetime=36h"]).await;
        let person = world.writer.person().await;
        let token = on_device(&world.writer, &person, "").await;
        let server = world.corrected();
        // A forgotten device gets another token.
        let again = on_device(server, &person, &token).await;
        assert_eq!(again == token, scenario != Scenario::Behind, "{scenario:?}");
        let rows = server.database.rows("SELECT expires_at FROM devices").await;
        let known: Vec<Timestamp> = rows
            .iter()
            .map(|row| row.try_get("", "expires_at").unwrap())
            .collect();
        let latest = server.clock.now() + Duration::from_hours(36) + scenario.slack();
        assert!(known.iter().all(|end| *end <= latest), "{scenario:?}: {known:?}");
        // Forgotten when it is not used.
        world.advance(DAY + 12 * HOUR + MAX_SKEW);
        assert_ne!(on_device(server, &person, &again).await, again, "{scenario:?}");
    }
}
