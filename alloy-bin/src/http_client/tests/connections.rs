//! TLS, HTTP/2, proxies and tokens.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::*;

#[tokio::test]
async fn a_server_is_trusted_for_its_certificate_and_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start(Some(authority.server("localhost", None))).await;
    let (by_name, by_address) = (server.url("https", "localhost"), server.url("https", "127.0.0.1"));
    let tls = |inside: &str| client(&format!("tls_config {{\n{inside}\n}}"));
    let ca = format!("ca_pem = {}", raw(&authority.pem()));
    assert_eq!(get(&tls(&ca), &by_name).await, Ok(StatusCode::OK));
    let check = |result: Result<StatusCode, String>, expected: &str| {
        let error = result.unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check(get(&tls(&format!("ca_pem = {}", raw(&other.pem()))), &by_name).await, "invalid peer certificate");
    check(get(&tls(&ca), &by_address).await, "not valid for name");
    assert_eq!(
        get(&tls(&format!("{ca}\nserver_name = \"localhost\"")), &by_address).await,
        Ok(StatusCode::OK)
    );
    assert_eq!(get(&tls("insecure_skip_verify = true"), &by_address).await, Ok(StatusCode::OK));
    check(get(&tls("ca_file = \"/does/not/exist.pem\""), &by_name).await, "/does/not/exist.pem");

    let old = Server::start(Some(authority.server_with("localhost", None, &[&rustls::version::TLS12]))).await;
    let by_name = old.url("https", "localhost");
    assert_eq!(get(&tls(&format!("{ca}\nmin_version = \"TLS12\"")), &by_name).await, Ok(StatusCode::OK));
    check(get(&tls(&format!("{ca}\nmin_version = \"TLS13\"")), &by_name).await, "ProtocolVersion");
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_offered_and_wanted() {
    let authority = Authority::new();
    let server = Server::start(Some(authority.server("localhost", None))).await;
    for (wanted, expected) in [(true, Version::HTTP_2), (false, Version::HTTP_11)] {
        let text = format!("enable_http2 = {wanted}\ntls_config {{\nca_pem = {}\n}}", raw(&authority.pem()));
        get(&client(&text), &server.url("https", "localhost")).await.unwrap();
        assert_eq!(server.last().version, expected);
    }
}

/// The client's certificate comes from files, and is replaced while the agent runs.
#[tokio::test]
async fn mutual_tls_follows_its_files() {
    let (servers, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let accepts_old = Server::start(Some(servers.server("localhost", Some(&old)))).await;
    let accepts_new = Server::start(Some(servers.server("localhost", Some(&new)))).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |(certificate, key): (String, String)| {
        std::fs::write(path("key.pem"), key).unwrap();
        std::fs::write(path("cert.pem"), certificate).unwrap();
    };
    std::fs::write(path("ca.pem"), servers.pem()).unwrap();
    write(old.sign("me"));
    let ca = format!("ca_file = {:?}", path("ca.pem"));
    let text = format!(
        "tls_config {{\n{ca}\ncert_file = {:?}\nkey_file = {:?}\n}}",
        path("cert.pem"),
        path("key.pem")
    );
    let (with, without) = (client(&text), client(&format!("tls_config {{\n{ca}\n}}")));
    let (to_old, to_new) = (accepts_old.url("https", "localhost"), accepts_new.url("https", "localhost"));
    assert_eq!(get(&with, &to_old).await, Ok(StatusCode::OK));
    assert!(get(&without, &to_old).await.is_err());
    assert!(get(&with, &to_new).await.is_err());

    write(new.sign("me"));
    let deadline = Instant::now() + PATIENCE;
    while get(&with, &to_new).await.is_err() {
        assert!(Instant::now() < deadline, "the new certificate is not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A proxy that knows nothing but `CONNECT`; it remembers the heads of its requests.
async fn connect_proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    stream.read_line(&mut head).await.unwrap();
                }
                let target = head.split(' ').nth(1).unwrap().to_owned();
                seen.lock().unwrap().push(head);
                let mut server = TcpStream::connect(target).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    (address, heads)
}

#[tokio::test]
async fn proxies_are_asked_and_spared() {
    let authority = Authority::new();
    let secure = Server::start(Some(authority.server("localhost", None))).await;
    let (proxy, heads) = connect_proxy().await;
    let text = format!(
        "proxy_url = \"http://me:pass@{proxy}\"\nproxy_connect_header = {{ a = [\"b\"] }}\ntls_config {{\nca_pem = {}\n}}",
        raw(&authority.pem())
    );
    assert_eq!(get(&client(&text), &secure.url("https", "localhost")).await, Ok(StatusCode::OK));
    let head = heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with(&format!("connect localhost:{}", secure.address.port())), "{head}");
    assert!(head.contains("proxy-authorization: basic bwu6cgfzcw==") && head.contains("a: b"), "{head}");
    assert_eq!(secure.last().header("proxy-authorization"), "-");

    // A request without TLS goes to the proxy itself, with the whole URL.
    let plain_proxy = Server::start(None).await;
    let text = format!("proxy_url = \"http://me:pass@{}\"", plain_proxy.address);
    assert_eq!(get(&client(&text), "http://example.test/x").await, Ok(StatusCode::OK));
    let seen = plain_proxy.last();
    assert_eq!(
        (seen.uri.as_str(), seen.header("proxy-authorization")),
        ("http://example.test/x", "Basic bWU6cGFzcw==")
    );

    let direct = Server::start(None).await;
    get(&client(&format!("{text}\nno_proxy = \"10.0.0.0/8\"")), &direct.http()).await.unwrap();
    assert_eq!(
        (direct.seen().len(), plain_proxy.seen().len()),
        (1, 1),
        "exceptions spare this machine too, as in Go"
    );
    get(&client(&text), &direct.http()).await.unwrap();
    assert_eq!((direct.seen().len(), plain_proxy.seen().len()), (1, 2));

    let mut proxy_over_tls = authority.server("localhost", None);
    proxy_over_tls.alpn_protocols.clear();
    let proxy_over_tls = Server::start(Some(proxy_over_tls)).await;
    let (port, ca) = (proxy_over_tls.address.port(), raw(&authority.pem()));
    let text = format!("proxy_url = \"https://localhost:{port}\"\ntls_config {{\nca_pem = {ca}\n}}");
    assert_eq!(get(&client(&text), "http://example.test/y").await, Ok(StatusCode::OK));
    assert_eq!(proxy_over_tls.last().uri, "http://example.test/y");
}

#[tokio::test]
async fn a_socks_proxy_is_asked_for_the_host() {
    let server = Server::start(None).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let address = server.address;
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 3];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(&[5, 0]).await.unwrap();
        // RFC 1928: version, command, reserved, kind, length of the name, name, port.
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; usize::from(head[4]) + 2];
        stream.read_exact(&mut rest).await.unwrap();
        stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await.unwrap();
        let mut server = TcpStream::connect(address).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
        String::from_utf8_lossy(&rest[..rest.len() - 2]).into_owned()
    });
    let text = format!("proxy_url = \"socks5://{proxy}\"");
    assert_eq!(get(&client(&text), "http://example.test/x").await, Ok(StatusCode::OK));
    drop(server);
    assert_eq!(asked.await.unwrap(), "example.test");
}

