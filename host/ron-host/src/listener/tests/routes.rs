//! Which route is taken, and what cannot be one.

use super::*;

fn table(rows: &[(Option<&str>, &str, &str)]) -> Result<Routes, Twice> {
    let service = Service::default();
    let rows = rows.iter().map(|(host, path, name)| route(*host, path, name, &service));
    // In no order of their own.
    Routes::new(rows.rev().collect::<Vec<_>>())
}

#[test]
fn the_most_specific_route_is_taken() {
    let routes = table(&[
        (None, "/", "any"),
        (None, "/v1/users", "users"),
        (Some("api.example"), "/v1", "api"),
        (Some("api.example"), "/v1/admin", "admin"),
        (Some("*.example"), "/", "below"),
        (Some("*.eu.example"), "/v1/", "eu"),
        (Some("[::1]"), "/", "six"),
    ])
    .expect("one of a kind");
    let check = |host: &str, path: &str, expected: &str| {
        let found = routes.find(host, path).expect("there is one for all");
        assert_eq!(found.service.as_str(), expected, "{host}{path}");
    };
    check("api.example", "/v1", "api");
    check("api.example", "/v1/", "api");
    check("api.example", "/v1/x", "api");
    check("api.example", "/v1/admin", "admin");
    check("api.example", "/v1/administrator", "api");
    check("api.example", "/v1/../admin", "api");
    // What no path of an exact host fits goes on to the next.
    check("api.example", "/v10", "below");
    check("api.example", "/v1%2Fadmin", "below");
    check("www.example", "/v1/users", "below");
    check("a.b.example", "/", "below");
    check("a.eu.example", "/v1", "eu");
    check("a.eu.example", "/", "below");
    check("example", "/", "any");
    check("notexample", "/v1/users/7", "users");
    check(".example", "/", "any");
    check("", "/v1/users", "users");
    check("", "*", "any");
    check("[::1]", "/", "six");
    let none = table(&[(Some("a"), "/", "one"), (None, "/x", "two")]).expect("two");
    assert!(none.find("b", "/").is_none() && none.find("b", "/xy").is_none());
}

#[test]
fn two_of_a_kind_are_none() {
    let twice =
        table(&[(Some("A"), "/x", "one"), (Some("a"), "/x/", "two"), (None, "/x", "three")]);
    let text = twice.expect_err("the same place").to_string();
    assert!(text.contains("one") && text.contains("two") && text.contains("a/x"), "{text}");
    let text = table(&[(None, "/", "one"), (None, "/", "two")]).expect_err("again").to_string();
    assert!(text.contains("any host, /"), "{text}");
}

#[test]
fn hosts_and_paths_are_told_from_what_is_none() {
    for (text, expected) in [
        ("api.Example", Some("api.example")),
        ("*.example", Some("*.example")),
        ("127.0.0.1", Some("127.0.0.1")),
        ("[::1]", Some("[::1]")),
        ("", None),
        ("*", None),
        ("*.", None),
        ("a.*.example", None),
        ("api.example:8080", None),
        ("http://x", None),
        ("a..b", None),
        ("a.", None),
    ] {
        let host = text.parse::<Host>();
        assert_eq!(host.as_ref().ok().map(Host::to_string).as_deref(), expected, "{text}");
        assert!(host.is_ok() || host.expect_err("none").to_string().contains("expected"));
    }
    for (text, expected) in [
        ("/", Some("/")),
        ("/v1", Some("/v1")),
        ("/v1/", Some("/v1")),
        ("", None),
        ("v1", None),
        ("/a b", None),
        ("/a?b", None),
        ("/ä", None),
    ] {
        let path = text.parse::<PathPrefix>();
        assert_eq!(path.as_ref().ok().map(PathPrefix::to_string).as_deref(), expected, "{text}");
    }
}

#[tokio::test]
async fn routes_are_replaced_while_requests_run() {
    let server = start(Limits::default()).await;
    let mut held = server.send(&get("/hold")).await;
    server.service.held.notified().await;
    let other = Service::default();
    let routes = Routes::new([route(Some("x"), "/v1", "other", &other)]).expect("one");
    server.routes.replace(routes);
    assert_eq!(server.get("/v1").await.status, 200);
    assert_eq!(other.seen.lock().len(), 1);
    server.get("/").await.error(404, "not-found", false);
    let no_host = "GET /v1 HTTP/1.0\r\n\r\n";
    server.ask(no_host).await.error(404, "not-found", false);
    assert_eq!(server.rejected("no-route"), 2);
    server.service.gate.notify_one();
    assert_eq!(receive(&mut held).await.body, b"held");
}
