//! The audit log: actor, action, subject and origin of events.

use sea_orm_migration::prelude::*;

use crate::{table, timestamp};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum AuditEvents {
    Table,
    Id,
    At,
    Action,
    Outcome,
    Reason,
    Actor,
    ActorId,
    SubjectId,
    SessionId,
    Fields,
    EndedSessions,
    Service,
    ClientIpAddress,
    ClientUserAgent,
    RequestId,
}

#[derive(DeriveIden)]
enum AuditErasures {
    Table,
    UserId,
    At,
}

/// Index: the events about a user, by age.
const SUBJECT_INDEX: &str = "idx_audit_events_subject_id_id";

/// Index: the events by a user, by age.
const ACTOR_INDEX: &str = "idx_audit_events_actor_id_id";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, AuditEvents::Table)
                    // A UUIDv7, so the primary key is in order of time.
                    .col(ColumnDef::new(AuditEvents::Id).uuid().not_null().primary_key())
                    .col(timestamp(manager, AuditEvents::At.into_iden()).not_null())
                    .col(ColumnDef::new(AuditEvents::Action).string_len(32).not_null())
                    .col(ColumnDef::new(AuditEvents::Outcome).string_len(16).not_null())
                    .col(ColumnDef::new(AuditEvents::Reason).string_len(64))
                    .col(ColumnDef::new(AuditEvents::Actor).string_len(16).not_null())
                    // No foreign keys: an event outlives its users.
                    .col(ColumnDef::new(AuditEvents::ActorId).uuid())
                    .col(ColumnDef::new(AuditEvents::SubjectId).uuid())
                    .col(ColumnDef::new(AuditEvents::SessionId).uuid())
                    .col(ColumnDef::new(AuditEvents::Fields).string_len(255))
                    .col(ColumnDef::new(AuditEvents::EndedSessions).big_integer())
                    .col(ColumnDef::new(AuditEvents::Service).string_len(128))
                    .col(ColumnDef::new(AuditEvents::ClientIpAddress).string_len(45))
                    .col(ColumnDef::new(AuditEvents::ClientUserAgent).string_len(512))
                    .col(ColumnDef::new(AuditEvents::RequestId).string_len(64))
                    .to_owned(),
            )
            .await?;
        for (name, column) in [
            (SUBJECT_INDEX, AuditEvents::SubjectId),
            (ACTOR_INDEX, AuditEvents::ActorId),
        ] {
            // MySQL has no CREATE INDEX IF NOT EXISTS.
            if !manager.has_index("audit_events", name).await? {
                manager
                    .create_index(
                        Index::create()
                            .name(name)
                            .table(AuditEvents::Table)
                            .col(column)
                            .col(AuditEvents::Id)
                            .to_owned(),
                    )
                    .await?;
            }
        }
        manager
            .create_table(
                table(manager, AuditErasures::Table)
                    .col(
                        ColumnDef::new(AuditErasures::UserId)
                            .uuid()
                            .not_null()
                            .primary_key(),
                    )
                    .col(timestamp(manager, AuditErasures::At.into_iden()).not_null())
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(AuditErasures::Table).if_exists().to_owned())
            .await?;
        manager
            .drop_table(Table::drop().table(AuditEvents::Table).if_exists().to_owned())
            .await
    }
}
