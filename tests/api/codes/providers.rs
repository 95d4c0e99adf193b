//! SMS providers: the exact bytes of each request, and the outcome of each response.

use std::collections::BTreeMap;
use std::io::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use phone_identity::proto::v1::CodePurpose;
use sha2::Sha256;
use tempfile::NamedTempFile;

use super::Challenge;
use super::sending::{left, outcomes};
use crate::support::codes::{CEILING, codes, flag_of_keys};
use crate::support::place::Place;
use crate::support::stub::{Answer, Stub};
use crate::support::{Person, TestServer};

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
pub(crate) const TAKEN: &[Answer] = &[Answer::Status(201, "{}")];
pub(crate) const SECRET: &str = "a secret of thirty-two characters";

/// A file with a secret, and an end of line.
pub(crate) fn secret(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{text}").unwrap();
    file
}

pub(crate) fn twilio(url: &str, from: &str, token: &NamedTempFile) -> Vec<String> {
    vec![
        format!("--twilio-url={url}"),
        format!("--twilio-account-sid={ACCOUNT}"),
        format!("--twilio-from={from}"),
        format!("--twilio-auth-token-file={}", token.path().display()),
    ]
}

pub(crate) fn playmobile(url: &str, password: &NamedTempFile) -> Vec<String> {
    vec![
        format!("--playmobile-url={url}/"),
        "--playmobile-login=shop".to_owned(),
        "--playmobile-originator=3700".to_owned(),
        format!("--playmobile-password-file={}", password.path().display()),
    ]
}

pub(crate) fn webhook(url: &str, secret: &NamedTempFile) -> Vec<String> {
    vec![
        format!("--webhook-url={url}/sms?from=identity"),
        format!("--webhook-secret-file={}", secret.path().display()),
    ]
}

/// A server with these providers, the first one asked first.
pub(crate) async fn start(providers: &str, flags: &[Vec<String>]) -> TestServer {
    let mut all = flags.concat();
    all.push(format!("--sms-providers={providers}"));
    all.extend([flag_of_keys(), "--sms-timeout=3s".to_owned()]);
    all.extend(CEILING.map(str::to_owned));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    TestServer::start_with(&all).await
}

/// Sends a code to a user, and returns it.
pub(crate) async fn send(server: &TestServer, person: &Person) -> Challenge {
    Challenge::of(&mut codes(server).await, CodePurpose::SignIn, person).await
}

/// Returns the id of the only message, as the stub received it.
fn id_in(request: &str, before: &str) -> String {
    let (_, rest) = request.split_once(before).unwrap();
    rest[..36].to_owned()
}

