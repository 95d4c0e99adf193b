//! Parsers of setting values, and of secrets from variables or files, as Kubernetes and Docker mount them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use super::ConfigError;
use crate::domain::password;
use crate::secret_file;

/// Maximum of all durations: ten years.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Units of durations. humantime also accepts `M` for months, which looks like minutes, and units below a millisecond.
const UNITS: [&str; 6] = ["ms", "s", "m", "h", "d", "w"];

/// Parses a duration such as `30d`, `15m` or `1h30m`, in the units of [`UNITS`].
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let is_unit = |word: &str| word.is_empty() || UNITS.contains(&word);
    if !text.split(|c: char| !c.is_alphabetic()).all(is_unit) {
        return Err(
            "not a duration such as 30d, 15m or 250ms: its units are w, d, h, m, s and ms".to_owned(),
        );
    }
    let duration = humantime::parse_duration(text).map_err(|_| "not a duration such as 30d, 15m or 250ms")?;
    if duration > MAX_DURATION {
        return Err("longer than ten years".to_owned());
    }
    Ok(duration)
}

pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// Parses a positive duration of at most `longest`; `name` is its name in the error.
pub(super) fn positive_duration_up_to(text: &str, longest: Duration, name: &str) -> Result<Duration, String> {
    let duration = positive_duration(text)?;
    if duration <= longest {
        Ok(duration)
    } else {
        Err(format!("longer than {name}"))
    }
}

/// Parses a timeout of the database, 1 ms to 1 h. Databases count in milliseconds, 0 means no timeout to them, and
/// their maxima differ.
pub(super) fn database_timeout(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if (Duration::from_millis(1)..=Duration::from_hours(1)).contains(&duration) {
        Ok(duration)
    } else {
        Err("not in 1ms..=1h".to_owned())
    }
}

/// Parses an address to listen on. `localhost` is 127.0.0.1; other names are rejected, because they may resolve to
/// several addresses, or to another address at each start.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| host.eq_ignore_ascii_case("localhost"))
        .map(|(_, port)| port);
    let address = match port {
        Some(port) => port
            .parse()
            .ok()
            .map(|port: u16| (Ipv4Addr::LOCALHOST, port).into()),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| {
        let examples = "127.0.0.1:50051, [::1]:50051, 0.0.0.0:50051 or localhost:50051";
        format!("not an IP address and a port such as {examples}")
    })
}

pub(super) fn password_min_length(text: &str) -> Result<usize, String> {
    let length = text.parse().map_err(|_| "not a number".to_owned())?;
    if (password::MIN_LENGTH..=password::MAX_LENGTH).contains(&length) {
        Ok(length)
    } else {
        Err(format!(
            "not in {}..={}",
            password::MIN_LENGTH,
            password::MAX_LENGTH
        ))
    }
}

/// Returns the secret from the variable `name`, or from the file of the variable `name` followed by `_FILE`. `None`:
/// neither is set.
///
/// # Errors
/// When both are set, or the file cannot be read or is accessible to other users.
pub(super) fn secret(
    name: &'static str,
    given: Option<&SecretString>,
    file: Option<&Path>,
    allow_readable: bool,
) -> Result<Option<SecretString>, ConfigError> {
    match (given, file) {
        (Some(_), Some(_)) => Err(ConfigError::SecretTwice(name)),
        (Some(secret), None) => Ok(Some(secret.clone())),
        (None, Some(file)) => {
            let text = secret_file::read_text(file, allow_readable);
            text.map(Some)
                .map_err(|error| ConfigError::SecretFile(name, error))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_an_address_to_listen_on_and_other_names_are_not() {
        for (text, expected) in [
            ("localhost:50051", Some("127.0.0.1:50051")),
            ("LocalHost:0", Some("127.0.0.1:0")),
            ("127.0.0.1:50051", Some("127.0.0.1:50051")),
            ("[::]:50051", Some("[::]:50051")),
            ("localhost", None),
            ("localhost:", None),
            ("localhost:70000", None),
            ("localhost:grpc", None),
            ("a.localhost:50051", None),
            ("example.com:50051", None),
            (":50051", None),
            ("50051", None),
            ("0.0.0.0", None),
            ("", None),
        ] {
            let expected: Option<SocketAddr> = expected.map(|text| text.parse().unwrap());
            assert_eq!(listen_address(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations_have_units_that_cannot_be_confused() {
        for (text, seconds) in [
            ("45s", 45),
            ("15m", 900),
            ("2h", 7200),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("1d2h3m4s", 93_784),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1s500ms"), Ok(Duration::from_millis(1500)));
        for text in [
            "15M",
            "5M",
            "1h5M",
            "1y",
            "1month",
            "2months",
            "90min",
            "15minutes",
            "10sec",
            "1hr",
            "1day",
            "1H",
            "1D",
            "1S",
            "1MS",
            "100us",
            "100ns",
            "100µs",
            "1 M",
            "м",
            "15м",
        ] {
            let error = duration(text).expect_err(text);
            assert!(
                error.contains("units are w, d, h, m, s and ms"),
                "{text}: {error}"
            );
        }
        for text in ["", "15", "m", "-1s", "1.", "s1", "1s1"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
