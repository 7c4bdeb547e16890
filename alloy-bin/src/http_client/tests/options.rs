//! What may be configured together, what arrives of it, and that no secret is ever printed.

use super::*;

#[test]
fn what_excludes_each_other_is_refused() {
    let check = |text: &str, expected: &str| match options(text) {
        Ok(_) => assert_eq!(expected, "", "{text}"),
        Err(error) => {
            assert!(!expected.is_empty() && error.contains(expected), "{text}\n{error}");
            assert!(!error.split('\n').next().unwrap().contains("hunter2"), "{error}");
        }
    };
    let one = "at most one of basic_auth, authorization, oauth2, bearer_token & bearer_token_file";
    check("basic_auth {\n}\nbearer_token = \"hunter2\"", one);
    check("authorization {\n}\nbasic_auth {\n}", one);
    check(
        "authorization {\n}\noauth2 {\nclient_id = \"a\"\nclient_secret = \"b\"\ntoken_url = \"http://h/\"\n}",
        one,
    );
    check(
        "bearer_token = \"hunter2\"\nbearer_token_file = \"/f\"",
        "at most one of bearer_token & bearer_token_file",
    );
    check("bearer_token = \"\"\nbearer_token_file = \"/f\"", "");
    check(
        "basic_auth {\npassword = \"hunter2\"\npassword_file = \"/f\"\n}",
        "at most one of password & password_file",
    );
    check("basic_auth {\nusername = \"a:b\"\n}", "cannot have a colon");
    check("authorization {\ntype = \"basic\"\n}", "use \"basic_auth\" instead");
    check(
        "authorization {\ncredentials = \"hunter2\"\ncredentials_file = \"/f\"\n}",
        "at most one of credentials &",
    );
    check(
        "oauth2 {\nclient_id = \"a\"\ntoken_url = \"http://h/\"\n}",
        "one of client_secret & client_secret_file",
    );
    check(
        "oauth2 {\nclient_secret = \"a\"\ntoken_url = \"http://h/\"\n}",
        "missing required attribute \"client_id\"",
    );
    check("oauth2 {\nclient_id = \"a\"\nclient_secret = \"a\"\ntoken_url = \"ftp://h/\"\n}", "is not a URL");
    check(
        "oauth2 {\nclient_id = \"a\"\nclient_secret = \"a\"\ntoken_url = \"http://a:hunter2@h/\"\n}",
        "put them into basic_auth",
    );
    check("tls_config {\nca_pem = \"x\"\nca_file = \"/f\"\n}", "at most one of ca_pem & ca_file");
    check("tls_config {\nca_pem = \"hunter2\"\n}", "has no certificate in PEM");
    check("tls_config {\ncert_file = \"/f\"\n}", "exactly one of key_pem or key_file");
    check("tls_config {\nkey_file = \"/f\"\n}", "exactly one of cert_pem or cert_file");
    check("tls_config {\ncert_file = \"/f\"\nkey_pem = \"hunter2\"\n}", "has no private key in PEM");
    check("tls_config {\nmin_version = \"TLS10\"\n}", "TLS 1.0 and 1.1 are not spoken here");
    check("tls_config {\nmin_version = \"TLS14\"\n}", "expected one of \"TLS12\", \"TLS13\"");
    check("no_proxy = \"a\"", "proxy_url must also be configured");
    check(
        "proxy_url = \"http://p\"\nproxy_from_environment = true",
        "proxy_url and no_proxy must not be configured",
    );
    check(
        "proxy_connect_header = { a = [\"b\"] }",
        "proxy_url or proxy_from_environment must also be configured",
    );
    check("proxy_url = \"gopher://a:hunter2@p\"", "is not the URL of a proxy");
    check("proxy_url = \"socks5://a:hunter2@p:1080\"\nno_proxy = \"x\"", "");
    check(
        "http_headers = { Authorization = [\"hunter2\"] }",
        "setting header \"Authorization\" is not allowed",
    );
    check("http_headers = { \"a b\" = [\"x\"] }", "is not a header's name");
    check("http_headers = { a = [\"hunter2\\n\"] }", "characters that a header may not have");
    check("follow_redirects = false\nenable_http2 = false", "");
}

#[test]
fn no_secret_is_printed() {
    let text = r#"
        proxy_url = "http://me:hunter2@proxy:1"
        proxy_connect_header = { a = ["hunter2"] }
        http_headers = { b = ["hunter2"] }
        oauth2 {
            client_id     = "me"
            client_secret = "hunter2"
            token_url     = "http://h/"
        }
    "#;
    for text in [text, "bearer_token = \"hunter2\"", "basic_auth {\npassword = \"hunter2\"\n}"] {
        let options = options(text).unwrap();
        assert!(!format!("{options:?}").contains("hunter2"), "{options:?}");
    }
}

