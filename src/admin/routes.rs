//! The way from a request's head to its answer. No request here has a body that is read.

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
    Leave,
}

impl Route {
    fn find(path: &str) -> Option<Route> {
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
            "/api/v1/leave" => Route::Leave,
            _ => return None,
        })
    }

    fn is_probe(self) -> bool {
        matches!(self, Route::Live | Route::Ready)
    }

    fn changes(self) -> bool {
        matches!(self, Route::Leave)
    }

    fn allow(self) -> &'static str {
        if self.changes() { "POST" } else { "GET, HEAD" }
    }

    fn takes(self, method: &Method) -> bool {
        if self.changes() {
            method == Method::POST
        } else {
            method == Method::GET || method == Method::HEAD
        }
    }
}

/// Answers the request `head` that came over a connection whose near end is `local`. To HEAD it
/// answers as to GET; the server leaves the body away.
pub fn answer(head: &Parts, local: SocketAddr, guard: &Guard, sources: &dyn Sources) -> Answer {
    let route = Route::find(head.uri.path());
    // Before anything is told to someone unknown, even that a path does not exist.
    if !route.is_some_and(Route::is_probe)
        && let Err(refusal) = guard.may_ask(&head.headers)
    {
        return refused(refusal);
    }
    let Some(route) = route else {
        let what = "there is nothing here; `/` lists what there is";
        return error(StatusCode::NOT_FOUND, what);
    };
    if !route.takes(&head.method) {
        let what = format!("this path takes {}", route.allow());
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &what);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allow()));
        return answer;
    }
    if route.changes()
        && let Err(refusal) = guard.may_change(local, &head.headers)
    {
        return refused(refusal);
    }
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
        Route::Leave => {
            sources.leave();
            json(StatusCode::ACCEPTED, &json!({ "leaving": true }))
        }
    }
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
    let html = page::render(&sources.status(), &sources.members(), &sources.backends());
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
    use super::super::shapes::{Backends, Limits, Members, Rules, Status};
    use super::*;

    fn ask(fake: &Fake, guard: &Guard, method: &str, path: &str, token: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if !token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let head = request.body(()).unwrap().into_parts().0;
        answer(&head, "127.0.0.1:9900".parse().unwrap(), guard, fake)
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
}
