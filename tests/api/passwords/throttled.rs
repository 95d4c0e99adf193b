//! The class test: whatever a throttled address sends, no password of it is checked and none is hashed.

use std::collections::BTreeSet;

use phone_identity::proto::v1;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::work;
use crate::rpcs::request_fields;
use crate::support::codes::{codes, offered, start_with_codes};
use crate::support::refusal::refusal;
use crate::support::{
    OTHER_PASSWORD, PASSWORD, TestServer, credentials, next_phone_number, registration, with_bearer,
};

const ADDRESS: &str = "203.0.113.9";

/// Fields of requests by which a caller shows or sets a secret that a user knows.
const SECRETS: [&str; 4] = ["password", "new_password", "current_password", "code"];

/// Passwords that a stranger may send.
fn passwords() -> Vec<String> {
    let long = ["x", "passw0rd", "qwerty1!"].map(|unit| unit.repeat(16));
    let given = [
        "",
        "short",
        "password",
        "Passw0rd!",
        "пароль123",
        "zqvk\nxwjyz",
        "998901234567",
    ]
    .map(str::to_owned);
    given.into_iter().chain(long).chain(["y".repeat(8192)]).collect()
}

fn at(ip_address: &str) -> Option<v1::ClientInfo> {
    Some(v1::ClientInfo {
        ip_address: ip_address.to_owned(),
        ..v1::ClientInfo::default()
    })
}

/// A change that makes a request invalid.
type Change<T> = Box<dyn Fn(&mut T)>;

/// The request as it should be, and with one field after the other that is not.
fn variants<T: Clone>(right: &T, changes: Vec<Change<T>>) -> Vec<T> {
    let changed = changes.into_iter().map(|change| {
        let mut request = right.clone();
        change(&mut request);
        request
    });
    [right.clone()].into_iter().chain(changed).collect()
}

/// A change for each password that a field may have.
fn with_passwords<T>(set: impl Fn(&mut T, String) + Clone + 'static) -> Vec<Change<T>> {
    let changes = passwords().into_iter().map(|password| {
        let set = set.clone();
        Box::new(move |request: &mut T| set(request, password.clone())) as Change<T>
    });
    changes.collect()
}

/// A server, and an account that signed in from an address which is throttled.
struct Scene {
    server: TestServer,
    token: String,
    user_id: String,
    number: String,
    called: BTreeSet<String>,
}

impl Scene {
    async fn new(flags: &[&str]) -> Self {
        let flags = [
            flags,
            &["--throttle-address-attempts=1", "--unverified-phone-change"],
        ]
        .concat();
        let server = start_with_codes(&flags).await;
        let number = next_phone_number();
        let mut client = server.client().await;
        let registration = v1::RegisterRequest {
            client: at(ADDRESS),
            ..registration(&number, PASSWORD)
        };
        let registered = client.register(registration).await.unwrap().into_inner();
        server
            .database
            .execute_with(
                "UPDATE users SET is_staff = TRUE, is_superuser = TRUE WHERE phone_number = ?",
                vec![number.as_str().into()],
            )
            .await;
        // A number without an account, so that the account keeps all its attempts.
        let wrong = v1::AuthenticateRequest {
            client: at(ADDRESS),
            ..credentials(&next_phone_number(), OTHER_PASSWORD)
        };
        client.authenticate(wrong).await.unwrap_err();
        Self {
            server,
            token: registered.session_token,
            user_id: registered.user.unwrap().user_id,
            number,
            called: BTreeSet::new(),
        }
    }

    fn asks<T>(&self, message: T) -> Request<T> {
        with_bearer(&self.token, message)
    }

