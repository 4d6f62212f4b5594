//! One mirror over HTTP: requests files, resumes interrupted downloads, and reports what is wrong with the mirror.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Error};

use super::address::{redirected, shown};
use super::certificates::certificate_fault;
use super::guard::{Guard, Home, Lookup};
use super::part::Part;
use super::{Event, FetchError, Options, archive};
use crate::data_sets::RemoteFile;
use crate::{durations, numbers, system_errors};

/// Number of attempts to resume an interrupted download from a mirror.
const ATTEMPTS: usize = 5;

/// Maximum number of redirects.
const REDIRECTS_MAX: usize = 10;

/// Size of a read, in bytes.
const PIECE: usize = 1 << 16;

/// The HTTP client of one mirror.
pub struct Receiver<'a> {
    options: &'a Options,
    base: String,
    home: Home,
    /// TLS; `None` if this processor lacks instructions that it needs.
    tls: Option<TlsConfig>,
}

/// Why a download failed.
enum Broken {
    /// An error of the mirror or the network.
    There(String),
    /// An error of this machine.
    Here(FetchError),
}

impl From<FetchError> for Broken {
    fn from(error: FetchError) -> Self {
        Broken::Here(error)
    }
}

/// The time limit for a file.
struct Deadline<'a> {
    start: Instant,
    options: &'a Options,
    /// The file's size: its maximum until the mirror states it.
    bytes: u64,
}

impl Deadline<'_> {
    fn is_over(&self) -> bool {
        let seconds = self.bytes as f64 / self.options.slowest.max(1) as f64;
        self.start.elapsed() > self.options.timeout.saturating_add(Duration::from_secs_f64(seconds))
    }

    fn check(&self) -> Result<(), Broken> {
        let slowest = numbers::bytes(self.options.slowest);
        if self.is_over() { Err(Broken::There(format!("it sends less than {slowest} a second"))) } else { Ok(()) }
    }
}

