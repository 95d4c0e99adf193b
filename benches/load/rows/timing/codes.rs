//! The same of codes: asking for one, trying a wrong one, to sign in and to reset a password, and registering where
//! numbers are verified first.

use std::sync::Arc;

use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use phone_identity::proto::v1::{CodePurpose, RegisterRequest, SendCodeRequest, VerifyCodeRequest};
use tonic::Code;
use tonic::transport::Channel;

use super::{CALLERS, Caller, NUMBERS, add_all, measure, number_of};
use crate::server::{Server, Setup};
use crate::{Bench, report, seed};

/// The kinds of numbers.
const KINDS: [&str; 4] = ["unknown", "registered", "deactivated", "landline"];

/// No code is sent, every call is counted, and none is delayed. Challenges allow more guesses than these calls make.
const FLAGS: [&str; 10] = [
    "--sms-providers=log",
    "--registration=verified",
    "--code-attempts=100",
    "--throttle-code-attempts=1000000",
    "--throttle-code-recovery=1s",
    "--throttle-code-guess-attempts=1000000",
    "--throttle-code-guess-recovery=1s",
    "--sms-limit-number=1000000/d",
    "--sms-limit-prefix=1000000/d",
    "--sms-pumping-codes=1000000",
];

fn phone_number(kind: usize, round: usize) -> String {
    let number = round % NUMBERS;
    match kind {
        3 => format!("+998712{}", 100_000 + number),
        kind => number_of(kind, number, NUMBERS),
    }
}

pub(super) fn timing(bench: &mut Bench, calls: usize) -> Result<(), String> {
    report::say(&format!("timing: {calls} codes of each kind, in turns"));
    let cores = bench.cores.both();
    let database = seed::scratch(bench);
    seed::make_kinds(bench, &database, NUMBERS);
    let server = Server::start(
        bench,
        &Setup {
            flags: &FLAGS,
            ..Setup::new(&database, &cores)
        },
    );
    let times = measure(bench, CALLERS, calls, KINDS.len(), async || Registering {
        client: server.client().await,
    })?;
    add_all(bench, " (Register)", KINDS, &times);
    for (purpose, name) in [
        (CodePurpose::SignIn, "sign in"),
        (CodePurpose::ResetPassword, "reset"),
    ] {
        let times = measure(bench, CALLERS, calls, KINDS.len(), async || Asking {
            client: server.codes().await,
            purpose,
        })?;
        add_all(bench, &format!(" (SendCode, {name})"), KINDS, &times);
        let challenges = Arc::new(challenges(bench, &server, purpose)?);
        let times = measure(bench, CALLERS, calls, KINDS.len(), async || Guesses {
            client: server.codes().await,
            challenges: challenges.clone(),
            purpose,
        })?;
        add_all(bench, &format!(" (VerifyCode, {name})"), KINDS, &times);
    }
    Ok(())
}

/// A challenge of each number of each kind.
fn challenges(bench: &Bench, server: &Server, purpose: CodePurpose) -> Result<Vec<Vec<String>>, String> {
    bench.runtime.block_on(async {
        let mut client = server.codes().await;
        let mut all = Vec::new();
        for kind in 0..KINDS.len() {
            let mut challenges = Vec::new();
            for number in 0..NUMBERS {
                let sent = client.send_code(wanted(purpose, kind, number)).await;
                let sent = sent.map_err(|error| error.to_string())?.into_inner();
                challenges.push(sent.challenge_id);
            }
            all.push(challenges);
        }
        Ok(all)
    })
}

fn wanted(purpose: CodePurpose, kind: usize, round: usize) -> SendCodeRequest {
    SendCodeRequest {
        purpose: purpose.into(),
        phone_number: phone_number(kind, round),
        ..SendCodeRequest::default()
    }
}

/// Registers without a password, which requests a code.
struct Registering {
    client: PhoneIdentityClient<Channel>,
}

impl Caller for Registering {
    async fn call(&mut self, kind: usize, round: usize) -> Result<(), String> {
        let request = RegisterRequest {
            phone_number: phone_number(kind, round),
            ..RegisterRequest::default()
        };
        match self.client.register(request).await {
            Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
            other => Err(format!("Register, {}: {other:?}", KINDS[kind])),
        }
    }
}

/// Asks for codes.
struct Asking {
    client: PhoneVerificationClient<Channel>,
    purpose: CodePurpose,
}

impl Caller for Asking {
    async fn call(&mut self, kind: usize, round: usize) -> Result<(), String> {
        let sent = self.client.send_code(wanted(self.purpose, kind, round)).await;
        sent.map(drop)
            .map_err(|status| format!("SendCode, {}: {status:?}", KINDS[kind]))
    }
}

/// Tries codes that are too short to be right.
struct Guesses {
    client: PhoneVerificationClient<Channel>,
    challenges: Arc<Vec<Vec<String>>>,
    purpose: CodePurpose,
}

impl Caller for Guesses {
    async fn call(&mut self, kind: usize, round: usize) -> Result<(), String> {
        let mut request = VerifyCodeRequest {
            challenge_id: self.challenges[kind][round % NUMBERS].clone(),
            purpose: self.purpose.into(),
            code: "12345".to_owned(),
            ..VerifyCodeRequest::default()
        };
        if self.purpose == CodePurpose::ResetPassword {
            request.new_password = "a river in the morning".to_owned();
        }
        match self.client.verify_code(request).await {
            Err(status) if status.code() == Code::InvalidArgument => Ok(()),
            other => Err(format!("VerifyCode, {}: {other:?}", KINDS[kind])),
        }
    }
}
