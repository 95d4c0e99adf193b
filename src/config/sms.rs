//! Settings of SMS providers: order, credentials, and TLS.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::values::positive_duration;
use super::values::secret;
use super::{ConfigError, Settings};
use crate::clock::Clock;
use crate::sms::{
    BaseUrl, Domain, Endpoint, Http, Lines, Log, Playmobile, Provider, ProviderName, RetrieverHash, Sender,
    Twilio, Webhook,
};

const TWILIO_AUTH_TOKEN: &str = "PHONE_IDENTITY_TWILIO_AUTH_TOKEN";
const PLAYMOBILE_PASSWORD: &str = "PHONE_IDENTITY_PLAYMOBILE_PASSWORD";
const WEBHOOK_SECRET: &str = "PHONE_IDENTITY_WEBHOOK_SECRET";

/// Maximum size of the file of `--sms-ca` in bytes, 4 times a bundle of all public authorities.
const MAX_CA_BYTES: u64 = 1024 * 1024;

/// SMS providers.
#[derive(Args, Clone, Debug)]
pub struct SmsSettings {
    /// SMS providers in order of preference, separated by commas [default: none, the server sends no codes]
    ///
    /// If a provider does not accept a message, the next one is tried. log is for development: it writes the messages
    /// with their codes into the log.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_PROVIDERS",
        value_name = "PROVIDERS",
        value_delimiter = ','
    )]
    pub sms_providers: Vec<ProviderName>,

    /// Timeout of a request to an SMS provider
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_TIMEOUT", value_name = "DURATION", default_value = "10s",
        value_parser = positive_duration)]
    pub sms_timeout: Duration,

    /// PEM file with certificate authorities of SMS providers, trusted besides the public ones
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_CA", value_name = "FILE")]
    pub sms_ca: Option<PathBuf>,

    /// Maximum number of SMS that a process sends at the same time
    ///
    /// A quarter is reserved for users on known devices or with a session, and a quarter for strangers. Range: 1 to
    /// 256.
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_CONCURRENCY", value_name = "NUMBER", default_value = "16",
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub sms_concurrency: u16,

    /// Hash of your Android app for the SMS Retriever, 11 characters, added to messages with codes as a line
    ///
    /// The SMS Retriever of Android delivers the message to the app with this hash.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_RETRIEVER_HASH",
        value_name = "HASH"
    )]
    pub sms_retriever_hash: Option<RetrieverHash>,

    /// Domain that one-time codes are bound to; messages with codes end with the line @DOMAIN #CODE
    ///
    /// Browsers (WebOTP) and iOS suggest the code on this site only.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_WEBOTP_DOMAIN",
        value_name = "DOMAIN"
    )]
    pub sms_webotp_domain: Option<Domain>,

    /// Twilio: base URL of the API
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_TWILIO_URL",
        value_name = "URL",
        default_value = "https://api.twilio.com"
    )]
    pub twilio_url: BaseUrl,

    /// Twilio: account SID, AC...
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_TWILIO_ACCOUNT_SID",
        value_name = "SID"
    )]
    pub twilio_account_sid: Option<String>,

    /// Twilio: the auth token from `PHONE_IDENTITY_TWILIO_AUTH_TOKEN`. It has no flag, because all users of the machine
    /// can read flags.
    #[arg(skip)]
    pub twilio_auth_token: Option<SecretString>,

    /// File with the Twilio auth token, instead of PHONE_IDENTITY_TWILIO_AUTH_TOKEN
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_TWILIO_AUTH_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub twilio_auth_token_file: Option<PathBuf>,

    /// Twilio: sender of messages, a number, a name, or the SID of a messaging service, MG...
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_TWILIO_FROM",
        value_name = "SENDER"
    )]
    pub twilio_from: Option<String>,

    /// Playmobile: base URL of the API
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_PLAYMOBILE_URL",
        value_name = "URL"
    )]
    pub playmobile_url: Option<BaseUrl>,

    /// Playmobile: login of the account
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_PLAYMOBILE_LOGIN",
        value_name = "NAME"
    )]
    pub playmobile_login: Option<String>,

    /// Playmobile: the password from `PHONE_IDENTITY_PLAYMOBILE_PASSWORD`. It has no flag, because all users of the
    /// machine can read flags.
    #[arg(skip)]
    pub playmobile_password: Option<SecretString>,

    /// File with the Playmobile password, instead of PHONE_IDENTITY_PLAYMOBILE_PASSWORD
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_PLAYMOBILE_PASSWORD_FILE",
        value_name = "FILE"
    )]
    pub playmobile_password_file: Option<PathBuf>,

    /// Playmobile: sender of messages, such as 3700
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_PLAYMOBILE_ORIGINATOR",
        value_name = "SENDER"
    )]
    pub playmobile_originator: Option<String>,

    /// Webhook: URL of your SMS gateway
    #[arg(global = true, long, env = "PHONE_IDENTITY_WEBHOOK_URL", value_name = "URL")]
    pub webhook_url: Option<Endpoint>,

    /// Webhook: the key of request signatures from `PHONE_IDENTITY_WEBHOOK_SECRET`. It has no flag, because all users
    /// of the machine can read flags.
    #[arg(skip)]
    pub webhook_secret: Option<SecretString>,

    /// File with the key of webhook signatures, instead of PHONE_IDENTITY_WEBHOOK_SECRET
    ///
    /// The key has at least 32 characters. Requests to your gateway are signed with it.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_WEBHOOK_SECRET_FILE",
        value_name = "FILE"
    )]
    pub webhook_secret_file: Option<PathBuf>,
}

