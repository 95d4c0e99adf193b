//! Why a provider was not reached: the operator mends a DNS name, a firewall, a certificate authority and a wrong
//! scheme in different places.

use std::error::Error;
use std::io;

use rustls::CertificateError;
use thiserror::Error;

/// Why there was no response of a provider.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ConnectError {
    /// The host name has no address.
    #[error("its host name cannot be resolved")]
    Dns,
    /// Nothing listens on the port.
    #[error("the connection was refused")]
    Refused,
    /// There is no route to the host, or no answer of it.
    #[error("there is no route to its host")]
    Unreachable,
    /// The certificate is of an authority that is not trusted.
    #[error("its certificate is of an unknown issuer: a private authority belongs into --sms-ca")]
    UnknownIssuer,
    /// The certificate is for another host.
    #[error("its certificate is for another host name")]
    WrongHost,
    /// The certificate has expired, or is not valid yet.
    #[error("its certificate has expired or is not valid yet")]
    Expired,
    /// The certificate is invalid for another reason.
    #[error("its certificate is not valid")]
    Certificate,
    /// The server speaks no TLS.
    #[error("it speaks no TLS: its URL may have to begin with http://")]
    NotTls,
    /// The TLS handshake failed for another reason.
    #[error("the TLS handshake failed")]
    Tls,
    /// The response is no HTTP.
    #[error("its response is no HTTP: its URL may have to begin with https://")]
    NotHttp,
    /// The connection was closed before there was a response.
    #[error("it closed the connection without a response")]
    Closed,
    /// Another failure of the network.
    #[error("the connection failed")]
    Other,
}

/// A host name that cannot be resolved: tells failures of DNS from failures of TCP, which have the same type in hyper.
#[derive(Debug, Error)]
#[error(transparent)]
pub(super) struct ResolveError(pub(super) io::Error);

impl ConnectError {
    /// Classifies an error of the HTTP client by its causes.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(known) = Self::of_cause(error) {
                return known;
            }
            cause = error.source();
        }
        Self::Other
    }

    fn of_cause(error: &(dyn Error + 'static)) -> Option<Self> {
        if error.is::<ResolveError>() {
            return Some(Self::Dns);
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(Self::of_tls(error));
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return match () {
                () if error.is_parse() => Some(Self::NotHttp),
                () if error.is_incomplete_message() => Some(Self::Closed),
                () => None,
            };
        }
        let error = error.downcast_ref::<io::Error>()?;
        // The source of such an error is that of its content, not the content itself.
        if let Some(content) = error.get_ref()
            && let Some(known) = Self::of_cause(content)
        {
            return Some(known);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::TimedOut => {
                Some(Self::Unreachable)
            }
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Some(Self::Closed),
            _ => None,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(problem) => match problem {
                CertificateError::UnknownIssuer => Self::UnknownIssuer,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::WrongHost
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                _ => Self::Certificate,
            },
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Tls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_network_are_told_apart() {
        for (kind, expected) in [
            (io::ErrorKind::ConnectionRefused, ConnectError::Refused),
            (io::ErrorKind::NetworkUnreachable, ConnectError::Unreachable),
            (io::ErrorKind::HostUnreachable, ConnectError::Unreachable),
            (io::ErrorKind::ConnectionReset, ConnectError::Closed),
            (io::ErrorKind::UnexpectedEof, ConnectError::Closed),
            (io::ErrorKind::PermissionDenied, ConnectError::Other),
        ] {
            assert_eq!(ConnectError::of(&io::Error::from(kind)), expected, "{kind}");
        }
        let resolve = io::Error::other(ResolveError(io::Error::other("no such host")));
        assert_eq!(ConnectError::of(&resolve), ConnectError::Dns);
    }

    #[test]
    fn errors_of_certificates_are_told_apart() {
        for (problem, expected) in [
            (CertificateError::UnknownIssuer, ConnectError::UnknownIssuer),
            (CertificateError::NotValidForName, ConnectError::WrongHost),
            (CertificateError::Expired, ConnectError::Expired),
            (CertificateError::NotValidYet, ConnectError::Expired),
            (CertificateError::BadSignature, ConnectError::Certificate),
        ] {
            let error = io::Error::other(rustls::Error::InvalidCertificate(problem));
            assert_eq!(ConnectError::of(&error), expected);
        }
        let eof = io::Error::other(rustls::Error::HandshakeNotComplete);
        assert_eq!(ConnectError::of(&eof), ConnectError::Tls);
    }
}
