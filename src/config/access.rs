//! Settings of caller authentication: TLS, client certificates, service keys, and the operator key.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use secrecy::{ExposeSecret as _, SecretString};

use super::values::{listen_address, secret};
use super::{ConfigError, Settings};
use crate::domain::access::{ClientList, OperatorKey};

/// Authentication of calling services.
#[derive(Args, Clone, Debug)]
pub struct AccessSettings {
    /// PEM file with the server certificate and its intermediates; enables TLS. Reloaded when it changes
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_TLS_CERTIFICATE",
        value_name = "FILE"
    )]
    pub tls_certificate: Option<PathBuf>,

    /// PEM file with the private key of the server certificate. Reloaded when it changes
    #[arg(global = true, long, env = "PHONE_IDENTITY_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// PEM file with the authorities of client certificates; enables mutual TLS. Reloaded when it changes
    #[arg(global = true, long, env = "PHONE_IDENTITY_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,

    /// Names (DNS or URI) of client certificates with the rights of each: NAME=RIGHTS; NAME=RIGHTS
    #[arg(global = true, long, env = "PHONE_IDENTITY_CLIENTS", value_name = "LIST")]
    pub clients: Option<ClientList>,

    /// Require a service key of callers without a listed client certificate
    #[arg(global = true, long, env = "PHONE_IDENTITY_REQUIRE_SERVICE_KEY", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub require_service_key: bool,

    /// Address of a second listener without TLS, for grpc.health.v1 only, such as for kubelet
    ///
    /// Port 0 picks a free port and prints the address to standard output.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_HEALTH_LISTEN",
        value_name = "ADDRESS",
        value_parser = listen_address
    )]
    pub health_listen: Option<SocketAddr>,

    /// Allow unauthenticated callers on an address that is not loopback
    #[arg(global = true, long, env = "PHONE_IDENTITY_INSECURE", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub insecure: bool,

    /// The operator key from `PHONE_IDENTITY_OPERATOR_KEY`. It has no flag, because all users of the machine can read
    /// flags.
    #[arg(skip)]
    pub operator_key: Option<SecretString>,

    /// File with the operator key of CreateSuperuser, instead of PHONE_IDENTITY_OPERATOR_KEY [default: no key]
    ///
    /// The key has at least 32 characters.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_OPERATOR_KEY_FILE",
        value_name = "FILE"
    )]
    pub operator_key_file: Option<PathBuf>,
}

/// TLS files, and the calling services with a client certificate.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// PEM file with the server certificate and its intermediates.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// Whether a key file that all users of the machine can read is accepted.
    pub allow_readable_key: bool,
    /// PEM file with the authorities of client certificates. `None`: the server requests none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may connect without a certificate.
    pub is_client_certificate_optional: bool,
    /// The calling services, by the names in their certificates.
    pub clients: ClientList,
}

impl AccessSettings {
    /// Returns whether callers must authenticate, by a client certificate or a service key.
    #[must_use]
    pub fn is_proof_needed(&self) -> bool {
        self.client_ca.is_some() || self.require_service_key
    }
}

impl Settings {
    /// Checks that the settings of TLS and client certificates are consistent.
    ///
    /// # Errors
    /// When one of them lacks another that it needs.
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
            Err(ConfigError::NoCallerAllowed)
        } else {
            Ok(())
        }
    }

    /// Checks that only authenticated callers can reach the gRPC listener. Logs a warning if not, or without TLS.
    ///
    /// # Errors
    /// [`ConfigError::Insecure`] when the address is not loopback, callers do not authenticate, and `--insecure` is not
    /// given.
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
                "INSECURE (--insecure): every client that can reach this address may call every RPC for every user"
            );
        } else if access.tls_certificate.is_none() {
            tracing::warn!(address = %self.listen, "service keys, passwords and tokens are received without TLS");
        }
        Ok(())
    }

    /// Logs a warning if secret files are accepted that other users can read.
    pub fn warn_of_readable_secrets(&self) {
        if self.allow_readable_secrets {
            tracing::warn!(
                "--allow-readable-secrets: a database and secret files that other users of this machine can read are \
                 accepted"
            );
        }
    }

    /// Returns the TLS settings. `None`: the listener has no TLS.
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
            // A client without a certificate may send a service key.
            is_client_certificate_optional: access.require_service_key,
            clients: access.clients.clone().unwrap_or_default(),
        })
    }

    /// Returns the operator key of CreateSuperuser. `None`: the RPC accepts no such key.
    ///
    /// # Errors
    /// When the key is given twice, cannot be read, or is too short.
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