impl SmsSettings {
    /// Returns the lines that follow the text of a message with a code.
    #[must_use]
    pub fn lines(&self) -> Lines {
        Lines {
            retriever_hash: self.sms_retriever_hash.clone(),
            domain: self.sms_webotp_domain.clone(),
        }
    }

    /// Returns whether a provider other than the log sends messages.
    pub(super) fn is_real(&self) -> bool {
        self.sms_providers.iter().any(|name| *name != ProviderName::Log)
    }

    /// Logs a warning for each provider with an unencrypted URL. It is allowed, because the provider may be in a
    /// private network.
    fn warn_of_open(&self) {
        let url = |name| match name {
            ProviderName::Log => None,
            ProviderName::Twilio => Some(self.twilio_url.endpoint()),
            ProviderName::Playmobile => self.playmobile_url.as_ref().map(BaseUrl::endpoint),
            ProviderName::Webhook => self.webhook_url.as_ref(),
        };
        for name in &self.sms_providers {
            if url(*name).is_some_and(Endpoint::is_open) {
                tracing::warn!(
                    provider = name.as_str(),
                    "SMS texts and provider credentials are sent unencrypted: the URL is http://"
                );
            }
        }
    }

    /// Returns the certificate authorities of `--sms-ca`.
    fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let Some(file) = &self.sms_ca else {
            return Ok(Vec::new());
        };
        let mut pem = Vec::new();
        File::open(file)
            .and_then(|file| file.take(MAX_CA_BYTES).read_to_end(&mut pem))
            .map_err(ConfigError::SmsCa)?;
        let authorities = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let is_valid =
            |authority: &CertificateDer<'static>| RootCertStore::empty().add(authority.clone()).is_ok();
        // The error of the parser may contain text of the file.
        authorities
            .ok()
            .filter(|authorities| !authorities.is_empty() && authorities.iter().all(is_valid))
            .ok_or(ConfigError::SmsCaPem)
    }

    fn twilio(&self, allow_readable: bool, http: Http) -> Result<Twilio, ConfigError> {
        let needs = |what| ConfigError::Provider("twilio", what);
        let account = needed(self.twilio_account_sid.as_ref(), needs("--twilio-account-sid"))?;
        let from = needed(self.twilio_from.as_ref(), needs("--twilio-from"))?;
        let token = trimmed_secret(
            TWILIO_AUTH_TOKEN,
            self.twilio_auth_token.as_ref(),
            self.twilio_auth_token_file.as_ref(),
            allow_readable,
        )?;
        let token = needed(token.as_ref(), needs(TWILIO_AUTH_TOKEN))?;
        let is_service = from.len() == 34 && from.starts_with("MG");
        let sender = match is_service {
            true => Sender::Service(from.clone()),
            false => Sender::From(from.clone()),
        };
        Twilio::new(http, &self.twilio_url, account, token, sender)
            .map_err(|error| ConfigError::ProviderUrl("twilio", error))
    }

    fn playmobile(&self, allow_readable: bool, http: Http) -> Result<Playmobile, ConfigError> {
        let needs = |what| ConfigError::Provider("playmobile", what);
        let url = needed(self.playmobile_url.as_ref(), needs("--playmobile-url"))?;
        let login = needed(self.playmobile_login.as_ref(), needs("--playmobile-login"))?;
        let originator = needed(
            self.playmobile_originator.as_ref(),
            needs("--playmobile-originator"),
        )?;
        let password = trimmed_secret(
            PLAYMOBILE_PASSWORD,
            self.playmobile_password.as_ref(),
            self.playmobile_password_file.as_ref(),
            allow_readable,
        )?;
        let password = needed(password.as_ref(), needs(PLAYMOBILE_PASSWORD))?;
        Playmobile::new(http, url, login, password, originator.clone())
            .map_err(|error| ConfigError::ProviderUrl("playmobile", error))
    }

    fn webhook(
        &self,
        allow_readable: bool,
        http: Http,
        clock: Arc<dyn Clock>,
    ) -> Result<Webhook, ConfigError> {
        let needs = |what| ConfigError::Provider("webhook", what);
        let url = needed(self.webhook_url.as_ref(), needs("--webhook-url"))?;
        let key = trimmed_secret(
            WEBHOOK_SECRET,
            self.webhook_secret.as_ref(),
            self.webhook_secret_file.as_ref(),
            allow_readable,
        )?;
        let key = needed(key.as_ref(), needs(WEBHOOK_SECRET))?;
        if key.expose_secret().chars().count() < Webhook::MIN_SECRET_LENGTH {
            return Err(ConfigError::WebhookSecretShort);
        }
        Ok(Webhook::new(http, clock, url.clone(), key.clone()))
    }
}

