//! Requests for a code.

use secrecy::SecretString;

use super::Codes;
use super::limits::{Asker, MessageRequest};
use crate::clock::Timestamp;
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft, Event};
use crate::domain::code::{Challenge, ChallengeId, Purpose, Sent, plausible_expiries};
use crate::domain::message::{Content, Notice, NoticeKind, Origin};
use crate::domain::network::Network;
use crate::domain::password::Password;
use crate::domain::phone::{NumberQuery, PhoneNumber};
use crate::domain::session::ClientInfo;
use crate::domain::sms_limits::CounterId;
use crate::domain::throttle::{Subject, SubjectKind};
use crate::domain::user::User;
use crate::i18n::Language;
use crate::service::error::Error;
use crate::service::throttle::Reservation;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::outbox::OutboxMessage;
use crate::store::{Transaction, audit, challenges, outbox, users};

/// A registration for which a code has to be sent first.
#[derive(Debug)]
pub struct CodeToRegister {
    /// The phone number, which may be taken.
    pub phone_number: PhoneNumber,
    /// The password, if the user gave one already. The password policy was not applied to it yet.
    pub password: Option<Password>,
    /// The request for the code.
    pub request: CodeRequest,
}

/// The source of a request for a code, and its language.
#[derive(Debug)]
pub struct CodeRequest {
    /// The client.
    pub client: ClientInfo,
    /// The calling service.
    pub caller: Caller,
    /// The token of the device, if the device has one.
    pub device_token: Option<SecretString>,
    /// The language of the message, if the user has not chosen one.
    pub language: Language,
}

impl Codes {
    /// Creates a challenge for a number, and sends its code if the number is reachable by SMS and fits the purpose.
    /// `actor` is the user of the session, if there is one.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`] and [`Error::SmsRefused`], the same for a number with an account as for one without.
    pub async fn send(
        &self,
        purpose: Purpose,
        number: NumberQuery,
        actor: Option<User>,
        request: CodeRequest,
    ) -> Result<Sent, Error> {
        self.send_for(purpose, number.into_key(), actor, request, None)
            .await
    }

    /// Creates a challenge for a registration. A password that the policy rejects is rejected now, so that no code is
    /// sent for it. An acceptable password is not stored: the client sends it again with the code.
    ///
    /// # Errors
    /// Those of [`Self::send`]; [`Error::InvalidInput`] when the password policy rejects the password.
    pub async fn send_to_register(&self, registration: CodeToRegister) -> Result<Sent, Error> {
        let CodeToRegister {
            phone_number,
            password,
            request,
        } = registration;
        self.send_for(Purpose::Register, phone_number, None, request, password)
            .await
    }

    async fn send_for(
        &self,
        purpose: Purpose,
        phone_number: PhoneNumber,
        actor: Option<User>,
        request: CodeRequest,
        password: Option<Password>,
    ) -> Result<Sent, Error> {
        self.check_country(&phone_number)?;
        let asker = match (purpose, &actor) {
            (Purpose::VerifyPhone, Some(actor)) => Asker::Known {
                is_verified: actor.phone_verified_at.is_some(),
            },
            _ => Asker::Stranger,
        };
        let (asker, reservation) = self.reserve(asker, &phone_number, &request).await?;
        if let Some(password) = password {
            let phones = [&phone_number];
            let accepted = self.passwords.accept("password", password, &phones);
            if let Err(rejected) = accepted.await {
                let throttle = self.work.throttle();
                throttle.give_back(&reservation.without_address()).await;
                return Err(rejected);
            }
        }
        let reader = self.work.store().reader();
        let account = match (purpose, &actor) {
            // The user of the session: the owner of the number makes no difference before the code was right.
            (Purpose::ChangePhone, Some(actor)) => users::find(reader, actor.id).await?,
            (Purpose::ChangePhone, None) => None,
            (Purpose::VerifyPhone | Purpose::SignIn | Purpose::ResetPassword | Purpose::Register, _) => {
                users::find_by_phone(reader, &phone_number).await?
            }
        };
        let person = account.as_ref().map(|account| &account.user);
        let is_for_number = match purpose {
            Purpose::VerifyPhone | Purpose::ResetPassword | Purpose::ChangePhone => person.is_some(),
            Purpose::SignIn => person.is_some() || self.may_sign_up(&phone_number),
            Purpose::Register => person.is_none(),
        };
        let now = self.work.now();
        let mut challenge = Challenge {
            id: ChallengeId::generate(),
            purpose,
            is_sent: is_for_number && self.limits.reach.has(&phone_number),
            is_known: matches!(asker, Asker::Known { .. }),
            watched: None,
            phone_number,
            language: person.map_or(request.language, |person| person.language_or(request.language)),
            person: person.map(|person| person.id),
            credential_version: account.as_ref().map(|account| account.credential_version),
            key_id: self
                .coder
                .current_key()
                .ok_or(Error::SmsNotConfigured)?
                .to_owned(),
            created_at: now,
            sent_at: now,
            expires_at: self.expiry(now),
        };
        let message = self.message(&challenge, asker, &request, now);
        challenge.watched = self.count_message(&challenge, asker, &request).await?;
        let event = draft(&challenge, request).done(now);
        self.work
            .transact(|tx, _| Box::pin(write_challenge(tx, &challenge, &message, &event)))
            .await?;
        self.wake.send(message.id);
        self.note_asked(&challenge);
        Ok(self.sent(&challenge))
    }

    /// Whether a sign-in by a code creates an account for this number.
    fn may_sign_up(&self, phone_number: &PhoneNumber) -> bool {
        let line_types = self.options.sign_up;
        line_types.is_some_and(|types| types.contains(phone_number.line_type()))
    }

