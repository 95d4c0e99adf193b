//! From messages of service `PhoneVerification` to the domain.

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

/// Which code is to be sent.
#[derive(Debug)]
pub(in crate::grpc) enum CodeToSend {
    /// That of a challenge, once more.
    Again(ChallengeId),
    /// One by which the bearer's person verifies their number.
    OfActor,
    /// One by which the bearer's person gets this number.
    ForActor(PhoneNumber),
    /// One for this purpose, to this number.
    Of(Purpose, NumberQuery),
}

/// What a code is exchanged for.
#[derive(Debug)]
pub(in crate::grpc) enum Exchange {
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

pub(in crate::grpc) fn wanted(
    request: v1::SendCodeRequest,
    caller: &Caller,
    language: Language,
    rules: &Rules,
) -> Result<(CodeToSend, CodeRequest), Error> {
    let mut fields = Fields::default();
    let wanted = if request.challenge_id.is_empty() {
        new_one(&mut fields, &request, rules)
    } else {
        for (field, is_given) in [
            ("purpose", request.purpose != 0),
            ("phone_number", !request.phone_number.is_empty()),
        ] {
            if is_given {
                fields.refuse(field, Problem::MutuallyExclusive("challenge_id"));
            }
        }
        // What is no id is none of a challenge.
        challenge_id(&request.challenge_id).map(CodeToSend::Again)
    };
    let client = client(&mut fields, request.client);
    fields.finish()?;
    let (Some(wanted), Some(client)) = (wanted, client) else {
        return Err(Error::CodeInvalid);
    };
    let request = CodeRequest {
        client,
        caller: caller.clone(),
        device_token: device_token(request.device_token),
        language,
    };
    Ok((wanted, request))
}

fn new_one(fields: &mut Fields, request: &v1::SendCodeRequest, rules: &Rules) -> Option<CodeToSend> {
    let purpose = purpose(fields, request.purpose);
    if purpose == Some(Purpose::VerifyPhone) {
        if !request.phone_number.is_empty() {
            fields.refuse("phone_number", Problem::NotOfPurpose);
        }
        return Some(CodeToSend::OfActor);
    }
    let (number, region) = (&request.phone_number, &request.default_region);
    // Register asks for that one.
    if purpose == Some(Purpose::Register) {
        fields.refuse("purpose", Problem::NotOfPurpose);
    }
    if purpose == Some(Purpose::ChangePhone) {
        let phone_number = fields.check_phone("phone_number", rules.take_phone(number, region));
        return phone_number.map(CodeToSend::ForActor);
    }
    let phone_number = fields.check_phone("phone_number", rules.find_phone(number, region));
    Some(CodeToSend::Of(purpose?, phone_number?))
}

/// Registration where a code has to show that the user holds the number. The password comes with the code. If it comes
/// now, the service applies the password policy to it all the same, so that no code is sent for one that is rejected
/// then.
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

pub(in crate::grpc) fn offer(
    request: v1::VerifyCodeRequest,
    caller: &Caller,
    rules: &Rules,
) -> Result<(CodeSubmission, Exchange), Error> {
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
    for (field, is_given, its_purposes) in [
        ("new_password", !request.new_password.is_empty(), NEW_PASSWORD),
        ("reactivate", request.reactivate, SIGN_IN),
        ("remember_device", request.remember_device, SESSION),
        ("current_password", request.current_password.is_some(), PROOF),
    ] {
        if is_given && purpose.is_some_and(|purpose| !its_purposes.contains(&purpose)) {
            fields.refuse(field, Problem::NotOfPurpose);
        }
    }
    let client = client(&mut fields, request.client);
    let exchange = match purpose {
        None => None,
        Some(Purpose::VerifyPhone) => Some(Exchange::VerifyPhone),
        Some(Purpose::SignIn) => Some(Exchange::SignIn {
            reactivate: request.reactivate,
            remember_device: request.remember_device,
        }),
        Some(Purpose::ChangePhone) => Some(Exchange::ChangePhone {
            current_password: request
                .current_password
                .and_then(|password| known_password(&mut fields, "current_password", password)),
        }),
        Some(purpose @ (Purpose::ResetPassword | Purpose::Register)) => {
            let password = request.new_password;
            let password = new_password(&mut fields, rules, "new_password", password, &[]);
            password.map(|password| match purpose {
                Purpose::Register => Exchange::Register {
                    password,
                    remember_device: request.remember_device,
                },
                _ => Exchange::ResetPassword(password),
            })
        }
    };
    fields.finish()?;
    let (Some(challenge), Some(client), Some(exchange)) =
        (challenge_id(&request.challenge_id), client, exchange)
    else {
        return Err(Error::CodeInvalid);
    };
    let offer = CodeSubmission {
        challenge,
        code: Code::parse(input.expose_secret()),
        client,
        caller: caller.clone(),
    };
    Ok((offer, exchange))
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
