//! History of the change log: an ID that distinguishes entries of the same number in two histories (`entry_id`), the
//! minimum version that may serve on the database (`version_floor`), and a row for write probes (`heartbeat`).

use sea_orm_migration::prelude::*;

use crate::table;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const IDENTITY_CHANGES: &str = "identity_changes";
const ENTRY_ID: &str = "entry_id";
const CHANGE_LOG: &str = "change_log";
const VERSION_FLOOR: &str = "version_floor";
const HEARTBEAT: &str = "heartbeat";
const ID: &str = "id";
const BEATS: &str = "beats";

/// The new columns. The previous version does not set them.
fn columns() -> [(&'static str, ColumnDef); 2] {
    let (mut entry_id, mut version_floor) = (ColumnDef::new(ENTRY_ID), ColumnDef::new(VERSION_FLOOR));
    [
        (IDENTITY_CHANGES, entry_id.uuid().to_owned()),
        (
            CHANGE_LOG,
            version_floor.integer().not_null().default(0).to_owned(),
        ),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, mut column) in columns() {
            if !manager.has_column(table, &column.get_column_name()).await? {
                let add = Table::alter().table(table).add_column(&mut column).to_owned();
                manager.alter_table(add).await?;
            }
        }
        let heartbeat = table(manager, HEARTBEAT)
            .col(ColumnDef::new(ID).small_integer().not_null().primary_key())
            .col(ColumnDef::new(BEATS).big_integer().not_null())
            .to_owned();
        manager.create_table(heartbeat).await?;
        let first = Query::insert()
            .into_table(HEARTBEAT)
            .columns([ID, BEATS])
            .values_panic([1.into(), 0.into()])
            .on_conflict(OnConflict::column(ID).do_nothing_on([ID]).to_owned())
            .to_owned();
        manager.execute(first).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(HEARTBEAT).if_exists().to_owned())
            .await?;
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
