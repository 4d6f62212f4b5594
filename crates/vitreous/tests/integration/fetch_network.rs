//! `vitreous data fetch`: redirects, proxies, private networks, passwords in URLs, slow mirrors and TLS.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Output;
use std::thread;
use std::time::Duration;

use crate::common::{Folder, text};
use crate::mirror::get::*;
use crate::mirror::{Mirror, Request, file, stated, status, unreachable, whole};
use vitreous::fetch::{FetchError, Proxies, Proxy};

const PRIVATE: &str = "it leads to a private or local address, where the mirror itself is not";

fn sends_to(location: &str) -> Mirror {
    let location = format!("location: {location}");
    Mirror::new(move |_, to| stated(to, "302 Found", &[&location, "content-length: 0"], b""))
}

fn good(gz: &[u8]) -> Mirror {
    let gz = gz.to_vec();
    Mirror::new(move |request, to| file(request, to, &gz))
}

fn port(mirror: &Mirror) -> &str {
    mirror.url.trim_end_matches('/').rsplit(':').next().unwrap()
}

/// A proxy that answers what is asked through it by itself, as a good mirror would.
fn proxy(gz: &[u8]) -> Mirror {
    let gz = gz.to_vec();
    Mirror::new(move |_: &Request, to| {
        to.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let request = crate::mirror::read_request(to).unwrap();
        file(&request, to, &gz);
    })
}

fn proxies(http: &Mirror, exceptions: &str) -> Proxies {
    let http = Proxy { variable: "HTTP_PROXY".to_string(), url: http.url.clone() };
    Proxies { http: Some(http), https: None, exceptions: exceptions.to_string() }
}

#[test]
fn redirects_into_other_private_networks_are_refused() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let reached = good(&gz);
        let port = port(&reached);
        // All these lead to this machine or a private network, only 127.0.0.1 is where the mirrors are.
        for host in
            ["127.0.0.2", "[::1]", "10.0.0.1", "169.254.169.254", "192.168.0.1", "0.0.0.0", "[::ffff:127.0.0.2]"]
        {
            let got = get(set, &folder, &[&sends_to(&format!("http://{host}:{port}/noise.gz"))], false);
            assert_eq!(got.reasons(), [format!("{PRIVATE} ({host})")]);
        }
        assert_eq!(reached.requests().len(), 0);
        assert_nothing(&folder);
        // Where the mirror is, another port or name is as good.
        let target = format!("http://127.0.0.1:{port}/noise.gz");
        get(set, &folder, &[&sends_to(&target)], false).result.unwrap();
        assert_whole(&folder, &gz);
    });
}

// Elsewhere 127.0.0.2 is not this machine.
#[cfg(target_os = "linux")]
#[test]
fn a_host_name_in_a_private_network_is_refused_like_its_address() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let reached = good(&gz);
        let location = format!("location: http://localhost:{}/noise.gz", port(&reached));
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                crate::mirror::read_request(&mut stream).unwrap();
                stated(&mut stream, "301 Moved Permanently", &[&location, "content-length: 0"], b"");
            }
        });
        let got = get_with(set, &folder, vec![url], |_| ());
        assert_eq!((got.reasons(), reached.requests().len()), (vec![format!("{PRIVATE} (localhost)").as_str()], 0));
    });
}

#[test]
fn the_proxy_is_chosen_again_after_a_redirect() {
    with_noise(|set, gz| {
        // From a mirror that is asked directly to a host behind the proxy.
        let folder = Folder::new();
        let through = proxy(&gz);
        let direct = sends_to("http://files.example/noise.gz");
        let url = format!("http://localhost:{}/", port(&direct));
        let got = get_with(set, &folder, vec![url], |options| options.proxies = proxies(&through, "localhost"));
        got.result.unwrap();
        assert_eq!((direct.requests().len(), through.requests()[0].path.as_str()), (1, "files.example:80"));
        assert_whole(&folder, &gz);

        // From a mirror behind the proxy to one that is asked directly.
        let folder = Folder::new();
        let direct = good(&gz);
        let location = format!("location: http://localhost:{}/noise.gz", port(&direct));
        let through = Mirror::new(move |_: &Request, to| {
            to.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            crate::mirror::read_request(to).unwrap();
            stated(to, "307 Temporary Redirect", &[&location, "content-length: 0"], b"");
        });
        let url = vec!["http://127.0.0.1:9/".to_string()];
        let got = get_with(set, &folder, url, |options| options.proxies = proxies(&through, "localhost"));
        got.result.unwrap();
        assert_eq!((direct.requests().len(), through.requests()[0].path.as_str()), (1, "127.0.0.1:9"));
        assert_whole(&folder, &gz);

        // If only the proxy can resolve a mirror, the program cannot detect that it is on this machine.
        let folder = Folder::new();
        let url = vec!["http://mirror.example/".to_string()];
        let got = get_with(set, &folder, url, |options| options.proxies = proxies(&through, "localhost"));
        assert_eq!(got.reasons(), [format!("{PRIVATE} (localhost)")]);
        // Nor is a proxy asked for what is on its own machine.
        let through = Mirror::new(move |_: &Request, to| {
            to.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            crate::mirror::read_request(to).unwrap();
            stated(to, "302 Found", &["location: http://127.0.0.1:81/", "content-length: 0"], b"");
        });
        let url = vec!["http://mirror.example/".to_string()];
        let got = get_with(set, &folder, url, |options| options.proxies = proxies(&through, ""));
        assert_eq!((got.reasons(), through.requests().len()), (vec![format!("{PRIVATE} (127.0.0.1)").as_str()], 1));
    });
}

