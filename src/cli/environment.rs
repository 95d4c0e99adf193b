//! Check of the environment for unknown variables with our prefix. A misspelt setting has no effect, and a misspelt
//! setting of TLS or service keys would leave the service unprotected.

use std::collections::BTreeSet;
use std::env;

use clap::CommandFactory as _;

use super::{Cli, Failure, SECRETS};

const PREFIX: &str = "PHONE_IDENTITY_";

/// Settings that protect the service from unauthenticated callers.
const PROTECTIVE: [&str; 7] = [
    "PHONE_IDENTITY_CLIENTS",
    "PHONE_IDENTITY_CLIENT_CA",
    "PHONE_IDENTITY_OPERATOR_KEY",
    "PHONE_IDENTITY_OPERATOR_KEY_FILE",
    "PHONE_IDENTITY_REQUIRE_SERVICE_KEY",
    "PHONE_IDENTITY_TLS_CERTIFICATE",
    "PHONE_IDENTITY_TLS_KEY",
];

/// Words that relate an unknown name to TLS, client certificates or the operator key.
const PROTECTIVE_WORDS: [&str; 11] = [
    "CA",
    "CERT",
    "CERTIFICATE",
    "CERTIFICATES",
    "CERTS",
    "CLIENT",
    "CLIENTS",
    "MTLS",
    "OPERATOR",
    "SSL",
    "TLS",
];

/// Maximum edit distance of similar names.
const MAX_DISTANCE: usize = 2;

/// Kind of an unknown variable.
#[derive(Debug, Eq, PartialEq)]
enum VariableKind {
    /// It has no effect, and may belong to another program.
    Harmless,
    /// It resembles a protective setting.
    Protective,
}

/// Logs each unknown variable with our prefix, and the setting that it resembles.
///
/// # Errors
/// [`Failure::Unusable`] for a variable that resembles a setting of service keys, TLS, client certificates or the
/// operator key.
pub(super) fn check() -> Result<(), Failure> {
    let known = settings();
    let mut protective = Vec::new();
    for name in env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()) {
        let Some(unknown) = classify(&name, &known) else {
            continue;
        };
        let similar = most_similar(&name, &known);
        match unknown {
            VariableKind::Harmless => tracing::warn!(
                variable = %name.escape_debug(),
                similar,
                "unknown variable in the environment: it is not a setting and has no effect"
            ),
            VariableKind::Protective => protective.push(match similar {
                Some(similar) => format!("{} ({similar}?)", name.escape_debug()),
                None => name.escape_debug().to_string(),
            }),
        }
    }
    if protective.is_empty() {
        return Ok(());
    }
    protective.sort();
    Err(Failure::Unusable(format!(
        "unknown variables in the environment that resemble settings of service keys, TLS, client certificates \
         or the operator key: {}",
        protective.join(", ")
    )))
}

/// Returns the names of the variables of all settings and of the arguments of all commands.
fn settings() -> BTreeSet<String> {
    let command = Cli::command();
    let mut commands = vec![&command];
    let mut names: BTreeSet<String> = SECRETS.iter().map(|name| (*name).to_owned()).collect();
    while let Some(command) = commands.pop() {
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        names.extend(variables.map(|name| name.to_string_lossy().into_owned()));
        commands.extend(command.get_subcommands());
    }
    names
}

/// Classifies a variable by its name. `None`: it is a setting, lacks our prefix, or was injected by Kubernetes.
fn classify(name: &str, known: &BTreeSet<String>) -> Option<VariableKind> {
    let upper = name.to_ascii_uppercase();
    let rest = upper.strip_prefix(PREFIX)?;
    if known.contains(name) || is_of_kubernetes(&upper) {
        return None;
    }
    let letters = joined(&upper);
    let is_near =
        |protective: &str| strsim::damerau_levenshtein(&letters, &joined(protective)) <= MAX_DISTANCE;
    let has_word = rest.split('_').any(|word| PROTECTIVE_WORDS.contains(&word));
    let is_of_keys = joined(rest).contains("SERVICEKEY");
    Some(if has_word || is_of_keys || PROTECTIVE.into_iter().any(is_near) {
        VariableKind::Protective
    } else {
        VariableKind::Harmless
    })
}

