//! TLS with certificate reload, and authentication of calling services by client certificate.
//!
//! The files are read again every two seconds. New contents replace the old ones only when the certificate, the key and
//! the authorities are valid together. Open connections keep the contents with which they began.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use webpki::EndEntityCert;

use crate::domain::access::{ClientList, Service};
use crate::secret_file::{self, SecretFileError};
use crate::service::error::chain;

/// Interval at which the files are read.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The files of the certificates and of the key, and their options.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the server and its intermediate certificates, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Whether a key file is accepted that all users of the machine can read.
    pub allow_readable_key: bool,
    /// The authorities of client certificates, PEM. `None`: the server requests no client certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether a client can connect without a certificate.
    pub is_client_certificate_optional: bool,
}

/// A TLS server that reloads its files. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<TlsState>);

struct TlsState {
    files: TlsFiles,
    clients: ClientList,
    provider: Arc<CryptoProvider>,
    current: RwLock<LoadedConfig>,
}

struct LoadedConfig {
    config: Arc<ServerConfig>,
    digest: Digest,
}

/// The SHA-256 of all files.
type Digest = [u8; 32];

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or is invalid, or when the files do not match.
    pub fn load(files: TlsFiles, clients: ClientList) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let contents = Contents::read(&files)?;
        let current = LoadedConfig {
            config: contents.config(&files, &provider)?,
            digest: contents.digest(),
        };
        Ok(Self(Arc::new(TlsState {
            files,
            clients,
            provider,
            current: RwLock::new(current),
        })))
    }

    /// Reads the files every [`RELOAD_INTERVAL`], and uses new contents for new connections. An error is logged once
    /// and changes nothing.
    pub(in crate::grpc) async fn reload_periodically(self) {
        let mut ticks = interval_at(Instant::now() + RELOAD_INTERVAL, RELOAD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_error = None;
        loop {
            ticks.tick().await;
            let this = self.clone();
            // The files may be on a network file system.
            let reloaded = tokio::task::spawn_blocking(move || this.reload()).await;
            let error = match reloaded {
                Ok(Ok(false)) => None,
                Ok(Ok(true)) => {
                    tracing::info!("new certificates are served");
                    None
                }
                Ok(Err(error)) => Some(chain(&error)),
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = &error
                && Some(error) != last_error.as_ref()
            {
                tracing::error!(
                    error,
                    "the new certificates cannot be used, the old ones stay in use"
                );
            }
            last_error = error;
        }
    }

    /// Reads the files. Returns whether their contents are new.
    fn reload(&self) -> Result<bool, TlsError> {
        let TlsState {
            files,
            provider,
            current,
            ..
        } = self.0.as_ref();
        let contents = Contents::read(files)?;
        let digest = contents.digest();
        if current.read().unwrap_or_else(PoisonError::into_inner).digest == digest {
            return Ok(false);
        }
        let config = contents.config(files, provider)?;
        *current.write().unwrap_or_else(PoisonError::into_inner) = LoadedConfig { config, digest };
        Ok(true)
    }

    /// Performs the TLS handshake. The caller sets the timeout.
    pub(in crate::grpc) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Arc<Service>>)> {
        let config = {
            let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
            current.config.clone()
        };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let service = leaf.and_then(|leaf| self.service(leaf));
        Ok((stream, service))
    }

    /// Returns the calling service of a verified certificate. `None`: none of its names is listed.
    fn service(&self, certificate: &CertificateDer<'_>) -> Option<Arc<Service>> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let names: Vec<_> = certificate
            .valid_dns_names()
            .chain(certificate.valid_uri_names())
            .collect();
        self.0.clients.find(&names)
    }
}

/// The contents of the files.
struct Contents {
    certificate: Vec<u8>,
    key: SecretSlice<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: secret_file::read(&files.key, files.allow_readable_key)
                .map_err(|error| TlsError::Key(files.key.clone(), error))?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn digest(&self) -> Digest {
        let mut digest = Sha256::new();
        let client_ca = self.client_ca.as_deref().unwrap_or_default();
        for bytes in [&self.certificate, self.key.expose_secret(), client_ca] {
            digest.update(Sha256::digest(bytes));
        }
        digest.finalize().into()
    }

    fn config(
        &self,
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret())
            .map_err(|error| TlsError::Pem(files.key.clone(), error))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(TlsError::Config)?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(bytes), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(bytes, path)? {
                    roots.add(authority).map_err(TlsError::Config)?;
                }
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                if files.is_client_certificate_optional {
                    verifier = verifier.allow_unauthenticated();
                }
                builder.with_client_cert_verifier(verifier.build()?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Config)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // No session resumption: the client certificate of a resumed session would not be verified again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

/// Returns the certificates of a file, at least one.
fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| TlsError::Pem(path.to_owned(), error))?;
    if certificates.is_empty() {
        return Err(TlsError::Pem(path.to_owned(), pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Why TLS cannot use these files. The text does not include their contents.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {}", .0.display(), .1)]
    Read(PathBuf, #[source] io::Error),
    /// The key cannot be read, or other users can read it.
    #[error("{} {}", .0.display(), .1)]
    Key(PathBuf, #[source] SecretFileError),
    /// A file is invalid.
    #[error("{} is not PEM, or not of the expected kind: {}", .0.display(), without_contents(.1))]
    Pem(PathBuf, pem::Error),
    /// The certificate and the key do not match, or one of them cannot be used.
    #[error("the certificate, its key and the authorities cannot be used: {0}")]
    Config(#[source] rustls::Error),
    /// The authorities cannot be used.
    #[error("the authorities of clients cannot be used: {0}")]
    ClientCa(#[from] VerifierBuilderError),
}

/// Describes an error without the contents of the file, which some of these errors quote.
fn without_contents(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "it contains nothing of that kind",
        pem::Error::MissingSectionEnd { .. } => "it ends too early",
        _ => "it cannot be read",
    }
}