    /// Makes a call with each variant. The first is right but for the address, and all others have a field that is not.
    async fn refuses<T>(
        &mut self,
        rpc: &'static str,
        variants: Vec<T>,
        mut call: impl AsyncFnMut(&Self, T) -> Result<(), Status>,
    ) {
        self.called.insert(rpc.to_owned());
        let before = work(&self.server);
        for (place, request) in variants.into_iter().enumerate() {
            let refused = refusal(&call(self, request).await.expect_err(rpc));
            let is_throttled =
                (refused.code, refused.reason.as_str()) == (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS");
            let is_invalid = place > 0 && refused.code == Code::InvalidArgument;
            assert!(is_throttled || is_invalid, "{rpc}, variant {place}: {refused:?}");
            assert_eq!(work(&self.server), before, "{rpc}, variant {place}");
        }
    }
}

#[tokio::test]
async fn nothing_costly_is_done_for_a_throttled_address() {
    let mut scene = Scene::new(&[]).await;
    register(&mut scene).await;
    authenticate(&mut scene).await;
    update_profile(&mut scene).await;
    leave(&mut scene).await;
    create_superuser(&mut scene).await;
    administer(&mut scene).await;
    verify_code(&mut scene).await;
    assert_eq!(scene.called, rpcs_with_secrets());
}

/// If a code is needed first, Register may check the password before it sends the code.
#[tokio::test]
async fn no_password_is_checked_before_a_code_is_allowed() {
    let server = start_with_codes(&["--registration=verified", "--throttle-code-attempts=1"]).await;
    let number = next_phone_number();
    let mut client = server.client().await;
    client.register(registration(&number, "")).await.unwrap_err();
    let before = work(&server);
    for password in passwords() {
        let refused = refusal(
            &client
                .register(registration(&number, &password))
                .await
                .unwrap_err(),
        );
        assert!(
            matches!(refused.reason.as_str(), "TOO_MANY_ATTEMPTS" | "INVALID_INPUT"),
            "{refused:?}"
        );
        assert_ne!(
            refused.violations,
            [("password".to_owned(), "PASSWORD_TOO_COMMON".to_owned())]
        );
    }
    assert_eq!(work(&server), before);
}

/// Returns the methods of the contract that take a secret.
fn rpcs_with_secrets() -> BTreeSet<String> {
    let mut fields = request_fields();
    fields.retain(|field| SECRETS.contains(&field.path.as_str()));
    fields.iter().map(|field| field.method().to_owned()).collect()
}

async fn register(scene: &mut Scene) {
    let mut changes =
        with_passwords(|request: &mut v1::RegisterRequest, password| request.password = password);
    changes.extend([
        Box::new(|request: &mut v1::RegisterRequest| request.phone_number = "1".to_owned()) as Change<_>,
        Box::new(|request: &mut v1::RegisterRequest| request.default_region = "XX".to_owned()),
        Box::new(|request: &mut v1::RegisterRequest| request.client = at("here")),
    ]);
    let right = v1::RegisterRequest {
        client: at(ADDRESS),
        ..registration(&next_phone_number(), PASSWORD)
    };
    let mut client = scene.server.client().await;
    scene
        .refuses("Register", variants(&right, changes), async |_, request| {
            client.register(request).await.map(drop)
        })
        .await;
}

async fn authenticate(scene: &mut Scene) {
    let mut changes =
        with_passwords(|request: &mut v1::AuthenticateRequest, password| request.password = password);
    changes.extend([
        Box::new(|request: &mut v1::AuthenticateRequest| request.phone_number = "1".to_owned()) as Change<_>,
        Box::new(|request: &mut v1::AuthenticateRequest| request.default_region = "XX".to_owned()),
        Box::new(|request: &mut v1::AuthenticateRequest| request.client = at("here")),
        Box::new(|request: &mut v1::AuthenticateRequest| request.device_token = "pdv_made_up".to_owned()),
    ]);
    let right = v1::AuthenticateRequest {
        client: at(ADDRESS),
        ..credentials(&scene.number, PASSWORD)
    };
    let mut client = scene.server.client().await;
    scene
        .refuses("Authenticate", variants(&right, changes), async |_, request| {
            client.authenticate(request).await.map(drop)
        })
        .await;
}

async fn update_profile(scene: &mut Scene) {
    // With the current password, and without it shortly after signing in.
    for current_password in [Some(PASSWORD.to_owned()), None] {
        let mut changes = with_passwords(|request: &mut v1::UpdateProfileRequest, password| {
            request.new_password = Some(password);
        });
        if current_password.is_some() {
            changes.extend(with_passwords(
                |request: &mut v1::UpdateProfileRequest, password| {
                    request.current_password = Some(password);
                },
            ));
        }
        changes.extend([
            Box::new(|request: &mut v1::UpdateProfileRequest| request.new_phone_number = Some("1".to_owned()))
                as Change<_>,
            Box::new(|request: &mut v1::UpdateProfileRequest| {
                request.new_phone_number = Some(next_phone_number());
            }),
            Box::new(|request: &mut v1::UpdateProfileRequest| request.default_region = "XX".to_owned()),
            Box::new(|request: &mut v1::UpdateProfileRequest| request.locale = Some("?".to_owned())),
        ]);
        let right = v1::UpdateProfileRequest {
            current_password,
            new_password: Some(OTHER_PASSWORD.to_owned()),
            ..v1::UpdateProfileRequest::default()
        };
        let mut client = scene.server.client().await;
        scene
            .refuses(
                "UpdateProfile",
                variants(&right, changes),
                async |scene, request| client.update_profile(scene.asks(request)).await.map(drop),
            )
            .await;
    }
}

async fn leave(scene: &mut Scene) {
    let mut client = scene.server.client().await;
    let changes = with_passwords(|request: &mut v1::DeactivateProfileRequest, password| {
        request.current_password = Some(password);
    });
    let right = v1::DeactivateProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
    };
    scene
        .refuses(
            "DeactivateProfile",
            variants(&right, changes),
            async |scene, request| client.deactivate_profile(scene.asks(request)).await.map(drop),
        )
        .await;
    let changes = with_passwords(|request: &mut v1::DeleteProfileRequest, password| {
        request.current_password = Some(password);
    });
    let right = v1::DeleteProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
    };
    scene
        .refuses(
            "DeleteProfile",
            variants(&right, changes),
            async |scene, request| client.delete_profile(scene.asks(request)).await.map(drop),
        )
        .await;
}

