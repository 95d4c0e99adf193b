//! Service PhoneIdentityAdmin: `rights` is about who may do what, `fresh` about what needs a fresh sign-in, `hidden`
//! about users that staff may not see, `list` about pages, `explain` about what they cost, `changes` about each RPC,
//! `races` about those that meet, and `commands` about the same at the command line.

mod changes;
mod commands;
pub(crate) mod explain;
mod fresh;
mod hidden;
mod list;
mod races;
mod replicas;
mod rights;

use phone_identity::proto::v1;

use crate::support::{AdminClient, Person, TestServer};

/// A person as administration sees them.
pub(crate) async fn get(server: &TestServer, by: &Person, person: &Person) -> v1::ManagedUser {
    let request = v1::GetUserRequest {
        user_id: person.user.user_id.clone(),
        ..v1::GetUserRequest::default()
    };
    let found = server.admin().await.get_user(by.asks(request)).await;
    found.unwrap().into_inner().user.unwrap()
}

/// What UpdateUser is asked for about a person as they are now, with nothing to change.
pub(crate) async fn update_of(server: &TestServer, by: &Person, person: &Person) -> v1::UpdateUserRequest {
    v1::UpdateUserRequest {
        user_id: person.user.user_id.clone(),
        etag: get(server, by, person).await.etag,
        ..v1::UpdateUserRequest::default()
    }
}

async fn list(client: &mut AdminClient, by: &Person, request: v1::ListUsersRequest) -> v1::ListUsersResponse {
    client.list_users(by.asks(request)).await.unwrap().into_inner()
}
