//! `vitreous data fetch`: downloads a known data set for `train`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::presets::presets_for;
use super::settings::{dir_of_environment, shell_word};
use super::status::StatusLine;
use super::verbosity::beyond_results;
use super::{CliError, json, show};
use crate::data_sets::{self, DATA_SETS};
use crate::fetch::{Event, Fetched, Options, Proxies, Proxy, fetch};
use crate::{durations, numbers};

/// Interval between progress lines of a file.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Minimum average speed of a mirror, in bytes per second: at 20 kB/s the 170 MB of CIFAR-10 take 2.4 hours.
const SLOWEST: u64 = 20_000;

/// Maximum of --timeout, in seconds: a day.
const TIMEOUT_MAX: f64 = 86_400.0;

#[derive(clap::Args)]
pub struct FetchArgs {
    /// Name of the data set, from `vitreous data list`
    #[arg(value_name = "NAME")]
    name: String,
    /// Data folder [default: $VITREOUS_DATA_DIR, else the current folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Base URL of another mirror; may be repeated, tried in order
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
    /// Replace existing files that fail the check
    #[arg(long)]
    force: bool,
    /// Seconds without data before the next mirror is tried; a mirror slower than 20 kB/s on average is also replaced
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    timeout: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: FetchArgs) -> Result<(), CliError> {
    let known = data_sets::data_set(&args.name);
    let Some(download) = known.and_then(|set| set.download.as_ref()) else {
        let names = DATA_SETS.iter().filter(|set| set.download.is_some()).map(|set| set.name).collect::<Vec<_>>();
        let hint = match (known, data_sets::meant(&args.name)) {
            (Some(set), _) => {
                format!("use --data {}: the program draws its images, no download is needed", set.name)
            }
            (None, Some(meant)) => format!("did you mean {meant}?"),
            (None, None) => format!("use one of {}", names.join(", ")),
        };
        return Err(CliError::user(format!("no download for data set `{}`", args.name), Some(hint)));
    };
    // False for NaN.
    if !(args.timeout > 0.0 && args.timeout <= TIMEOUT_MAX) {
        let error = format!("invalid timeout of {} s, must be above 0 and at most a day (--timeout)", args.timeout);
        return Err(CliError::user(error, Some("use --timeout 30".to_string())));
    }
    let options = Options {
        dir: args.data_dir.clone().or_else(dir_of_environment).unwrap_or_else(|| PathBuf::from(".")),
        mirrors: args.mirror,
        force: args.force,
        timeout: Duration::from_secs_f64(args.timeout),
        slowest: SLOWEST,
        proxies: proxies_of_environment(),
        certificates: std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from),
    };
    let display = RefCell::new(Display::new());
    let fetched = fetch(&args.name, download, &options, &|event| display.borrow_mut().show(event));
    display.borrow_mut().clear();
    let fetched = fetched?;
    show(&if args.json { json(&fetched) } else { report(&fetched, &options, args.data_dir.is_some()) })
}

/// The proxies of the usual environment variables, in upper or lower case.
fn proxies_of_environment() -> Proxies {
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let first = |names: &[&str]| {
        let spellings = names.iter().flat_map(|name| [name.to_string(), name.to_lowercase()]);
        spellings.into_iter().find_map(|variable| Some(Proxy { url: value(&variable)?, variable }))
    };
    Proxies {
        http: first(&["HTTP_PROXY", "ALL_PROXY"]),
        https: first(&["HTTPS_PROXY", "ALL_PROXY"]),
        exceptions: value("NO_PROXY").or_else(|| value("no_proxy")).unwrap_or_default(),
    }
}

/// The result and the next command.
fn report(fetched: &Fetched, options: &Options, is_dir_given: bool) -> String {
    let (name, folder) = (&fetched.name, fetched.folder.display());
    let files = |count: usize| numbers::counted(count, "file");
    let what = match (fetched.fetched.len(), fetched.present.len()) {
        (0, _) => "already complete, nothing downloaded".to_string(),
        (new, 0) => format!("{} downloaded, {}", files(new), numbers::bytes(fetched.bytes)),
        (new, old) => {
            format!("{} downloaded, {}; {} already present", files(new), numbers::bytes(fetched.bytes), files(old))
        }
    };
    let dir = if is_dir_given { format!(" --data-dir {}", shell_word(&options.dir)) } else { String::new() };
    let (presets, data) = match presets_for(name) {
        own if own == name => (own, String::new()),
        other => (other, format!(" --data {name}")),
    };
    let next = line!("next: choose a preset, and train it")
        + &line!("  vitreous presets --filter {presets}")
        + &line!("  vitreous train PRESET{data}{dir}");
    line!("{name}: {what}, in {folder}") + &beyond_results(next)
}

/// Progress on stderr: a bar on a terminal, otherwise plain lines.
struct Display {
    status: Option<StatusLine>,
    file: String,
    line: Instant,
    /// When the current file was requested, and how many of its bytes were present.
    asked: (Instant, u64),
}

impl Display {
    fn new() -> Self {
        let now = Instant::now();
        Display { status: StatusLine::on_terminal(), file: String::new(), line: now, asked: (now, 0) }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Asks { file, url, from } => {
                let rest = if from > 0 { format!(", from byte {}", numbers::count(from)) } else { String::new() };
                self.say(&format!("{file}: asking {url}{rest}"));
                self.file = file.to_string();
                self.line = Instant::now();
                self.asked = (self.line, from);
            }
            Event::Received { bytes, total } => match &self.status {
                Some(status) => self.show_received(status, bytes, total.unwrap_or(bytes)),
                None if self.line.elapsed() >= LINE_EVERY => {
                    self.line = Instant::now();
                    let of = total.map_or_else(String::new, |total| format!(" of {}", numbers::bytes(total)));
                    say!("{}: {}{of}", self.file, numbers::bytes(bytes));
                }
                None => {}
            },
            Event::Checks { file } => {
                if let Some(status) = &self.status {
                    status.show(1.0, &[(0, format!("checking {file}"))]);
                }
            }
            Event::Refused { url, reason } => self.say(&format!("note: {url}: {reason}")),
        }
    }

    fn show_received(&self, status: &StatusLine, bytes: u64, total: u64) {
        let (since, from) = self.asked;
        let rate = bytes.saturating_sub(from) as f64 / since.elapsed().as_secs_f64().max(1e-9);
        let left = total.saturating_sub(bytes) as f64 / rate.max(1.0);
        let parts = [
            (2, self.file.clone()),
            (0, format!("{}/{}", numbers::bytes(bytes), numbers::bytes(total))),
            (1, format!("{} left", durations::time_left(left))),
        ];
        status.show(bytes as f64 / total.max(1) as f64, &parts);
    }

    /// Writes a line, above the bar if there is one.
    fn say(&self, line: &str) {
        match &self.status {
            Some(status) => status.say(line),
            None => say!("{line}"),
        }
    }

    fn clear(&mut self) {
        self.status.iter().for_each(StatusLine::clear);
    }
}