#[tokio::test]
async fn requests_to_twilio_match_its_description() {
    let stub = Stub::start(TAKEN).await;
    let token = secret("the auth token");
    let server = start("twilio", &[twilio(&stub.url(), "+15005550006", &token)]).await;
    let person = server.person().await;
    let challenge = send(&server, &person).await;
    left(&server, 0).await;
    let number = person.phone_number.trim_start_matches('+');
    let body = format!(
        "To=%2B{number}&From=%2B15005550006&Body={}+is+your+code+to+sign+in.+Do+not+tell+it+to+anybody.",
        challenge.code
    );
    // `printf 'AC0123456789abcdef0123456789abcdef:the auth token' | base64 -w0`
    let authorization = "QUMwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjp0aGUgYXV0aCB0b2tlbg==";
    let expected = format!(
        "POST /2010-04-01/Accounts/{ACCOUNT}/Messages.json HTTP/1.1\r\nauthorization: Basic {authorization}\r\n\
         content-type: application/x-www-form-urlencoded\r\nhost: ADDRESS\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(stub.requests(), [expected]);
    assert_eq!(outcomes(&server).await, [("done".to_owned(), None)]);
    assert_is_of_the_description(&body);
}

#[tokio::test]
async fn twilio_takes_a_messaging_service_in_the_place_of_a_number() {
    let stub = Stub::start(TAKEN).await;
    let token = secret("the auth token");
    let service = "MG0123456789abcdef0123456789abcdef";
    let server = start("twilio", &[twilio(&stub.url(), service, &token)]).await;
    let person = server.person().await;
    send(&server, &person).await;
    left(&server, 0).await;
    let requests = stub.requests();
    let (_, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(
        body.contains(&format!("&MessagingServiceSid={service}&Body=")),
        "{body}"
    );
    assert_is_of_the_description(body);
}

/// Twilio's own description of the request, as a JSON schema.
fn assert_is_of_the_description(body: &str) {
    let description = include_str!("../../data/twilio_messages_openapi.json");
    let description: serde_json::Value = serde_json::from_str(description).unwrap();
    let post = &description["paths"]["/2010-04-01/Accounts/{AccountSid}/Messages.json"]["post"];
    let mut schema = post["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"].clone();
    assert_eq!(schema["required"], serde_json::json!(["To"]));
    // The schema rejects fields that it does not describe; references lead into the description.
    schema["additionalProperties"] = false.into();
    schema["components"] = description["components"].clone();
    let form: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let form = serde_json::to_value(form).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    if let Err(error) = validator.validate(&form) {
        panic!("{error}: {form}");
    }
    let mut other = form.clone();
    other["Text"] = "x".into();
    assert!(!validator.is_valid(&other), "everything is valid");
    let account = &post_parameters(&description)["schema"];
    assert!(jsonschema::is_valid(account, &ACCOUNT.into()));
}

fn post_parameters(description: &serde_json::Value) -> &serde_json::Value {
    &description["paths"]["/2010-04-01/Accounts/{AccountSid}/Messages.json"]["post"]["parameters"][0]
}

#[tokio::test]
async fn requests_to_playmobile_are_its_json() {
    let stub = Stub::start(&[Answer::Status(200, "Request is received")]).await;
    let password = secret("pass:word");
    let server = start("playmobile", &[playmobile(&stub.url(), &password)]).await;
    let person = server.person().await;
    let challenge = send(&server, &person).await;
    left(&server, 0).await;
    let requests = stub.requests();
    let id = id_in(&requests[0], "\"message-id\":\"");
    let body = format!(
        "{{\"messages\":[{{\"recipient\":\"{}\",\"message-id\":\"{id}\",\"sms\":{{\"originator\":\"3700\",\
         \"content\":{{\"text\":\"{} is your code to sign in. Do not tell it to anybody.\"}}}}}}]}}",
        person.phone_number.trim_start_matches('+'),
        challenge.code
    );
    // `printf 'shop:pass:word' | base64`
    let expected = format!(
        "POST /broker-api/send HTTP/1.1\r\nauthorization: Basic c2hvcDpwYXNzOndvcmQ=\r\n\
         content-type: application/json\r\nhost: ADDRESS\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(requests, [expected]);
}

#[tokio::test]
async fn a_webhook_is_signed() {
    let stub = Stub::start(&[Answer::Status(204, "")]).await;
    let key = secret(SECRET);
    let server = start("webhook", &[webhook(&stub.url(), &key)]).await;
    let person = server.person().await;
    let challenge = send(&server, &person).await;
    left(&server, 0).await;
    let requests = stub.requests();
    let id = id_in(&requests[0], "\"message_id\":\"");
    let body = format!(
        "{{\"message_id\":\"{id}\",\"to\":\"{}\",\"text\":\"{} is your code to sign in. Do not tell it to anybody.\"}}",
        person.phone_number, challenge.code
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("1767225600.{body}").as_bytes());
    let mac = mac.finalize().into_bytes();
    let signature: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = format!(
        "POST /sms?from=identity HTTP/1.1\r\ncontent-type: application/json\r\n\
         x-phone-identity-timestamp: 1767225600\r\nx-phone-identity-signature: v1={signature}\r\nhost: ADDRESS\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(requests, [expected]);
}

/// Whatever the first one does, the second one gets the same message.
#[tokio::test]
async fn the_second_provider_gets_what_the_first_rejects() {
    for answers in [
        &[Answer::Status(500, "{}")] as &'static [Answer],
        &[Answer::Status(429, "slow down")],
        &[Answer::Status(
            400,
            r#"{"code": 21211, "message": "Invalid 'To' Phone Number"}"#,
        )],
        &[Answer::Status(401, "{}")],
        &[Answer::Status(
            201,
            r#"{"status": "failed", "error_code": 30007}"#,
        )],
        &[Answer::Status(302, "elsewhere")],
        &[Answer::Huge(400, 10 * 1024 * 1024)],
        &[Answer::Huge(500, 10 * 1024 * 1024)],
        &[Answer::Garbage],
        &[Answer::Nothing],
        &[Answer::Silence],
    ] {
        let (first, second) = (Stub::start(answers).await, Stub::start(TAKEN).await);
        let (token, key) = (secret("the auth token"), secret(SECRET));
        let flags = [twilio(&first.url(), "Shop", &token), webhook(&second.url(), &key)];
        let server = start("twilio,webhook", &flags).await;
        let person = server.person().await;
        let challenge = send(&server, &person).await;
        left(&server, 0).await;
        assert_eq!(
            outcomes(&server).await,
            [("done".to_owned(), None)],
            "{answers:?}"
        );
        assert!(!first.requests().is_empty(), "{answers:?}");
        let requests = second.requests();
        assert!(
            requests.len() == 1 && requests[0].contains(&challenge.code),
            "{requests:?}"
        );
    }
}

#[tokio::test]
async fn an_incomplete_provider_is_reported_at_startup() {
    let place = Place::new().await;
    let (token, short) = (secret("token"), secret("too short"));
    let token = format!("--twilio-auth-token-file={}", token.path().display());
    let short = format!("--webhook-secret-file={}", short.path().display());
    let long = secret(SECRET);
    let long = format!("--webhook-secret-file={}", long.path().display());
    let keys = flag_of_keys();
    let by_webhook = |more: &[&'static str]| {
        let flags = [
            "--sms-providers=webhook,log",
            "--webhook-url=http://localhost",
            &long,
            &keys,
        ];
        [flags.as_slice(), more].concat()
    };
    let ceiling = "needs --sms-countries, and --sms-budget with --sms-prices-file or --sms-limit-total";
    for (flags, expected) in [
        (vec!["--sms-providers=pigeon"], "pigeon"),
        (
            vec!["--sms-providers=twilio"],
            "--sms-providers twilio needs --twilio-account-sid",
        ),
        (
            vec![
                "--sms-providers=twilio",
                "--twilio-account-sid=AC1",
                "--twilio-from=Shop",
            ],
            "--sms-providers twilio needs PHONE_IDENTITY_TWILIO_AUTH_TOKEN",
        ),
        (
            vec![
                "--sms-providers=twilio",
                "--twilio-account-sid=AC1",
                "--twilio-from=Shop",
                &token,
            ],
            "--sms-providers needs PHONE_IDENTITY_CODE_KEYS",
        ),
        (by_webhook(&[]), ceiling),
        (by_webhook(&["--sms-countries=UZ"]), ceiling),
        (by_webhook(&["--sms-limit-total=9/d"]), ceiling),
        (
            by_webhook(&["--sms-countries=UZ", "--sms-limit-total=none"]),
            ceiling,
        ),
        (
            vec!["--sms-providers=log", "--code-length=4", "--code-attempts=2"],
            "--code-attempts 2 is too many for --code-length 4: more than one guess in 10000 would succeed; \
             the maximum is 1",
        ),
        (
            vec!["--sms-providers=log", "--code-length=5", "--code-attempts=11"],
            "the maximum is 10",
        ),
        (
            vec![
                "--sms-providers=twilio",
                "--twilio-account-sid=A C",
                "--twilio-from=Shop",
                &token,
            ],
            "--sms-providers twilio: its URL or credentials are invalid",
        ),
        (
            vec!["--sms-providers=playmobile"],
            "--sms-providers playmobile needs --playmobile-url",
        ),
        (
            vec!["--sms-providers=playmobile", "--playmobile-url=sms.example.com"],
            "not a URL such as https://sms.example.com",
        ),
        (
            vec![
                "--sms-providers=log,webhook",
                "--webhook-url=http://localhost",
                &short,
            ],
            "PHONE_IDENTITY_WEBHOOK_SECRET has fewer than 32 characters",
        ),
    ] {
        let mut arguments = vec!["serve", "--listen=127.0.0.1:0"];
        arguments.extend(flags);
        let output = place.run(&arguments, "").await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(
            said.contains(expected) && said.lines().count() == 1,
            "{arguments:?}: {said}"
        );
    }
}
