use super::*;

fn rule(identity: &str, action: Permission, backend: Option<&str>) -> AuthorizationRule {
    AuthorizationRule {
        text: identity.to_owned(),
        identity: identity.to_owned(),
        action,
        backend: backend.map(|backend| backend.parse().unwrap()),
        route: None,
    }
}

fn named(name: &str) -> Identity {
    Identity { common_name: Some(name.to_owned()), ..Identity::default() }
}

/// Judges `who` at `app.internal:80`, which is at 10.0.0.1.
fn judged(
    default: Permission,
    rules: &[AuthorizationRule],
    who: Option<&Identity>,
) -> (Permission, Option<usize>) {
    let plan = AuthorizationPlan { default, rules: rules.to_vec() };
    let all = Authorization::new(&plan);
    let backend = "app.internal:80".parse().unwrap();
    let address = "10.0.0.1:80".parse().unwrap();
    let judgement = all.judge(who, Way { name: &backend, address, route: Some("*.db") });
    let at = judgement.rule.map(|rule| rules.iter().position(|one| one == rule).unwrap());
    (judgement.permission, at)
}

use Permission::{Allow, Deny};

#[test]
fn the_first_rule_that_speaks_of_both_decides() {
    let rules = [
        rule("client.a", Deny, Some("10.0.0.2:80")),
        rule("client.b", Deny, None),
        rule("client.*", Allow, None),
        rule("client.a", Deny, None),
    ];
    assert_eq!(judged(Deny, &rules, Some(&named("client.a"))), (Allow, Some(2)));
    assert_eq!(judged(Allow, &rules, Some(&named("client.b"))), (Deny, Some(1)));
}

#[test]
fn where_no_rule_speaks_the_default_holds() {
    let rules = [rule("client.a", Allow, None)];
    assert_eq!(judged(Deny, &rules, Some(&named("client.A"))), (Deny, None));
    assert_eq!(judged(Allow, &rules, Some(&named("other"))), (Allow, None));
    assert_eq!(judged(Deny, &[], Some(&named("other"))), (Deny, None));
}

#[test]
fn who_shows_no_certificate_is_not_even_anybody() {
    let (allow, deny) = ([rule("*", Allow, None)], [rule("*", Deny, None)]);
    assert_eq!(judged(Deny, &allow, None), (Deny, None));
    assert_eq!(judged(Allow, &deny, None), (Allow, None));
    assert_eq!(judged(Deny, &allow, Some(&named("x"))), (Allow, Some(0)));
    // A certificate without a name is nobody's.
    assert_eq!(judged(Deny, &allow, Some(&Identity::default())), (Deny, None));
}

#[test]
fn any_of_the_names_will_do() {
    let who = Identity {
        common_name: Some("a".to_owned()),
        uris: vec!["spiffe://x/ns/web".to_owned()],
        dns: vec!["a.internal".to_owned()],
    };
    for pattern in ["a", "spiffe://x/*", "*.internal", "spiffe:*/web"] {
        assert_eq!(judged(Deny, &[rule(pattern, Allow, None)], Some(&who)), (Allow, Some(0)));
    }
    assert_eq!(judged(Deny, &[rule("web", Allow, None)], Some(&who)), (Deny, None));
}

#[test]
fn a_backend_is_known_by_its_name_and_by_its_address() {
    let who = named("a");
    for backend in ["app.internal:80", "APP.internal:80", "10.0.0.1:80"] {
        let rules = [rule("a", Allow, Some(backend))];
        assert_eq!(judged(Deny, &rules, Some(&who)), (Allow, Some(0)), "{backend}");
    }
    for backend in ["app.internal:81", "10.0.0.1:81", "10.0.0.2:80", "other.internal:80"] {
        let rules = [rule("a", Allow, Some(backend))];
        assert_eq!(judged(Deny, &rules, Some(&who)), (Deny, None), "{backend}");
    }
}

#[test]
fn a_route_is_another_way_to_the_same_backend() {
    let by = |route: &str| AuthorizationRule {
        route: Some(route.to_owned()),
        ..rule("a", Allow, Some("app.internal:80"))
    };
    assert_eq!(judged(Deny, &[by("*.db")], Some(&named("a"))), (Allow, Some(0)));
    assert_eq!(judged(Deny, &[by("other")], Some(&named("a"))), (Deny, None));
}

#[test]
fn case_counts_in_every_name_but_those_of_dns() {
    let by_dns = Identity { dns: vec!["Db.Example.com".into()], ..Identity::default() };
    let by_uri = Identity { uris: vec!["spiffe://Prod/Db".into()], ..Identity::default() };
    for (identity, pattern, known) in [
        (&by_dns, "db.example.com", true),
        (&by_dns, "DB.EXAMPLE.*", true),
        (&by_uri, "spiffe://Prod/*", true),
        (&by_uri, "spiffe://prod/*", false),
        (&named("client.A"), "client.A", true),
        (&named("client.A"), "client.a", false),
    ] {
        let plan = AuthorizationPlan {
            default: Permission::Allow,
            rules: vec![rule(pattern, Permission::Deny, None)],
        };
        let name = Endpoint::from("127.0.0.1:1".parse::<SocketAddr>().unwrap());
        let way = Way { name: &name, address: "127.0.0.1:1".parse().unwrap(), route: None };
        let judgement = Authorization::new(&plan);
        let denied = judgement.judge(Some(identity), way).permission == Permission::Deny;
        assert_eq!(denied, known, "{pattern}");
    }
}
