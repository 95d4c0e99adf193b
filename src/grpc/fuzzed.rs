//! Fuzz targets of requests and metadata: bytes of a caller are decoded and parsed, and a rejection is converted to a
//! status.
//!
//! [`REQUESTS`] has one row for each RPC. A test compares the rows with the descriptors, and `make fuzz` reads them: a
//! new RPC needs no other target.

use std::fmt::Debug;
use std::sync::OnceLock;

use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::parse::{self, admin};
use super::{metadata, middleware, status};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Settings;
use crate::domain::access::Caller;
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::rules::Rules;
use crate::domain::session::SessionId;
use crate::domain::token::TokenHash;
use crate::domain::user::User;
use crate::i18n::Language;
use crate::proto::v1;
use crate::service::error::{Error, Violation};

/// Maximum size of a status in headers, in bytes: some clients limit all headers to 8 KiB.
const MAX_STATUS_BYTES: usize = 8 * 1024;

/// A fuzz target. Panics if it finds a fault.
pub type Target = fn(&[u8]);

/// The target of each RPC, by the name of the method in snake case, in the order of the proto files.
pub(crate) const REQUESTS: &[(&str, Target)] = &[
    ("register", |bytes| {
        fuzz(bytes, |request, parser| {
            parse::registration(request, &Caller::default(), &parser.rules)
        });
    }),
    ("authenticate", |bytes| {
        fuzz(bytes, |request, parser| {
            parse::credentials(request, &Caller::default(), &parser.rules)
        });
    }),
    ("validate_session", |bytes| {
        fuzz(bytes, |request: v1::ValidateSessionRequest, _| {
            check(parse::consistency(request.consistency));
            session_token(&request.session_token)
        });
    }),
    ("revoke_session", |bytes| {
        fuzz(bytes, |request: v1::RevokeSessionRequest, _| {
            session_token(&request.session_token)
        });
    }),
    ("list_sessions", |bytes| {
        fuzz(bytes, |_: v1::ListSessionsRequest, _| Ok(()));
    }),
    ("revoke_sessions", |bytes| {
        fuzz(bytes, |request, _| {
            parse::selection(&request, SessionId(Uuid::nil()))
        });
    }),
    ("update_profile", |bytes| {
        fuzz(bytes, |request, parser| {
            let parsed = parse::profile_update(request, &parser.rules, &parser.user, Language::default());
            if let Ok((_, update)) = &parsed {
                update.password.as_ref().map(Password::is_common);
            }
            parsed
        });
    }),
    ("deactivate_profile", |bytes| {
        fuzz(bytes, |request: v1::DeactivateProfileRequest, _| {
            parse::current_password(request.current_password)
        });
    }),
    ("delete_profile", |bytes| {
        fuzz(bytes, |request: v1::DeleteProfileRequest, _| {
            parse::current_password(request.current_password)
        });
    }),
    ("create_superuser", |bytes| {
        fuzz(bytes, |request, parser| {
            let parsed = parse::superuser(request, &parser.rules);
            if let Ok((_, password)) = &parsed {
                let _ = password.is_common();
            }
            parsed
        });
    }),
    ("list_users", |bytes| {
        fuzz(bytes, |request, _| admin::list(&request));
    }),
    ("get_user", |bytes| {
        fuzz(bytes, |request, parser| {
            admin::user_selector(&request, &parser.rules)
        });
    }),
    ("create_user", |bytes| {
        fuzz(bytes, |request, parser| admin::new_user(request, &parser.rules));
    }),
    ("update_user", |bytes| {
        fuzz(bytes, |request, parser| {
            admin::update(&request, &parser.rules, Language::default())
        });
    }),
    ("set_password", |bytes| {
        fuzz(bytes, |request, parser| {
            let parsed = admin::password(request, &parser.rules);
            if let Ok((_, password)) = &parsed {
                let _ = password.is_common();
                let shape = password.check_shape(8, &[&parser.user.phone_number]);
                check(shape.map_err(|problem| {
                    Error::InvalidInput(vec![Violation::new("new_password", problem.into())])
                }));
            }
            parsed
        });
    }),
    ("verify_phone", |bytes| {
        fuzz(bytes, |request, _| admin::phones(request));
    }),
    ("revoke_user_sessions", |bytes| {
        fuzz(bytes, |request: v1::RevokeUserSessionsRequest, _| {
            admin::managed_user_id(&request.user_id)
        });
    }),
    ("deactivate_user", |bytes| {
        fuzz(bytes, |request: v1::DeactivateUserRequest, _| {
            admin::managed_user_id(&request.user_id)
        });
    }),
    ("reactivate_user", |bytes| {
        fuzz(bytes, |request: v1::ReactivateUserRequest, _| {
            admin::managed_user_id(&request.user_id)
        });
    }),
    ("delete_user", |bytes| {
        fuzz(bytes, |request: v1::DeleteUserRequest, _| {
            admin::managed_user_id(&request.user_id)
        });
    }),
    ("list_audit_events", |bytes| {
        fuzz(bytes, |request, _| {
            admin::events(&request).map(|events| events.filter)
        });
    }),
    ("send_code", |bytes| {
        fuzz(bytes, |request, parser| {
            parse::codes::code_to_send(request, &Caller::default(), Language::default(), &parser.rules)
        });
    }),
    ("verify_code", |bytes| {
        fuzz(bytes, |request, parser| {
            parse::codes::code_submission(request, &Caller::default(), &parser.rules)
        });
    }),
];

