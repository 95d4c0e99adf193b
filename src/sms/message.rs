//! Messages and their texts.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::code::{Challenge, Code, Purpose};
use crate::domain::message::{MessageId, Notice, NoticeKind};
use crate::domain::phone::PhoneNumber;

/// The longest text in one SMS, in characters of the GSM 7-bit default alphabet (3GPP TS 23.038 section 6.1.2.1).
pub const GSM_LENGTH: usize = 160;

/// The longest text in one SMS that has any other character, in UTF-16 code units (3GPP TS 23.038 section 6.1.2.3).
pub const UCS2_LENGTH: usize = 70;

/// A message, with its text. `Debug` shows neither text nor number.
pub struct Message {
    /// The id. A message that is sent twice has the same one.
    pub id: MessageId,
    /// To whom.
    pub to: PhoneNumber,
    text: SecretString,
}

impl Message {
    /// The message with the code of a challenge.
    #[must_use]
    pub fn with_code(id: MessageId, challenge: &Challenge, code: &Code) -> Self {
        let text = match challenge.purpose {
            Purpose::VerifyPhone => "sms-verify-phone",
            Purpose::SignIn => "sms-sign-in",
            Purpose::ResetPassword => "sms-reset-password",
            Purpose::ChangePhone => "sms-change-phone",
            Purpose::Register => "sms-register",
        };
        Self {
            id,
            to: challenge.phone_number.clone(),
            text: challenge.language.text_with_code(text, code.expose()).into(),
        }
    }

    /// The message that something has happened.
    #[must_use]
    pub fn of_notice(id: MessageId, notice: &Notice) -> Self {
        let text = match notice.kind {
            NoticeKind::AlreadyRegistered => "sms-already-registered",
            NoticeKind::PhoneChanged => "sms-phone-changed",
        };
        Self {
            id,
            to: notice.to.clone(),
            text: notice.language.text(text, &[]).into(),
        }
    }

    /// The text, for whoever sends it. It may have a code in it.
    #[must_use]
    pub fn expose_text(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::code::{ChallengeId, Coder};
    use crate::domain::secret_keys::SecretKeys;
    use crate::domain::user::UserId;
    use crate::i18n::Language;

    /// Of the GSM 7-bit default alphabet, what is also in ASCII, but for the characters that take two places (3GPP TS 23.038
    /// section 6.2.1): enough for our texts, which have no others.
    fn is_gsm(c: char) -> bool {
        matches!(c, '\n' | ' '..='~') && !"[\\]^`{|}~".contains(c)
    }

    fn fits_one_sms(text: &str) -> bool {
        if text.chars().all(is_gsm) {
            text.len() <= GSM_LENGTH
        } else {
            text.encode_utf16().count() <= UCS2_LENGTH
        }
    }

    #[test]
    fn every_text_fits_one_sms() {
        let coder = Coder::new(SecretKeys::of_this_process().unwrap(), 10);
        let now = Timestamp::UNIX_EPOCH;
        let to = PhoneNumber::parse("+998901234567", None).unwrap();
        let mut texts = Vec::new();
        for language in Language::ALL {
            for purpose in Purpose::ALL {
                let challenge = Challenge {
                    id: ChallengeId::generate(),
                    purpose,
                    phone_number: to.clone(),
                    person: None,
                    key_id: coder.current_key().unwrap().to_owned(),
                    is_sent: true,
                    language,
                    created_at: now,
                    sent_at: now,
                    expires_at: now,
                };
                let code = coder.code(&challenge).unwrap();
                let message = Message::with_code(MessageId::generate(now), &challenge, &code);
                let text = message.expose_text().to_owned();
                assert!(text.contains(code.expose()), "{language:?} {purpose:?}");
                assert!(fits_one_sms(&text), "{text}");
                texts.push(text.replace(code.expose(), ""));
            }
            for kind in NoticeKind::ALL {
                let notice = Notice {
                    kind,
                    to: to.clone(),
                    person: UserId::generate(now),
                    language,
                };
                let message = Message::of_notice(MessageId::generate(now), &notice);
                assert!(fits_one_sms(message.expose_text()), "{}", message.expose_text());
                texts.push(message.expose_text().to_owned());
            }
        }
        let all = texts.len();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), all, "there is a text that is another one's");
    }
}
