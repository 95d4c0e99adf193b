//! Access: service keys, client certificates, and the requirements of each RPC for its caller.

mod keys;
pub(crate) mod matrix;
mod operator;
mod start;
mod tls;

use std::process::Output;

use phone_identity::proto::v1;
use tonic::{Request, Status};

use crate::support::place::Place;
use crate::support::refusal::refusal;
use crate::support::{Client, validation};

pub(crate) const REQUIRE_KEY: &str = "--require-service-key";

/// Makes a key by the command, and gives the id and the key.
pub(crate) async fn make_key(place: &Place, name: &str, rights: &str) -> (String, String) {
    let create = ["service-key", "create", name, "--allow", rights];
    let made = place.run(&create, "").await;
    assert!(made.status.success(), "{made:?}");
    let id = text(&made.stderr).split(' ').nth(1).unwrap().to_owned();
    let key = text(&made.stdout);
    assert!(
        key.starts_with("pis_") && key.len() == 55,
        "the key, alone: {key:?}"
    );
    (id, key.trim_end().to_owned())
}

pub(crate) async fn revoke_key(place: &Place, id: &str) -> Output {
    place.run(&["service-key", "revoke", id], "").await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A request with a service key.
pub(crate) fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-service-key", key.parse().unwrap());
    request
}

/// The reason of a refusal.
fn reason(status: &Status) -> String {
    refusal(status).reason
}

/// The reason why a check of no session is refused: SESSION_INVALID if the caller may check.
pub(crate) async fn check(client: &mut Client, key: Option<&str>) -> String {
    let request = validation("nothing");
    let request = match key {
        None => Request::new(request),
        Some(key) => with_key(key, request),
    };
    reason(&client.validate_session(request).await.unwrap_err())
}

/// The same for signing in.
async fn sign_in(client: &mut Client, key: Option<&str>) -> String {
    let request = v1::AuthenticateRequest::default();
    let request = match key {
        None => Request::new(request),
        Some(key) => with_key(key, request),
    };
    reason(&client.authenticate(request).await.unwrap_err())
}
