//! Request ID: the correlation ID of a call, in its log lines, its audit event and its response.
//!
//! The caller can set it (`x-request-id`), and it is the only text of a caller that is logged. So an ID that could
//! contain a secret or a phone number is replaced by a new one.

use uuid::Uuid;

use super::token;

/// Maximum length of a request ID, in characters.
pub const MAX_LENGTH: usize = 64;

/// Minimum number of consecutive digits that count as a phone number.
const NUMBER_DIGITS: usize = 7;

/// Minimum number of digits in groups that count as a phone number. Seven digits in groups are more often a date or a
/// serial number.
const GROUPED_DIGITS: usize = 9;

/// Minimum length of a hexadecimal ID. A number in E.164 form has at most 15 digits.
const MIN_HEX_LENGTH: usize = 16;

/// Length of a ULID (<https://github.com/ulid/spec>).
const ULID_LENGTH: usize = 26;

/// Whether the request ID of a caller can be logged: 1 to [`MAX_LENGTH`] characters of `[A-Za-z0-9._:/+=-]`, without
/// the prefix of a token, and without digits that could be a phone number, unless the whole ID is a UUID, a ULID, or
/// hexadecimal.
#[must_use]
pub fn is_loggable(id: &str) -> bool {
    (1..=MAX_LENGTH).contains(&id.len())
        && id.bytes().all(is_allowed)
        && !token::has_prefix(id)
        && (is_random_id(id) || !may_have_phone_number(id))
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'/' | b'+' | b'=' | b'-')
}