#[test]
fn a_redirect_to_a_non_http_address_is_refused() {
    with_noise(|set, _| {
        let folder = Folder::new();
        for location in ["ftp://a.example/noise.gz", "file:///etc/passwd", "http://", "data:,x"] {
            let got = get(set, &folder, &[&sends_to(location)], false);
            assert_eq!(got.reasons(), ["it redirects to an invalid address"], "{location}");
        }
    });
}

#[test]
fn a_slow_mirror_is_replaced_by_the_next_which_resumes() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let bytes = gz.clone();
        // Never silent for long, and never done: 2 kB a second at most.
        let drips = Mirror::new(move |_, to| {
            whole(to, bytes.len(), &bytes[..5000]);
            for byte in &bytes[5000..] {
                thread::sleep(Duration::from_millis(20));
                if to.write_all(&[*byte; 1]).is_err() {
                    return;
                }
            }
        });
        let next = good(&gz);
        let urls = vec![drips.url.clone(), next.url.clone()];
        let got = get_with(set, &folder, urls, |options| options.slowest = 200_000);
        got.result.as_ref().unwrap();
        assert_eq!(got.reasons(), ["it sends less than 200.0 kB a second"]);
        let from: usize = next.requests()[0].from();
        assert!((5000..6000).contains(&from), "{from}");
        assert_whole(&folder, &gz);
    });
}

fn program(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).env_remove("VITREOUS_DATA_DIR").args(["data", "fetch"]).args(arguments);
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"] {
        command.env_remove(variable).env_remove(variable.to_lowercase());
    }
    // It must not wait for what never comes.
    command.envs(variables.iter().copied()).timeout(Duration::from_secs(60)).output().unwrap()
}

