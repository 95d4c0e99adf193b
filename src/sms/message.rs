//! SMS messages and their texts.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::Lines;
use crate::domain::code::{Challenge, Code, Purpose};
use crate::domain::message::{MessageId, Notice, NoticeKind};
use crate::domain::phone::PhoneNumber;

/// Maximum length of a text in one SMS, in characters of the GSM 7-bit default alphabet (3GPP TS 23.038 section
/// 6.1.2.1).
pub const GSM_LENGTH: usize = 160;

/// Maximum length of a text with any other character in one SMS, in UTF-16 code units (3GPP TS 23.038 section 6.1.2.3).
pub const UCS2_LENGTH: usize = 70;

/// A message with its text. `Debug` shows neither the text nor the phone number.
pub struct Message {
    /// The id. It stays the same when a message is sent again.
    pub id: MessageId,
    /// The phone number of the recipient.
    pub to: PhoneNumber,
    text: SecretString,
}

impl Message {
    /// Returns the message with the code of a challenge.
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

    /// Returns the message of a notice, which has no code.
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

    /// Returns the text for a provider. It may contain a code.
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

    /// Returns whether a character is in the GSM 7-bit default alphabet and in ASCII, and needs one septet (3GPP TS
    /// 23.038 section 6.2.1). Our texts use no other characters of that alphabet.
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

    /// Returns all messages with codes of this number of digits, and their codes.
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
        assert_eq!(texts.len(), all, "two messages have the same text");
    }

    /// The SMS Retriever accepts at most 140 bytes, which is one message. Texts in all languages with an app hash and a
    /// code of six digits fit. Texts in the GSM alphabet also fit with a domain.
    #[test]
    fn texts_with_lines_for_phones_fit_one_sms() {
        let hash = Some("FA+9qCX9VSu".parse().unwrap());
        let domain = Some("login.example.com".parse().unwrap());
        let only_hash = Lines {
            retriever_hash: hash.clone(),
            domain: None,
        };
        for (_, text, _) in with_codes(6, &only_hash) {
            // In characters of the alphabet, and in bytes.
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