    /// Sends the code of a challenge once more: the same code, since messages may arrive in any order.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`] when the challenge is unknown, expired or used up; [`Error::TooManyAttempts`], also when
    /// it was sent a moment ago; [`Error::SmsRefused`].
    pub async fn send_again(&self, id: ChallengeId, request: CodeRequest) -> Result<Sent, Error> {
        let now = self.work.now();
        let expiries = plausible_expiries(self.options.lifetime, now);
        let reader = self.work.store().reader();
        let found = challenges::find_live(reader, id, self.options.max_attempts, &expiries).await?;
        let challenge = found.ok_or(Error::CodeInvalid)?;
        if let Some(retry_after) = challenge.resend_wait(self.options.resend_interval, now) {
            return Err(Error::TooManyAttempts {
                retry_after,
                by: SubjectKind::Code,
            });
        }
        self.check_country(&challenge.phone_number)?;
        let asker = match challenge.purpose {
            // Only a session of the user requests it.
            Purpose::VerifyPhone => Asker::Known { is_verified: false },
            _ => Asker::Stranger,
        };
        let (asker, _counted) = self.reserve(asker, &challenge.phone_number, &request).await?;
        let mut again = Challenge {
            sent_at: now,
            ..challenge.clone()
        };
        let message = self.message(&again, asker, &request, now);
        let watched = self.count_message(&again, asker, &request).await?;
        // A code is used once, so it counts for the first request.
        again.watched = challenge.watched.or(watched);
        let event = draft(&again, request).done(now);
        let is_sent = self
            .work
            .transact(|tx, _| Box::pin(write_resend(tx, &challenge, &again, &message, &event)))
            .await?;
        if !is_sent {
            return Err(Error::TooManyAttempts {
                retry_after: self.options.resend_interval,
                by: SubjectKind::Code,
            });
        }
        self.wake.send(message.id);
        self.note_asked(&again);
        Ok(self.sent(&again))
    }

    /// Reserves a requested code. It is not given back after a message was written, which costs money whether or not
    /// the code is used. Strangers use up none of the limit of a known device. Returns the asker: a known device makes
    /// a known asker of the one that the call shows.
    async fn reserve(
        &self,
        asker: Asker,
        phone_number: &PhoneNumber,
        request: &CodeRequest,
    ) -> Result<(Asker, Reservation), Error> {
        let token = request.device_token.clone();
        let device = self.issuer.known_device(token, phone_number).await?;
        let asker = device.map_or(asker, |device| Asker::Known {
            is_verified: device.is_verified() || asker.has_number(),
        });
        let throttle = self.work.throttle();
        let reservation = match asker {
            Asker::Known { .. } => throttle.reserve_only(Subject::KnownCode(phone_number)).await?,
            Asker::Stranger => {
                let address = request.client.ip_address;
                let prefixes = address
                    .into_iter()
                    .flat_map(|address| Network::of(address).prefixes());
                let mut subjects: Vec<Subject<'_>> = prefixes
                    .map(|prefix| Subject::CodeFrom(phone_number, prefix))
                    .collect();
                if subjects.is_empty() {
                    subjects.push(Subject::Code(phone_number));
                }
                throttle.reserve(&subjects, address, &request.caller).await?
            }
        };
        Ok((asker, reservation))
    }

    async fn count_message(
        &self,
        challenge: &Challenge,
        asker: Asker,
        request: &CodeRequest,
    ) -> Result<Option<CounterId>, Error> {
        self.count(&MessageRequest {
            to: &challenge.phone_number,
            asker,
            address: request.client.ip_address,
            caller: &request.caller,
        })
        .await
    }

    /// The message of a challenge: its code, or a notice to the user of the number that another person wants to
    /// register with it.
    fn message(
        &self,
        challenge: &Challenge,
        asker: Asker,
        request: &CodeRequest,
        now: Timestamp,
    ) -> OutboxMessage {
        let number = &challenge.phone_number;
        let content = match challenge.person {
            Some(person) if challenge.purpose == Purpose::Register && self.limits.reach.has(number) => {
                Content::Notice(Notice {
                    kind: NoticeKind::AlreadyRegistered,
                    to: number.clone(),
                    person,
                    language: challenge.language,
                })
            }
            _ => Content::Code(challenge.id),
        };
        let (address, service) = (request.client.ip_address, request.caller.service.as_deref());
        let origin = Origin::new(asker.class(), address, service);
        OutboxMessage::new(content, origin, now, challenge.expires_at)
    }
}

async fn write_challenge(
    tx: &Transaction,
    challenge: &Challenge,
    message: &OutboxMessage,
    event: &Event,
) -> Result<TransactionEnd<()>, Error> {
    challenges::insert(tx, challenge).await?;
    outbox::insert(tx, message).await?;
    audit::insert(tx, event).await?;
    Ok(TransactionEnd::commit(()))
}

/// Returns whether the code is sent again. If not, another call has sent it meanwhile, or has used it.
async fn write_resend(
    tx: &Transaction,
    challenge: &Challenge,
    again: &Challenge,
    message: &OutboxMessage,
    event: &Event,
) -> Result<TransactionEnd<bool>, Error> {
    if !challenges::send_again(tx, challenge, again).await? {
        return Ok(TransactionEnd::Rollback(false));
    }
    outbox::insert(tx, message).await?;
    audit::insert(tx, event).await?;
    Ok(TransactionEnd::commit(true))
}

fn draft(challenge: &Challenge, request: CodeRequest) -> AuditDraft {
    AuditDraft {
        subject: challenge.person,
        ..AuditDraft::by_nobody(Action::SendCode, request.client, request.caller)
    }
}
