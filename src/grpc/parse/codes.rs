//! Conversion of the requests of service `PhoneVerification`.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Fields, client, device_token, known_password, new_password, uuid};
use crate::domain::access::Caller;
use crate::domain::code::{ChallengeId, Code, Purpose};
use crate::domain::password::Password;
use crate::domain::phone::{NumberQuery, PhoneNumber};
use crate::domain::rules::Rules;
use crate::i18n::Language;
use crate::proto::v1;
use crate::service::codes::{CodeRequest, CodeSubmission, CodeToRegister};
use crate::service::error::{Error, Problem};

/// The code that SendCode requests.
#[derive(Debug)]
pub(in crate::grpc) enum CodeToSend {
    /// The code of an existing challenge, again.
    Resend(ChallengeId),
    /// A code for the current number of the signed-in user.
    VerifyOwnNumber,
    /// A code for the new number of the signed-in user.
    VerifyNewNumber(PhoneNumber),
    /// A code for this purpose, to this number, without a session.
    SignedOut(Purpose, NumberQuery),
}

/// The operation that VerifyCode authorizes with a code.
#[derive(Debug)]
pub(in crate::grpc) enum CodeOperation {
    VerifyPhone,
    SignIn {
        reactivate: bool,
        remember_device: bool,
    },
    ResetPassword(Password),
    ChangePhone {
        current_password: Option<Password>,
    },
    Register {
        password: Password,
        remember_device: bool,
    },
}

/// Returns the requested code, and the context of the request.
///
/// # Errors
/// [`Error::InvalidInput`], or [`Error::CodeInvalid`] if the challenge id is not an id.
pub(in crate::grpc) fn code_to_send(
    request: v1::SendCodeRequest,
    caller: &Caller,
    language: Language,
    rules: &Rules,
) -> Result<(CodeToSend, CodeRequest), Error> {
    let mut fields = Fields::default();
    let code = if request.challenge_id.is_empty() {
        new_code(&mut fields, &request, rules)
    } else {
        for (field, is_given) in [
            ("purpose", request.purpose != 0),
            ("phone_number", !request.phone_number.is_empty()),
        ] {
            if is_given {
                fields.refuse(field, Problem::MutuallyExclusive("challenge_id"));
            }
        }
        // No challenge has an invalid id, so such an id is a wrong challenge and not a violation.
        challenge_id(&request.challenge_id).map(CodeToSend::Resend)
    };
    let client = client(&mut fields, request.client);
    fields.finish()?;
    let (Some(code), Some(client)) = (code, client) else {
        return Err(Error::CodeInvalid);
    };
    let request = CodeRequest {
        client,
        caller: caller.clone(),
        device_token: device_token(request.device_token),
        language,
    };
    Ok((code, request))
}

/// Returns a code of a new challenge.
fn new_code(fields: &mut Fields, request: &v1::SendCodeRequest, rules: &Rules) -> Option<CodeToSend> {
    let purpose = purpose(fields, request.purpose);
    if purpose == Some(Purpose::VerifyPhone) {
        if !request.phone_number.is_empty() {
            fields.refuse("phone_number", Problem::NotOfPurpose);
        }
        return Some(CodeToSend::VerifyOwnNumber);
    }
    let (number, region) = (&request.phone_number, &request.default_region);
    // Register sends the codes of this purpose.
    if purpose == Some(Purpose::Register) {
        fields.refuse("purpose", Problem::NotOfPurpose);
    }
    if purpose == Some(Purpose::ChangePhone) {
        let phone_number = fields.check_phone("phone_number", rules.take_phone(number, region));
        return phone_number.map(CodeToSend::VerifyNewNumber);
    }
    let phone_number = fields.check_phone("phone_number", rules.find_phone(number, region));
    Some(CodeToSend::SignedOut(purpose?, phone_number?))
}

/// Returns a registration that requires a code. VerifyCode sets the password. If the request has a password, the
/// service applies the password policy to it, so that no code is sent for a password that is rejected later.
pub(in crate::grpc) fn registration(
    request: v1::RegisterRequest,
    caller: &Caller,
    language: Language,
    rules: &Rules,
) -> Result<CodeToRegister, Error> {
    let mut fields = Fields::default();
    let phone_number = rules.take_phone(&request.phone_number, &request.default_region);
    let phone_number = fields.check_phone("phone_number", phone_number);
    let password = Some(request.password).filter(|password| !password.is_empty());
    let password = password.and_then(|password| {
        let phones: Vec<&PhoneNumber> = phone_number.iter().collect();
        new_password(&mut fields, rules, "password", password, &phones)
    });
    let client = client(&mut fields, request.client);
    let (Some(phone_number), Some(client), true) = (phone_number, client, fields.0.is_empty()) else {
        return Err(fields.into_error());
    };
    Ok(CodeToRegister {
        phone_number,
        password,
        request: CodeRequest {
            client,
            caller: caller.clone(),
            device_token: None,
            language,
        },
    })
}

