//! Certificates that end: told every day until somebody has them issued anew.

use std::sync::Weak;
use std::time::Duration;

use super::boot::Node;
use crate::base::time;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Warns of what the running configuration shows or believes and soon cannot. At start, and whenever the
/// file is read, its warnings say the same.
pub(super) async fn watch_expiry(node: Weak<Node>) {
    loop {
        tokio::time::sleep(DAY).await;
        let Some(node) = node.upgrade() else { return };
        node.warn_of_expiry();
    }
}

impl Node {
    pub(super) fn warn_of_expiry(&self) {
        for dated in self.plan().dated() {
            if let Some(trouble) = dated.trouble(time::unix_ms()) {
                tracing::warn!("{} {trouble}", dated.subject());
            }
        }
    }
}
