//! Proxies between this machine and the mirrors, from environment variables.

use ureq::ProxyProtocol;
use ureq::http::Uri;

use super::FetchError;

/// The proxy for each URL scheme, and the hosts that are requested without one.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For `http` addresses.
    pub http: Option<Proxy>,
    /// For `https` addresses.
    pub https: Option<Proxy>,
    /// Hosts and domains, separated by commas, as in `NO_PROXY`; `*` means all.
    pub exceptions: String,
}

/// A proxy and its environment variable.
#[derive(Clone)]
pub struct Proxy {
    /// The environment variable.
    pub variable: String,
    /// Its address, which may contain a password.
    pub url: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("variable", &self.variable).finish_non_exhaustive()
    }
}

impl Proxies {
    /// The proxy for an address.
    ///
    /// # Errors
    /// When its address is invalid or its kind is not supported. Connecting without the proxy would be worse than not
    /// connecting.
    pub(super) fn of(&self, address: &Uri) -> Result<Option<ureq::Proxy>, FetchError> {
        let proxy = if address.scheme_str() == Some("https") { &self.https } else { &self.http };
        let Some(proxy) = proxy.as_ref().filter(|_| !self.is_exception(address.host().unwrap_or_default())) else {
            return Ok(None);
        };
        let refuse = |reason| FetchError::Proxy { variable: proxy.variable.clone(), reason };
        let parsed = ureq::Proxy::new(&proxy.url).map_err(|_| refuse("no address"))?;
        match parsed.protocol() {
            ProxyProtocol::Http | ProxyProtocol::Https => Ok(Some(parsed)),
            _ => Err(refuse("of a kind that is not supported")),
        }
    }

    /// Whether a host is used without a proxy: it or one of its parent domains is listed.
    fn is_exception(&self, host: &str) -> bool {
        let host = host.to_lowercase();
        let listed = self.exceptions.split(',').map(|entry| entry.trim().to_lowercase());
        listed.filter(|entry| !entry.is_empty()).any(|entry| {
            let domain = entry.trim_start_matches('*').trim_start_matches('.');
            entry == "*" || host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(url: &str, exceptions: &str) -> Proxies {
        let proxy = Proxy { variable: "HTTPS_PROXY".to_string(), url: url.to_string() };
        Proxies { http: None, https: Some(proxy), exceptions: exceptions.to_string() }
    }

    fn host(proxies: &Proxies, address: &str) -> Option<String> {
        proxies.of(&address.parse().unwrap()).unwrap().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn each_kind_of_address_has_its_own_proxy() {
        let proxies = proxies("proxy.example:3128", "");
        assert_eq!(host(&proxies, "https://a.example/x").as_deref(), Some("proxy.example:3128"));
        assert_eq!(host(&proxies, "http://a.example/x"), None);
    }

    #[test]
    fn listed_hosts_and_those_in_listed_domains_are_asked_directly() {
        for exceptions in ["a.example", "x, A.example", ".example", "*.example", "example", "*"] {
            assert_eq!(host(&proxies("http://p", exceptions), "https://a.example/x"), None, "{exceptions}");
        }
        for exceptions in ["", "b.example", "ample", ",", "aa.example"] {
            assert!(host(&proxies("http://p", exceptions), "https://a.example/x").is_some(), "{exceptions}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_without_its_password() {
        for (url, reason) in [("http://", "no address"), ("socks5://u:secret@p", "of a kind that is not supported")] {
            let error = proxies(url, "").of(&"https://a.example".parse().unwrap()).unwrap_err();
            assert_eq!(error.to_string(), format!("the proxy is {reason} (HTTPS_PROXY)"));
        }
        assert!(!format!("{:?}", proxies("http://u:secret@p", "")).contains("secret"));
    }
}