/// Whether the whole ID is a UUID with hyphens, a ULID, or hexadecimal with at least [`MIN_HEX_LENGTH`] digits. A ULID
/// or hexadecimal ID must contain a letter: without one it could be a padded number, and random IDs hardly ever lack
/// letters.
fn is_random_id(id: &str) -> bool {
    let bytes = id.as_bytes();
    let has_letter = bytes.iter().any(u8::is_ascii_alphabetic);
    let is_hex = bytes.len() >= MIN_HEX_LENGTH && bytes.iter().all(u8::is_ascii_hexdigit);
    let is_ulid = bytes.len() == ULID_LENGTH
        && matches!(bytes.first(), Some(b'0'..=b'7'))
        && bytes.iter().all(|byte| {
            // Crockford's base 32, in upper or lower case.
            byte.is_ascii_alphanumeric() && !matches!(byte.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U')
        });
    let is_uuid = id.contains('-') && Uuid::try_parse(id).is_ok();
    is_uuid || has_letter && (is_hex || is_ulid)
}

/// Whether the digits of an ID could be a phone number: consecutive digits, groups of two to four digits separated by
/// `-`, `.` or `/`, or enough digits without any letter.
fn may_have_phone_number(id: &str) -> bool {
    let has_letter = id.bytes().any(|byte| byte.is_ascii_alphabetic());
    let digits = id.bytes().filter(u8::is_ascii_digit).count();
    if !has_letter && digits >= NUMBER_DIGITS {
        return true;
    }
    let is_separator = |c: char| matches!(c, '-' | '.' | '/');
    id.split(|c: char| !c.is_ascii_digit() && !is_separator(c))
        .any(|run| {
            let mut grouped = 0;
            run.split(is_separator).any(|group| {
                grouped = match group.len() {
                    2..=4 => grouped + group.len(),
                    _ => 0,
                };
                group.len() >= NUMBER_DIGITS || grouped >= GROUPED_DIGITS
            })
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::token::PlainToken;

    #[test]
    fn ids_of_usual_forms_are_loggable() {
        for id in [
            "a",
            "17",
            "123456",
            "order-17_b.3",
            "orders/eu:42+retry=1",
            "YWJj+/==",
            "2026-11-30T07:41:03Z",
            "order-2026-000123",
            "pod-10.0.12.7:50051/42",
            "550e8400-e29b-41d4-a716-446655440000",
            "12345678-1234-4234-8234-123456789012",
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
            "0af7651916cd43dd8448eb211c80319c",
            "B7AD6B7169203331",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01arz3ndekts1234567890g5fa",
            &"x".repeat(64),
        ] {
            assert!(is_loggable(id), "{id}");
        }
    }

    #[test]
    fn ids_with_tokens_numbers_or_other_characters_are_not_loggable() {
        for id in [
            "",
            "two words",
            "a\tb",
            "é",
            "a,b",
            "a%20b",
            &"x".repeat(65),
            "x-pid_0000",
            "x-pdv_0000",
            "x-pis_0000",
            "PID_0000",
            "+998901234567",
            "998901234567",
            "1234567",
            "user=1234567",
            "u998901234567",
            "call:+998901234567:2",
            "90-123-45-67",
            "030-901820",
            "tel:+998-90-123-45-67",
            "user/90.123.45.67",
            "u:201-555-0123",
            // Hexadecimal, but a number.
            "998901234567a",
            "0000998901234567",
            "00000000000000000000998901234567",
            // Almost ULIDs: too short, too long, with a letter outside of base 32, and with a first digit that is too
            // high.
            "01ARZ3NDEKTSV1234567Q69G5",
            "01ARZ3NDEKTSV1234567Q69G5FA",
            "01ARZ3NDEKTSV1234567Q69G5U",
            "81ARZ3NDEKTSV1234567Q69G5F",
        ] {
            assert!(!is_loggable(id), "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn loggable_ids_have_allowed_characters_only(id in any::<String>()) {
            if is_loggable(&id) {
                prop_assert!((1..=64).contains(&id.len()));
                prop_assert!(id.chars().all(|c| "._:/+=-".contains(c) || c.is_ascii_alphanumeric()));
            }
        }

        /// IDs of words and short numbers.
        #[test]
        fn short_ids_without_long_numbers_are_loggable(id in "[a-or-z]{1,8}([._:/+=-][a-or-z]{1,5}[0-9]{0,6}){0,4}") {
            prop_assert!(is_loggable(&id));
        }

        #[test]
        fn no_id_with_a_phone_number_is_loggable(
            before in "([g-z][g-z._:/+=-]{0,10})?",
            number in "\\+?[1-9][0-9]{6,14}",
            after in "([._:/+=-][a-z]{0,10})?",
        ) {
            let id = format!("{before}{number}{after}");
            prop_assert!(!is_loggable(&id));
        }

        #[test]
        fn no_id_with_a_number_in_groups_is_loggable(
            before in "([a-z]{1,10}[:=_])?",
            groups in prop::collection::vec("[0-9]{2,4}", 3..6),
            separator in "[-./]",
        ) {
            let digits: usize = groups.iter().map(String::len).sum();
            prop_assume!(digits >= 9);
            let id = format!("{before}+{}", groups.join(&separator));
            prop_assert!(!is_loggable(&id));
        }

        #[test]
        fn no_id_with_a_token_is_loggable(before in "[a-z:=-]{0,5}", after in "[a-z:=-]{0,5}", kind in 0..3) {
            let token = match kind {
                0 => PlainToken::generate(),
                1 => PlainToken::generate_for_device(),
                _ => PlainToken::generate_for_service(),
            };
            let token = token.unwrap();
            let id = format!("{before}{}{after}", token.expose());
            prop_assert!(!is_loggable(&id));
            // A part of the token with its prefix.
            for length in 4..token.expose().len() {
                prop_assert!(!is_loggable(&token.expose()[..length]));
            }
        }

        #[test]
        fn every_uuid_is_loggable(id in any::<u128>()) {
            let id = Uuid::from_u128(id);
            prop_assert!(is_loggable(&id.to_string()));
            prop_assert!(is_loggable(&id.urn().to_string()));
            let simple = id.simple().to_string();
            let has_letter = simple.contains(|c: char| c.is_ascii_alphabetic());
            prop_assert_eq!(is_loggable(&simple), has_letter);
        }

        #[test]
        fn every_ulid_with_a_letter_is_loggable(id in "[0-7][0-9A-HJKMNP-TV-Z]{25}") {
            let has_letter = id.contains(|c: char| c.is_ascii_alphabetic());
            prop_assert_eq!(is_loggable(&id), has_letter);
        }
    }
}
