//! Composition root: starts the components in order, and shuts them down gracefully.

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

use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::access::OperatorKey;
use crate::domain::registration::RegistrationMode;
use crate::grpc::{self, Callers, Listeners, ServerSettings, Services, Shutdown};
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
use start::room_for_connections;
pub use start::{StartError, open_store, tls};

use health::{Health, SLOW};

/// Timeout of closing the database after the calls in flight, and of sending the last spans.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The service: all components are started, and no listener accepts connections yet.
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
    /// Opens the database, migrates its schema, and starts the hashing threads.
    ///
    /// # Errors
    /// The reason why the service cannot start.
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
        let throttle_limits = settings.throttle.limits()?;
        let throttle = Throttle::new(store.clone(), clock.clone(), throttle_limits, tasks.clone());
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
        let (staleness_bound, interval) = (settings.staleness_bound, settings.change_log_interval);
        let keys = match settings.access.require_service_key {
            true => Some(Keyring::open(store.clone(), clock.clone(), staleness_bound, interval).await?),
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

    /// Adds a listener for metrics and probes.
    #[must_use]
    pub fn with_metrics(mut self, listener: TcpListener) -> Self {
        self.metrics = Some(listener);
        self
    }

    /// Returns the password hasher.
    #[must_use]
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Returns the password policy.
    #[must_use]
    pub fn passwords(&self) -> &PasswordPolicy {
        &self.passwords
    }

    /// Returns the tasks that finish even after their caller has disconnected.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Returns the accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Returns the administration service.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(&self.shared)
    }

    /// Serves on `listeners` until `shutdown` completes. Then health reports NOT_SERVING, while connections are
    /// accepted for the shutdown delay or until `hurry` completes. Then connections are closed gracefully, calls in
    /// flight finish, and the database is closed.
    ///
    /// # Errors
    /// When a listener fails, or the database cannot be closed.
    pub async fn serve(
        self,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let reporter = HealthReporter::new();
        let health_service = grpc::health_server(reporter.clone());
        let health = Health::new(reporter);
        let max_reading_age = self.settings.change_log_interval + SLOW;
        let grpc_metrics = Arc::new(grpc::Metrics::new()?);
        // Serves until the process ends, so that probes receive a response during the shutdown.
        let _metrics = self.metrics.map(|listener| {
            let sources = metrics::Sources {
                grpc: grpc_metrics.clone(),
                hasher: self.hasher.clone(),
                sessions: self.sessions.clone(),
                accounts: self.accounts.clone(),
                codes: self.code_metrics.clone(),
                outbox: self.outbox_metrics.clone(),
                store: self.store.clone(),
                max_reading_age,
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
        let shutdown_timeout = self.settings.wire.shutdown_timeout;
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
            metrics: grpc_metrics,
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
        let stop = Shutdown::default();
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
            // Without it no use of a session is recorded, and all sessions would expire. A restart is better.
            ended = &mut background => return Ok(ended?),
            // Without the outbox no user receives a code.
            ended = end_of(outbox.as_mut()) => return Ok(ended?),
            never = health.report(&sessions, max_reading_age) => match never {},
        }
        tracing::info!("shutting down");
        health.set_ready(false).await;
        // Clients that check health leave; calls of the others are still served.
        tokio::select! {
            () = sleep(delay) => {}
            () = hurry => tracing::info!("shutting down without more delay"),
            ended = &mut server => return Ok(ended??),
        }
        stop.graceful.cancel();
        let end = Instant::now() + shutdown_timeout;
        let calls = async {
            let ended = (&mut server).await;
            // The work after a hash finishes even if its caller has disconnected.
            self.tasks.close();
            self.tasks.wait().await;
            ended
        };
        match timeout(shutdown_timeout, calls).await {
            Ok(ended) => ended??,
            Err(_) => {
                tracing::warn!("calls in flight did not finish in time");
                stop.immediate.cancel();
            }
        }
        stop_outbox.cancel();
        let rest = end.saturating_duration_since(Instant::now()).max(CLOSE_TIMEOUT);
        if outbox.is_some() && timeout(rest, end_of(outbox.as_mut())).await.is_err() {
            tracing::warn!("messages in flight did not finish in time, and may be sent again");
        }
        drop(outbox);
        stop_background.cancel();
        stop_audit.cancel();
        let close = async {
            // The last uses of sessions are written before the database is closed.
            if let Err(error) = background.await {
                tracing::error!(%error, "the background task of sessions had already ended");
            }
            if let Err(error) = audit.await {
                tracing::error!(%error, "the background task of the audit log had already ended");
            }
            Ok::<_, ServeError>(self.store.close().await?)
        };
        match timeout(CLOSE_TIMEOUT, close).await {
            Ok(closed) => closed?,
            // The database rolls back an unfinished write when the process ends.
            Err(_) => tracing::warn!("the database was not closed in time"),
        }
        if let Some(export) = self.export {
            export.shut_down(CLOSE_TIMEOUT).await;
        }
        tracing::info!("shut down");
        Ok(())
    }
}

/// Waits for a task to end. Without a task it never returns.
async fn end_of(task: Option<&mut AbortOnDropHandle<()>>) -> Result<(), JoinError> {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}

/// The reason why serving ended before the shutdown.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The server failed.
    #[error(transparent)]
    Server(#[from] grpc::GrpcServeError),
    /// The compiled-in descriptors cannot be decoded.
    #[error("the compiled-in descriptors cannot be decoded: {0}")]
    Contract(#[from] prost::DecodeError),
    /// The server's task ended.
    #[error("the server failed: {0}")]
    Task(#[from] JoinError),
    /// The database failed.
    #[error("the database failed: {}", chain(.0))]
    Store(#[from] StoreError),
}
