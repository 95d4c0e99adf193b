//! Validation of the database URL: finds the part that is invalid. An error names a parameter, and never shows a value,
//! since a value may be a secret.

use thiserror::Error;

/// Reason for which the database URL is invalid.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum UrlError {
    /// There is no scheme.
    #[error(
        "it is not of the form sqlite://FILE, postgres://USER:PASSWORD@HOST/DATABASE or \
         mysql://USER:PASSWORD@HOST/DATABASE"
    )]
    Form,
    /// No supported database has this scheme.
    #[error("its scheme is not sqlite, postgres or mysql")]
    Scheme,
    /// The part before the parameters is invalid.
    #[error("its user, password, host, port or path is not valid: write special characters as %XX")]
    Server,
    /// The URL names no database, or no file.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// The path of an SQLite file begins with `file:`.
    #[error("its file begins with file: write the path of the file behind sqlite://")]
    FileUri,
    /// A parameter is unknown. sqlx ignores it, so that a misspelt `sslmode` would have no effect.
    #[error("its parameter {0} is unknown")]
    UnknownParameter(String),
    /// A parameter is unknown, and its name may be a part of a password that contains a question mark.
    #[error("a parameter of it is unknown: write a ? in a password as %3F")]
    HiddenParameter,
    /// The value of a known parameter is invalid.
    #[error("the value of its parameter {0} is not valid")]
    Value(String),
}

/// Returns the parameters of a URL, each as `NAME=VALUE`.
fn parameters(url: &str) -> impl Iterator<Item = &str> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    query.split('&').filter(|parameter| !parameter.is_empty())
}

fn name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

/// Checks that the names of all parameters are among `known`.
///
/// # Errors
/// [`UrlError::UnknownParameter`] with the first unknown name, if it cannot be a part of a password.
pub(super) fn check_names(url: &str, known: &[&str]) -> Result<(), UrlError> {
    let Some(unknown) = parameters(url)
        .map(name)
        .find(|parameter| !known.contains(parameter))
    else {
        return Ok(());
    };
    // The check includes the part after a #, which may also be a part of the password.
    let has_sign_of_user = url.split_once('?').is_some_and(|(_, rest)| rest.contains('@'));
    let is_word = unknown.len() <= 40
        && unknown
            .bytes()
            .all(|b| b.is_ascii_alphabetic() || b"_-".contains(&b));
    Err(if is_word && !has_sign_of_user {
        UrlError::UnknownParameter(unknown.to_owned())
    } else {
        UrlError::HiddenParameter
    })
}

/// Finds the part that `parse` rejects: one of the parameters (their names are known), or the part before them.
pub(super) fn rejected_part(url: &str, parse: impl Fn(&str) -> bool) -> UrlError {
    let (server, _) = url.split_once('?').unwrap_or((url, ""));
    if !parse(server) {
        return UrlError::Server;
    }
    let rejected = parameters(url).find(|parameter| !parse(&format!("{server}?{parameter}")));
    rejected.map_or(UrlError::Server, |parameter| {
        UrlError::Value(name(parameter).to_owned())
    })
}

/// Splits a URL with several hosts (`scheme://user@host1:1,host2:2/database`) into one URL per host, each with all
/// other parts.
pub(super) fn each_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = authority
        .rfind('@')
        .map_or(("", authority), |at| authority.split_at(at + 1));
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{user}{host}{path}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_parameter_is_named_unless_it_may_be_a_secret() {
        let unknown = |name: &str| Err(UrlError::UnknownParameter(name.to_owned()));
        for (url, expected) in [
            ("postgres://h/d", Ok(())),
            ("postgres://h/d?", Ok(())),
            ("postgres://h/d?sslmode=require&user=a", Ok(())),
            ("postgres://h/d?sslmode=require#sslmod=x", Ok(())),
            ("postgres://h/d?user=a&sslmod=require", unknown("sslmod")),
            ("postgres://h/d?passwrod=hunter2", unknown("passwrod")),
            ("postgres://h/d?user=a&&ssl", unknown("ssl")),
            // A question mark in a password that is not escaped.
            ("postgres://u:hunter?two@h/d", Err(UrlError::HiddenParameter)),
            ("postgres://u:hunter?two=x@h/d", Err(UrlError::HiddenParameter)),
            ("postgres://u:hunter?two&x@h/d", Err(UrlError::HiddenParameter)),
            ("postgres://u:hun?ter#two@h/d", Err(UrlError::HiddenParameter)),
            ("postgres://h/d?hunter2=x", Err(UrlError::HiddenParameter)),
        ] {
            assert_eq!(check_names(url, &["sslmode", "user"]), expected, "{url}");
        }
    }

    #[test]
    fn the_rejected_part_is_found() {
        let parse = |url: &str| !url.contains("wrong");
        for (url, expected) in [
            ("postgres://wrong/d?a=1", UrlError::Server),
            (
                "postgres://h/d?a=1&b=wrong&c=wrong",
                UrlError::Value("b".to_owned()),
            ),
        ] {
            assert_eq!(rejected_part(url, parse), expected, "{url}");
        }
    }

    #[test]
    fn a_url_with_several_hosts_becomes_one_url_per_host() {
        for (url, expected) in [
            ("postgres://h/d", vec!["postgres://h/d"]),
            (
                "postgres://u:p%40,q@h1:1,h2,[::1]:3/d?a=b,c",
                vec![
                    "postgres://u:p%40,q@h1:1/d?a=b,c",
                    "postgres://u:p%40,q@h2/d?a=b,c",
                    "postgres://u:p%40,q@[::1]:3/d?a=b,c",
                ],
            ),
            ("mysql://h1,h2", vec!["mysql://h1", "mysql://h2"]),
            ("sqlite:a,b.db", vec!["sqlite:a,b.db"]),
        ] {
            assert_eq!(each_host(url), expected, "{url}");
        }
    }
}
