//! Metadata of requests and responses: bearer tokens, languages and request ids.

use phone_identity::proto::v1;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request};

use crate::support::refusal::{assert_refused, refusal};
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, UNTHROTTLED, credentials, validation};

#[tokio::test]
async fn metadata_that_is_not_a_bearer_is_no_session() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let token = &person.token;
    for value in [
        token.clone(),
        format!("Basic {token}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", "x".repeat(10 * 1024)),
        format!("Bearer{token}"),
    ] {
        let mut request = Request::new(v1::ListSessionsRequest {});
        request
            .metadata_mut()
            .insert("authorization", value.parse().unwrap());
        assert_refused(
            client.list_sessions(request).await,
            Code::Unauthenticated,
            "SESSION_INVALID",
        );
    }
    // Bytes that are neither ASCII nor UTF-8, in every value that is read.
    let mut headers = http::HeaderMap::new();
    for name in ["authorization", "accept-language", "x-request-id"] {
        headers.insert(name, http::HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap());
    }
    let metadata = MetadataMap::from_headers(headers);
    let request = Request::from_parts(metadata, tonic::Extensions::default(), v1::ListSessionsRequest {});
    assert_refused(
        client.list_sessions(request).await,
        Code::Unauthenticated,
        "SESSION_INVALID",
    );
    // The scheme is read in any case.
    let mut request = Request::new(v1::ListSessionsRequest {});
    request
        .metadata_mut()
        .insert("authorization", format!("bEARER {token}").parse().unwrap());
    client.list_sessions(request).await.unwrap();
}

#[tokio::test]
async fn errors_are_in_the_language_of_the_caller() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (accepted, language, text) in [
        (None, "en", "The phone number or the password is wrong."),
        (Some("uz"), "uz", "Telefon raqami yoki parol notoʻgʻri."),
        (
            Some("ru-RU, en;q=0.5"),
            "ru",
            "Неверный номер телефона или пароль.",
        ),
        (Some("fr, tr;q=0.3"), "tr", "Telefon numarası veya parola yanlış."),
        (Some("fr"), "en", "The phone number or the password is wrong."),
    ] {
        let mut request = Request::new(credentials("+998901234567", PASSWORD));
        if let Some(accepted) = accepted {
            request
                .metadata_mut()
                .insert("accept-language", accepted.parse().unwrap());
        }
        let refusal = refusal(&client.authenticate(request).await.unwrap_err());
        assert_eq!(refusal.localized, (language.to_owned(), text.to_owned()));
    }
}

#[tokio::test]
async fn responses_have_a_request_id_and_keep_that_of_the_caller() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let id_of = |metadata: &MetadataMap| Some(metadata.get("x-request-id")?.to_str().unwrap().to_owned());
    let named = |token: &str| {
        let mut request = Request::new(validation(token));
        let id = "order-17".parse().unwrap();
        request.metadata_mut().insert("x-request-id", id);
        request
    };
    let listed = client
        .list_sessions(person.asks(v1::ListSessionsRequest {}))
        .await;
    let made = id_of(listed.unwrap().metadata()).unwrap();
    assert!(uuid::Uuid::parse_str(&made).is_ok(), "{made}");
    // A check that goes well has no line in the log that an id could lead to.
    let good = client.validate_session(validation(&person.token)).await.unwrap();
    assert_eq!(id_of(good.metadata()), None);
    let good = client.validate_session(named(&person.token)).await.unwrap();
    assert_eq!(id_of(good.metadata()).unwrap(), "order-17");
    let bad = client.validate_session(named("bad")).await.unwrap_err();
    assert_eq!(id_of(bad.metadata()).unwrap(), "order-17");
    let bad = client.validate_session(validation("bad")).await.unwrap_err();
    assert!(uuid::Uuid::parse_str(&id_of(bad.metadata()).unwrap()).is_ok());
}

/// An id of the caller is logged and stored, unless it may have a secret or a phone number in it.
#[tokio::test]
async fn a_request_id_that_may_have_a_secret_in_it_is_replaced() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let mut client = server.client().await;
    let device = "pdv_00000000000000000000017n42DGM5Tflk9n8mt7Fhc742FZm0";
    for (given, is_kept) in [
        ("orders/eu:42+retry=1", true),
        ("550e8400-e29b-41d4-a716-446655440000", true),
        ("0af7651916cd43dd8448eb211c80319c", true),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", true),
        (person.token.as_str(), false),
        (device, false),
        (&device.to_uppercase(), false),
        ("x:pis_1", false),
        (person.phone_number.as_str(), false),
        (&format!("user={}", &person.phone_number[1..]), false),
        ("tel:+998-90-123-45-67", false),
        ("two words", false),
        (&"x".repeat(65), false),
    ] {
        let mut request = Request::new(credentials(&person.phone_number, OTHER_PASSWORD));
        request
            .metadata_mut()
            .insert("x-request-id", given.parse().unwrap());
        let refused = client.authenticate(request).await.unwrap_err();
        let answered = refused.metadata().get("x-request-id").unwrap().to_str().unwrap();
        assert_eq!(answered == given, is_kept, "{given}: {answered}");
        assert!(is_kept || uuid::Uuid::parse_str(answered).is_ok(), "{answered}");
        let stored = format!("audit_events WHERE request_id = '{answered}'");
        assert_eq!(server.database.count(&stored).await, 1);
        let stored = format!("audit_events WHERE request_id = '{given}'");
        assert_eq!(
            server.database.count(&stored).await,
            i64::from(is_kept),
            "{given}"
        );
    }
}