#[tokio::test]
async fn credentials_and_headers_arrive() {
    let server = Server::start(None).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, " from file\n").unwrap();
    let file = file.to_str().unwrap();
    let cases = [
        ("follow_redirects = true".to_owned(), "-"),
        (
            "basic_auth {\nusername = \"Aladdin\"\npassword = \"open sesame\"\n}".to_owned(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
        ("basic_auth {\nusername = \"me\"\n}".to_owned(), "Basic bWU6"),
        (
            format!("basic_auth {{\nusername = \"me\"\npassword_file = \"{file}\"\n}}"),
            "Basic bWU6ZnJvbSBmaWxl",
        ),
        ("bearer_token = \"abc\"".to_owned(), "Bearer abc"),
        (format!("bearer_token_file = \"{file}\""), "Bearer from file"),
        ("authorization {\ncredentials = \"abc\"\n}".to_owned(), "Bearer abc"),
        (
            format!("authorization {{\ntype = \"Api-Key\"\ncredentials_file = \"{file}\"\n}}"),
            "Api-Key from file",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(get(&client(&text), &server.http()).await, Ok(StatusCode::OK));
        assert_eq!(server.last().header("authorization"), expected, "{text}");
    }
    get(&client("http_headers = { \"X-Id\" = [\"a\", \"b\"] }"), &server.http()).await.unwrap();
    let seen = server.last();
    assert_eq!(seen.headers.get_all("x-id").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert!(seen.header("user-agent").starts_with("alloy-bin/"), "{seen:?}");
}

/// A file may be missing at first, and may be gone or broken later: then what stood in it goes on.
#[tokio::test]
async fn a_changed_file_is_read_again() {
    let server = Server::start(None).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let client = client(&format!("bearer_token_file = {file:?}"));
    let missing = get(&client, &server.http()).await.unwrap_err();
    assert!(missing.contains("secret: No such file"), "{missing}");

    std::fs::write(&file, "one").unwrap();
    get(&client, &server.http()).await.unwrap();
    assert_eq!(server.last().header("authorization"), "Bearer one");
    for content in ["two", "bro\nken", "three"] {
        std::fs::write(&file, content).unwrap();
        let expected =
            if content.contains('\n') { "Bearer two".to_owned() } else { format!("Bearer {content}") };
        let deadline = Instant::now() + PATIENCE;
        loop {
            get(&client, &server.http()).await.unwrap();
            if server.last().header("authorization") == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{content} is not used");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    std::fs::remove_file(&file).unwrap();
    get(&client, &server.http()).await.unwrap();
    assert_eq!(server.last().header("authorization"), "Bearer three");
}

#[tokio::test]
async fn redirects_are_followed_and_credentials_stay_with_their_host() {
    let (first, second) = (Server::start(None).await, Server::start(None).await);
    let with = client("bearer_token = \"abc\"\nhttp_headers = { a = [\"b\"] }");
    first.redirect(307, "/other?x=1#part");
    first.redirect(302, "relative");
    first.redirect(301, &second.http());
    assert_eq!(send(&with, Method::POST, &first.http(), "body").await, Ok(StatusCode::OK));
    let seen = first.seen();
    assert_eq!(
        seen.iter().map(|seen| seen.uri.as_str()).collect::<Vec<_>>(),
        ["/metrics", "/other?x=1", "/relative"]
    );
    assert!(seen.iter().all(|seen| seen.header("authorization") == "Bearer abc" && seen.header("a") == "b"));
    let seen = second.last();
    assert_eq!(
        (seen.method.as_str(), seen.body.as_str(), seen.header("authorization"), seen.header("a")),
        ("POST", "body", "-", "-")
    );

    let without = client("follow_redirects = false");
    assert_eq!(get(&without, &first.http()).await, Ok(StatusCode::MOVED_PERMANENTLY));
    let round = Server::start(None).await;
    round.redirect(302, "/");
    assert!(get(&with, &round.http()).await.unwrap_err().contains("stopped after 10 redirects"));
    assert_eq!(round.seen().len(), 11);
    let see_other = Server::start(None).await;
    see_other.redirect(303, "/");
    assert_eq!(send(&with, Method::POST, &see_other.http(), "").await, Ok(StatusCode::SEE_OTHER));
}
