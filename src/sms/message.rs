//! Messages and their texts.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::Lines;
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
    pub fn with_code(id: MessageId, challenge: &Challenge, code: &Code, lines: &Lines) -> Self {
        let text = match challenge.purpose {
            Purpose::VerifyPhone => "sms-verify-phone",
            Purpose::SignIn => "sms-sign-in",
            Purpose::ResetPassword => "sms-reset-password",
            Purpose::ChangePhone => "sms-change-phone",
            Purpose::Register => "sms-register",
        };
        let mut text = challenge.language.text(text, &[("code", code.expose().into())]);
        text.push_str(&lines.after(code));
        Self {
            id,
            to: challenge.phone_number.clone(),
            text: text.into(),
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

    /// Of the GSM 7-bit default alphabet, what is also in ASCII, but for the characters that take two places (3GPP TS
    /// 23.038 section 6.2.1): enough for our texts, which have no others.
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

    /// All messages with codes of so many digits, and their codes.
    fn with_codes(digits: u8, lines: &Lines) -> Vec<(Language, String, String)> {
        let coder = Coder::new(SecretKeys::of_this_process().unwrap(), digits);
        let now = Timestamp::UNIX_EPOCH;
        let mut messages = Vec::new();
        for language in Language::ALL {
            for purpose in Purpose::ALL {
                let challenge = Challenge {
                    id: ChallengeId::generate(),
                    purpose,
                    phone_number: PhoneNumber::parse("+998901234567", None).unwrap(),
                    person: None,
                    credential_version: None,
                    key_id: coder.current_key().unwrap().to_owned(),
                    is_sent: true,
                    is_known: false,
                    watched: None,
                    language,
                    created_at: now,
                    sent_at: now,
                    expires_at: now,
                };
                let code = coder.code(&challenge).unwrap();
                let message = Message::with_code(MessageId::generate(now), &challenge, &code, lines);
                let (text, code) = (message.expose_text().to_owned(), code.expose().to_owned());
                messages.push((language, text, code));
            }
        }
        messages
    }

    #[test]
    fn every_text_fits_one_sms() {
        let now = Timestamp::UNIX_EPOCH;
        let mut texts = Vec::new();
        for (_, text, code) in with_codes(10, &Lines::default()) {
            assert!(text.contains(&code) && fits_one_sms(&text), "{text}");
            texts.push(text.replace(&code, ""));
        }
        for language in Language::ALL {
            for kind in NoticeKind::ALL {
                let notice = Notice {
                    kind,
                    to: PhoneNumber::parse("+998901234567", None).unwrap(),
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

    /// With the hash of an app, and codes of six digits, in all languages: the SMS Retriever takes no more than 140
    /// bytes, which is one message. With a domain, too, where all characters are of the GSM alphabet.
    #[test]
    fn lines_for_phones_fit_as_well() {
        let hash = Some("FA+9qCX9VSu".parse().unwrap());
        let domain = Some("login.example.com".parse().unwrap());
        let only_hash = Lines {
            retriever_hash: hash.clone(),
            domain: None,
        };
        for (_, text, _) in with_codes(6, &only_hash) {
            // However its bytes are counted.
            assert!(fits_one_sms(&text) && text.len() <= 140, "{text}");
        }
        let both = Lines {
            retriever_hash: hash,
            domain,
        };
        for (language, text, code) in with_codes(10, &both) {
            let is_gsm = matches!(language, Language::English | Language::Uzbek);
            assert_eq!(fits_one_sms(&text), is_gsm, "{text}");
            assert!(
                text.ends_with(&format!("\nFA+9qCX9VSu\n@login.example.com #{code}")),
                "{text}"
            );
        }
    }
}
