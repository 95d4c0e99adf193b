//! Parsers of setting values, and secrets from variables or files, as Kubernetes and Docker mount them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use super::ConfigError;
use crate::domain::password;
use crate::secret_file;

/// The longest that any duration may be set to: ten years.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The units of durations. humantime also knows months as `M`, which reads like minutes, and units of fewer than a
/// millisecond.
const UNITS: [&str; 6] = ["ms", "s", "m", "h", "d", "w"];

/// Reads a duration such as `30d`, `15m` or `1h30m`, in the units of [`UNITS`].
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
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration of `longest` at most, which is called so.
pub(super) fn positive_duration_up_to(text: &str, longest: Duration, name: &str) -> Result<Duration, String> {
    let duration = positive_duration(text)?;
    if duration <= longest {
        Ok(duration)
    } else {
        Err(format!("longer than {name}"))
    }
}

/// Databases count in milliseconds, in which 0 is for ever, and each to a bound of its own.
pub(super) fn database_timeout(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if (Duration::from_millis(1)..=Duration::from_hours(1)).contains(&duration) {
        Ok(duration)
    } else {
        Err("not in 1ms..=1h".to_owned())
    }
}

/// Reads an address to listen on. `localhost` is 127.0.0.1; other names are refused, since they may resolve to several
/// addresses, or to another one at each start.
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
        "not an IP address and a port such as 127.0.0.1:50051, [::1]:50051, 0.0.0.0:50051 or localhost:50051".to_owned()
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

/// The secret that is given by the variable `name`, or in the file of the variable `name` with `_FILE` behind it.
/// `None`: by neither.
///
/// # Errors
/// When it is given by both, or the file cannot be read or is open to other users.
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