/// Returns whether Kubernetes injects a variable of this name into containers beside a Service with the name prefix
/// `phone-identity` (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_of_kubernetes(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST") || name.ends_with("_PORT") || name.contains("_PORT_")
}

/// Returns a name without underscores, which are easily forgotten.
fn joined(name: &str) -> String {
    name.chars().filter(|character| *character != '_').collect()
}

/// Returns the most similar setting within [`MAX_DISTANCE`].
fn most_similar<'a>(name: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    let letters = joined(&name.to_ascii_uppercase());
    known
        .iter()
        .map(|setting| {
            (
                strsim::damerau_levenshtein(&letters, &joined(setting)),
                setting.as_str(),
            )
        })
        .filter(|(distance, _)| *distance <= MAX_DISTANCE)
        .min()
        .map(|(_, setting)| setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_resembles_a_protective_setting_is_rejected() {
        let known = settings();
        for name in PROTECTIVE {
            assert!(known.contains(name), "{name} is not a setting");
            assert_eq!(classify(name, &known), None, "{name}");
        }
        for (name, expected) in [
            (
                "PHONE_IDENTITY_REQUIRE_SERVICE_KEYS",
                Some(VariableKind::Protective),
            ),
            (
                "PHONE_IDENTITY_REQUIRE_SERVICEKEY",
                Some(VariableKind::Protective),
            ),
            (
                "PHONE_IDENTITY_REQUIER_SERVICE_KEY",
                Some(VariableKind::Protective),
            ),
            (
                "PHONE_IDENTITY_SERVICE_KEY_REQUIRED",
                Some(VariableKind::Protective),
            ),
            (
                "phone_identity_require_service_key",
                Some(VariableKind::Protective),
            ),
            ("PHONE_IDENTITY_TLS_CERT", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_TLSKEY", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_TLS_KEY_FILE", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_SSL_KEY", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_CA_FILE", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_CLIENTCA", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_CLIENT", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_OPERATORKEY", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_OPERATOR_KEYFILE", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_OPERTOR_KEY", Some(VariableKind::Protective)),
            ("PHONE_IDENTITY_LISTN", Some(VariableKind::Harmless)),
            ("PHONE_IDENTITY_IMAGE_TAG", Some(VariableKind::Harmless)),
            ("PHONE_IDENTITY_CODE_KEY", Some(VariableKind::Harmless)),
            ("PHONE_IDENTITY_", Some(VariableKind::Harmless)),
            // Settings. PEPPERS is a secret without a flag.
            ("PHONE_IDENTITY_LISTEN", None),
            ("PHONE_IDENTITY_PEPPERS", None),
            ("PHONE_IDENTITY_INSECURE", None),
            // Injected by Kubernetes for Services phone-identity, phone-identity-tls and phone-identity-client-ca.
            ("PHONE_IDENTITY_SERVICE_HOST", None),
            ("PHONE_IDENTITY_SERVICE_PORT", None),
            ("PHONE_IDENTITY_SERVICE_PORT_GRPC", None),
            ("PHONE_IDENTITY_PORT", None),
            ("PHONE_IDENTITY_PORT_50051_TCP", None),
            ("PHONE_IDENTITY_PORT_50051_TCP_ADDR", None),
            ("PHONE_IDENTITY_TLS_SERVICE_HOST", None),
            ("PHONE_IDENTITY_TLS_PORT", None),
            ("PHONE_IDENTITY_TLS_PORT_50051_TCP_PROTO", None),
            ("PHONE_IDENTITY_CLIENT_CA_SERVICE_PORT_GRPC", None),
            // Variables of other programs.
            ("PHONE_IDENTITYTLS", None),
            ("TLS_KEY", None),
            ("DATABASE_URL", None),
        ] {
            assert_eq!(classify(name, &known), expected, "{name}");
        }
    }

    #[test]
    fn the_most_similar_setting_is_named() {
        let known = settings();
        for (name, expected) in [
            ("PHONE_IDENTITY_LISTN", Some("PHONE_IDENTITY_LISTEN")),
            ("PHONE_IDENTITY_PEPPER", Some("PHONE_IDENTITY_PEPPERS")),
            ("PHONE_IDENTITY_IMAGE_TAG", None),
        ] {
            assert_eq!(most_similar(name, &known), expected, "{name}");
        }
    }
}
