//! The language of errors, SMS texts and command output.

use std::process::Output;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Request;
use tonic::codegen::http;

use crate::codes::providers::{SECRET, TAKEN, secret, start, webhook};
use crate::codes::sending::left;
use crate::support::binary;
use crate::support::codes::{codes, wanted};
use crate::support::place::Place;
use crate::support::refusal::refusal;
use crate::support::stub::Stub;
use crate::support::{PASSWORD, TestServer, channel, credentials};

fn accepting<T>(accepted: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(accepted) = accepted {
        let metadata = request.metadata_mut();
        metadata.insert("accept-language", accepted.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn an_unavailable_language_falls_back_to_the_default() {
    let server = TestServer::start_with(&["--default-language=ru"]).await;
    let mut client = server.client().await;
    for (accepted, language) in [
        (None, "ru"),
        (Some("fr, de;q=0.5"), "ru"),
        (Some("*"), "ru"),
        (Some("fr, tr;q=0.1"), "tr"),
        (Some("en"), "en"),
    ] {
        let request = accepting(accepted, credentials("+998901234567", PASSWORD));
        let refused = client.authenticate(request).await.unwrap_err();
        assert_eq!(refusal(&refused).localized.0, language, "{accepted:?}");
        let request = accepting(accepted, crate::support::validation("nonsense"));
        let refused = client.validate_session(request).await.unwrap_err();
        assert_eq!(refusal(&refused).localized.0, language, "{accepted:?}");
        // Errors outside of handlers.
        let mut other = tonic::client::Grpc::new(channel(server.address).await);
        other.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/phone_identity.v1.PhoneIdentity/Fly");
        let codec = tonic_prost::ProstCodec::<v1::ListSessionsRequest, v1::ListSessionsResponse>::default();
        let request = accepting(accepted, v1::ListSessionsRequest {});
        let refused = other.unary(request, path, codec).await.unwrap_err();
        assert_eq!(refusal(&refused).localized.0, language, "{accepted:?}");
    }
}

/// The order is: the choice of the user, the language of the call, the setting.
#[tokio::test]
async fn messages_are_in_the_language_of_the_person_or_of_the_call_or_in_the_default_one() {
    let stub = Stub::start(TAKEN).await;
    let key = secret(SECRET);
    let mut flags = webhook(&stub.url(), &key);
    flags.push("--default-language=uz".to_owned());
    let server = start("webhook", &[flags]).await;
    let mut client = codes(&server).await;
    for (locale, accepted, text) in [
        (Some("tr-TR"), Some("ru"), "oturum açma kodunuz"),
        // There are no texts in it.
        (Some("fr"), Some("ru"), "код для входа"),
        (None, Some("ru"), "код для входа"),
        (None, Some("fr"), "kirish uchun kod"),
        (Some("fr"), None, "kirish uchun kod"),
        (None, None, "kirish uchun kod"),
    ] {
        let person = server.person().await;
        if let Some(locale) = locale {
            let update = v1::UpdateProfileRequest {
                locale: Some(locale.to_owned()),
                ..v1::UpdateProfileRequest::default()
            };
            server
                .client()
                .await
                .update_profile(person.asks(update))
                .await
                .unwrap();
        }
        let request = accepting(accepted, wanted(CodePurpose::SignIn, &person.phone_number));
        client.send_code(request).await.unwrap();
        left(&server, 0).await;
        let last = stub.requests().pop().unwrap();
        assert!(last.contains(text), "{locale:?} {accepted:?}: {last}");
    }
}

/// Like messages, responses to an authenticated user are in the language of that user.
#[tokio::test]
async fn errors_are_in_the_language_of_the_person_or_of_the_call() {
    let server = TestServer::start_with(&["--default-language=uz"]).await;
    let (person, root) = (server.person().await, server.superuser().await);
    for (locale, accepted, language) in [
        ("tr-TR", Some("ru"), "tr"),
        // There are no texts in it.
        ("fr", Some("ru"), "ru"),
        ("fr", None, "uz"),
    ] {
        for person in [&person, &root] {
            let sql = format!("UPDATE users SET locale = '{locale}' WHERE id = ?");
            server.database.execute(&sql, person).await;
        }
        let asking = |token: &str| {
            let mut request = accepting(accepted, ());
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
            request
        };
        // After authentication.
        let wrong = v1::DeleteProfileRequest {
            current_password: Some("not the password".to_owned()),
        };
        let mut client = server.client().await;
        let refused = client.delete_profile(asking(&person.token).map(|()| wrong)).await;
        let localized = refusal(&refused.unwrap_err()).localized.0;
        assert_eq!(localized, language, "{locale} {accepted:?}");
        let unknown = v1::GetUserRequest {
            user_id: "0199b4d0-0000-7000-8000-000000000000".to_owned(),
            ..v1::GetUserRequest::default()
        };
        let mut admin = server.admin().await;
        let refused = admin.get_user(asking(&root.token).map(|()| unknown)).await;
        let localized = refusal(&refused.unwrap_err()).localized.0;
        assert_eq!(localized, language, "{locale} {accepted:?}");
        // The user is unknown.
        let unknown = client
            .list_sessions(asking("nonsense").map(|()| v1::ListSessionsRequest {}))
            .await;
        let localized = refusal(&unknown.unwrap_err()).localized.0;
        assert_eq!(localized, accepted.unwrap_or("uz"));
    }
}

#[tokio::test]
async fn messages_name_the_origin_of_the_code() {
    let stub = Stub::start(TAKEN).await;
    let key = secret(SECRET);
    let mut flags = webhook(&stub.url(), &key);
    flags.push("--sms-retriever-hash=FA+9qCX9VSu".to_owned());
    flags.push("--sms-webotp-domain=example.com".to_owned());
    let server = start("webhook", &[flags]).await;
    let person = server.person().await;
    let challenge =
        crate::codes::Challenge::of(&mut codes(&server).await, CodePurpose::SignIn, &person).await;
    left(&server, 0).await;
    let code = challenge.code();
    let expected = format!(
        "\"text\":\"{code} is your code to sign in. Do not tell it to anybody.\\nFA+9qCX9VSu\\n@example.com #{code}\"}}"
    );
    let requests = stub.requests();
    assert!(requests[0].ends_with(&expected), "{requests:?}");
}

/// Runs a command in an environment with these variables.
async fn run(place: &Place, environment: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
    let mut command = place.command();
    command.args(arguments).envs(environment.iter().copied());
    binary::run(command, input).await
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

const NUMBER: &str = "+998931112233";

#[tokio::test]
async fn commands_speak_the_language_of_the_environment() {
    for (locale, migrated, bad_number, short_password, made, taken, heading, status) in [
        (
            "en_US.UTF-8",
            "the database is up to date\n",
            "error: the phone number is not a phone number\n",
            "error: the password is shorter than 8 characters\n",
            "superuser ",
            "error: this phone number is taken\n",
            "LAST LOGIN",
            "active",
        ),
        (
            "uz_UZ.UTF-8",
            "maʼlumotlar bazasi yangilangan\n",
            "xato: Bu telefon raqami emas.\n",
            "xato: Parol kamida 8 ta belgidan iborat boʻlishi kerak.\n",
            "superfoydalanuvchi ",
            "xato: bu telefon raqami band\n",
            "OXIRGI KIRISH",
            "faol",
        ),
        (
            "ru_RU.UTF-8",
            "база данных обновлена\n",
            "ошибка: Это не номер телефона.\n",
            "ошибка: Минимальная длина пароля (символов): 8.\n",
            "суперпользователь ",
            "ошибка: этот номер телефона занят\n",
            "ПОСЛЕДНИЙ ВХОД",
            "активен",
        ),
        (
            "tr_TR.UTF-8",
            "veritabanı güncel\n",
            "hata: Bu bir telefon numarası değil.\n",
            "hata: Parola en az 8 karakter olmalıdır.\n",
            "süper kullanıcı ",
            "hata: bu telefon numarası kullanılıyor\n",
            "SON GİRİŞ",
            "etkin",
        ),
    ] {
        let place = Place::new().await;
        let environment = [("LANG", locale)];
        let run = async |arguments: &[&str], input| {
            let output = run(&place, &environment, arguments, input).await;
            (output.status.code(), text(output.stdout), text(output.stderr))
        };
        assert_eq!(run(&["migrate"], "").await.1, migrated);
        let create = ["createsuperuser", "--password-stdin", "--phone-number"];
        let refused = run(&[&create[..], &["()"]].concat(), PASSWORD).await;
        assert_eq!((refused.0, refused.2.as_str()), (Some(2), bad_number));
        let create = [&create[..], &[NUMBER]].concat();
        let refused = run(&create, "short").await;
        assert_eq!((refused.0, refused.2.as_str()), (Some(2), short_password));
        let created = run(&create, PASSWORD).await.1;
        assert!(created.starts_with(made) && created.contains(NUMBER), "{created}");
        let refused = run(&create, PASSWORD).await;
        assert_eq!((refused.0, refused.2.as_str()), (Some(1), taken));
        let listed = run(&["users", "list"], "").await.1;
        let lines: Vec<&str> = listed.lines().collect();
        assert!(
            lines[0].ends_with(heading) && lines[1].contains(&format!("  {status}  ")),
            "{listed}"
        );
        // Columns are under their names, whatever the script.
        let column = |line: &str, text: &str| line[..line.find(text).unwrap()].chars().count();
        let number = column(lines[1], NUMBER);
        assert_eq!(
            lines[0]
                .chars()
                .take(number)
                .filter(|c| *c != ' ')
                .collect::<String>(),
            "ID"
        );
        // Machine-readable output has no language.
        let json = run(&["users", "list", "--json"], "").await.1;
        assert!(json.contains("\"status\":\"active\""), "{json}");
        let refused = run(&["--staleness-bound=1ms", "serve"], "").await;
        assert!(
            refused.2.contains("--change-log-interval is not less than"),
            "{}",
            refused.2
        );
    }
}

#[tokio::test]
async fn the_first_variable_that_is_set_says_the_language_and_else_the_setting() {
    let place = Place::new().await;
    for (environment, default, expected) in [
        (&[][..], "en", "the database is up to date"),
        (&[], "tr", "veritabanı güncel"),
        (&[("LANG", "ru_RU.UTF-8")], "tr", "база данных обновлена"),
        (&[("LANG", "de_DE.UTF-8")], "tr", "veritabanı güncel"),
        (
            &[("LANG", "ru_RU.UTF-8"), ("LC_MESSAGES", "uz_UZ.UTF-8")],
            "tr",
            "maʼlumotlar bazasi yangilangan",
        ),
        (
            &[("LANG", "ru_RU.UTF-8"), ("LC_MESSAGES", "uz"), ("LC_ALL", "C")],
            "tr",
            "the database is up to date",
        ),
        (&[("LANG", "ru"), ("LC_ALL", "")], "tr", "база данных обновлена"),
    ] {
        let default = format!("--default-language={default}");
        let output = run(&place, environment, &[&default, "migrate"], "").await;
        assert_eq!(text(output.stdout).trim_end(), expected, "{environment:?}");
    }
    let output = run(&place, &[], &["--default-language=de", "migrate"], "").await;
    assert_eq!(output.status.code(), Some(2));
    let said = text(output.stderr);
    assert!(said.contains("not one of en, uz, ru, tr"), "{said}");
}

#[tokio::test]
async fn invalid_lines_for_phones_are_reported() {
    let place = Place::new().await;
    for (flag, expected) in [
        (
            "--sms-retriever-hash=short",
            "not an app hash of the Android SMS Retriever",
        ),
        (
            "--sms-webotp-domain=https://example.com",
            "not a domain such as example.com",
        ),
    ] {
        let output = run(
            &place,
            &[],
            &["serve", "--listen=127.0.0.1:0", "--sms-providers=log", flag],
            "",
        )
        .await;
        assert_eq!(output.status.code(), Some(2));
        let said = text(output.stderr);
        assert!(said.contains(expected), "{said}");
    }
}
