//! Signing in: against raw hashing, and while sessions are checked.

use std::thread;
use std::time::Duration;

use phone_identity::proto::v1::{AuthenticateRequest, Consistency};

use super::checks::{target, validations, warm};
use super::{CHECKS_IN_FLIGHT, LOGINS_IN_FLIGHT, all_ok, busy, median, median_rate, rounds};
use crate::driver::{Outcome, Pace, Requests, drive};
use crate::hashes::{self, Engine};
use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, seed};

const AUTHENTICATE: &str = "/phone_identity.v1.PhoneIdentity/Authenticate";

/// Warm-up, until the queue has its steady length.
pub(super) const WARM_UP: Duration = Duration::from_millis(700);

/// Sign-ins are few a second, so they are counted for longer.
pub(super) fn window(bench: &Bench) -> Duration {
    bench.seconds.mul_f64(1.5)
}

pub(super) fn against_raw_hashes(bench: &mut Bench) -> Result<(), String> {
    report::say("login, login-portable: Authenticate against raw hashing");
    let cores = bench.cores.both();
    let database = seed::scratch(bench);
    let server = Server::start(bench, &Setup::new(&database, &cores));
    let window = window(bench);
    let people = people();
    let (mut logins, mut fast, mut portable) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        logins.push(saturate(bench, &server, &people, window)?);
        fast.push(hashes::per_second(Engine::Fast, &cores, window));
        if bench.wants("login-portable") {
            portable.push(hashes::per_second(Engine::Portable, &cores, window));
        }
    }
    let notes = vec![
        rounds(
            "Authenticate",
            logins.iter().map(|logins| report::rate(logins.per_second())),
        ),
        rounds("argon2-rust", fast.iter().copied().map(report::rate)),
        rounds("argon2", portable.iter().copied().map(report::rate)),
        busy("Authenticate", &logins, cores.len()),
    ];
    let rate = median_rate(&logins);
    let mut add = |name: &str, what: &str, hashes: Vec<f64>, bar, notes| {
        if !bench.wants(name) {
            return;
        }
        let hashes = median(hashes);
        bench.report.add(Row {
            name: name.to_owned(),
            a: format!("Authenticate {}", report::rate(rate)),
            b: format!("{what} {}", report::rate(hashes)),
            value: rate / hashes,
            unit: Unit::Ratio,
            bar,
            is_information: false,
            notes,
        });
    };
    add("login", "argon2-rust", fast, Bar::AtLeast(0.9, 0.98), notes);
    add(
        "login-portable",
        "argon2",
        portable,
        Bar::AtLeast(1.5, 1.9),
        Vec::new(),
    );
    Ok(())
}

/// The sign-ins of all users.
pub(super) fn people() -> Requests {
    let sign_in = |number| AuthenticateRequest {
        phone_number: seed::phone_number(number),
        password: seed::PASSWORD.to_owned(),
        ..AuthenticateRequest::default()
    };
    Requests::new(AUTHENTICATE, (0..seed::PEOPLE).map(sign_in))
}

/// Signs users in at the maximum rate of the server.
pub(super) fn saturate(
    bench: &Bench,
    server: &Server,
    people: &Requests,
    window: Duration,
) -> Result<Outcome, String> {
    let outcome = drive(
        target(server),
        people,
        LOGINS_IN_FLIGHT,
        Pace::For(window),
        bench.cores.driver,
    );
    all_ok([&outcome])?;
    Ok(outcome)
}

pub(super) fn under_checks(bench: &mut Bench) -> Result<(), String> {
    report::say("reverse: Authenticate while sessions are checked");
    let cores = bench.cores.both();
    let database = seed::scratch(bench);
    let server = Server::start(bench, &Setup::new(&database, &cores));
    warm(bench, &server)?;
    let (window, people) = (window(bench), people());
    let (mut under, mut idle, mut checks) = (Vec::new(), Vec::new(), Vec::<Outcome>::new());
    for _ in 0..bench.rounds {
        idle.push(saturate(bench, &server, &people, window)?);
        let (logins, outcome) = thread::scope(|scope| {
            let checking = scope.spawn(|| {
                let pace = Pace::For(window);
                let requests = validations(Consistency::Unspecified);
                drive(
                    target(&server),
                    &requests,
                    CHECKS_IN_FLIGHT,
                    pace,
                    bench.cores.driver,
                )
            });
            let logins = saturate(bench, &server, &people, window);
            (logins, checking.join().unwrap())
        });
        under.push(logins?);
        checks.push(outcome);
    }
    all_ok(&checks)?;
    let notes = vec![
        rounds(
            "under checks",
            under.iter().map(|logins| report::rate(logins.per_second())),
        ),
        rounds(
            "idle",
            idle.iter().map(|logins| report::rate(logins.per_second())),
        ),
        format!(
            "{} meanwhile",
            rounds(
                "ValidateSession",
                checks.iter().map(|checks| report::rate(checks.per_second()))
            )
        ),
        busy("ValidateSession", &checks, cores.len()),
    ];
    let (under, idle) = (median_rate(&under), median_rate(&idle));
    bench.report.add(Row {
        name: "reverse".to_owned(),
        a: format!("Authenticate under checks {}", report::rate(under)),
        b: format!("idle {}", report::rate(idle)),
        value: under / idle,
        unit: Unit::Ratio,
        bar: Bar::AtLeast(0.25, 0.4),
        is_information: false,
        notes,
    });
    Ok(())
}
