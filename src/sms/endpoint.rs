//! URLs of SMS providers: an [`Endpoint`] receives requests itself; the paths of an API are below a [`BaseUrl`].

use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use thiserror::Error;

/// A URL with `http` or `https`, a host, and optionally a port, a path and a query.
#[derive(Clone, Debug)]
pub struct Endpoint(Uri);

/// The text is not such a URL.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not a URL such as https://sms.example.com")]
pub struct EndpointError;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError)?;
        let is_ours = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        // The client would not send credentials before an @.
        let has_user = uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        if !is_ours || !has_host || has_user {
            return Err(EndpointError);
        }
        Ok(Self(uri))
    }
}

/// An [`Endpoint`] without a query, so that paths can be appended.
#[derive(Clone, Debug)]
pub struct BaseUrl(Endpoint);

/// The text is not such a URL.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BaseUrlError {
    /// It is not a URL.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It has a query.
    #[error("has a query, after which no path can be appended")]
    Query,
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let endpoint: Endpoint = text.parse()?;
        match endpoint.0.query() {
            None => Ok(Self(endpoint)),
            Some(_) => Err(BaseUrlError::Query),
        }
    }
}

impl BaseUrl {
    /// Returns the URL.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    /// Returns the URL with a path appended, which begins with `/`.
    ///
    /// # Errors
    /// When the result is not a URI.
    pub(super) fn join(&self, path: &str) -> Result<Uri, http::Error> {
        let base = self.0.0.to_string();
        Ok(format!("{}{path}", base.trim_end_matches('/')).parse()?)
    }
}

impl Endpoint {
    /// Returns the URL.
    pub(super) fn into_uri(self) -> Uri {
        self.0
    }

    /// Returns whether requests leave this machine unencrypted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let is_here = host.eq_ignore_ascii_case("localhost") || address.is_some_and(|ip| ip.is_loopback());
        self.0.scheme() == Some(&Scheme::HTTP) && !is_here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_needs_a_supported_scheme_and_a_host() {
        for (text, is_open) in [
            ("https://api.twilio.com", false),
            ("http://127.0.0.1:8080/", false),
            ("http://[::1]:8080/sms?from=identity", false),
            ("http://LOCALHOST", false),
            ("HTTP://192.0.2.1/", true),
            ("http://sms.example.com/", true),
            ("http://localhost.example.com", true),
            ("https://sms.example.com:8443/a/b", false),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().is_open(), is_open, "{text}");
        }
        for text in [
            "",
            "/",
            "api.twilio.com",
            "api.twilio.com:443",
            "//api.twilio.com",
            "ftp://api.twilio.com",
            "https://",
            "https:///sms",
            "https://me:secret@sms.example.com/",
            "https://sms example.com",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap_err(), EndpointError, "{text:?}");
        }
    }

    #[test]
    fn a_path_is_appended_to_a_base_url() {
        for (base, joined) in [
            ("https://sms.example.com", "https://sms.example.com/send"),
            ("https://sms.example.com/", "https://sms.example.com/send"),
            ("http://proxy:8080/sms/", "http://proxy:8080/sms/send"),
        ] {
            let base: BaseUrl = base.parse().unwrap();
            assert_eq!(base.join("/send").unwrap().to_string(), joined);
        }
        for (text, error) in [
            ("https://sms.example.com/?", BaseUrlError::Query),
            ("https://sms.example.com?key=1", BaseUrlError::Query),
            ("sms.example.com", BaseUrlError::Endpoint(EndpointError)),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap_err(), error, "{text}");
        }
    }
}
