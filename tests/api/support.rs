//! Shared parts of the tests: a server in this process with a clock that stands still, users, and errors.

pub(crate) mod any_rpc;
pub(crate) mod binary;
pub(crate) mod certificates;
#[allow(dead_code, reason = "each test crate uses its part of it")]
pub(crate) mod cluster;
pub(crate) mod codes;
pub(crate) mod collector;
pub(crate) mod database;
#[allow(dead_code, reason = "each test crate uses its part of it")]
pub(crate) mod database_server;
pub(crate) mod galera;
pub(crate) mod http;
pub(crate) mod native;
pub(crate) mod people;
pub(crate) mod place;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod refusal;
pub(crate) mod stub;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::DateTime;
use clap::Parser;
use phone_identity::app::App;
use phone_identity::clock::ManualClock;
use phone_identity::config::Settings;
use phone_identity::proto::v1;
use phone_identity::proto::v1::phone_identity_admin_client::PhoneIdentityAdminClient;
use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use phone_identity::service::hasher::Hasher;
use phone_identity::service::password_policy::PasswordPolicy;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use database::TestDatabase;
use place::Place;
use proxy::Proxy;

/// The password of all users, unless a test is about passwords.
pub(crate) const PASSWORD: &str = "mountains and rivers";

/// Another password.
pub(crate) const OTHER_PASSWORD: &str = "rivers and mountains";

/// Settings that make hashing, failing and ending cheap, and let a busy machine take its time; nothing else differs
/// from the defaults.
pub(crate) const TEST_FLAGS: [&str; 6] = [
    "--argon2-memory-kib=64",
    "--argon2-iterations=1",
    "--min-failed-sign-in-duration=0s",
    "--shutdown-delay=0s",
    "--database-acquire-timeout=10s",
    "--database-statement-timeout=20s",
];

/// Attempts are not counted, and nothing is written before a password is hashed.
pub(crate) const UNTHROTTLED: [&str; 2] = ["--throttle-number-attempts=0", "--throttle-address-attempts=0"];

pub(crate) type Client = PhoneIdentityClient<Channel>;

pub(crate) type AdminClient = PhoneIdentityAdminClient<Channel>;

#[derive(Parser)]
#[command(args_override_self = true)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

/// A server in this process. It ends when it is dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) hasher: Hasher,
    pub(crate) passwords: PasswordPolicy,
    tasks: TaskTracker,
    pub(crate) database: TestDatabase,
    stop: DropGuard,
    served: JoinHandle<()>,
    pub(crate) place: Place,
}

impl TestServer {
    /// A server with the default settings, but for cheap hashes.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with these flags, too.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        Self::start_in(Place::new().await, flags, None).await
    }

    /// Ends this server, and starts one with other flags on the same database.
    pub(crate) async fn restart_with(self, flags: &[&str]) -> Self {
        drop(self.stop);
        self.served.await.unwrap();
        Self::start_in(self.place, flags, None).await
    }

    /// A server in this place, which goes to its database by this way.
    pub(crate) async fn start_in(place: Place, flags: &[&str], way: Option<&Proxy>) -> Self {
        let url = way.map_or_else(|| place.url(), |proxy| proxy.url(&place));
        Self::start_on(place, &url, flags, async |place| TestDatabase::open(place).await).await
    }

    /// Another server on the database of this one.
    pub(crate) async fn replica(&self, flags: &[&str]) -> Self {
        let database = async |_: &Place| TestDatabase::open(&self.place).await;
        Self::start_on(Place::new().await, &self.place.url(), flags, database).await
    }

    async fn start_on(
        place: Place,
        url: &str,
        flags: &[&str],
        database: impl AsyncFnOnce(&Place) -> TestDatabase,
    ) -> Self {
        let url_flag = format!("--database-url={url}");
        let arguments = ["test", &url_flag]
            .into_iter()
            .chain(TEST_FLAGS)
            .chain(flags.iter().copied());
        let settings = Flags::parse_from(arguments).settings;
        let clock = Arc::new(ManualClock::new(
            DateTime::from_timestamp(1_767_225_600, 0).unwrap(),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = App::build(settings, clock.clone()).await.unwrap();
        let (hasher, tasks) = (app.hasher().clone(), app.tasks().clone());
        let passwords = app.passwords().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let stop = stop.drop_guard();
        let served = tokio::spawn(async move { app.serve(listener, stopped, pending()).await.unwrap() });
        let database = database(&place).await;
        Self {
            address,
            clock,
            hasher,
            passwords,
            tasks,
            database,
            stop,
            served,
            place,
        }
    }

    /// A client on a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        connect(self.address).await
    }

    /// A client for administration on a connection of its own.
    pub(crate) async fn admin(&self) -> AdminClient {
        PhoneIdentityAdminClient::new(channel(self.address).await)
    }

    /// Registers a new user.
    pub(crate) async fn person(&self) -> Person {
        let phone_number = next_phone_number();
        let response = self
            .client()
            .await
            .register(registration(&phone_number, PASSWORD))
            .await
            .unwrap();
        Person::from_parts(phone_number, response.into_inner().into())
    }

    /// Returns this number of users.
    pub(crate) async fn people(&self, count: usize) -> Vec<Person> {
        let mut people = Vec::with_capacity(count);
        for _ in 0..count {
            people.push(self.person().await);
        }
        people
    }

    /// Registers a new superuser and signs in.
    pub(crate) async fn superuser(&self) -> Person {
        let person = self.person().await;
        self.database
            .execute(
                "UPDATE users SET is_staff = TRUE, is_superuser = TRUE WHERE id = ?",
                &person,
            )
            .await;
        person
    }

    /// Registers a new staff user and signs in.
    pub(crate) async fn staff(&self) -> Person {
        let person = self.person().await;
        self.database
            .execute("UPDATE users SET is_staff = TRUE WHERE id = ?", &person)
            .await;
        person
    }

    /// Waits until so many passwords were hashed since the start.
    pub(crate) async fn hashed(&self, jobs: u64) {
        eventually(|| self.hasher.completed() >= jobs).await;
    }

    /// Waits until something has begun that finishes even if its caller goes away.
    pub(crate) async fn something_is_to_be_finished(&self) {
        eventually(|| !self.tasks.is_empty()).await;
    }

    /// Waits until so many tasks finish what must not stop half way.
    pub(crate) async fn finishing(&self, tasks: usize) {
        eventually(|| self.tasks.len() == tasks).await;
    }

    /// Waits until all of that is finished.
    pub(crate) async fn nothing_is_to_be_finished(&self) {
        eventually(|| self.tasks.is_empty()).await;
    }

    /// Waits until so many jobs wait to be hashed.
    pub(crate) async fn waiting(&self, jobs: usize) {
        eventually(|| self.hasher.snapshot().depth == jobs).await;
    }
}

