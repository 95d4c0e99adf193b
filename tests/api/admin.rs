//! Service PhoneIdentityAdmin: rights (`rights`), fresh sign-ins (`fresh`), hidden users (`hidden`), ListUsers and the
//! query plans of its pages (`list`, `explain`), other RPCs (`changes`, `states`), races (`races`), replicas
//! (`replicas`), and the same at the command line (`commands`).

mod changes;
mod commands;
pub(crate) mod explain;
pub(crate) mod fresh;
mod hidden;
mod list;
mod races;
mod replicas;
mod rights;
mod states;

use phone_identity::proto::v1;

use crate::support::{AdminClient, Person, TestServer};

/// Returns a user as administration sees it.
pub(crate) async fn get(server: &TestServer, by: &Person, person: &Person) -> v1::ManagedUser {
    let request = v1::GetUserRequest {
        user_id: person.user.user_id.clone(),
        ..v1::GetUserRequest::default()
    };
    let found = server.admin().await.get_user(by.asks(request)).await;
    found.unwrap().into_inner().user.unwrap()
}

/// Returns an UpdateUser request for the current state of a user, without a change.
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
