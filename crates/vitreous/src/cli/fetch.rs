//! `vitreous data fetch`: brings a known data set from the network to where `train` looks for it.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::settings::{dir_of_environment, shell_word};
use super::{CliError, json, show};
use crate::fetch::{Event, Fetched, Options, Proxies, Proxy, catalogue, fetch};
use crate::units;

/// Time between two plain lines about a file.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Bytes per second that a mirror has to send on average: at 20 kB the 170 MB of CIFAR-10 take 2.4 hours.
const SLOWEST: u64 = 20_000;

/// Longest silence that can be asked for, in seconds: a day.
const TIMEOUT_MAX: f64 = 86_400.0;

#[derive(clap::Args)]
pub struct FetchArgs {
    /// The data set: mnist, fashion-mnist or cifar10
    #[arg(value_name = "NAME")]
    name: String,
    /// The folder in which data sets are [default: $VITREOUS_DATA_DIR, else the current folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Take the files from below this address and not from the known ones; may be repeated, they are tried in order
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
    /// Replace files that are there and are not the right ones
    #[arg(long)]
    force: bool,
    /// How long a mirror may be silent before the next one is tried, in seconds; one that sends less than 20 kB a second on
    /// average is left as well
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    timeout: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: FetchArgs) -> Result<(), CliError> {
    let Some(set) = catalogue::data_set(&args.name) else {
        let names = catalogue::DATA_SETS.map(|set| set.name).join(", ");
        let hint = match args.name.as_str() {
            "digits" => "train on them with --data digits: the program draws them itself".to_string(),
            _ => format!("use one of {names}"),
        };
        return Err(CliError::user(format!("no data set to be fetched is called `{}`", args.name), Some(hint)));
    };
    // What is not even a number is not above 0.
    if !(args.timeout > 0.0 && args.timeout <= TIMEOUT_MAX) {
        let error = format!("a timeout of {} s is not above 0 and at most a day (--timeout)", args.timeout);
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
    let fetched = fetch(set, &options, &|event| display.borrow_mut().show(event));
    display.borrow_mut().clear();
    let fetched = fetched?;
    show(&if args.json { json(&fetched) } else { report(&fetched, &options, args.data_dir.is_some()) })
}

/// What the usual variables say of proxies, in either spelling.
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

/// What is there now, and what to do next.
fn report(fetched: &Fetched, options: &Options, is_dir_given: bool) -> String {
    let (name, folder) = (&fetched.name, fetched.folder.display());
    let files = |count: usize| if count == 1 { "1 file".to_string() } else { format!("{count} files") };
    let what = match (fetched.fetched.len(), fetched.present.len()) {
        (0, _) => "was there already, and is right: nothing was fetched".to_string(),
        (new, 0) => format!("{} fetched, {}", files(new), units::bytes(fetched.bytes)),
        (new, old) => format!("{} fetched, {}; {} were there", files(new), units::bytes(fetched.bytes), files(old)),
    };
    let dir = if is_dir_given { format!(" --data-dir {}", shell_word(&options.dir)) } else { String::new() };
    format!("{name}: {what}, in {folder}\nnext: vitreous train --data {name}{dir}\n")
}

/// What is seen of it on stderr: a bar on a terminal, plain lines elsewhere.
struct Display {
    bar: Option<ProgressBar>,
    file: String,
    line: Instant,
}

impl Display {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let style =
                ProgressStyle::with_template("{msg} {bar:20} {decimal_bytes}/{decimal_total_bytes}, {eta} left");
            bar.set_style(style.expect("the template is well-formed"));
            bar
        });
        Display { bar, file: String::new(), line: Instant::now() }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Asks { file, url, from } => {
                let rest = if from > 0 { format!(", from byte {} on", units::count(from)) } else { String::new() };
                self.say(&format!("{file}: asking {url}{rest}"));
                self.file = file.to_string();
                self.line = Instant::now();
                if let Some(bar) = &self.bar {
                    bar.set_message(self.file.clone());
                    bar.set_position(from);
                    bar.reset_eta();
                }
            }
            Event::Received { bytes, total } => match &self.bar {
                Some(bar) => {
                    bar.set_length(total.unwrap_or(bytes));
                    bar.set_position(bytes);
                }
                None if self.line.elapsed() >= LINE_EVERY => {
                    self.line = Instant::now();
                    let of = total.map_or_else(String::new, |total| format!(" of {}", units::bytes(total)));
                    say!("{}: {}{of}", self.file, units::bytes(bytes));
                }
                None => {}
            },
            Event::Checks { file } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("checking {file}"));
                }
            }
            Event::Refused { url, reason } => self.say(&format!("note: {url}: {reason}")),
        }
    }

    /// Writes a line, above the bar where there is one.
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say!("{line}"),
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
