//! Prevents a mirror's redirects from reaching this machine or its private network (server-side request forgery).
//!
//! A redirect may lead anywhere on the internet. It may lead to this machine or a private network only if the mirror is
//! there itself. This module resolves host names and checks the addresses, and the connection uses exactly the checked
//! addresses, so a DNS answer that changes in between has no effect.
//!
//! Source of the ranges: the IANA registries of special-purpose addresses for IPv4 and IPv6 (RFC 6890).

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// A mirror's host and addresses.
#[derive(Clone, Debug)]
pub struct Home {
    /// The host in its address.
    host: String,
    /// Its addresses at the first DNS lookup; unknown behind a proxy.
    addresses: Arc<Mutex<Option<BTreeSet<IpAddr>>>>,
}

/// The error for a redirect into a private network.
#[derive(Debug)]
struct Private {
    host: String,
}

impl fmt::Display for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it leads to a private or local address, where the mirror itself is not ({})", self.host)
    }
}

impl Error for Private {}

impl Home {
    /// Notes the host of a mirror's address.
    pub fn of(mirror: &Uri) -> Home {
        let host = mirror.host().unwrap_or_default().to_lowercase();
        let addresses = literal(&host).map(|address| BTreeSet::from([address]));
        Home { host, addresses: Arc::new(Mutex::new(addresses)) }
    }

    /// Checks the target of a redirect that a proxy will resolve. Only the URL is known here, not the IP address.
    ///
    /// # Errors
    /// When the host is not the mirror's, and is an address or name of this machine or a private network, in any
    /// spelling.
    pub fn check_name(&self, target: &Uri) -> Result<(), String> {
        let host = target.host().unwrap_or_default().to_lowercase();
        let is_local = match literal(&host) {
            Some(address) => is_private(address),
            None => is_local_name(&host),
        };
        if is_local && host != self.host { Err(Private { host }.to_string()) } else { Ok(()) }
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        let known = self.addresses.lock().expect("no thread panics with the lock");
        !is_private(address) || known.as_ref().is_some_and(|known| known.contains(&address))
    }

    /// Remembers the mirror's addresses, so that a later DNS answer cannot change them.
    fn note(&self, found: &ResolvedSocketAddrs) {
        let mut known = self.addresses.lock().expect("no thread panics with the lock");
        known.get_or_insert_with(|| found.iter().map(|address| address.ip()).collect());
    }
}

/// Resolves host names, and removes addresses to which a mirror may not redirect.
#[derive(Debug)]
pub struct Guard {
    home: Home,
    /// Whether the mirror itself is resolved, not the target of a redirect.
    is_mirror: bool,
}

impl Guard {
    /// Guards a chain of redirects that starts at a mirror.
    pub fn new(home: &Home, is_mirror: bool) -> Guard {
        Guard { home: home.clone(), is_mirror }
    }
}

/// Resolves names. The system's DNS errors have no kind of their own, so they get one here.
#[derive(Debug)]
pub struct Lookup;

impl Resolver for Lookup {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(uri, config, timeout).map_err(|error| match error {
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            error => error,
        })
    }
}

impl Resolver for Guard {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = Lookup.resolve(uri, config, timeout)?;
        if self.is_mirror {
            self.home.note(&found);
        }
        let mut allowed = self.empty();
        found.iter().filter(|address| self.home.is_allowed(address.ip())).for_each(|address| allowed.push(*address));
        if allowed.is_empty() {
            let host = uri.host().unwrap_or_default().to_string();
            return Err(ureq::Error::Other(Box::new(Private { host })));
        }
        Ok(allowed)
    }
}

/// The IP address of a host that is written as one.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether a host is `localhost`, or a number that systems read as an address, such as `2130706433`.
fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_hex = last.strip_prefix("0x").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()));
    last == "localhost" || is_hex || last.chars().all(|c| c.is_ascii_digit())
}

/// Whether an address is not a public internet address.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        // This machine, this network, private networks, multicast, reserved.
        (0 | 10 | 127 | 224.., ..) => true,
        // Shared address space of providers (RFC 6598).
        (100, 64..=127, _) => true,
        // Link-local; cloud providers serve a machine's metadata, with secrets, here.
        (169, 254, _) => true,
        (172, 16..=31, _) | (192, 168, _) => true,
        // Protocol assignments, documentation, benchmarks.
        (192, 0, 0 | 2) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => true,
        _ => false,
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4 addresses inside IPv6: compatible (with `::` and `::1`), mapped, translated, 6to4.
        [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        // Local translation, discard-only, documentation.
        [0x64, 0xFF9B, 1, ..] | [0x100, 0, 0, 0, ..] | [0x2001, 0xDB8, ..] => true,
        // Unique local, link-local, site-local, multicast.
        [first, ..] => matches!(first & 0xFE00, 0xFC00) || matches!(first & 0xFF80, 0xFE80) || first >= 0xFEC0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_internet_are_told_from_others() {
        let private = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
        ];
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.0.0.1",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "192.169.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::",
            "2606:4700::1111",
            "2001:4860::8888",
            "fbff::1",
            "fe00::1",
            "fe7f::1",
        ];
        let is = |address: &str| is_private(address.parse().unwrap());
        assert!(private.iter().all(|address| is(address)), "{:?}", private.iter().find(|address| !is(address)));
        assert!(!public.iter().any(|address| is(address)), "{:?}", public.iter().find(|address| is(address)));
    }

    #[test]
    fn what_a_proxy_would_look_up_is_checked_by_its_name() {
        let home = Home::of(&"http://mirror.example/".parse().unwrap());
        let refused = |home: &Home, target: &str| home.check_name(&target.parse().unwrap()).is_err();
        for target in [
            "http://localhost/",
            "https://LOCALHOST:81/",
            "http://a.localhost./",
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://10.0.0.1/x",
            "http://169.254.169.254/",
        ] {
            assert!(refused(&home, target), "{target}");
        }
        for target in
            ["http://b.example/", "http://1.1.1.1/", "http://[2606:4700::1111]/", "https://localhost.example/"]
        {
            assert!(!refused(&home, target), "{target}");
        }
        let home = Home::of(&"http://10.0.0.1/".parse().unwrap());
        assert!(!refused(&home, "https://10.0.0.1:8443/x") && refused(&home, "http://10.0.0.2/"));
    }
}
