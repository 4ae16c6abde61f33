//! The way from a request's head to its answer. Only orders have a body that is read, and that only
//! when their head was let in.

use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::guard::{Guard, Refusal};
use super::orders::{self, Denied};
use super::sources::Sources;
use super::{metrics, page};

/// An answer, whole in memory.
pub type Answer = Response<Full<Bytes>>;

/// What there is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Index,
    Live,
    Ready,
    Metrics,
    Status,
    Members,
    Rules,
    Backends,
    Limits,
    Bans,
    Leave,
    Order(orders::Kind),
}

impl Route {
    fn find(path: &str, method: &Method) -> Option<Route> {
        use orders::Kind::{Add, Ban, Drain, Remove, Unban, Undrain, Weigh};
        let ordering = method == Method::POST;
        let kinds = [Ban, Unban, Drain, Undrain, Add, Remove, Weigh];
        if let Some(kind) = kinds.into_iter().find(|kind| kind.path() == path)
            && (kind != Ban || ordering)
        {
            return Some(Route::Order(kind));
        }
        Some(match path {
            "/" => Route::Index,
            "/livez" => Route::Live,
            "/readyz" => Route::Ready,
            "/metrics" => Route::Metrics,
            "/api/v1/status" => Route::Status,
            "/api/v1/members" => Route::Members,
            "/api/v1/rules" => Route::Rules,
            "/api/v1/backends" => Route::Backends,
            "/api/v1/limits" => Route::Limits,
            "/api/v1/bans" => Route::Bans,
            "/api/v1/leave" => Route::Leave,
            _ => return None,
        })
    }

    fn is_probe(self) -> bool {
        matches!(self, Route::Live | Route::Ready)
    }

    fn changes(self) -> bool {
        matches!(self, Route::Leave | Route::Order(_))
    }

    fn allow(self) -> &'static str {
        match self {
            Route::Bans | Route::Order(orders::Kind::Ban) => "GET, HEAD, POST",
            _ if self.changes() => "POST",
            _ => "GET, HEAD",
        }
    }

    fn takes(self, method: &Method) -> bool {
        if self.changes() {
            method == Method::POST
        } else {
            method == Method::GET || method == Method::HEAD
        }
    }
}

/// A request whose head was let in.
#[derive(Clone, Copy, Debug)]
pub struct LetIn(Route);

impl LetIn {
    /// Whether its body is to be read.
    pub fn has_body(self) -> bool {
        matches!(self.0, Route::Order(_))
    }
}

/// Whether the request `head` that came over a connection whose near end is `local` is let in.
///
/// # Errors
/// The answer to who is not.
pub fn let_in(head: &Parts, local: SocketAddr, guard: &Guard) -> Result<LetIn, Box<Answer>> {
    let route = Route::find(head.uri.path(), &head.method);
    // Before anything is told to someone unknown, even that a path does not exist.
    if !route.is_some_and(Route::is_probe)
        && let Err(refusal) = guard.may_ask(&head.headers)
    {
        return Err(Box::new(refused(refusal)));
    }
    let Some(route) = route else {
        let what = "there is nothing here; `/` lists what there is";
        return Err(Box::new(error(StatusCode::NOT_FOUND, what)));
    };
    if !route.takes(&head.method) {
        let what = format!("this path takes {}", route.allow());
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &what);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allow()));
        return Err(Box::new(answer));
    }
    if route.changes()
        && let Err(refusal) = guard.may_change(local, &head.headers)
    {
        return Err(Box::new(refused(refusal)));
    }
    Ok(LetIn(route))
}

