//! Secrets of session tickets where there is no cluster to share them with.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::base::time;
use crate::cluster::tickets::{Local, system};
use crate::net::tls::TicketKeys;

/// Between two looks: an epoch's end, and half of one, are met this exactly.
const LOOK: Duration = Duration::from_secs(10);

/// Has secrets in use from now on; whoever awaits what comes of it keeps them changing.
pub(super) fn keep_tickets(keys: &Arc<TicketKeys>) -> impl Future<Output = ()> + use<> {
    let mut local = Local::new(time::unix_ms(), &keys.current(), system());
    keys.publish(local.turn(time::unix_ms()));
    let keys: Weak<TicketKeys> = Arc::downgrade(keys);
    async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(keys) = keys.upgrade() else { return };
            keys.publish(local.turn(time::unix_ms()));
        }
    }
}
