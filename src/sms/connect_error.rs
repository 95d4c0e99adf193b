//! Connection errors of SMS providers, by cause: the operator fixes DNS, a firewall, a certificate authority and a
//! wrong URL scheme in different places.

use std::error::Error;
use std::io;

use rustls::CertificateError;
use thiserror::Error;

/// The reason why a provider sent no response.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ConnectError {
    /// The host name has no address.
    #[error("its host name cannot be resolved")]
    Dns,
    /// Nothing listens on the port.
    #[error("the connection was refused")]
    Refused,
    /// The host has no route, or does not respond.
    #[error("there is no route to its host")]
    Unreachable,
    /// The authority of the certificate is not trusted.
    #[error("its certificate has an unknown issuer: add a private authority to --sms-ca")]
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
    /// The server does not speak TLS.
    #[error("it does not speak TLS: its URL may need http://")]
    NotTls,
    /// The TLS handshake failed for another reason.
    #[error("the TLS handshake failed")]
    Tls,
    /// The response is not HTTP.
    #[error("its response is not HTTP: its URL may need https://")]
    NotHttp,
    /// The connection was closed before a response.
    #[error("it closed the connection without a response")]
    Closed,
    /// Another network failure.
    #[error("the connection failed")]
    Other,
}

/// An error of host name resolution. It distinguishes DNS errors from TCP errors, which have the same type in hyper.
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
        // `source` skips the inner error, so it is inspected here.
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
    fn network_errors_are_classified() {
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
    fn certificate_errors_are_classified() {
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