fn oauth2(tokens: &Server, more: &str) -> HttpClient {
    client(&format!(
        "oauth2 {{\nclient_id = \"me+1\"\nclient_secret = \"a b\"\ntoken_url = \"{}\"\nscopes = [\"r\", \"w\"]\nendpoint_params = {{ x = \"1 2\" }}\n{more}\n}}",
        tokens.http()
    ))
}

#[tokio::test]
async fn a_token_is_fetched_once_and_again_when_it_expires() {
    let (tokens, server) = (Server::start(None).await, Server::start(None).await);
    let client = oauth2(&tokens, "");
    tokens.json(200, r#"{"access_token": "t1", "token_type": "bearer", "expires_in": 1}"#);
    tokens.json(200, r#"{"access_token": "t2", "expires_in": "3600"}"#);
    let url = server.http();
    assert_eq!(
        tokio::join!(get(&client, &url), get(&client, &url)),
        (Ok(StatusCode::OK), Ok(StatusCode::OK))
    );
    assert_eq!(tokens.seen().len(), 1);
    let asked = tokens.last();
    assert_eq!(
        asked.header("authorization"),
        "Basic bWUlMkIxOmElMjBi",
        "both parts are encoded: RFC 6749, 2.3.1"
    );
    assert_eq!(asked.body, "grant_type=client_credentials&scope=r%20w&x=1%202");
    assert_eq!(server.last().header("authorization"), "Bearer t1");
    let deadline = Instant::now() + PATIENCE;
    while server.last().header("authorization") != "Bearer t2" {
        assert!(Instant::now() < deadline, "the token is not renewed");
        get(&client, &server.http()).await.unwrap();
    }
    assert_eq!(tokens.seen().len(), 2);
}

#[tokio::test]
async fn a_token_server_may_want_the_client_in_the_form_and_may_fail() {
    let (tokens, server) = (Server::start(None).await, Server::start(None).await);
    let client = oauth2(&tokens, "");
    tokens.json(500, r#"{"error": "server_error", "error_description": "a b is wrong"}"#);
    let failed = get(&client, &server.http()).await.unwrap_err();
    assert!(failed.contains("status 500") && failed.contains("server_error"), "{failed}");
    assert!(!failed.contains("a b"), "{failed}");
    let asked = tokens.seen().len();
    assert_eq!(asked, 2, "both ways are tried");
    get(&client, &server.http()).await.unwrap_err();
    assert_eq!(tokens.seen().len(), asked, "a server in trouble is left alone for a moment");
    assert!(server.seen().is_empty());

    tokens.script.lock().unwrap().clear();
    tokens.json(401, r#"{"error": "invalid_client"}"#);
    tokens.json(200, r#"{"access_token": "t", "token_type": "MAC"}"#);
    let deadline = Instant::now() + PATIENCE;
    while get(&client, &server.http()).await.is_err() {
        assert!(Instant::now() < deadline, "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(tokens.last().body.contains("client_id=me%2B1&client_secret=a%20b"), "{:?}", tokens.last());
    assert_eq!(server.last().header("authorization"), "MAC t");
}