/// The state that parsers of requests need.
struct ParserState {
    rules: Rules,
    user: User,
}

impl ParserState {
    /// Returns the state, which the first call creates. `None` if the state cannot be created.
    fn get() -> Option<&'static Self> {
        static STATE: OnceLock<Option<ParserState>> = OnceLock::new();
        STATE.get_or_init(Self::create).as_ref()
    }

    fn create() -> Option<Self> {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            settings: Settings,
        }
        let rules = Flags::parse_from(["fuzzed"]).settings.rules();
        let now = SystemClock.now();
        let user = User::new(PhoneNumber::parse("+998901234567", None).ok()?, now);
        Some(Self { rules, user })
    }
}

/// Decodes a request, parses it and checks the rejection. Encoding a decoded request and decoding it again returns the
/// same request.
fn fuzz<M, T>(bytes: &[u8], parse: impl FnOnce(M, &ParserState) -> Result<T, Error>)
where
    M: Message + Default + PartialEq,
    T: Debug,
{
    let Ok(request) = M::decode(bytes) else {
        return;
    };
    let parser = ParserState::get();
    assert!(parser.is_some(), "without a parser, no request would be checked");
    let Some(parser) = parser else { return };
    let again = M::decode(request.encode_to_vec().as_slice());
    assert!(
        again.as_ref() == Ok(&request),
        "an encoded request is decoded as a different one"
    );
    check(parse(request, parser));
}

fn session_token(text: &str) -> Result<TokenHash, Error> {
    TokenHash::of(text).map_err(|_| Error::SessionInvalid)
}

/// Checks that every client can read the status of a rejection.
fn check<T: Debug>(outcome: Result<T, Error>) {
    let Err(error) = outcome else {
        return;
    };
    assert!(!matches!(error, Error::Internal(_)), "{error:?}");
    for language in Language::ALL {
        let status = status::of_error(&error, language);
        assert!(status.get_details_error_info().is_some(), "{status:?}");
        let mut headers = HeaderMap::new();
        assert!(status.add_header(&mut headers).is_ok(), "{status:?}");
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        assert!(bytes <= MAX_STATUS_BYTES, "{bytes} bytes: {status:?}");
    }
}

/// Metadata: each line is a header, as `name:value`.
pub(crate) fn metadata(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // A `HeaderMap` has a maximum size.
            if headers.len() < 100 {
                headers.append(name, value);
            }
        }
    }
    let _ = metadata::language(&headers);
    check(metadata::bearer(&headers).and_then(session_token));
    let _ = middleware::deadline::grpc_timeout(&headers);
    if let Some(id) = middleware::request_id::accepted_request_id(&headers, None) {
        assert!(HeaderValue::try_from(id).is_ok(), "{id:?} cannot be sent back");
        assert!(TokenHash::of(id).is_err(), "a token would be logged");
    }
}
