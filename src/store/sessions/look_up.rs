//! Look-up of sessions with their users, for session checks: many per statement, with the server that answered.

use std::iter;

use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, ExprTrait as _, Iterable as _, JoinType, QueryResult};
use uuid::Uuid;

use crate::domain::session::Session;
use crate::domain::token::TokenHash;
use crate::domain::user::User;
use crate::store::entity::session::{self, Column, Entity};
use crate::store::entity::{Columns, user};
use crate::store::identity::{stamp, stamp_columns};
use crate::store::{Incarnation, Pool, StoreError};

/// Maximum number of tokens of one [`find_with_users`].
pub const MAX_TOKENS: usize = 64;

/// Result of [`find_with_users`].
#[derive(Debug)]
pub struct FoundSessions {
    /// The sessions with their tokens and users.
    pub sessions: Vec<(TokenHash, Session, User)>,
    /// The server that answered. It accepts writes.
    pub server: Incarnation,
    /// The generation of the connection on which it answered.
    pub generation: u64,
}

/// Finds the sessions of these tokens, ended or not, with their users. Only the first [`MAX_TOKENS`] tokens count.
///
/// # Errors
/// The database fails, or no server that accepts writes answers.
pub async fn find_with_users(db: &Pool, tokens: &[TokenHash]) -> Result<FoundSessions, StoreError> {
    let Some(last) = tokens.last() else {
        return Err(StoreError::not_committed("there are no tokens to look for"));
    };
    // The statement has one of seven lengths, so that it is prepared seven times and not for every number of tokens.
    let length = tokens.len().next_power_of_two().min(MAX_TOKENS);
    let padded = tokens.iter().chain(iter::repeat(last)).take(length);
    let hashes = padded.map(|token| token.as_bytes().to_vec());
    let backend = db.get_database_backend();
    let is_wanted = Expr::col((Entity, Column::TokenHash)).is_in(hashes);
    let is_owner = Expr::col((user::Entity, user::Column::Id)).equals((Entity, Column::UserId));
    let mut select = if backend == DbBackend::Sqlite {
        // There is no server, and so no stamp that would be needed even without a session.
        Query::select().from(Entity).and_where(is_wanted).take()
    } else {
        stamp(backend).join(JoinType::LeftJoin, Entity, is_wanted).take()
    };
    select
        .columns(Column::iter().map(|column| (Entity, column)))
        .columns(user::Column::iter().map(|column| (user::Entity, column)))
        .join(JoinType::LeftJoin, user::Entity, is_owner);
    let answer = db.query_stamped(backend.build(&select)).await?;
    let mut sessions = Vec::with_capacity(answer.rows.len());
    for row in &answer.rows {
        // Without a session, the row has only the stamp.
        if row
            .try_get_by_index::<Option<Uuid>>(stamp_columns(backend))?
            .is_some()
        {
            let found = FoundSession::read(row, stamp_columns(backend))?;
            sessions.push((found.token, found.session, found.user));
        }
    }
    Ok(FoundSessions {
        sessions,
        server: answer.incarnation,
        generation: answer.generation,
    })
}

/// A row of [`find_with_users`].
struct FoundSession {
    token: TokenHash,
    session: Session,
    user: User,
}

impl FoundSession {
    /// Reads the columns from index `first` on. It uses the indexes: a look-up by name takes three times as long.
    fn read(row: &QueryResult, first: usize) -> Result<Self, DbErr> {
        let mut columns = Columns::from(row, first);
        let session = session::Model::from_columns(&mut columns)?;
        let user = user::Model::from_columns(&mut columns)?;
        let token = TokenHash::from_stored(&session.token_hash)
            .ok_or_else(|| DbErr::Type("sessions.token_hash is not 32 bytes".to_owned()))?;
        Ok(Self {
            token,
            session: session.into(),
            user: user.try_into()?,
        })
    }
}
