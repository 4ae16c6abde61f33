//! What a rule's limits say of a client, and the waiting that they ask of it: for a token, or for
//! another node's word. Whoever waits boxes it: it is rare, and would make every connection's future
//! larger.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::base::time;
use crate::traffic::{
    Action, Answer, CapReached, Caps, Decision, Denied, Limiter, Permit, Subject,
};

use super::door::Handshake;
use super::farewell::Manner;

/// The limiter's decision; a strict one may have to ask another node first, for some milliseconds.
pub(super) async fn decide(limiter: &Limiter, client: Subject<'_>) -> Decision {
    match limiter.admit(client, time::now()) {
        // Boxed, as waiting is rare.
        Decision::Ask(ask) => {
            let answer = limiter.asker().ask(ask).await;
            limiter.answered(ask, answer, time::now())
        }
        decision => decision,
    }
}

/// What becomes of `client`, for which there was no token: it may be made to wait for one, and is no
/// handshake meanwhile. `Err`: it is refused in this manner.
pub(super) async fn without_token(
    limiter: &Arc<Limiter>,
    client: Subject<'_>,
    retry_after: Duration,
    handshake: &mut Option<Handshake>,
) -> Result<(), Manner> {
    match limiter.plan().action {
        Action::Reject => Err(Manner::Close),
        Action::Drop => Err(Manner::Reset),
        Action::Delay { max, .. } => {
            drop(handshake.take());
            match wait_for_token(limiter, client, retry_after, max).await {
                true => Ok(()),
                false => Err(Manner::Close),
            }
        }
    }
}

/// Waits in the limiter's queue until there is a token; `false` when there was no place or no
/// token in time.
async fn wait_for_token(
    limiter: &Arc<Limiter>,
    client: Subject<'_>,
    mut retry_after: Duration,
    longest: Duration,
) -> bool {
    let Some(mut place) = limiter.enter_queue() else { return false };
    let until = time::now() + longest;
    loop {
        let left = until.saturating_duration_since(time::now());
        if retry_after > left {
            return false;
        }
        // A timer's step: another waiter may have taken the token that we were told of.
        sleep(retry_after.max(Duration::from_millis(1))).await;
        let decision = match place.admit(client, time::now()) {
            Decision::Ask(ask) => {
                let answer = limiter.asker().ask(ask).await;
                place.answered(ask, answer, time::now())
            }
            decision => decision,
        };
        match decision {
            Decision::Refuse { retry_after: again } => retry_after = again,
            Decision::Admit | Decision::Ask(_) => return true,
        }
    }
}

/// Asks the cluster for what was denied, each cap once and once more when somebody else was quicker.
pub(super) async fn ask_for_permit(
    caps: &Arc<Caps>,
    ip: IpAddr,
    mut denied: Denied,
) -> Result<Permit, CapReached> {
    const MOST_ASKS: u32 = 4;
    for _ in 0..MOST_ASKS {
        let Some(answering) = caps.ask(denied) else { break };
        match answering.await {
            Answer::Granted { .. } => match caps.enter(ip) {
                Ok(permit) => return Ok(permit),
                Err(again) => denied = again,
            },
            Answer::Refused { .. } => break,
            Answer::Nobody => return caps.enter_unasked(ip),
        }
    }
    Err(denied.cap)
}
