//! The settings of who may call: TLS, client certificates, service keys, and the operator's key.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use secrecy::{ExposeSecret as _, SecretString};

use super::values::{listen_address, secret};
use super::{ConfigError, Settings};
use crate::domain::access::{ClientList, OperatorKey};

/// Who may call, and how they prove who they are.
#[derive(Args, Clone, Debug)]
pub struct AccessSettings {
    /// File with the certificate of the server and those between it and its authority, PEM; turns TLS on. Read again
    /// when it changes
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_TLS_CERTIFICATE",
        value_name = "FILE"
    )]
    pub tls_certificate: Option<PathBuf>,

    /// File with the private key of that certificate, PEM. Read again when it changes
    #[arg(global = true, long, env = "PHONE_IDENTITY_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// File with the authorities of client certificates, PEM; turns mutual TLS on. Read again when it changes
    #[arg(global = true, long, env = "PHONE_IDENTITY_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,

    /// Names (DNS or URI) of client certificates, and what each may call: NAME=RIGHTS; NAME=RIGHTS
    #[arg(global = true, long, env = "PHONE_IDENTITY_CLIENTS", value_name = "LIST")]
    pub clients: Option<ClientList>,

    /// Callers need a service key, unless their certificate is listed
    #[arg(global = true, long, env = "PHONE_IDENTITY_REQUIRE_SERVICE_KEY", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub require_service_key: bool,

    /// Address to serve grpc.health.v1 on, and nothing else, without TLS: for kubelet
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_HEALTH_LISTEN",
        value_name = "ADDRESS",
        value_parser = listen_address
    )]
    pub health_listen: Option<SocketAddr>,

    /// Serve callers who prove nothing on an address that is not loopback
    #[arg(global = true, long, env = "PHONE_IDENTITY_INSECURE", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub insecure: bool,

    /// The operator's key as the environment has it, in `PHONE_IDENTITY_OPERATOR_KEY`. No flag: all users of the
    /// machine see flags.
    #[arg(skip)]
    pub operator_key: Option<SecretString>,

    /// File with the operator's key for CreateSuperuser, in the place of PHONE_IDENTITY_OPERATOR_KEY [default: no such
    /// key]
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_OPERATOR_KEY_FILE",
        value_name = "FILE"
    )]
    pub operator_key_file: Option<PathBuf>,
}

/// Where the certificates and the key of TLS are, and which clients are known.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The certificate of the server and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Whether a key is accepted that all users of the machine can read.
    pub allow_readable_key: bool,
    /// The authorities of client certificates, PEM. `None`: no client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client certificate is optional.
    pub is_client_certificate_optional: bool,
    /// The calling services, by the names in their certificates.
    pub clients: ClientList,
}

impl AccessSettings {
    /// Whether callers have to prove who they are.
    #[must_use]
    pub fn is_proof_needed(&self) -> bool {
        self.client_ca.is_some() || self.require_service_key
    }
}

impl Settings {
    /// Looks whether the settings of who may call fit together.
    ///
    /// # Errors
    /// When they do not.
    pub fn check_access(&self) -> Result<(), ConfigError> {
        let access = &self.access;
        let has_clients = access.clients.as_ref().is_some_and(|clients| !clients.is_empty());
        if access.tls_certificate.is_some() != access.tls_key.is_some() {
            Err(ConfigError::TlsPair)
        } else if access.client_ca.is_some() && access.tls_certificate.is_none() {
            Err(ConfigError::ClientCaWithoutTls)
        } else if has_clients && access.client_ca.is_none() {
            Err(ConfigError::ClientsWithoutCa)
        } else if access.client_ca.is_some() && !has_clients && !access.require_service_key {
            Err(ConfigError::NobodyMayCall)
        } else {
            Ok(())
        }
    }

    /// Looks whether strangers are kept out, and tells loudly if they are not.
    ///
    /// # Errors
    /// [`ConfigError::Insecure`], unless the address is a loopback one, callers prove who they are, or the operator
    /// takes that on.
    pub fn check_listen(&self) -> Result<(), ConfigError> {
        let access = &self.access;
        if self.listen.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        if !access.is_proof_needed() {
            if !access.insecure {
                return Err(ConfigError::Insecure(self.listen));
            }
            tracing::warn!(
                address = %self.listen,
                "INSECURE (--insecure): whoever reaches this address may call every RPC for everybody"
            );
        } else if access.tls_certificate.is_none() {
            tracing::warn!(address = %self.listen, "service keys, passwords and tokens come without TLS here");
        }
        Ok(())
    }

    /// Logs a warning if secret files are accepted that other users can read.
    pub fn warn_of_readable_secrets(&self) {
        if self.allow_readable_secrets {
            tracing::warn!(
                "--allow-readable-secrets: a database and secret files are accepted that all users of this machine can read"
            );
        }
    }

    /// The settings of TLS. `None`: it is not served.
    #[must_use]
    pub fn tls(&self) -> Option<TlsSettings> {
        let access = &self.access;
        let (Some(certificate), Some(key)) = (&access.tls_certificate, &access.tls_key) else {
            return None;
        };
        Some(TlsSettings {
            certificate: certificate.clone(),
            key: key.clone(),
            allow_readable_key: self.allow_readable_secrets,
            client_ca: access.client_ca.clone(),
            // A client without a certificate may have a service key.
            is_client_certificate_optional: access.require_service_key,
            clients: access.clients.clone().unwrap_or_default(),
        })
    }

    /// The operator's key for CreateSuperuser. `None`: there is none.
    ///
    /// # Errors
    /// When it is given twice, cannot be read, or is too short.
    pub fn operator_key(&self) -> Result<Option<OperatorKey>, ConfigError> {
        let access = &self.access;
        let text = secret(
            "PHONE_IDENTITY_OPERATOR_KEY",
            access.operator_key.as_ref(),
            access.operator_key_file.as_deref(),
            self.allow_readable_secrets,
        )?;
        let Some(text) = text else {
            return Ok(None);
        };
        let text = text.expose_secret().trim();
        OperatorKey::new(text)
            .map(Some)
            .ok_or(ConfigError::OperatorKeyShort)
    }
}