#[test]
fn passwords_in_addresses_are_never_printed() {
    let folder = Folder::new();
    let (unreachable, without) = (unreachable(), Mirror::new(|_, to| status(to, "404 Not Found")));
    let sends = sends_to("http://other:secret@127.0.0.2:81/mnist?key=secret");
    let told = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = program(&folder, arguments, variables);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success() && !told.contains("secret"), "{arguments:?}: {told}");
        told
    };
    let with_user = |mirror: &Mirror| mirror.url.replace("http://", "http://user:secret@");
    for mirror in [&unreachable, &without, &sends] {
        let url = mirror.url.replace("http://", "http://***@");
        let all = told(&["mnist", "--mirror", &with_user(mirror)], &[]);
        assert!(all.contains(&format!("asking {url}train-images-idx3-ubyte.gz\n")), "{all}");
        assert!(all.contains(&format!("note: {url}train-images-idx3-ubyte.gz: ")), "{all}");
        assert!(all.contains(&format!("error: no mirror has train-images-idx3-ubyte.gz: {url}: ")), "{all}");
        told(&["mnist", "--json", "--mirror", &with_user(mirror)], &[]);
    }
    let all = told(&["mnist", "--mirror", "ftp://user:secret@a.example/"], &[]);
    assert!(all.starts_with("error: invalid mirror address `ftp://***@a.example/` (--mirror)\n"), "{all}");
    told(&["mnist", "--mirror", "http://user:secret@"], &[]);
    told(&["mnist", "--mirror", "http://user:se cret@a.example/"], &[]);
    // A proxy that does not exist, one that refuses, and an invalid address.
    let refuses = Mirror::new(|_, to| status(to, "407 Proxy Authentication Required"));
    for proxy in [with_user(&unreachable), with_user(&refuses), "http://user:secret@".to_string()] {
        told(&["mnist", "--mirror", "http://mirror.example/"], &[("HTTP_PROXY", &proxy)]);
    }
    assert_eq!(names(folder.root()), [""; 0]);
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_an_error() {
    let folder = Folder::new();
    let url = unreachable().url;
    let told = |variables: &[(&str, &str)]| {
        let output = program(&folder, &["mnist", "--mirror", &url], variables);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let pipe = |name: &str| {
        let (path, mode) = (folder.path(name), 0o600.into());
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    pipe("ca.pem");
    assert_eq!(told(&[("SSL_CERT_FILE", "ca.pem")]), "error: cannot read: not a regular file (ca.pem)\n");
    fs::create_dir(folder.path("mnist")).unwrap();
    pipe("mnist/train-images-idx3-ubyte");
    let expected = "error: cannot read: not a regular file (./mnist/train-images-idx3-ubyte)\n";
    assert_eq!(told(&[]), expected);
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod encrypted {
    use super::*;
    use crate::mirror::tls::{can_encrypt, certificate, in_front_of, pem};

    #[test]
    fn an_encrypted_mirror_is_trusted_only_by_its_certificate() {
        if !can_encrypt() {
            return;
        }
        with_noise(|set, gz| {
            let mirror = good(&gz);
            let get = |name: &str, trusted: Option<&str>| {
                let folder = Folder::new();
                let got = get_with(set, &folder, vec![in_front_of(&mirror, name)], |options| {
                    options.certificates = trusted.map(certificate);
                });
                match &got.result {
                    Ok(_) => assert_whole(&folder, &gz),
                    Err(_) => assert_nothing(&folder),
                }
                got.reasons().join("; ")
            };
            assert_eq!(get("good", Some("authority.pem")), "");
            assert_eq!(mirror.requests().len(), 1);
            assert_eq!(get("other-host", Some("authority.pem")), "its certificate is for another host");
            let expired = "its certificate has expired, or this machine's clock is wrong";
            assert_eq!(get("expired", Some("authority.pem")), expired);
            let unknown = "its certificate is not from a known authority (SSL_CERT_FILE can name others)";
            assert_eq!(get("unknown", Some("authority.pem")), unknown);
            // Nor do browsers know the authority of these tests.
            assert_eq!(get("good", None), unknown);
            assert_eq!(mirror.requests().len(), 1, "nothing was asked of the others");
        });
    }

    #[test]
    fn a_redirect_to_an_encrypted_mirror_is_checked() {
        if !can_encrypt() {
            return;
        }
        with_noise(|set, gz| {
            let mirror = good(&gz);
            let get = |name: &str| {
                let folder = Folder::new();
                let first = sends_to(&format!("{}noise.gz", in_front_of(&mirror, name)));
                get_with(set, &folder, vec![first.url.clone()], |options| {
                    options.certificates = Some(certificate("authority.pem"));
                })
            };
            get("good").result.unwrap();
            assert_eq!(get("other-host").reasons(), ["its certificate is for another host"]);
        });
    }

    #[test]
    fn the_program_trusts_ssl_cert_file() {
        if !can_encrypt() {
            return;
        }
        let folder = Folder::new();
        let url = in_front_of(&Mirror::new(|_, to| status(to, "404 Not Found")), "good");
        let told = |file: &str| {
            let output = program(&folder, &["mnist", "--mirror", &url], &[("SSL_CERT_FILE", file)]);
            text(&output.stderr)
        };
        let reached = told(certificate("authority.pem").to_str().unwrap());
        assert!(reached.contains("it answers 404 not found"), "{reached}");
        assert!(told("").contains("its certificate is not from a known authority"), "an empty variable names no file");
        fs::write(folder.path("key.pem"), pem("good.key.pem")).unwrap();
        let expected = "error: the certificates cannot be used: it has no certificate in PEM form (key.pem)\n\
                        hint: set SSL_CERT_FILE to a PEM file, or unset it\n";
        assert_eq!(told("key.pem"), expected);
        fs::write(folder.path("cut.pem"), &pem("authority.pem")[..200]).unwrap();
        assert!(told("cut.pem").starts_with("error: the certificates cannot be used: "), "{}", told("cut.pem"));
        assert!(told("gone.pem").starts_with("error: cannot read: "), "{}", told("gone.pem"));
    }
}

#[test]
fn an_invalid_address_is_refused_before_any_request() {
    with_noise(|set, _| {
        let got = get_with(set, &Folder::new(), vec!["https://user:secret@".to_string()], |_| ());
        assert_eq!(got.result, Err(FetchError::Mirror { url: "https://***@".to_string() }));
        get_with(set, &Folder::new(), vec!["http://user:secret@a.example/".to_string()], |options| {
            let shown = format!("{options:?}");
            assert!(shown.contains("http://***@a.example/") && !shown.contains("secret"), "{shown}");
            options.mirrors = vec!["none".to_string()];
        });
    });
}
