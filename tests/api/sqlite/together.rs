//! Sign-ins that are committed together, and one that cannot be.

use tonic::Code;

use crate::sign_ins::{assert_theirs, sign_in_at_once};
use crate::support::refusal::assert_refused;
use crate::support::{Person, TestServer, UNTHROTTLED};

#[tokio::test]
async fn one_that_cannot_be_written_keeps_none_of_the_others_back() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let mut people = Vec::new();
    for _ in 0..12 {
        people.push(server.person().await);
    }
    // The last of all that a sign-in writes but the commit.
    let id = people[5].user.user_id.replace('-', "");
    let trigger = format!(
        "CREATE TRIGGER refuses BEFORE INSERT ON audit_events WHEN NEW.actor_id = x'{id}' \
         BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    );
    server.database.execute_with(&trigger, Vec::new()).await;
    let all: Vec<&Person> = people.iter().collect();
    let outcomes = sign_in_at_once(&server, &all, async |_| ()).await;
    for (number, (outcome, person)) in outcomes.into_iter().zip(&people).enumerate() {
        if number == 5 {
            assert_refused(outcome, Code::Internal, "INTERNAL");
            assert_eq!(server.database.sessions_of(person).await, 1);
        } else {
            assert_theirs(&server, &outcome.unwrap().into_inner(), person).await;
            assert_eq!(server.database.sessions_of(person).await, 2);
        }
    }
}
