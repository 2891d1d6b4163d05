//! The program as a client over TLS.

use std::process::Command;

use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{Process, text, turnkit};

/// Ends TLS in front of a server, with a certificate of its own.
struct Front {
    /// `localhost` with a port.
    host: String,
    certificate: NamedTempFile,
}

impl Front {
    async fn of(server: String) -> Front {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = NamedTempFile::new().unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = rustls::crypto::ring::default_provider();
        let config = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    // A client that does not trust the certificate breaks off.
                    let mut outside = acceptor.accept(socket).await?;
                    let mut inside = TcpStream::connect(server).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        Front { host, certificate }
    }

    /// Has the program trust this front, and no other.
    fn trusted_by<'a>(&self, program: &'a mut Command) -> &'a mut Command {
        program.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", self.certificate.path())
    }
}

fn address(url: &str) -> String {
    url.strip_prefix("http://").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_runs_at_a_substrate_behind_tls_for_a_client_behind_tls() {
    let substrate = Process::substrate("1ms");
    let before_substrate = Front::of(address(&substrate.url)).await;
    let data_dir = tempfile::tempdir().unwrap();
    let mut serve = turnkit();
    serve.args(["serve", "--listen", "127.0.0.1:0"]).arg("--data-dir").arg(data_dir.path());
    serve.args(["--substrate", &format!("https://{}", before_substrate.host)]);
    let server = Process::spawn(before_substrate.trusted_by(&mut serve));
    let before_server = Front::of(address(&server.url)).await;
    let mut chat = turnkit();
    chat.args(["chat", "--json", "--server", &format!("https://{}", before_server.host), "hello"]);
    let output = before_server.trusted_by(&mut chat).output().unwrap();
    let (out, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("session.run.completed"), "{out}{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_vouches_for_is_not_talked_to() {
    let server = || "127.0.0.1:1".to_owned();
    let (front, another) = (Front::of(server()).await, Front::of(server()).await);
    let mut chat = turnkit();
    chat.args(["chat", "--server", &format!("https://{}", front.host), "hello"]);
    let output = another.trusted_by(&mut chat).output().unwrap();
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("certificate"), "{told}");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_kept_in_a_redis_behind_tls() {
    let redis = turnkit_testkit::redis::RedisServer::start();
    let url = redis.url();
    let address = url.strip_prefix("redis://").unwrap().trim_end_matches('/');
    let front = Front::of(address.to_owned()).await;
    let mut substrate = turnkit();
    substrate.args(["substrate", "--listen", "127.0.0.1:0"]);
    substrate.args(["--log", &format!("rediss://{}", front.host)]);
    // It prints the ready line once Redis has answered.
    Process::spawn(front.trusted_by(&mut substrate));
}
