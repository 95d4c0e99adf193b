//! Certificates, and clients that show them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

use super::place::write_secret;

/// The name of the server in its certificates.
pub(crate) const SERVER: &str = "identity.internal";

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A new certificate with these names; what has a colon is a URI.
    pub(crate) fn sign(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.contains(':') {
                true => SanType::URI((*name).try_into().unwrap()),
                false => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Identity {
    /// Accepts TLS connections with this certificate.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// The files of a server, in its folder.
pub(crate) struct ServerFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

impl ServerFiles {
    pub(crate) fn write(folder: &Path, identity: &Identity, client_ca: &str) -> Self {
        let files = Self {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            client_ca: folder.join("ca.crt"),
        };
        files.replace(identity);
        files.replace_ca(client_ca);
        files
    }

    /// One file after the other, each at once, as a tool that renews certificates does.
    pub(crate) fn replace(&self, identity: &Identity) {
        put(&self.certificate, &identity.certificate);
        put(&self.key, &identity.key);
    }

    pub(crate) fn replace_ca(&self, pem: &str) {
        put(&self.client_ca, pem);
    }

    /// The flags of TLS without client certificates.
    pub(crate) fn flags(&self) -> Vec<String> {
        vec![
            format!("--tls-certificate={}", self.certificate.display()),
            format!("--tls-key={}", self.key.display()),
        ]
    }

    /// The flags of mutual TLS.
    pub(crate) fn mutual_flags(&self) -> Vec<String> {
        let mut flags = self.flags();
        flags.push(format!("--client-ca={}", self.client_ca.display()));
        flags
    }
}

fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    write_secret(&new, text);
    fs::rename(new, path).unwrap();
}

/// The authorities that a client trusts, and its certificate.
#[derive(Clone)]
pub(crate) struct TlsClient(TlsConnector);

impl TlsClient {
    pub(crate) fn new(trusted: &[&Authority], shown: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        for authority in trusted {
            let certificate = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
            roots.add(certificate).unwrap();
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// A connection with TLS and nothing else. That the server refuses the client's certificate is seen when it is
    /// used.
    pub(crate) async fn handshake(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        self.0
            .connect(ServerName::try_from(SERVER).unwrap(), stream)
            .await
    }

    /// A channel that connects now, and again when its connection has ended.
    pub(crate) async fn channel(&self, address: SocketAddr) -> Result<Channel, Error> {
        let this = self.clone();
        Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_with_connector(service_fn(move |_| {
                let this = this.clone();
                async move { this.handshake(address).await.map(TokioIo::new) }
            }))
            .await
    }

    /// The first certificate that the server shows.
    pub(crate) async fn shown_by(&self, address: SocketAddr) -> Vec<u8> {
        let stream = self.handshake(address).await.unwrap();
        let (_, session) = stream.get_ref();
        session.peer_certificates().unwrap()[0].as_ref().to_vec()
    }
}

/// Returns the certificate of a PEM file, as a handshake sends it.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .as_ref()
        .to_vec()
}