impl Receiver<'_> {
    /// Makes the client of a mirror.
    ///
    /// # Errors
    /// When the mirror's or the proxy's address is invalid, or the certificates file cannot be used.
    pub fn new<'a>(base: &str, options: &'a Options) -> Result<Receiver<'a>, FetchError> {
        let refuse = || FetchError::Mirror { url: shown(base) };
        let address: Uri = base.parse().map_err(|_| refuse())?;
        if !matches!(address.scheme_str(), Some("http" | "https")) || address.host().is_none() {
            return Err(refuse());
        }
        options.proxies.of(&address)?;
        let tls = match &options.certificates {
            Some(path) => tls(Some(super::certificates::read(path)?)),
            None => tls(None),
        };
        let base = if base.ends_with('/') { base.to_string() } else { format!("{base}/") };
        Ok(Receiver { options, base, home: Home::of(&address), tls })
    }

    /// The address of a file, possibly with a password.
    pub fn url_of(&self, file: &str) -> String {
        format!("{}{file}", self.base)
    }

    /// Downloads the missing bytes of a file and checks its content; if that fails, returns what is wrong with the
    /// mirror.
    ///
    /// # Errors
    /// When the part of the file cannot be written.
    pub fn get(
        &self,
        url: &str,
        file: &RemoteFile,
        part: &mut Part,
        watch: &dyn Fn(Event),
    ) -> Result<Result<(), String>, FetchError> {
        let mut attempts = 0;
        let most = file.content.download_bytes_max();
        let mut deadline = Deadline { start: Instant::now(), options: self.options, bytes: most };
        loop {
            attempts += 1;
            let before = part.len();
            watch(Event::Asks { file: file.name, url: &shown(url), from: before });
            let reason = match self.receive(url, part, (most, &mut deadline), watch) {
                Ok(()) => {
                    watch(Event::Checks { file: file.name });
                    match archive::check(&file.content, || part.open_again()) {
                        Ok(()) => return Ok(Ok(())),
                        Err(unfit) => part.clear().map(|()| unfit.0)?,
                    }
                }
                Err(Broken::There(reason)) => reason,
                Err(Broken::Here(error)) => return Err(error),
            };
            // The partial file may have been the start of another file: download once more, from the first byte.
            let is_forgotten = before > 0 && part.len() == 0;
            let goes_on = part.len() > before && attempts < ATTEMPTS && !deadline.is_over();
            if !is_forgotten && !goes_on {
                return Ok(Err(reason));
            }
        }
    }

    /// Requests the missing bytes once and receives them, up to a maximum number of bytes and a time.
    fn receive(
        &self,
        url: &str,
        part: &mut Part,
        (most, deadline): (u64, &mut Deadline),
        watch: &dyn Fn(Event),
    ) -> Result<(), Broken> {
        let from = part.len();
        let mut response = self.ask(url, from)?;
        match response.status() {
            StatusCode::OK => part.clear()?,
            StatusCode::PARTIAL_CONTENT if from > 0 && starts_at(response.headers()) == Some(from) => {}
            StatusCode::PARTIAL_CONTENT => {
                part.clear()?;
                return Err(Broken::There("it sends another part than was requested".to_string()));
            }
            // No bytes follow those received so far: the file is complete.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return Ok(()),
            status => return Err(Broken::There(format!("it answers {}", status.to_string().to_lowercase()))),
        }
        let stated = response.body().content_length();
        if let Some(total) = stated.map(|bytes| bytes.saturating_add(part.len())).filter(|total| *total > most) {
            let [total, most] = [total, most].map(numbers::count);
            part.clear()?;
            return Err(Broken::There(format!("it states {total} bytes, more than the maximum of {most}")));
        }
        let total = stated.map(|bytes| bytes + part.len());
        deadline.bytes = total.unwrap_or(most);
        let mut body = response.body_mut().as_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Broken::There(self.said(Error::from(error)))),
            };
            deadline.check()?;
            if part.len() + read as u64 > most {
                part.clear()?;
                return Err(Broken::There(format!("it sends more than {} bytes", numbers::count(most))));
            }
            part.append(&piece[..read])?;
            watch(Event::Received { bytes: part.len(), total });
        }
    }

    /// Requests a file from a byte on, and follows redirects. For each redirect, the proxy is chosen and the address
    /// checked again.
    fn ask(&self, url: &str, from: u64) -> Result<Response<Body>, Broken> {
        let there = |reason: &str| Broken::There(reason.to_string());
        let mut address: Uri = url.parse().map_err(|_| there("the file's address is invalid"))?;
        for step in 0..=REDIRECTS_MAX {
            let agent = self.agent(&address, step == 0)?;
            // A compressed transfer would hide the length of the file.
            let mut request = agent.get(&address).header(header::ACCEPT_ENCODING, "identity");
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| Broken::There(self.said(error)))?;
            let Some(location) = location(&response) else { return Ok(response) };
            let target = location.to_str().ok().and_then(|location| redirected(&address, location));
            address = target.ok_or_else(|| there("it redirects to an invalid address"))?;
        }
        Err(there("it redirects too often"))
    }

    /// The agent for one address.
    fn agent(&self, address: &Uri, is_mirror: bool) -> Result<Agent, Broken> {
        if self.tls.is_none() && address.scheme_str() == Some("https") {
            return Err(Broken::There("https needs a processor with AES, AVX2, ADX and BMI2 here".to_string()));
        }
        let proxy = self.options.proxies.of(address)?;
        let is_proxied = proxy.is_some();
        if is_proxied && !is_mirror {
            self.home.check_name(address).map_err(Broken::There)?;
        }
        let timeout = Some(self.options.timeout);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(proxy)
            .max_redirects(0)
            .tls_config(self.tls.clone().unwrap_or_default())
            .user_agent(concat!("vitreous/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            .build();
        Ok(if is_proxied {
            // The resolved name is the proxy's, which may be in any network.
            Agent::with_parts(config, DefaultConnector::default(), Lookup)
        } else {
            Agent::with_parts(config, DefaultConnector::default(), Guard::new(&self.home, is_mirror))
        })
    }

    /// Describes an error in a few words.
    fn said(&self, error: Error) -> String {
        match error {
            Error::Timeout(_) => {
                format!("nothing came for {}", durations::duration(self.options.timeout.as_secs_f64()))
            }
            Error::HostNotFound => "there is no such host, or no network".to_string(),
            Error::ConnectProxyFailed(reason) => format!("the proxy does not lead there: {reason}"),
            Error::Other(error) => error.to_string(),
            // Its message repeats the address, which may contain a password.
            Error::BadUri(_) => "its address cannot be used".to_string(),
            Error::Io(error) if certificate_fault(&error).is_some() => certificate_fault(&error).unwrap_or_default(),
            Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => "it broke off".to_string(),
            Error::Io(error) => system_errors::system_error(&error),
            error => error.to_string().to_lowercase(),
        }
    }
}

/// The target of a redirect.
fn location(response: &Response<Body>) -> Option<&header::HeaderValue> {
    let status = response.status();
    let is_redirect = [301, 302, 303, 307, 308].contains(&status.as_u16());
    response.headers().get(header::LOCATION).filter(|_| is_redirect)
}

/// The first byte of a partial response.
fn starts_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// TLS in pure Rust, with these root certificates or those of browsers; `None` if the processor lacks instructions that
/// it needs.
fn tls(roots: Option<RootCerts>) -> Option<TlsConfig> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if can_encrypt() {
        let provider = std::sync::Arc::new(rustls_graviola::default_provider());
        let config = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        return Some(config.root_certs(roots.unwrap_or(RootCerts::WebPki)).build());
    }
    None
}

/// Whether the processor has the instructions without which graviola ends the program.
#[cfg(target_arch = "x86_64")]
fn can_encrypt() -> bool {
    is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2")
}

/// Whether the processor has the instructions without which graviola ends the program.
#[cfg(target_arch = "aarch64")]
fn can_encrypt() -> bool {
    use std::arch::is_aarch64_feature_detected;
    is_aarch64_feature_detected!("neon")
        && is_aarch64_feature_detected!("aes")
        && is_aarch64_feature_detected!("pmull")
        && is_aarch64_feature_detected!("sha2")
}
