//! A TLS front for a mirror, with the certificates of `certificates/` (a script there makes them).

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Mirror;

/// A file in the folder of certificates.
pub fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/mirror/certificates").join(name)
}

/// Whether this processor can encrypt; on others `https` is refused, which another test sees.
pub fn can_encrypt() -> bool {
    cfg!(target_arch = "aarch64") || {
        #[cfg(target_arch = "x86_64")]
        let can =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("adx") && is_x86_feature_detected!("aes");
        #[cfg(not(target_arch = "x86_64"))]
        let can = false;
        can
    }
}

/// Stands in front of a mirror, shows a certificate, and passes on what comes decrypted. Returns the encrypted address.
pub fn in_front_of(mirror: &Mirror, name: &str) -> String {
    let chain = vec![CertificateDer::from_pem_file(certificate(&format!("{name}.pem"))).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(certificate(&format!("{name}.key.pem"))).expect("its key");
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).expect("they fit together"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("an address").port();
    let target = mirror.url.trim_start_matches("http://").trim_end_matches('/').to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, config, target) = (stream.expect("a connection"), config.clone(), target.clone());
            thread::spawn(move || pass_on(stream, config, &target));
        }
    });
    format!("https://127.0.0.1:{port}/")
}

/// Forwards a request and its answer. A client that rejects the certificate disconnects before.
fn pass_on(stream: TcpStream, config: Arc<ServerConfig>, target: &str) {
    let mut secure = StreamOwned::new(ServerConnection::new(config).expect("a connection"), stream);
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if secure.read_exact(&mut byte).is_err() {
            return;
        }
        request.push(byte[0]);
    }
    let mut plain = TcpStream::connect(target).expect("the mirror is there");
    plain.write_all(&request).expect("it listens");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    let _ = secure.write_all(&answer);
    secure.conn.send_close_notify();
    let _ = secure.flush();
}

/// What a file holds, to be changed by a test.
pub fn pem(name: &str) -> String {
    fs::read_to_string(certificate(name)).expect("it is there")
}
