//! Counters of messages: windows (`hour_since`, `day_since`), and pauses of prefixes (`paused_until`).

use std::time::Duration;

use chrono::TimeDelta;
use phone_identity::proto::v1::{ClientInfo, CodePurpose, SendCodeRequest};

use super::{DAY, HOUR, SCENARIOS, Scenario, World};
use crate::support::codes::{CodesClient, codes, wanted};
use crate::support::next_phone_number;
use crate::support::refusal::refusal;

/// No other limits than those under test.
const UNBOUND: &[&str] = &[
    "--throttle-code-attempts=0",
    "--throttle-address-attempts=0",
    "--sms-limit-number=none",
    "--sms-limit-prefix=none",
    "--sms-limit-address=none",
];

async fn start(scenario: Scenario, offset: TimeDelta, flags: &[&str]) -> World {
    World::start_off_by(scenario, offset, &[UNBOUND, flags].concat()).await
}

/// Sends a code. Returns the wait if a limit is reached.
async fn ask(client: &mut CodesClient, request: SendCodeRequest) -> Option<Duration> {
    let refused = refusal(&client.send_code(request).await.err()?);
    assert!(refused.reason.starts_with("SMS_"), "{refused:?}");
    refused.retry_after
}

/// The writer uses a window up. On the judge it is full for the length of a window at most, and the difference of the
/// clocks.
async fn window(scenario: Scenario, offset: TimeDelta, begins: Duration, bound: &str, length: Duration) {
    let limit = format!("--sms-limit-number={bound}");
    let world = start(scenario, offset, &["--sms-pumping-codes=0", &limit]).await;
    world.advance(begins);
    let number = next_phone_number();
    let to = || wanted(CodePurpose::SignIn, &number);
    let mut client = codes(&world.writer).await;
    for _ in 0..2 {
        assert_eq!(ask(&mut client, to()).await, None);
    }
    let wait = ask(&mut client, to()).await.expect("is not bound");
    assert!(wait <= length);
    let mut client = codes(world.corrected()).await;
    // In steps: the window of a replica that is ahead ends later than the returned wait, by the difference of the
    // clocks.
    let step = length / 60;
    let mut waited = Duration::ZERO;
    while let Some(wait) = ask(&mut client, to()).await {
        assert!(
            !wait.is_zero() && wait <= length,
            "{scenario:?} {bound}: {wait:?}"
        );
        assert!(
            waited < length + scenario.slack(),
            "{scenario:?} {bound}: {waited:?}"
        );
        world.advance(wait.min(step));
        waited += wait.min(step);
    }
    // The limit applies again.
    assert!(ask(&mut client, to()).await.is_none_or(|wait| wait <= length));
    assert!(ask(&mut client, to()).await.is_some(), "{scenario:?} {bound}");
}

#[tokio::test]
async fn a_window_of_a_wrong_clock_is_full_for_a_window_at_most() {
    for (bound, length) in [("2/h", HOUR), ("2/d", DAY)] {
        for scenario in SCENARIOS {
            for begins in [HOUR / 2, length - Duration::from_mins(5)] {
                window(scenario, scenario.offset(), begins, bound, length).await;
            }
        }
        // One window ahead: such a window is accepted from replicas.
        let next = TimeDelta::from_std(length).unwrap();
        window(Scenario::Ahead, next, HOUR / 2, bound, length).await;
        window(Scenario::Behind, -next, HOUR / 2, bound, length).await;
    }
}

fn from(address: u32) -> SendCodeRequest {
    let mut request = wanted(CodePurpose::SignIn, &next_phone_number());
    request.client = Some(ClientInfo {
        ip_address: format!("192.0.2.{address}"),
        user_agent: String::new(),
    });
    request
}

/// A prefix with unused codes is paused, on all replicas.
#[tokio::test]
async fn a_pause_of_a_wrong_clock_is_as_long_as_the_pause_at_most() {
    for scenario in SCENARIOS {
        let flags = ["--sms-pumping-codes=10", "--sms-pumping-pause=2h"];
        let world = start(scenario, scenario.offset(), &flags).await;
        let mut client = codes(&world.writer).await;
        for index in 0..30 {
            assert_eq!(ask(&mut client, from(index % 5)).await, None);
        }
        world.advance(Duration::from_mins(10));
        assert_eq!(ask(&mut client, from(9)).await, Some(2 * HOUR), "{scenario:?}");
        let mut judge = codes(world.corrected()).await;
        let paused = ask(&mut judge, from(9)).await;
        if !scenario.is_of_replicas() {
            // There is no pause, and none begins when the wall clock reaches the stored time.
            assert_eq!(paused, None, "{scenario:?}");
            world.advance(2 * DAY + HOUR);
            assert_eq!(ask(&mut judge, from(9)).await, None, "{scenario:?}");
            continue;
        }
        let wait = paused.expect("a replica with another clock does not pause");
        assert!(wait <= 2 * HOUR && wait >= HOUR, "{scenario:?}: {wait:?}");
        world.advance(wait - Duration::from_secs(1));
        assert!(ask(&mut judge, from(9)).await.is_some(), "{scenario:?}");
        world.advance(Duration::from_secs(1));
        assert_eq!(ask(&mut judge, from(9)).await, None, "{scenario:?}");
    }
}
