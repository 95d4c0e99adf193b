//! The database URL: which part of it is wrong. An error names a parameter, and never shows a value, since a value may
//! be a secret.

use thiserror::Error;

/// What is wrong with the URL of the database.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum UrlError {
    /// There is no scheme.
    #[error(
        "it is not of the form sqlite://FILE, postgres://USER:PASSWORD@HOST/DATABASE or \
         mysql://USER:PASSWORD@HOST/DATABASE"
    )]
    Form,
    /// The scheme belongs to no database that is supported.
    #[error("its scheme is not sqlite, postgres or mysql")]
    Scheme,
    /// The part before the parameters is not valid.
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
    /// The value of a known parameter is not valid.
    #[error("the value of its parameter {0} is not valid")]
    Value(String),
}

/// The parameters of a URL, each as `NAME=VALUE`.
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
/// [`UrlError::UnknownParameter`] with the first name that is not, if it can be no part of a password.
pub(super) fn check_names(url: &str, known: &[&str]) -> Result<(), UrlError> {
    let Some(unknown) = parameters(url)
        .map(name)
        .find(|parameter| !known.contains(parameter))
    else {
        return Ok(());
    };
    // Also behind a #, which may be a part of the password as well.
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

/// Finds what `parse` rejects: one of the parameters, whose names are known, or the part before them.
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
}
