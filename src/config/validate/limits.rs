//! Limits: rates, caps, bandwidth.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::Findings;
use crate::base::{LimitId, RuleName};
use crate::config::file::{self, LimitKind, Scope, Text, values};
use crate::config::written::Size;
use crate::traffic::{
    Action, Algorithm, BandwidthPlan, CapsPlan, Consistency, LimitKey, LimitPlan, LimitScope,
    OnIsolated, OnPartition, Quota, Rates, Sharing,
};

/// `None` when it was refused.
pub(super) fn rate(
    limit: &file::RateLimit,
    rule: &RuleName,
    at: &str,
    clustered: bool,
    found: &mut Findings<'_>,
) -> Option<LimitPlan> {
    if limit.scope == Some(Scope::Cluster) && !clustered {
        let what = "there is no cluster: the limit counts what this node admits";
        found.warn(&format!("{at}.scope"), what, "add a `cluster:` section");
    }
    if limit.action != file::Action::Delay {
        for (key, written) in
            [("delay_queue", limit.delay_queue.is_some()), ("delay_max", limit.delay_max.is_some())]
        {
            if written {
                let what = "is only looked at with `action: delay`";
                found.warn(&format!("{at}.{key}"), what, "write `action: delay`, or take it out");
            }
        }
    }
    Some(LimitPlan {
        algorithm: algorithm(limit, at, found)?,
        id: LimitId::of_rule(rule),
        scope: match limit.scope {
            Some(Scope::Cluster) | None if clustered => LimitScope::Cluster,
            _ => LimitScope::Node,
        },
        key: match limit.key {
            file::LimitKey::Client => LimitKey::Client,
            file::LimitKey::Rule => LimitKey::Rule,
            file::LimitKey::Identity => LimitKey::Identity,
        },
        action: match limit.action {
            file::Action::Reject => Action::Reject,
            file::Action::Drop => Action::Drop,
            file::Action::Delay => Action::Delay {
                queue: limit.delay_queue.unwrap_or(1024),
                max: limit.delay_max.as_ref().map_or(Duration::from_secs(1), |max| max.0),
            },
        },
        ipv6_prefix: limit.ipv6_prefix,
        exempt: values(&limit.exempt),
        shadow: limit.shadow,
        max_keys: limit.max_keys,
        sharing: sharing(limit),
    })
}

fn sharing(limit: &file::RateLimit) -> Sharing {
    Sharing {
        consistency: match limit.consistency {
            file::Consistency::Auto => Consistency::Auto,
            file::Consistency::Optimistic => Consistency::Optimistic,
            file::Consistency::Strict => Consistency::Strict,
        },
        on_partition: match limit.on_partition {
            file::OnPartition::Full => OnPartition::Full,
            file::OnPartition::Proportional => OnPartition::Proportional,
        },
        on_isolated: match limit.on_isolated {
            file::OnIsolated::LocalFull => OnIsolated::LocalFull,
            file::OnIsolated::LocalShare => OnIsolated::LocalShare,
            file::OnIsolated::Deny => OnIsolated::Deny,
        },
    }
}

/// The two ways to write a limit: `requests_per_second` with `burst`, and `limit` per `window`.
/// A token bucket of `limit` per `window` refills at limit/window and saves up to `limit`.
fn algorithm(limit: &file::RateLimit, at: &str, found: &mut Findings<'_>) -> Option<Algorithm> {
    let fixed = limit.kind == Some(LimitKind::FixedWindow);
    let window = match (limit.limit.and_then(NonZeroU32::new), &limit.window) {
        (Some(most), Some(window)) => Some((most, window.0)),
        (Some(_), None) => {
            found.fault(&format!("{at}.limit"), "has no `window`", "add `window: 1s`");
            return None;
        }
        (None, Some(_)) => {
            found.fault(&format!("{at}.window"), "has no `limit`", "add `limit:`");
            return None;
        }
        (None, None) => None,
    };
    match (limit.requests_per_second, window) {
        (Some(_), Some(_)) => {
            let what = "the rate is written twice, here and by `limit` and `window`";
            found.fault(&format!("{at}.requests_per_second"), what, "keep one of them");
            None
        }
        (Some(_), None) if fixed => {
            let what = "a fixed window counts by `limit` and `window`";
            let remedy = "write `limit:` and `window: 1s` instead";
            found.fault(&format!("{at}.requests_per_second"), what, remedy);
            None
        }
        (None, Some(_)) if fixed && limit.burst.is_some() => {
            let what = "a fixed window has no burst";
            found.fault(&format!("{at}.burst"), what, "take it out, or write `type: token_bucket`");
            None
        }
        (None, Some((limit, window))) if fixed => Some(Algorithm::FixedWindow { limit, window }),
        (None, Some((most, window))) => {
            let rate = f64::from(most.get()) / window.as_secs_f64();
            let burst = f64::from(limit.burst.unwrap_or(most.get()));
            Some(Algorithm::TokenBucket(Quota { rate, burst }))
        }
        (Some(rate), None) => {
            let burst = limit.burst.map_or(rate.max(1.0), f64::from);
            Some(Algorithm::TokenBucket(Quota { rate, burst }))
        }
        (None, None) => {
            let remedy = "add `requests_per_second:`, or `limit:` and `window:`, or `type: none`";
            found.fault_if_whole(at, &["requests_per_second", "limit"], "has no rate", remedy);
            None
        }
    }
}

/// Whether what `scope` says is over the cluster; without one it cannot be.
pub(super) fn shared(
    scope: Option<Scope>,
    rule: &RuleName,
    at: &str,
    clustered: bool,
    found: &mut Findings<'_>,
) -> Option<LimitId> {
    if scope != Some(Scope::Cluster) {
        return None;
    }
    if !clustered {
        let what = "there is no cluster: the limit counts what this node lets in";
        found.warn(&format!("{at}.scope"), what, "add a `cluster:` section");
        return None;
    }
    Some(LimitId::of_rule(rule))
}

pub(super) fn caps(caps: &file::ConnectionLimit, shared: Option<LimitId>) -> CapsPlan {
    CapsPlan {
        shared,
        per_client: caps.per_client.and_then(NonZeroU32::new),
        total: caps.total.and_then(NonZeroU32::new),
    }
}

pub(super) fn bandwidth(
    limit: Option<&file::BandwidthLimit>,
    shared: Option<LimitId>,
) -> BandwidthPlan {
    let rate = |rate: &Option<Text<Size>>| rate.as_ref().and_then(|rate| NonZeroU64::new(rate.0.0));
    let rates = |rates: &file::Rates| Rates {
        upload: rate(&rates.upload_per_sec),
        download: rate(&rates.download_per_sec),
    };
    limit.map_or_else(BandwidthPlan::default, |limit| BandwidthPlan {
        client: rates(&limit.client),
        backend: rates(&limit.backend),
        shared,
    })
}
