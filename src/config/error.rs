//! What may be wrong with the settings.

use std::net::SocketAddr;

use thiserror::Error;

use crate::domain::RandomError;
use crate::domain::access::OperatorKey;
use crate::domain::secret_keys::SecretKeyError;
use crate::domain::sms_limits::PriceError;
use crate::secret_file::SecretFileError;
use crate::sms::Webhook;

/// A setting that cannot be used. The text never shows a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A secret is given by the environment and by a file.
    #[error("{0} and {0}_FILE are both given")]
    SecretTwice(&'static str),
    /// The file with a secret cannot be read, or is open to other users.
    #[error("the file of {0}_FILE {1}")]
    SecretFile(&'static str, #[source] SecretFileError),
    /// The change log would be read too seldom.
    #[error("--change-log-interval is not less than --staleness-bound")]
    ChangeLogInterval,
    /// A failed sign-in would never be answered.
    #[error("--min-failed-sign-in-duration is not less than --request-timeout")]
    FailedSignInTime,
    /// The delays of throttling contradict each other.
    #[error("--throttle-base-delay is longer than --throttle-max-delay")]
    ThrottleDelays,
    /// Throttling would remember for too long.
    #[error("a --throttle-...-attempts times its --throttle-...-recovery is longer than ten years")]
    ThrottleMemory,
    /// What TLS needs is given in half.
    #[error("--tls-certificate and --tls-key are given together or not at all")]
    TlsPair,
    /// There are no client certificates without TLS.
    #[error("--client-ca needs --tls-certificate and --tls-key")]
    ClientCaWithoutTls,
    /// Names of client certificates are listed, and none are asked for.
    #[error("--clients needs --client-ca")]
    ClientsWithoutCa,
    /// Client certificates are asked for, and nobody may call.
    #[error("with --client-ca and neither --clients nor --require-service-key nobody may call")]
    NobodyMayCall,
    /// Everybody on a network could call.
    #[error(
        "--listen {0} is not a loopback address, and callers do not have to prove who they are: give --require-service-key, \
         or --client-ca and --clients, or --insecure if something else keeps strangers out"
    )]
    Insecure(SocketAddr),
    /// The operator key could be guessed.
    #[error(
        "PHONE_IDENTITY_OPERATOR_KEY has fewer than {} characters",
        OperatorKey::MIN_LENGTH
    )]
    OperatorKeyShort,
    /// A provider of SMS is named, and what it needs is not given.
    #[error("--sms-providers {0} needs {1}")]
    Provider(&'static str, &'static str),
    /// What a provider of SMS is asked by cannot be used.
    #[error("--sms-providers {0}: what it is asked by cannot be used: {1}")]
    ProviderUrl(&'static str, #[source] http::Error),
    /// The secret of webhooks could be guessed.
    #[error(
        "PHONE_IDENTITY_WEBHOOK_SECRET has fewer than {} characters",
        Webhook::MIN_SECRET_LENGTH
    )]
    WebhookSecretShort,
    /// The file with certificate authorities of SMS providers cannot be read.
    #[error("the file of --sms-ca cannot be read: {0}")]
    SmsCa(#[source] std::io::Error),
    /// The file with certificate authorities of SMS providers has none, or one that is not valid, or is not PEM.
    #[error("the file of --sms-ca has no certificate, or one that is not valid, or is not PEM")]
    SmsCaPem,
    /// TLS to providers cannot be set up.
    #[error("TLS to SMS providers cannot be set up: {0}")]
    ProviderTls(#[from] rustls::Error),
    /// Codes are really sent, and nobody but this process could check them.
    #[error("--sms-providers needs PHONE_IDENTITY_CODE_KEYS or --code-keys-file, but for log alone")]
    CodeKeysMissing,
    /// Numbers are to be verified, and no codes can be sent.
    #[error("--registration verified needs --sms-providers")]
    VerifiedWithoutSms,
    /// Numbers are to be verified, and need not be.
    #[error("--registration verified and --unverified-phone-change contradict each other")]
    VerifiedAndUnverified,
    /// Nobody is to register, and signing in would do it.
    #[error("--registration closed and --sign-up-by-code contradict each other")]
    ClosedAndSignUp,
    /// Messages cost money, and nothing limits how many there are.
    #[error(
        "--sms-providers other than log needs --sms-countries, and --sms-budget with --sms-prices-file or --sms-limit-total: \
         without them a stranger decides what SMS cost"
    )]
    SmsWithoutCeiling,
    /// Codes can be guessed.
    #[error(
        "--code-attempts {attempts} is too many for --code-length {length}: more than one guess in 10000 would be right; \
         the maximum is {max}"
    )]
    CodeGuessable {
        /// Attempts per challenge.
        attempts: u32,
        /// Digits of a code.
        length: u8,
        /// The largest number of attempts for this length.
        max: u64,
    },
    /// What messages may cost is bounded, and it is not known what they cost, or the other way round.
    #[error("--sms-budget and --sms-prices-file are given together or not at all")]
    BudgetWithoutPrices,
    /// The file with what messages cost cannot be read.
    #[error("the file of --sms-prices-file cannot be read: {0}")]
    PricesFile(#[source] std::io::Error),
    /// What messages cost is not written as it should be.
    #[error("the file of --sms-prices-file: {0}")]
    Prices(#[from] PriceError),
    /// A secret key cannot be made.
    #[error("no random bytes for a secret key: {0}")]
    Random(#[from] RandomError),
    /// Secret keys are not such.
    #[error("{0}: {1}")]
    SecretKeys(&'static str, #[source] SecretKeyError),
}