async fn create_superuser(scene: &mut Scene) {
    let mut changes =
        with_passwords(|request: &mut v1::CreateSuperuserRequest, password| request.password = password);
    changes.extend([
        Box::new(|request: &mut v1::CreateSuperuserRequest| request.phone_number = "1".to_owned())
            as Change<_>,
        Box::new(|request: &mut v1::CreateSuperuserRequest| request.default_region = "XX".to_owned()),
    ]);
    let right = v1::CreateSuperuserRequest {
        phone_number: next_phone_number(),
        default_region: String::new(),
        password: PASSWORD.to_owned(),
    };
    let mut client = scene.server.client().await;
    scene
        .refuses(
            "CreateSuperuser",
            variants(&right, changes),
            async |scene, request| client.create_superuser(scene.asks(request)).await.map(drop),
        )
        .await;
}

async fn administer(scene: &mut Scene) {
    let mut client = scene.server.admin().await;
    let mut changes =
        with_passwords(|request: &mut v1::CreateUserRequest, password| request.password = Some(password));
    changes.extend([
        Box::new(|request: &mut v1::CreateUserRequest| request.phone_number = "1".to_owned()) as Change<_>,
        Box::new(|request: &mut v1::CreateUserRequest| request.default_region = "XX".to_owned()),
    ]);
    let right = v1::CreateUserRequest {
        phone_number: next_phone_number(),
        password: Some(PASSWORD.to_owned()),
        ..v1::CreateUserRequest::default()
    };
    scene
        .refuses("CreateUser", variants(&right, changes), async |scene, request| {
            client.create_user(scene.asks(request)).await.map(drop)
        })
        .await;
    let mut changes =
        with_passwords(|request: &mut v1::SetPasswordRequest, password| request.new_password = password);
    changes.push(Box::new(|request: &mut v1::SetPasswordRequest| {
        request.user_id = "1".to_owned();
    }));
    let right = v1::SetPasswordRequest {
        user_id: scene.user_id.clone(),
        new_password: OTHER_PASSWORD.to_owned(),
    };
    scene
        .refuses(
            "SetPassword",
            variants(&right, changes),
            async |scene, request| client.set_password(scene.asks(request)).await.map(drop),
        )
        .await;
}

async fn verify_code(scene: &mut Scene) {
    use v1::CodePurpose::{ChangePhone, Register, ResetPassword, SignIn, VerifyPhone};
    let mut client = codes(&scene.server).await;
    for purpose in [ResetPassword, Register, SignIn, ChangePhone, VerifyPhone] {
        let mut right = offered(&Uuid::new_v4().to_string(), purpose, "123456");
        right.client = at(ADDRESS);
        let mut changes: Vec<Change<v1::VerifyCodeRequest>> = vec![
            Box::new(|request| request.challenge_id = String::new()),
            Box::new(|request| request.challenge_id = "made up".to_owned()),
            Box::new(|request| request.code = String::new()),
            Box::new(|request| request.code = "a".repeat(1000)),
            Box::new(|request| request.purpose = 0),
            Box::new(|request| request.purpose = 99),
            Box::new(|request| request.client = at("here")),
        ];
        if matches!(purpose, ResetPassword | Register) {
            right.new_password = PASSWORD.to_owned();
            changes.extend(with_passwords(|request: &mut v1::VerifyCodeRequest, password| {
                request.new_password = password;
            }));
        }
        if purpose == ChangePhone {
            right.current_password = Some(PASSWORD.to_owned());
            changes.extend(with_passwords(|request: &mut v1::VerifyCodeRequest, password| {
                request.current_password = Some(password);
            }));
        }
        scene
            .refuses("VerifyCode", variants(&right, changes), async |scene, request| {
                client.verify_code(scene.asks(request)).await.map(drop)
            })
            .await;
    }
}