/// Returns the submitted code, and the operation that it authorizes.
///
/// # Errors
/// [`Error::InvalidInput`], or [`Error::CodeInvalid`] if the challenge id is not an id.
pub(in crate::grpc) fn code_submission(
    request: v1::VerifyCodeRequest,
    caller: &Caller,
    rules: &Rules,
) -> Result<(CodeSubmission, CodeOperation), Error> {
    let mut fields = Fields::default();
    let input = SecretString::from(request.code);
    for (field, is_empty) in [
        ("challenge_id", request.challenge_id.is_empty()),
        ("code", input.expose_secret().is_empty()),
    ] {
        if is_empty {
            fields.refuse(field, Problem::Required);
        }
    }
    let purpose = purpose(&mut fields, request.purpose);
    const SIGN_IN: &[Purpose] = &[Purpose::SignIn];
    const NEW_PASSWORD: &[Purpose] = &[Purpose::ResetPassword, Purpose::Register];
    const SESSION: &[Purpose] = &[Purpose::SignIn, Purpose::Register];
    const PROOF: &[Purpose] = &[Purpose::ChangePhone];
    for (field, is_given, purposes) in [
        ("new_password", !request.new_password.is_empty(), NEW_PASSWORD),
        ("reactivate", request.reactivate, SIGN_IN),
        ("remember_device", request.remember_device, SESSION),
        ("current_password", request.current_password.is_some(), PROOF),
    ] {
        if is_given && purpose.is_some_and(|purpose| !purposes.contains(&purpose)) {
            fields.refuse(field, Problem::NotOfPurpose);
        }
    }
    let client = client(&mut fields, request.client);
    let operation = match purpose {
        None => None,
        Some(Purpose::VerifyPhone) => Some(CodeOperation::VerifyPhone),
        Some(Purpose::SignIn) => Some(CodeOperation::SignIn {
            reactivate: request.reactivate,
            remember_device: request.remember_device,
        }),
        Some(Purpose::ChangePhone) => Some(CodeOperation::ChangePhone {
            current_password: request
                .current_password
                .and_then(|password| known_password(&mut fields, "current_password", password)),
        }),
        Some(purpose @ (Purpose::ResetPassword | Purpose::Register)) => {
            let password = request.new_password;
            let password = new_password(&mut fields, rules, "new_password", password, &[]);
            password.map(|password| match purpose {
                Purpose::Register => CodeOperation::Register {
                    password,
                    remember_device: request.remember_device,
                },
                _ => CodeOperation::ResetPassword(password),
            })
        }
    };
    fields.finish()?;
    let (Some(challenge), Some(client), Some(operation)) =
        (challenge_id(&request.challenge_id), client, operation)
    else {
        return Err(Error::CodeInvalid);
    };
    let submission = CodeSubmission {
        challenge,
        code: Code::parse(input.expose_secret()),
        client,
        caller: caller.clone(),
    };
    Ok((submission, operation))
}

fn challenge_id(id: &str) -> Option<ChallengeId> {
    uuid(id).map(ChallengeId)
}

fn purpose(fields: &mut Fields, purpose: i32) -> Option<Purpose> {
    let purpose = match v1::CodePurpose::try_from(purpose) {
        Ok(v1::CodePurpose::Unspecified) => Err(Problem::Required),
        Ok(v1::CodePurpose::VerifyPhone) => Ok(Purpose::VerifyPhone),
        Ok(v1::CodePurpose::SignIn) => Ok(Purpose::SignIn),
        Ok(v1::CodePurpose::ResetPassword) => Ok(Purpose::ResetPassword),
        Ok(v1::CodePurpose::ChangePhone) => Ok(Purpose::ChangePhone),
        Ok(v1::CodePurpose::Register) => Ok(Purpose::Register),
        Err(_) => Err(Problem::EnumValueUnknown),
    };
    fields.check("purpose", purpose)
}
