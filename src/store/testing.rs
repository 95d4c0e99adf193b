//! Store for unit tests, which call it directly.

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use super::changes::VERSION_LEVEL;
use super::{Options, Store};

/// Opens a store on `test.db` in a folder, with the newest schema. Creates a missing file.
pub(crate) async fn in_folder(folder: &Path) -> Store {
    let url = format!("sqlite://{}", folder.join("test.db").display());
    let options = Options {
        url: SecretString::from(url),
        url_file: None,
        allow_readable_secrets: false,
        version_level: VERSION_LEVEL,
        connections: 2,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
    };
    let store = Store::open(&options).await.unwrap();
    store.migrate().await.unwrap();
    store
}