/// Answers who was let in; `body` is what it sent, empty where none is read. To HEAD it answers as to
/// GET; the server leaves the body away.
pub fn answer(LetIn(route): LetIn, body: &[u8], sources: &dyn Sources) -> Answer {
    match route {
        Route::Index => index(sources),
        Route::Live => json(StatusCode::OK, &json!({ "alive": true })),
        Route::Ready => ready(sources),
        Route::Metrics => match metrics::render(sources) {
            Ok(text) => respond(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(fault) => error(StatusCode::INTERNAL_SERVER_ERROR, &fault.to_string()),
        },
        Route::Status => json(StatusCode::OK, &sources.status()),
        Route::Members => json(StatusCode::OK, &sources.members()),
        Route::Rules => json(StatusCode::OK, &sources.rules()),
        Route::Backends => json(StatusCode::OK, &sources.backends()),
        Route::Limits => json(StatusCode::OK, &sources.limits()),
        Route::Bans => json(StatusCode::OK, &sources.bans()),
        Route::Leave => {
            sources.leave();
            json(StatusCode::ACCEPTED, &json!({ "leaving": true }))
        }
        Route::Order(kind) => match kind.read(body).and_then(|order| sources.order(order)) {
            Ok(done) => json(StatusCode::OK, &json!({ "done": done })),
            Err(denied) => {
                let status = match denied {
                    Denied::Wrong(_) => StatusCode::BAD_REQUEST,
                    Denied::Unknown(_) => StatusCode::NOT_FOUND,
                    Denied::Conflict(_) => StatusCode::CONFLICT,
                };
                error(status, denied.text())
            }
        },
    }
}

/// The body is larger than any order.
pub fn too_large() -> Answer {
    let what = format!("the body is larger than {} bytes", orders::MOST_BODY);
    error(StatusCode::PAYLOAD_TOO_LARGE, &what)
}

/// The body did not come.
pub fn too_slow() -> Answer {
    error(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
}

fn ready(sources: &dyn Sources) -> Answer {
    match sources.ready() {
        Ok(()) => json(StatusCode::OK, &json!({ "ready": true, "reasons": [] })),
        Err(reasons) => {
            let body = json!({ "ready": false, "reasons": reasons });
            json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

fn index(sources: &dyn Sources) -> Answer {
    let (status, members) = (sources.status(), sources.members());
    let html = page::render(&status, &members, &sources.backends(), &sources.bans());
    let mut answer = respond(StatusCode::OK, "text/html; charset=utf-8", html);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}

fn refused(refusal: Refusal) -> Answer {
    let challenge = match refusal {
        Refusal::NoToken => r#"Bearer realm="tidegate""#,
        Refusal::WrongToken => r#"Bearer realm="tidegate", error="invalid_token""#,
        Refusal::ForeignHost | Refusal::ForeignOrigin | Refusal::TokenNeeded => {
            return error(StatusCode::FORBIDDEN, refusal.text());
        }
    };
    let mut answer = error(StatusCode::UNAUTHORIZED, refusal.text());
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}

fn error(status: StatusCode, what: &str) -> Answer {
    json(status, &json!({ "error": what }))
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            respond(status, "application/json", body)
        }
        // Our shapes always serialise; should one not, say so rather than panic.
        Err(fault) => {
            let body = format!("{{\"error\":\"cannot be written as JSON: {}\"}}\n", fault.line());
            respond(StatusCode::INTERNAL_SERVER_ERROR, "application/json", body)
        }
    }
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use http_body_util::BodyExt;
    use hyper::Request;
    use hyper::header::AUTHORIZATION;

    use super::super::fake::Fake;
    use super::super::orders::Order;
    use super::super::shapes::{Backends, Bans, Limits, Members, Rules, Status};
    use super::*;

    fn ask(fake: &Fake, guard: &Guard, method: &str, path: &str, token: &str) -> Answer {
        send(fake, guard, method, path, token, b"")
    }

    fn send(
        fake: &Fake,
        guard: &Guard,
        method: &str,
        path: &str,
        token: &str,
        body: &[u8],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if !token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let head = request.body(()).unwrap().into_parts().0;
        match let_in(&head, "127.0.0.1:9900".parse().unwrap(), guard) {
            Ok(let_in) => answer(let_in, body, fake),
            Err(refused) => *refused,
        }
    }

    fn get(fake: &Fake, path: &str) -> Answer {
        ask(fake, &Guard::new(None), "GET", path, "")
    }

    async fn body(answer: Answer) -> Vec<u8> {
        answer.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn every_view_comes_in_its_shape() {
        let fake = Fake::busy();
        macro_rules! is {
            ($path:literal, $shape:ty, $want:expr) => {
                let got: $shape = serde_json::from_slice(&body(get(&fake, $path)).await).unwrap();
                assert_eq!(got, $want);
            };
        }
        is!("/api/v1/status", Status, fake.status);
        is!("/api/v1/members?x=1", Members, fake.members);
        is!("/api/v1/rules", Rules, fake.rules);
        is!("/api/v1/backends", Backends, fake.backends);
        is!("/api/v1/limits", Limits, fake.limits);
        is!("/api/v1/bans", Bans, fake.bans);
    }

    #[tokio::test]
    async fn readiness_tells_its_reasons() {
        let mut fake = Fake::busy();
        assert_eq!(get(&fake, "/readyz").status(), StatusCode::OK);
        fake.not_ready = vec!["draining".into(), "impaired".into()];
        let answer = get(&fake, "/readyz");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let want = br#"{"ready":false,"reasons":["draining","impaired"]}"#;
        assert_eq!(body(answer).await.trim_ascii(), want);
        assert_eq!(get(&fake, "/livez").status(), StatusCode::OK);
    }

    #[test]
    fn an_unknown_path_or_method_is_told_what_there_is() {
        let (fake, guard) = (Fake::busy(), Guard::new(None));
        for path in ["/nothing", "/api/v1", "/api/v1/members/", "//"] {
            assert_eq!(get(&fake, path).status(), StatusCode::NOT_FOUND, "{path}");
        }
        let answer = ask(&fake, &guard, "DELETE", "/metrics", "");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()[ALLOW], "GET, HEAD");
        let answer = get(&fake, "/api/v1/leave");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()[ALLOW], "POST");
        assert_eq!(fake.left.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn with_a_token_only_probes_are_answered_without_it() {
        let (fake, guard) = (Fake::busy(), Guard::new(Some("t0ken")));
        for path in ["/livez", "/readyz"] {
            assert_eq!(ask(&fake, &guard, "GET", path, "").status(), StatusCode::OK, "{path}");
        }
        for path in ["/", "/metrics", "/api/v1/status", "/api/v1/leave", "/nothing"] {
            let answer = ask(&fake, &guard, "POST", path, "");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(answer.headers()[WWW_AUTHENTICATE], r#"Bearer realm="tidegate""#);
            let answer = ask(&fake, &guard, "POST", path, "other");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        }
        assert_eq!(ask(&fake, &guard, "GET", "/metrics", "t0ken").status(), StatusCode::OK);
        assert_eq!(fake.left.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn leave_reaches_the_node_once() {
        let (fake, guard) = (Fake::busy(), Guard::new(None));
        let answer = ask(&fake, &guard, "POST", "/api/v1/leave", "");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert_eq!(fake.left.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_order_reaches_the_node_and_is_told_in_words() {
        let (fake, guard) = (Fake::busy(), Guard::new(None));
        let path = "/api/v1/backends/drain";
        let sent = send(&fake, &guard, "POST", path, "", br#"{"backend": "10.0.0.7:8081"}"#);
        assert_eq!(sent.status(), StatusCode::OK);
        assert_eq!(body(sent).await.trim_ascii(), br#"{"done":"done"}"#);
        assert!(matches!(&fake.ordered.lock()[..], [Order::Drain(_)]));
    }

    #[tokio::test]
    async fn an_order_that_cannot_be_is_told_why() {
        let guard = Guard::new(None);
        for (denied, status) in [
            (Denied::Unknown("no backend".into()), StatusCode::NOT_FOUND),
            (Denied::Conflict("the last backend".into()), StatusCode::CONFLICT),
        ] {
            let what = denied.text().to_owned();
            let fake = Fake { denies: Some(denied), ..Fake::busy() };
            let sent =
                send(&fake, &guard, "POST", "/api/v1/bans", "", br#"{"client": "10.0.0.1"}"#);
            assert_eq!(sent.status(), status);
            assert_eq!(
                body(sent).await.trim_ascii(),
                json!({ "error": what }).to_string().as_bytes()
            );
        }
        let fake = Fake::busy();
        let sent = send(&fake, &guard, "POST", "/api/v1/bans", "", b"{}");
        assert_eq!(sent.status(), StatusCode::BAD_REQUEST);
        for path in ["/api/v1/bans/lift", "/api/v1/backends/add"] {
            assert_eq!(get(&fake, path).status(), StatusCode::METHOD_NOT_ALLOWED);
        }
        let answer = ask(&fake, &guard, "DELETE", "/api/v1/bans", "");
        assert_eq!(answer.headers()[ALLOW], "GET, HEAD, POST");
        assert!(fake.ordered.lock().is_empty());
    }
}
