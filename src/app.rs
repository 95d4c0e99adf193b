//! The wiring: what is started in which order, and an orderly end.

mod health;
mod start;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic_health::server::HealthReporter;

use crate::cgroup;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::access::OperatorKey;
use crate::domain::registration::RegistrationMode;
use crate::grpc::{self, Callers, Listeners, ServerSettings, Services, Stop};
use crate::metrics;
use crate::service::accounts::Accounts;
use crate::service::admin::Admin;
use crate::service::codes::{self, Codes};
use crate::service::error::chain;
use crate::service::hasher::Hasher;
use crate::service::outbox::{self, Breakers, DeliveryContext, Outbox, Wake};
use crate::service::password_policy::PasswordPolicy;
use crate::service::revocation::ChangeLog;
use crate::service::service_keys::Keyring;
use crate::service::sessions::Sessions;
use crate::service::shared::Shared;
use crate::service::throttle::Throttle;
use crate::service::unit_of_work::UnitOfWork;
use crate::store::{Store, StoreError};
use crate::telemetry::tracing::Export;
pub use start::{StartError, open_store, tls};

use health::{Health, SLOW};

/// How long closing the database may take, after the calls in flight have had their time; and sending the last spans.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Descriptors that are neither connections of clients nor of the pool: the log, the files of SQLite, the connection
/// for the change log, one for a statement that is given up, what the runtime needs, and connections that ask for
/// health only.
const OTHER_DESCRIPTORS: u64 = 128;

/// Everything that serves, started but not yet listening.
pub struct App {
    settings: Settings,
    limits: ServerSettings,
    store: Store,
    hasher: Hasher,
    shared: Shared,
    accounts: Accounts,
    passwords: PasswordPolicy,
    sessions: Sessions,
    codes: Option<(Codes, Outbox)>,
    code_metrics: Arc<codes::Metrics>,
    outbox_metrics: Arc<outbox::Metrics>,
    keys: Option<Keyring>,
    operator_key: Option<OperatorKey>,
    registration: RegistrationMode,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    metrics: Option<TcpListener>,
    export: Option<Export>,
}

