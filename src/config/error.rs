//! Errors of the settings.

use std::net::SocketAddr;

use thiserror::Error;

use crate::domain::RandomError;
use crate::domain::access::OperatorKey;
use crate::domain::secret_keys::SecretKeyError;
use crate::domain::sms_limits::PriceError;
use crate::secret_file::SecretFileError;
use crate::sms::Webhook;

/// An invalid setting. The text never contains a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A secret is set by the environment and by a file.
    #[error("{0} and {0}_FILE are both given")]
    SecretTwice(&'static str),
    /// The file with a secret cannot be read, or is accessible to other users.
    #[error("the file of {0}_FILE {1}")]
    SecretFile(&'static str, #[source] SecretFileError),
    /// The change log would be read less often than the staleness bound requires.
    #[error("--change-log-interval is not less than --staleness-bound")]
    ChangeLogInterval,
    /// Failed sign-ins would exceed their deadline.
    #[error("--min-failed-sign-in-duration is not less than --request-timeout")]
    FailedSignInTime,
    /// The base delay of throttling exceeds the maximum delay.
    #[error("--throttle-base-delay is longer than --throttle-max-delay")]
    ThrottleDelays,
    /// Throttling would keep attempts for more than ten years.
    #[error("a --throttle-...-attempts times its --throttle-...-recovery is longer than ten years")]
    ThrottleMemory,
    /// The TLS certificate or its private key is missing.
    #[error("--tls-certificate and --tls-key are given together or not at all")]
    TlsPair,
    /// Client certificates need TLS.
    #[error("--client-ca needs --tls-certificate and --tls-key")]
    ClientCaWithoutTls,
    /// Names of client certificates are listed, but the server requests no client certificates.
    #[error("--clients needs --client-ca")]
    ClientsWithoutCa,
    /// The server requests client certificates, but lists none and accepts no service keys.
    #[error("--client-ca needs --clients or --require-service-key: without them every call is rejected")]
    NoCallerAllowed,
    /// Unauthenticated callers on the network could call the server.
    #[error(
        "--listen {0} is not a loopback address, and callers are not authenticated: set --require-service-key, or \
         --client-ca and --clients, or --insecure if the network lets only trusted callers in"
    )]
    Insecure(SocketAddr),
    /// The operator key could be guessed.
    #[error(
        "PHONE_IDENTITY_OPERATOR_KEY has fewer than {} characters",
        OperatorKey::MIN_LENGTH
    )]
    OperatorKeyShort,
    /// An SMS provider lacks one of its settings.
    #[error("--sms-providers {0} needs {1}")]
    Provider(&'static str, &'static str),
    /// The URL or the credentials of an SMS provider make no valid request.
    #[error("--sms-providers {0}: its URL or credentials are invalid: {1}")]
    ProviderUrl(&'static str, #[source] http::Error),
    /// The webhook secret could be guessed.
    #[error(
        "PHONE_IDENTITY_WEBHOOK_SECRET has fewer than {} characters",
        Webhook::MIN_SECRET_LENGTH
    )]
    WebhookSecretShort,
    /// The file with certificate authorities of SMS providers cannot be read.
    #[error("the file of --sms-ca cannot be read: {0}")]
    SmsCa(#[source] std::io::Error),
    /// The file with certificate authorities of SMS providers is not PEM, or has no valid certificate.
    #[error("the file of --sms-ca is not PEM, or has no certificate or an invalid one")]
    SmsCaPem,
    /// The TLS client for SMS providers cannot be created.
    #[error("TLS to SMS providers cannot be set up: {0}")]
    ProviderTls(#[from] rustls::Error),
    /// Codes are sent by SMS, and only this process could verify them.
    #[error("--sms-providers needs PHONE_IDENTITY_CODE_KEYS or --code-keys-file, except for log alone")]
    CodeKeysMissing,
    /// Phone numbers must be verified, but the server sends no codes.
    #[error("--registration verified needs --sms-providers")]
    VerifiedWithoutSms,
    /// Phone numbers must be verified, but may be changed without verification.
    #[error("--registration verified and --unverified-phone-change contradict each other")]
    VerifiedAndUnverified,
    /// Registration is closed, but signing in by code would create accounts.
    #[error("--registration closed and --sign-up-by-code contradict each other")]
    ClosedAndSignUp,
    /// SMS cost money, and no limit applies to their total.
    #[error(
        "--sms-providers other than log needs --sms-countries, and --sms-budget with --sms-prices-file or \
         --sms-limit-total: without them the cost of SMS has no limit"
    )]
    SmsWithoutCeiling,
    /// Codes could be guessed.
    #[error(
        "--code-attempts {attempts} is too many for --code-length {length}: more than one guess in 10000 would \
         succeed; the maximum is {max}"
    )]
    CodeGuessable {
        /// Attempts per challenge.
        attempts: u32,
        /// Number of digits of a code.
        length: u8,
        /// The maximum number of attempts for this length.
        max: u64,
    },
    /// The budget or the prices of SMS are missing.
    #[error("--sms-budget and --sms-prices-file are given together or not at all")]
    BudgetWithoutPrices,
    /// The file with SMS prices cannot be read.
    #[error("the file of --sms-prices-file cannot be read: {0}")]
    PricesFile(#[source] std::io::Error),
    /// The file with SMS prices is invalid.
    #[error("the file of --sms-prices-file: {0}")]
    Prices(#[from] PriceError),
    /// The operating system returns no random bytes for a secret key.
    #[error("no random bytes for a secret key: {0}")]
    Random(#[from] RandomError),
    /// The list of secret keys is invalid.
    #[error("{0}: {1}")]
    SecretKeys(&'static str, #[source] SecretKeyError),
}
