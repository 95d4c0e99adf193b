//! The order of the outbox (`lane`, `flow`, `turn`), and the number of events of an audit row (`occurrences`).

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const OUTBOX_MESSAGES: &str = "outbox_messages";
const ID: &str = "id";
const DUE_AT: &str = "due_at";
const LANE: &str = "lane";
const FLOW: &str = "flow";
const TURN: &str = "turn";
const AUDIT_EVENTS: &str = "audit_events";
const OCCURRENCES: &str = "occurrences";

/// The new columns. The previous version does not set them: its messages count as those of strangers and are sent
/// first, and its audit rows stand for one event.
fn columns() -> [(&'static str, ColumnDef); 4] {
    let (mut lane, mut turn) = (ColumnDef::new(LANE), ColumnDef::new(TURN));
    let mut occurrences = ColumnDef::new(OCCURRENCES);
    [
        (
            OUTBOX_MESSAGES,
            lane.small_integer().not_null().default(1).to_owned(),
        ),
        (OUTBOX_MESSAGES, ColumnDef::new(FLOW).uuid().to_owned()),
        (
            OUTBOX_MESSAGES,
            turn.big_integer().not_null().default(0).to_owned(),
        ),
        (
            AUDIT_EVENTS,
            occurrences.big_integer().not_null().default(1).to_owned(),
        ),
    ]
}

/// The indexes: the next turn of a lane, the due messages of a lane, and the last turn of a flow. The index on `due_at`
/// alone remains for the previous version.
const INDEXES: [(&str, [&str; 3]); 3] = [
    ("idx_outbox_messages_lane_turn_id", [LANE, TURN, ID]),
    ("idx_outbox_messages_lane_due_at_id", [LANE, DUE_AT, ID]),
    ("idx_outbox_messages_lane_flow_turn", [LANE, FLOW, TURN]),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, mut column) in columns() {
            if !manager.has_column(table, &column.get_column_name()).await? {
                let add = Table::alter().table(table).add_column(&mut column).to_owned();
                manager.alter_table(add).await?;
            }
        }
        for (name, columns) in INDEXES {
            // MySQL has no CREATE INDEX IF NOT EXISTS.
            if !manager.has_index(OUTBOX_MESSAGES, name).await? {
                let mut index = Index::create();
                index.name(name).table(OUTBOX_MESSAGES);
                for column in columns {
                    index.col(column);
                }
                manager.create_index(index.to_owned()).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            if manager.has_index(OUTBOX_MESSAGES, name).await? {
                let drop = Index::drop().name(name).table(OUTBOX_MESSAGES).to_owned();
                manager.drop_index(drop).await?;
            }
        }
        for (table, column) in columns() {
            let name = column.get_column_name();
            if manager.has_column(table, &name).await? {
                let drop = Table::alter()
                    .table(table)
                    .drop_column(Alias::new(name))
                    .to_owned();
                manager.alter_table(drop).await?;
            }
        }
        Ok(())
    }
}