impl App {
    /// Opens the database, brings its schema up to date, and starts the hashing threads.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub async fn build(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let limits = settings.limits()?;
        let operator_key = settings.operator_key()?;
        let registration = settings.registration()?;
        let export = settings.operations.otlp_endpoint.as_deref();
        let export = export.map(Export::start).transpose()?;
        let store = open_store(&settings).await?;
        let hasher = Hasher::start(&settings.hasher()?)?;
        let passwords = PasswordPolicy::open(
            settings.password_min_length,
            settings.breached_passwords_file.clone(),
        );
        let passwords = passwords.await?;
        let tasks = TaskTracker::new();
        let policy = settings.policy();
        let changes = ChangeLog::new(clock.clone(), settings.staleness_bound);
        let limits_of_attempts = settings.throttle.limits()?;
        let throttle = Throttle::new(store.clone(), clock.clone(), limits_of_attempts, tasks.clone());
        let work = UnitOfWork::new(
            store.clone(),
            clock.clone(),
            throttle,
            changes.clone(),
            tasks.clone(),
        );
        let shared = Shared::new(work, hasher.clone(), passwords.clone(), policy);
        let accounts = Accounts::new(&shared);
        let sessions = Sessions::new(store.clone(), clock.clone(), settings.sessions()?, changes);
        let providers = settings.providers(&clock)?;
        let code_metrics = Arc::new(codes::Metrics::default());
        let outbox_metrics = Arc::new(outbox::Metrics::default());
        let codes = if providers.is_empty() {
            None
        } else {
            let (coder, wake) = (Arc::new(settings.coder()?), Wake::default());
            let delivery = DeliveryContext {
                coder: coder.clone(),
                lines: settings.sms.lines(),
                breakers: Breakers::new(providers.len()),
                providers,
                timeout: settings.sms.sms_timeout,
                concurrency: usize::from(settings.sms.sms_concurrency),
                metrics: outbox_metrics.clone(),
            };
            let outbox = Outbox::new(store.clone(), clock.clone(), delivery, wake.clone());
            let metrics = code_metrics.clone();
            let codes = Codes::new(
                &shared,
                coder,
                settings.codes()?,
                settings.sms_limits()?,
                wake,
                metrics,
            );
            Some((codes, outbox))
        };
        let (bound, period) = (settings.staleness_bound, settings.change_log_interval);
        let keys = match settings.access.require_service_key {
            true => Some(Keyring::open(store.clone(), clock.clone(), bound, period).await?),
            false => None,
        };
        Ok(Self {
            settings,
            limits,
            store,
            hasher,
            shared,
            accounts,
            passwords,
            sessions,
            codes,
            code_metrics,
            outbox_metrics,
            keys,
            operator_key,
            registration,
            clock,
            tasks,
            metrics: None,
            export,
        })
    }

    /// Serves metrics and probes on this listener, too.
    #[must_use]
    pub fn with_metrics(mut self, listener: TcpListener) -> Self {
        self.metrics = Some(listener);
        self
    }

    /// The hashing threads.
    #[must_use]
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// The password policy.
    #[must_use]
    pub fn passwords(&self) -> &PasswordPolicy {
        &self.passwords
    }

    /// What finishes even if its caller has gone.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// The accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Administration.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(&self.shared)
    }

    /// Serves on `listeners` until `shutdown` is there. Then health says so, while connections are accepted for some
    /// time more, or until `hurry` is there; then clients are told to go, calls in flight finish, and the database is
    /// closed.
    ///
    /// # Errors
    /// When the listener fails, or the database cannot be closed.
    pub async fn serve(
        self,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let reporter = HealthReporter::new();
        let health_service = grpc::health_server(reporter.clone());
        let health = Health::new(reporter);
        let patience = self.settings.change_log_interval + SLOW;
        let counted = Arc::new(grpc::Metrics::new()?);
        // It answers until the process ends, so that probes are not told that there is nobody.
        let _metrics = self.metrics.map(|listener| {
            let sources = metrics::Sources {
                grpc: counted.clone(),
                hasher: self.hasher.clone(),
                sessions: self.sessions.clone(),
                accounts: self.accounts.clone(),
                codes: self.code_metrics.clone(),
                outbox: self.outbox_metrics.clone(),
                store: self.store.clone(),
                patience,
            };
            let serving = metrics::serve(listener, sources, health.readiness());
            AbortOnDropHandle::new(tokio::spawn(serving))
        });
        health.begin().await;
        self.store.ping().await?;
        health.set_ready(true).await;

        let stop_background = CancellationToken::new();
        let background = self.sessions.clone().run_background(stop_background.clone());
        let mut background = tokio::spawn(background);
        let stop_audit = CancellationToken::new();
        let audit_options = self.settings.audit();
        let audit = self.shared.audit().clone().run(audit_options, stop_audit.clone());
        let audit = AbortOnDropHandle::new(tokio::spawn(audit));
        let delay = self.settings.wire.shutdown_delay;
        let bound = self.settings.wire.shutdown_timeout;
        let sessions = self.sessions.clone();
        let (codes, outbox) = self.codes.unzip();
        let stop_outbox = CancellationToken::new();
        let outbox = outbox.map(|outbox| tokio::spawn(outbox.run(stop_outbox.clone())));
        let mut outbox = outbox.map(AbortOnDropHandle::new);
        let services = Services {
            admin: Admin::new(&self.shared),
            accounts: self.accounts,
            codes,
            sessions: self.sessions,
            rules: self.settings.rules(),
            callers: Callers {
                certificates: self.settings.access.client_ca.is_some(),
                keys: self.keys.clone(),
            },
            operator_key: self.operator_key,
            registration: self.registration,
            clock: self.clock,
            metrics: counted,
            tracer: self
                .export
                .as_ref()
                .map(|export| export.tracer(self.settings.operations.trace_sampling)),
        };
        let _keys = self
            .keys
            .map(|keys| AbortOnDropHandle::new(tokio::spawn(keys.run())));
        let limits = ServerSettings {
            connections: room_for_connections(self.limits.connections, self.settings.database_connections),
            ..self.limits
        };
        let stop = Stop::default();
        let server = grpc::serve(services, health_service, limits, listeners.into(), stop.clone());
        let mut server = tokio::spawn(server);
        let hashing = self.hasher.setup();
        tracing::info!(
            engine = hashing.engine.name(),
            threads = hashing.threads,
            queue = hashing.queue,
            hash_microseconds = u64::try_from(hashing.hash_time.as_micros()).unwrap_or(u64::MAX),
            "hashing"
        );
        tracing::info!("serving");

        tokio::select! {
            () = shutdown => {}
            ended = &mut server => return Ok(ended??),
            // Without it no session would be known to be used, and so all would end: better to be started again.
            ended = &mut background => return Ok(ended?),
            // Nor would anybody get a code.
            ended = end_of(outbox.as_mut()) => return Ok(ended?),
            never = health.tell(&sessions, patience) => match never {},
        }
        tracing::info!("shutting down");
        health.set_ready(false).await;
        // Who asks health turns away, and who has not asked yet is served.
        tokio::select! {
            () = sleep(delay) => {}
            () = hurry => tracing::info!("shutting down without more delay"),
            ended = &mut server => return Ok(ended??),
        }
        stop.orderly.cancel();
        let end = Instant::now() + bound;
        let calls = async {
            let ended = (&mut server).await;
            // What follows a hash finishes even if its caller has gone.
            self.tasks.close();
            self.tasks.wait().await;
            ended
        };
        match timeout(bound, calls).await {
            Ok(ended) => ended??,
            Err(_) => {
                tracing::warn!("calls in flight did not finish in time");
                stop.at_once.cancel();
            }
        }
        stop_outbox.cancel();
        let rest = end.saturating_duration_since(Instant::now()).max(CLOSE_TIMEOUT);
        if outbox.is_some() && timeout(rest, end_of(outbox.as_mut())).await.is_err() {
            tracing::warn!("messages that are being sent did not finish in time, and may be sent again");
        }
        drop(outbox);
        stop_background.cancel();
        stop_audit.cancel();
        let close = async {
            // What sessions were used is written before the database is closed.
            if let Err(error) = background.await {
                tracing::error!(%error, "the background work had ended before");
            }
            if let Err(error) = audit.await {
                tracing::error!(%error, "the background work of the audit log had ended before");
            }
            Ok::<_, ServeError>(self.store.close().await?)
        };
        match timeout(CLOSE_TIMEOUT, close).await {
            Ok(closed) => closed?,
            // A write that goes on for too long is rolled back when the process ends.
            Err(_) => tracing::warn!("the database was not closed in time"),
        }
        if let Some(export) = self.export {
            export.shut_down(CLOSE_TIMEOUT).await;
        }
        tracing::info!("shut down");
        Ok(())
    }
}