/// Waits until something is so, and fails if it is not within ten seconds.
pub(crate) async fn eventually(mut is_so: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let waiting = async {
        while !is_so() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("did not become so");
}

pub(crate) async fn connect(address: SocketAddr) -> Client {
    PhoneIdentityClient::new(channel(address).await)
}

pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// Returns a valid mobile number of Uzbekistan that no other user of this process has.
pub(crate) fn next_phone_number() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(4_200_000);
    format!("+99890{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A user with a session.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) phone_number: String,
    pub(crate) user: v1::User,
    pub(crate) session: v1::Session,
    pub(crate) token: String,
}

impl Person {
    fn from_parts(phone_number: String, signed_in: SignedIn) -> Self {
        Self {
            phone_number,
            user: signed_in.user,
            session: signed_in.session,
            token: signed_in.token,
        }
    }

    /// Signs in once more, by password.
    pub(crate) async fn sign_in_again(&self, server: &TestServer) -> Self {
        let request = credentials(&self.phone_number, PASSWORD);
        let response = server.client().await.authenticate(request).await.unwrap();
        Self::from_parts(self.phone_number.clone(), response.into_inner().into())
    }

    /// A request with the session token of this user as bearer.
    pub(crate) fn asks<T>(&self, message: T) -> Request<T> {
        with_bearer(&self.token, message)
    }
}

/// The common part of the responses of Register and Authenticate.
pub(crate) struct SignedIn {
    pub(crate) user: v1::User,
    pub(crate) session: v1::Session,
    pub(crate) token: String,
}

impl From<v1::RegisterResponse> for SignedIn {
    fn from(response: v1::RegisterResponse) -> Self {
        let (user, session) = (response.user.unwrap(), response.session.unwrap());
        Self {
            user,
            session,
            token: response.session_token,
        }
    }
}

impl From<v1::AuthenticateResponse> for SignedIn {
    fn from(response: v1::AuthenticateResponse) -> Self {
        let (user, session) = (response.user.unwrap(), response.session.unwrap());
        Self {
            user,
            session,
            token: response.session_token,
        }
    }
}

pub(crate) fn with_bearer<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

pub(crate) fn registration(phone_number: &str, password: &str) -> v1::RegisterRequest {
    v1::RegisterRequest {
        phone_number: phone_number.to_owned(),
        password: password.to_owned(),
        ..v1::RegisterRequest::default()
    }
}

pub(crate) fn credentials(phone_number: &str, password: &str) -> v1::AuthenticateRequest {
    v1::AuthenticateRequest {
        phone_number: phone_number.to_owned(),
        password: password.to_owned(),
        ..v1::AuthenticateRequest::default()
    }
}

pub(crate) fn validation(token: &str) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest {
        session_token: token.to_owned(),
        ..v1::ValidateSessionRequest::default()
    }
}
