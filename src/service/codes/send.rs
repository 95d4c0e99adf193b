//! Asking for a code.

use secrecy::SecretString;

use super::Codes;
use super::limits::{Asker, MessageRequest};
use crate::clock::Timestamp;
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft};
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
use crate::service::retry::retry;
use crate::service::throttle::Reservation;
use crate::store::outbox::OutboxMessage;
use crate::store::{audit, challenges, outbox, users};

/// A registration for which a code has to be sent first.
#[derive(Debug)]
pub struct CodeToRegister {
    /// The phone number, which may be taken.
    pub phone_number: PhoneNumber,
    /// The password, if the user gave one already. The password policy was not applied to it yet.
    pub password: Option<Password>,
    /// Who asks for the code.
    pub request: CodeRequest,
}

/// Whoever asks for a code, and where they are.
#[derive(Debug)]
pub struct CodeRequest {
    /// The person's device.
    pub client: ClientInfo,
    /// The service that they go through.
    pub caller: Caller,
    /// The token that the device was given, if it has one.
    pub device_token: Option<SecretString>,
    /// The language of the message, if the person has not chosen one.
    pub language: Language,
}

impl Codes {
    /// Makes a challenge for a number, and has its code sent if it takes an SMS and is one for this purpose. `actor` is
    /// who wants it, where that is known.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`] and [`Error::SmsRefused`], the same for numbers that nobody has.
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

    /// As [`Self::send`], for a registration. A password that the policy rejects is rejected now, so that no code is
    /// sent for it; an acceptable one is forgotten, and comes again with the code.
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
            let accepted = self
                .accounts
                .passwords
                .accept("password", password, &[&phone_number])
                .await;
            if let Err(rejected) = accepted {
                self.accounts
                    .throttle
                    .give_back(&reservation.without_address())
                    .await;
                return Err(rejected);
            }
        }
        let reader = self.accounts.store.reader();
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
        let now = self.accounts.clock.now();
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
        let attempt = attempt(&challenge, request);
        retry(|| async {
            let tx = self.accounts.store.begin().await?;
            challenges::insert(&tx, &challenge).await?;
            outbox::insert_with_commit(&tx, &message).await?;
            audit::insert_with_commit(&tx, &attempt.done(now)).await?;
            Ok(tx.commit().await?)
        })
        .await?;
        self.wake.send(message.id);
        self.note_asked(&challenge);
        Ok(self.sent(&challenge))
    }

    /// Whether signing in by a code makes an account for a number that nobody has.
    fn may_sign_up(&self, phone_number: &PhoneNumber) -> bool {
        let line_types = self.options.sign_up;
        line_types.is_some_and(|types| types.contains(phone_number.line_type()))
    }

    /// Has the code of a challenge sent once more: the same one, since messages may arrive in any order.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`] when the challenge is unknown, expired or used up; [`Error::TooManyAttempts`], also when
    /// it was sent a moment ago; [`Error::SmsRefused`].
    pub async fn send_again(&self, id: ChallengeId, request: CodeRequest) -> Result<Sent, Error> {
        let store = &self.accounts.store;
        let now = self.accounts.clock.now();
        let expiries = plausible_expiries(self.options.lifetime, now);
        let found = challenges::find_live(store.reader(), id, self.options.max_attempts, &expiries).await?;
        let challenge = found.ok_or(Error::CodeInvalid)?;
        if let Some(retry_after) = challenge.resend_wait(self.options.resend_interval, now) {
            return Err(Error::TooManyAttempts {
                retry_after,
                by: SubjectKind::Code,
            });
        }
        self.check_country(&challenge.phone_number)?;
        let asker = match challenge.purpose {
            // Only their session could ask for it.
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
        // It is used once, for who asked first.
        again.watched = challenge.watched.or(watched);
        let attempt = attempt(&again, request);
        retry(|| async {
            let tx = store.begin().await?;
            if !challenges::send_again(&tx, &challenge, &again).await? {
                // Somebody else had it sent meanwhile, or it was met.
                return Err(Error::TooManyAttempts {
                    retry_after: self.options.resend_interval,
                    by: SubjectKind::Code,
                });
            }
            outbox::insert_with_commit(&tx, &message).await?;
            audit::insert_with_commit(&tx, &attempt.done(now)).await?;
            Ok(tx.commit().await?)
        })
        .await?;
        self.wake.send(message.id);
        self.note_asked(&again);
        Ok(self.sent(&again))
    }

    /// Counts a code that is requested. It is not given back once a message was written: that costs money, whether or
    /// not the code is used. Strangers use up none of the limit of a known device. Returns who asks; `asker` is what
    /// the call itself shows of that.
    async fn reserve(
        &self,
        asker: Asker,
        phone_number: &PhoneNumber,
        request: &CodeRequest,
    ) -> Result<(Asker, Reservation), Error> {
        let token = request.device_token.clone();
        let device = self.accounts.known_device(token, phone_number).await?;
        let asker = device.map_or(asker, |device| Asker::Known {
            is_verified: device.is_verified() || asker.has_number(),
        });
        let throttle = &self.accounts.throttle;
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

    /// What is sent for a challenge: its code, or to whoever has the number already that somebody wanted to register
    /// with it.
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

fn attempt(challenge: &Challenge, request: CodeRequest) -> AuditDraft {
    AuditDraft {
        subject: challenge.person,
        ..AuditDraft::by_nobody(Action::SendCode, request.client, request.caller)
    }
}