/// Waits for a task to end, if there is one, and else for ever.
async fn end_of(task: Option<&mut AbortOnDropHandle<()>>) -> Result<(), JoinError> {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}

/// How many of the connections that are wanted there are descriptors for, beside what else needs some.
fn room_for_connections(wanted: usize, database_connections: u32) -> usize {
    let others = u64::from(database_connections) + OTHER_DESCRIPTORS;
    let Some(descriptors) = cgroup::raise_descriptors() else {
        return wanted;
    };
    let room = usize::try_from(descriptors.saturating_sub(others)).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::warn!(
            wanted,
            room = room.max(1),
            descriptors,
            "fewer connections than --max-connections: the limit of open files (ulimit -n) is too low"
        );
    } else {
        tracing::debug!(
            wanted,
            descriptors,
            "connections fit into the limit of open files"
        );
    }
    wanted.min(room.max(1))
}

/// Why serving ended before it was told to.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The server failed.
    #[error(transparent)]
    Server(#[from] grpc::GrpcServeError),
    /// The compiled-in contract cannot be read.
    #[error("the contract cannot be read: {0}")]
    Contract(#[from] prost::DecodeError),
    /// The server's task ended.
    #[error("the server failed: {0}")]
    Task(#[from] JoinError),
    /// The database failed.
    #[error("the database failed: {}", chain(.0))]
    Store(#[from] StoreError),
}