impl Settings {
    /// Returns the SMS providers in order of preference. Empty: the server sends no messages.
    ///
    /// # Errors
    /// When a provider lacks one of its settings, or when a file cannot be read or is invalid.
    pub fn providers(&self, clock: &Arc<dyn Clock>) -> Result<Vec<Arc<dyn Provider>>, ConfigError> {
        let sms = &self.sms;
        if sms.sms_providers.is_empty() {
            return Ok(Vec::new());
        }
        sms.warn_of_open();
        let http = Http::new(sms.sms_timeout, &sms.authorities()?)?;
        let provider = |name: &ProviderName| -> Result<Arc<dyn Provider>, ConfigError> {
            Ok(match name {
                ProviderName::Log => Arc::new(Log),
                ProviderName::Twilio => Arc::new(sms.twilio(self.allow_readable_secrets, http.clone())?),
                ProviderName::Playmobile => {
                    Arc::new(sms.playmobile(self.allow_readable_secrets, http.clone())?)
                }
                ProviderName::Webhook => {
                    Arc::new(sms.webhook(self.allow_readable_secrets, http.clone(), clock.clone())?)
                }
            })
        };
        sms.sms_providers.iter().map(provider).collect()
    }
}

/// Returns a secret without the white space that an editor adds at the end of a file.
fn trimmed_secret(
    name: &'static str,
    given: Option<&SecretString>,
    file: Option<&PathBuf>,
    allow_readable: bool,
) -> Result<Option<SecretString>, ConfigError> {
    let secret = secret(name, given, file.map(PathBuf::as_path), allow_readable)?;
    Ok(secret.map(|secret| SecretString::from(secret.expose_secret().trim_end())))
}

fn needed<T>(given: Option<&T>, error: ConfigError) -> Result<&T, ConfigError> {
    given.ok_or(error)
}
