//! One-time codes, as another implementation makes them: of what a test knows, and of keys that it gave the server.

use std::io::Write as _;
use std::sync::LazyLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use phone_identity::proto::v1;
use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use sha2::Sha256;
use tempfile::NamedTempFile;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{TestServer, channel};

pub(crate) type CodesClient = PhoneVerificationClient<Channel>;

/// The file with the keys of codes: the bytes 0 to 15.
static KEYS: LazyLock<NamedTempFile> = LazyLock::new(|| {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"k1:AAECAwQFBgcICQoLDA0ODw==\n").unwrap();
    file
});

/// A server that sends codes, and has these flags, too.
pub(crate) async fn start_with_codes(flags: &[&str]) -> TestServer {
    let flags = flags_of_codes(flags);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    TestServer::start_with(&flags).await
}

/// The flags of a server that sends codes into its log, and these.
pub(crate) fn flags_of_codes(flags: &[&str]) -> Vec<String> {
    let ours = ["--sms-providers=log".to_owned(), flag_of_keys()];
    ours.into_iter()
        .chain(flags.iter().map(|flag| (*flag).to_owned()))
        .collect()
}

/// Settings that all providers but `log` need: countries, and a limit for all messages.
pub(crate) const CEILING: [&str; 2] = ["--sms-countries=UZ,KZ,RU,TR,US,DE", "--sms-limit-total=1000000/d"];

/// The keys of codes.
pub(crate) fn flag_of_keys() -> String {
    format!("--code-keys-file={}", KEYS.path().display())
}

pub(crate) async fn codes(server: &TestServer) -> CodesClient {
    PhoneVerificationClient::new(channel(server.address).await)
}

/// Asks for a code.
pub(crate) fn wanted(purpose: v1::CodePurpose, phone_number: &str) -> v1::SendCodeRequest {
    v1::SendCodeRequest {
        purpose: purpose.into(),
        phone_number: phone_number.to_owned(),
        ..v1::SendCodeRequest::default()
    }
}

/// Offers a code.
pub(crate) fn offered(challenge_id: &str, purpose: v1::CodePurpose, code: &str) -> v1::VerifyCodeRequest {
    v1::VerifyCodeRequest {
        challenge_id: challenge_id.to_owned(),
        purpose: purpose.into(),
        code: code.to_owned(),
        ..v1::VerifyCodeRequest::default()
    }
}

/// Returns the six-digit code of a challenge of the user with this id. `None`: the number has no account.
pub(crate) fn code_of(
    challenge_id: &str,
    purpose: v1::CodePurpose,
    phone_number: &str,
    user_id: Option<&str>,
) -> String {
    let key: Vec<u8> = (0..16).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let purpose = match purpose {
        v1::CodePurpose::VerifyPhone => "verify_phone",
        v1::CodePurpose::SignIn => "sign_in",
        v1::CodePurpose::ResetPassword => "reset_password",
        v1::CodePurpose::ChangePhone => "change_phone",
        v1::CodePurpose::Register => "register",
        v1::CodePurpose::Unspecified => unreachable!("there is no such code"),
    };
    mac.update(b"phone-identity one-time code\0");
    mac.update(Uuid::parse_str(challenge_id).unwrap().as_bytes());
    mac.update(format!("{purpose}\0{phone_number}\0").as_bytes());
    match user_id {
        Some(user_id) => {
            mac.update(b"person\0");
            mac.update(Uuid::parse_str(user_id).unwrap().as_bytes());
        }
        None => mac.update(b"nobody\0"),
    }
    mac.update(&[0]);
    let bytes = mac.finalize().into_bytes();
    let number = u64::from_be_bytes(bytes[..8].try_into().unwrap());
    format!("{:06}", number % 1_000_000)
}

/// Another code of six digits.
pub(crate) fn another(code: &str) -> String {
    let number: u32 = code.parse().unwrap();
    format!("{:06}", (number + 1) % 1_000_000)
}
