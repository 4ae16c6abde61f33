//! What is ordered through this node's admin listener, made into acts: whom it is about, whether it
//! fits what is, and in words what it comes to.

use std::time::Duration;

use ipnet::IpNet;

use super::acts::written;
use super::boot::Node;
use super::overlay;
use crate::admin::orders::{About, Denied, Order};
use crate::base::{Endpoint, RuleName, time};
use crate::cluster::acts::{self, Place, Subject};
use crate::config::Plan;
use crate::proxy::RulePlan;

/// What is to be issued, for how long, and what that comes to in words.
type Ordered = (Vec<(Subject, acts::Order)>, Option<Duration>, String);

impl Node {
    /// Orders it on every node.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn order(&self, order: Order) -> Result<String, Denied> {
        let (orders, length, done) = match order {
            Order::Ban { client, length, cut } => self.ban(client, length, cut),
            Order::Unban { client } => self.unban(client)?,
            Order::Drain(about) => self.drain_backend(&about)?,
            Order::Undrain(about) => self.undrain_backend(&about)?,
            Order::Add { about, weight } => self.add_backend(&about, weight)?,
            Order::Remove(about) => self.remove_backend(&about)?,
            Order::Weigh { about, weight } => self.weigh_backend(&about, weight)?,
        };
        let bans = orders.iter().any(|(subject, _)| matches!(subject, Subject::Client(_)));
        let mend = if bans {
            "unban some, or ban networks"
        } else {
            "undrain or remove some, or write them into the file"
        };
        self.acts
            .issue(time::now(), time::unix_ms(), &orders, length)
            .map_err(|full| Denied::Conflict(format!("{full}: {mend}")))?;
        tracing::info!("ordered here: {done}");
        Ok(done)
    }

    fn ban(&self, client: IpNet, length: Option<Duration>, cut: bool) -> Ordered {
        let so_long = match length {
            Some(length) => format!(" for {}", humantime::format_duration(length)),
            None => " until it is lifted".to_owned(),
        };
        let ended = if cut { ", live connections are cut" } else { "" };
        let done = format!("{} is banned{so_long}{ended}", written(client));
        (vec![(Subject::Client(client), acts::Order::Ban { cut })], length, done)
    }

    fn unban(&self, client: IpNet) -> Result<Ordered, Denied> {
        let subject = Subject::Client(client);
        if self.acts.holding(time::now(), &subject).is_none() {
            let around: Vec<String> = self
                .bans()
                .iter()
                .filter(|ban| ban.client.contains(&client))
                .map(|ban| written(ban.client))
                .collect();
            let what = format!("{} is not banned", written(client));
            return Err(Denied::Unknown(match around.first() {
                Some(wider) => format!("{what} by itself; {wider} is, which it belongs to"),
                None => format!("{what}; `tidegate bans` lists who is"),
            }));
        }
        let done = format!("{} is no longer banned", written(client));
        Ok((vec![(subject, acts::Order::Lifted)], None, done))
    }

    fn drain_backend(&self, about: &About) -> Result<Ordered, Denied> {
        let rules = self.rules_with(about)?;
        let orders = rules.iter().map(|rule| {
            let mark = overlay::mark(overlay::configured(rule, &about.backend));
            (Subject::Drain(place(rule, &about.backend)), acts::Order::Drain { mark })
        });
        let done = format!("{} takes no new connections in {}", about.backend, names(&rules));
        Ok((orders.collect(), None, done))
    }

    fn undrain_backend(&self, about: &About) -> Result<Ordered, Denied> {
        let now = time::now();
        // By what is drained, so that a drain can be lifted whose backend the file no longer has.
        let drained: Vec<Place> = self.acts.look(|store| {
            store
                .iter()
                .filter(|(_, known)| known.value.holds(now))
                .filter_map(|(subject, _)| match subject {
                    Subject::Drain(place) => Some(place.clone()),
                    _ => None,
                })
                .filter(|place| place.backend == about.backend)
                .filter(|place| about.rule.as_ref().is_none_or(|rule| *rule == *place.rule.0))
                .collect()
        });
        if drained.is_empty() {
            let what = format!("{} is not drained; `tidegate status` lists what is", about.backend);
            return Err(Denied::Unknown(what));
        }
        let rules: Vec<String> = drained.iter().map(|place| place.rule.to_string()).collect();
        let done = format!("{} takes connections again in {}", about.backend, rules.join(", "));
        let orders = drained.into_iter().map(|place| (Subject::Drain(place), acts::Order::Lifted));
        Ok((orders.collect(), None, done))
    }

    fn add_backend(&self, about: &About, weight: Option<u32>) -> Result<Ordered, Denied> {
        let rule = self.rule_for(about)?;
        let backend = &about.backend;
        if self.has(&rule.name, backend) {
            let what = format!(
                "{} has {backend} already; change its share with `tidegate backend weight --rule {} {backend} …`",
                rule.name, rule.name
            );
            return Err(Denied::Conflict(what));
        }
        let own = rule.listen.iter().any(|listen| Endpoint::from(*listen) == *backend);
        if own {
            return Err(Denied::Wrong(format!(
                "{backend} is {}'s own listener: a loop",
                rule.name
            )));
        }
        // One that was removed by an act is in the file: it comes back as that, or with another share.
        let order = match (overlay::configured(&rule, backend), weight) {
            (None, weight) => acts::Order::Add { weight: weight.unwrap_or(1) },
            (Some(known), Some(weight)) if weight != known.weight => {
                acts::Order::Weight { weight, mark: overlay::mark(Some(known)) }
            }
            (Some(_), _) => acts::Order::Lifted,
        };
        let done = format!("{backend} is a backend of {}", rule.name);
        Ok((vec![(Subject::Backend(place(&rule, backend)), order)], None, done))
    }

    fn remove_backend(&self, about: &About) -> Result<Ordered, Denied> {
        let rule = self.rule_having(about)?;
        let backend = &about.backend;
        let left = self
            .running()
            .rules
            .iter()
            .find(|running| running.name == rule.name)
            .map_or(0, |running| {
                running.pool.backends.iter().filter(|b| b.address != *backend).count()
            });
        if left == 0 {
            let what = format!(
                "{backend} is the last backend of {}: nothing would serve it; add another first",
                rule.name
            );
            return Err(Denied::Conflict(what));
        }
        let order = match overlay::configured(&rule, backend) {
            Some(known) => acts::Order::Remove { mark: overlay::mark(Some(known)) },
            None => acts::Order::Lifted,
        };
        let done = format!(
            "{backend} is no longer a backend of {}; its live connections go on",
            rule.name
        );
        Ok((vec![(Subject::Backend(place(&rule, backend)), order)], None, done))
    }

    fn weigh_backend(&self, about: &About, weight: u32) -> Result<Ordered, Denied> {
        let rule = self.rule_having(about)?;
        let backend = &about.backend;
        let order = match overlay::configured(&rule, backend) {
            Some(known) if known.weight == weight => acts::Order::Lifted,
            Some(known) => acts::Order::Weight { weight, mark: overlay::mark(Some(known)) },
            None => acts::Order::Add { weight },
        };
        let done = format!("{backend} has weight {weight} in {}", rule.name);
        Ok((vec![(Subject::Backend(place(&rule, backend)), order)], None, done))
    }

    /// The file's rules as they run: with the acts laid over.
    pub(super) fn running(&self) -> Plan {
        let (plan, now) = (self.plan(), time::now());
        self.acts.look(|store| overlay::laid(&plan, store, now))
    }

    fn has(&self, rule: &RuleName, backend: &Endpoint) -> bool {
        let running = self.running();
        let rule = running.rules.iter().find(|known| known.name == *rule);
        rule.is_some_and(|rule| overlay::configured(rule, backend).is_some())
    }

    fn rule_named(&self, name: &str) -> Result<RulePlan, Denied> {
        let plan = self.plan();
        let found = plan.rules.iter().find(|rule| *rule.name.0 == *name).cloned();
        found.ok_or_else(|| {
            let known: Vec<String> = plan.rules.iter().map(|rule| rule.name.to_string()).collect();
            Denied::Unknown(format!("no rule `{name}` here; there are: {}", known.join(", ")))
        })
    }

    /// The rule that gets a new backend.
    fn rule_for(&self, about: &About) -> Result<RulePlan, Denied> {
        if let Some(name) = &about.rule {
            return self.rule_named(name);
        }
        let plan = self.plan();
        match &plan.rules[..] {
            [only] => Ok(only.clone()),
            all => {
                let known: Vec<String> = all.iter().map(|rule| rule.name.to_string()).collect();
                let what = format!("name the rule with `--rule`; there are: {}", known.join(", "));
                Err(Denied::Wrong(what))
            }
        }
    }

    /// The one rule that has the backend.
    fn rule_having(&self, about: &About) -> Result<RulePlan, Denied> {
        let having: Vec<RuleName> = self
            .running()
            .rules
            .iter()
            .filter(|rule| about.rule.as_ref().is_none_or(|name| *name == *rule.name.0))
            .filter(|rule| overlay::configured(rule, &about.backend).is_some())
            .map(|rule| rule.name.clone())
            .collect();
        match &having[..] {
            [only] => self.rule_named(&only.0),
            [] => Err(self.no_such(about)),
            several => {
                let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                let what = format!(
                    "{} is a backend of several rules: name one with `--rule`: {}",
                    about.backend,
                    names.join(", ")
                );
                Err(Denied::Wrong(what))
            }
        }
    }

    /// Every rule that has the backend, by what it is called or by an address of it.
    fn rules_with(&self, about: &About) -> Result<Vec<RulePlan>, Denied> {
        let snapshot = self.snapshot.current();
        let mut found = Vec::new();
        for rule in &snapshot.rules {
            let name = &rule.plan.name;
            let meant = about.rule.as_ref().is_none_or(|meant| *meant == *name.0);
            let status = rule.pool.snapshot();
            let is = |backend: &crate::upstream::BackendStatus| {
                let at = backend.address.map(|address| Endpoint::from(address.0));
                backend.name == about.backend || at.as_ref() == Some(&about.backend)
            };
            if meant && (status.backends.iter().any(is) || self.has(name, &about.backend)) {
                found.push(self.rule_named(&name.0)?);
            }
        }
        if found.is_empty() { Err(self.no_such(about)) } else { Ok(found) }
    }

    fn no_such(&self, about: &About) -> Denied {
        if let Some(name) = &about.rule
            && let Err(denied) = self.rule_named(name)
        {
            return denied;
        }
        let snapshot = self.snapshot.current();
        // An address of a name can be drained, but only the name is a backend.
        for rule in &snapshot.rules {
            let status = rule.pool.snapshot();
            let of_name = status.backends.iter().find(|backend| {
                backend.address.is_some_and(|at| Endpoint::from(at.0) == about.backend)
                    && backend.name != about.backend
            });
            if let Some(backend) = of_name {
                return Denied::Conflict(format!(
                    "{} is an address of {} in {}: only the name can be removed or weighed",
                    about.backend, backend.name, rule.plan.name
                ));
            }
        }
        let meant = |rule: &RulePlan| about.rule.as_ref().is_none_or(|name| *name == *rule.name.0);
        let known: Vec<String> = self
            .running()
            .rules
            .iter()
            .filter(|rule| meant(rule))
            .flat_map(|rule| {
                rule.pool
                    .backends
                    .iter()
                    .map(|backend| format!("{} ({})", backend.address, rule.name))
            })
            .take(20)
            .collect();
        Denied::Unknown(format!(
            "no backend {} here; there are: {}",
            about.backend,
            known.join(", ")
        ))
    }
}

fn place(rule: &RulePlan, backend: &Endpoint) -> Place {
    Place { rule: rule.name.clone(), backend: backend.clone() }
}

fn names(rules: &[RulePlan]) -> String {
    rules.iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>().join(", ")
}
