//! How the values of settings are read.

use std::time::Duration;

use crate::domain::password;

/// The longest that any duration may be set to: ten years.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Reads a duration such as `30d`, `15m` or `250ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
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
