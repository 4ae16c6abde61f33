//! `/`: one plain page that lists what there is, with members and backends as they stand. No
//! script; the browser asks again every few seconds.

use std::fmt::Write;

use super::shapes::{Backends, Bans, Members, Status};
use super::{tables, words};

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta http-equiv=refresh content=5><meta name=viewport content=\"width=device-width\">\
<title>tidegate</title><style>\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;\
max-width:60rem;padding:0 1rem}table{border-collapse:collapse}td,th{text-align:left;\
padding:.15rem 1.2rem .15rem 0}.bad{color:#c33}</style>";

const LINKS: &str = "<p><a href=/metrics>/metrics</a> · <a href=/livez>/livez</a> · \
<a href=/readyz>/readyz</a> · <a href=/api/v1/status>status</a> · \
<a href=/api/v1/members>members</a> · <a href=/api/v1/rules>rules</a> · \
<a href=/api/v1/backends>backends</a> · <a href=/api/v1/limits>limits</a> · \
<a href=/api/v1/bans>bans</a></p>";

/// Bans shown; the rest are counted.
const MOST_BANS: usize = 50;

/// The page.
pub fn render(status: &Status, members: &Members, backends: &Backends, bans: &Bans) -> String {
    let mut page = String::from(HEAD);
    let state = if status.ready { "ready".to_owned() } else { status.not_ready.join(", ") };
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<h1>{}</h1><p>tidegate {} · {} · up {} · {} live connections</p>{LINKS}",
        escape(&status.node),
        escape(&status.version),
        cell(&state, status.ready),
        words::seconds(status.uptime_s),
        status.connections,
    );
    if !members.members.is_empty() {
        page.push_str("<h2>Members</h2><table><tr><th>name<th>address<th>state<th>for");
        for member in &members.members {
            let _ = write!(
                page,
                "<tr><td>{}<td>{}<td>{}<td>{}",
                escape(&member.name),
                escape(&member.address),
                cell(&member.state, member.state == "alive"),
                words::seconds(member.since_s),
            );
        }
        page.push_str("</table>");
    }
    page.push_str("<h2>Backends</h2><table><tr><th>rule<th>address<th>state<th>active<th>check");
    for backend in &backends.backends {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}",
            escape(&backend.rule),
            escape(&backend.address),
            cell(&backend.state, backend.state == "up"),
            backend.active,
            escape(&backend.last_check),
        );
    }
    page.push_str("</table>");
    if !status.overlay.is_empty() {
        page.push_str("<h2>Changed by command</h2><ul>");
        for act in &status.overlay {
            let _ = write!(page, "<li>{}", cell(&tables::overlay(act), act.idle.is_none()));
        }
        page.push_str("</ul>");
    }
    if !bans.bans.is_empty() {
        let all = bans.bans.len();
        let _ = write!(page, "<h2>Bans ({all})</h2><table><tr><th>client<th>left<th>by<th>since");
        for ban in bans.bans.iter().take(MOST_BANS) {
            let _ = write!(
                page,
                "<tr><td>{}<td>{}<td>{}<td>{}",
                escape(&ban.client),
                ban.left_s.map_or_else(|| "for ever".to_owned(), words::seconds),
                escape(&ban.by),
                escape(&ban.since),
            );
        }
        page.push_str("</table>");
    }
    page.push_str("</html>\n");
    page
}

fn cell(text: &str, good: bool) -> String {
    let text = escape(text);
    if good { text } else { format!("<span class=bad>{text}</span>") }
}

/// Names come from configurations and from peers: none may become markup.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn a_name_cannot_become_markup() {
        let mut fake = Fake::busy();
        fake.members.members[1].name = "<script>alert('x')</script>".into();
        let page = render(&fake.status, &fake.members, &fake.backends, &fake.bans);
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let fake = Fake::busy();
        let page = render(&fake.status, &fake.members, &fake.backends, &fake.bans);
        assert!(page.contains("<td>10.0.0.8:8081<td><span class=bad>down</span>"));
        assert!(page.contains("<li>web 10.0.0.8:8081: drain (by n2"), "{page}");
        assert!(page.contains("Bans (2)") && page.contains("<td>203.0.113.7<td>9m50s<td>n2"));
        assert!(page.contains("<td>n3<td>10.0.0.3:9090<td><span class=bad>failed</span><td>2s"));
    }
}
