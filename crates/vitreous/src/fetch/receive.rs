//! One mirror over HTTP: asks for files, goes on where it broke off, and says what the mirror did wrong.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::tls::TlsConfig;
use ureq::{Agent, Error};

use super::part::Part;
use super::{Event, FetchError, Options, RemoteFile, archive};
use crate::units;

/// How often a mirror that breaks off is asked to go on.
const ATTEMPTS: usize = 5;

/// Longest way from an address to the file.
const REDIRECTS_MAX: u32 = 10;

/// Bytes that are read at once.
const PIECE: usize = 1 << 16;

const NO_HOST: &str = "there is no such host, or no network";

/// What talks to one mirror.
pub struct Receiver {
    agent: Agent,
    base: String,
    encrypts: bool,
    timeout: Duration,
}

/// Why a download broke off.
enum Broken {
    /// What is wrong with the mirror or the way to it.
    There(String),
    /// What is wrong here.
    Here(FetchError),
}

impl From<FetchError> for Broken {
    fn from(error: FetchError) -> Self {
        Broken::Here(error)
    }
}

impl Receiver {
    /// Gets ready to talk to a mirror.
    ///
    /// # Errors
    /// When its address is none, or the proxy's.
    pub fn new(base: &str, options: &Options) -> Result<Receiver, FetchError> {
        let refuse = || FetchError::Mirror { url: base.to_string() };
        let address: Uri = base.parse().map_err(|_| refuse())?;
        if !matches!(address.scheme_str(), Some("http" | "https")) || address.host().is_none() {
            return Err(refuse());
        }
        let (timeout, tls) = (Some(options.timeout), tls());
        let encrypts = tls.is_some();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(options.proxies.of(&address)?)
            // A redirect may lead to https, where ureq without a kind of encryption would panic.
            .max_redirects(if encrypts { REDIRECTS_MAX } else { 0 })
            .tls_config(tls.unwrap_or_default())
            .user_agent(concat!("vitreous/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout);
        let base = if base.ends_with('/') { base.to_string() } else { format!("{base}/") };
        Ok(Receiver { agent: config.build().new_agent(), base, encrypts, timeout: options.timeout })
    }

    /// The address of a file.
    pub fn url_of(&self, file: &str) -> String {
        format!("{}{file}", self.base)
    }

    /// Brings what is missing of a file, until its content is right; returns what is wrong with the mirror otherwise.
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
        loop {
            attempts += 1;
            let before = part.len();
            watch(Event::Asks { file: file.name, url, from: before });
            let reason = match self.receive(url, part, file.content.download_bytes_max(), watch) {
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
            // What lay here may be the beginning of another file: once more, from nothing.
            let is_forgotten = before > 0 && part.len() == 0;
            let goes_on = part.len() > before && attempts < ATTEMPTS;
            if !is_forgotten && !goes_on {
                return Ok(Err(reason));
            }
        }
    }

    /// Asks once for what is missing and takes what comes.
    fn receive(&self, url: &str, part: &mut Part, most: u64, watch: &dyn Fn(Event)) -> Result<(), Broken> {
        if !self.encrypts && self.base.starts_with("https:") {
            return Err(Broken::There("https needs a processor with AES, AVX2, ADX and BMI2 here".to_string()));
        }
        let from = part.len();
        // Of a compressed copy of a compressed file nobody would know the length.
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let mut response = request.call().map_err(|error| Broken::There(self.said(error)))?;
        match response.status() {
            StatusCode::OK => part.clear()?,
            StatusCode::PARTIAL_CONTENT if from > 0 && starts_at(response.headers()) == Some(from) => {}
            StatusCode::PARTIAL_CONTENT => {
                part.clear()?;
                return Err(Broken::There("it sends another part than was asked for".to_string()));
            }
            // Nothing lies behind what is here: that is all of it.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return Ok(()),
            status => return Err(Broken::There(format!("it answers {}", status.to_string().to_lowercase()))),
        }
        let stated = response.body().content_length();
        if let Some(total) = stated.map(|bytes| bytes.saturating_add(part.len())).filter(|total| *total > most) {
            let [total, most] = [total, most].map(units::count);
            part.clear()?;
            return Err(Broken::There(format!("it states {total} bytes, where {most} are the most that can be")));
        }
        let total = stated.map(|bytes| bytes + part.len());
        let mut body = response.body_mut().as_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Broken::There(self.said(Error::from(error)))),
            };
            if part.len() + read as u64 > most {
                part.clear()?;
                return Err(Broken::There(format!("it sends more than {} bytes", units::count(most))));
            }
            part.append(&piece[..read])?;
            watch(Event::Received { bytes: part.len(), total });
        }
    }

    /// What is wrong, in few words.
    fn said(&self, error: Error) -> String {
        match error {
            Error::Timeout(_) => format!("nothing came for {}", units::duration(self.timeout.as_secs_f64())),
            Error::HostNotFound => NO_HOST.to_string(),
            // The system has no kind of its own for it.
            Error::Io(error) if error.to_string().contains("lookup address") => NO_HOST.to_string(),
            Error::TooManyRedirects => "it sends from one address to the next without end".to_string(),
            Error::ConnectProxyFailed(reason) => format!("the proxy does not lead there: {reason}"),
            Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => "it broke off".to_string(),
            Error::Io(error) => units::system_error(&error),
            error => error.to_string().to_lowercase(),
        }
    }
}

/// The first byte of a part that is sent.
fn starts_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get("content-range")?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// Encryption in Rust alone, with the root certificates of browsers; absent where the processor lacks what it takes.
fn tls() -> Option<TlsConfig> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if can_encrypt() {
        let provider = std::sync::Arc::new(rustls_graviola::default_provider());
        return Some(TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build());
    }
    None
}

/// Whether the processor has what graviola would stop without.
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

/// Whether the processor has what graviola would stop without.
#[cfg(target_arch = "aarch64")]
fn can_encrypt() -> bool {
    use std::arch::is_aarch64_feature_detected;
    is_aarch64_feature_detected!("neon")
        && is_aarch64_feature_detected!("aes")
        && is_aarch64_feature_detected!("pmull")
        && is_aarch64_feature_detected!("sha2")
}
