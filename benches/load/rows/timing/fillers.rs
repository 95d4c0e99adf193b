//! The same under load of the attacker's own: what a failure takes while four sign-ins of others are under way, and
//! what these take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use phone_identity::proto::v1::AuthenticateRequest;
use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Caller, Guesses, KINDS, Kinds, add_all, measure};
use crate::server::Server;
use crate::{Bench, report, seed};

/// Sign-ins of the attacker that are under way.
const FILLERS: usize = 4;

pub(super) fn timing(bench: &mut Bench, server: &Server, calls: usize, kinds: Kinds) -> Result<(), String> {
    report::say(&format!(
        "timing: {calls} failed sign-ins of each kind beside {FILLERS} others"
    ));
    let is_over = Arc::new(AtomicBool::new(false));
    let fillers = bench.runtime.block_on(async {
        let mut fillers = JoinSet::new();
        for number in 0..FILLERS {
            let (mut client, is_over) = (server.client().await, is_over.clone());
            fillers.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    sign_in(&mut client, number).await?;
                }
                Ok::<_, String>(())
            });
        }
        fillers
    });
    let beside = measure(bench, 1, calls, KINDS.len(), async || Guesses {
        client: server.client().await,
        kinds,
    });
    is_over.store(true, Ordering::Relaxed);
    let ended = bench.runtime.block_on(fillers.join_all());
    ended.into_iter().collect::<Result<(), _>>()?;
    let beside = beside?;
    add_all(bench, " (beside fillers)", KINDS, &beside);

    report::say(&format!(
        "timing: {FILLERS} sign-ins behind {calls} failed ones of each kind"
    ));
    let behind = measure(bench, 1, calls, KINDS.len(), async || {
        let mut fillers = Vec::new();
        for _ in 0..FILLERS {
            fillers.push(server.client().await);
        }
        Behind {
            guesses: Guesses {
                client: server.client().await,
                kinds,
            },
            fillers,
        }
    })?;
    add_all(bench, " (time of fillers)", KINDS, &behind);
    Ok(())
}

/// Signs in a user that is of none of the kinds: see `seed::make_kinds`.
async fn sign_in(client: &mut PhoneIdentityClient<Channel>, number: usize) -> Result<(), String> {
    let request = AuthenticateRequest {
        phone_number: seed::phone_number(seed::PEOPLE - 1 - number),
        password: seed::PASSWORD.to_owned(),
        ..AuthenticateRequest::default()
    };
    let signed_in = client.authenticate(request).await;
    signed_in.map(drop).map_err(|status| status.to_string())
}

/// A guess, and sign-ins that are begun right after it and are timed.
struct Behind {
    guesses: Guesses,
    fillers: Vec<PhoneIdentityClient<Channel>>,
}

impl Caller for Behind {
    async fn call(&mut self, kind: usize, round: usize) -> Result<(), String> {
        self.guesses.call(kind, round).await
    }

    async fn time(&mut self, kind: usize, round: usize) -> Result<Duration, String> {
        let mut fillers = JoinSet::new();
        for (number, client) in self.fillers.iter().enumerate() {
            let mut client = client.clone();
            fillers.spawn(async move {
                // After the guess, which is sent by this time.
                tokio::task::yield_now().await;
                let begun = Instant::now();
                sign_in(&mut client, number).await?;
                Ok::<_, String>(begun.elapsed())
            });
        }
        self.guesses.call(kind, round).await?;
        let mut total = Duration::ZERO;
        for time in fillers.join_all().await {
            total += time?;
        }
        Ok(total)
    }
}
