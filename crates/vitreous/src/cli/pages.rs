//! `vitreous completions` and `vitreous man`: files for the shell and for `man`, made from the parser.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;

use super::{CliError, show};
use crate::system_errors::system_error;

/// Prints the completion script of a shell
#[derive(clap::Args)]
#[command(after_help = "Examples:
  echo 'source <(vitreous completions bash)' >> ~/.bashrc
  vitreous completions zsh > ~/.zfunc/_vitreous
  vitreous completions fish > ~/.config/fish/completions/vitreous.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the manual page, or writes the pages of all verbs
#[derive(clap::Args)]
#[command(after_help = "Example:
  vitreous man --out ~/.local/share/man/man1 && man vitreous-train")]
pub struct ManArgs {
    /// Write a page for each verb into this folder, such as ~/.local/share/man/man1
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints a completion script.
pub fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "vitreous", &mut script);
    show(&String::from_utf8_lossy(&script))
}

/// Prints the manual page, or writes all pages.
pub fn man(args: &ManArgs) -> Result<(), CliError> {
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    let Some(out) = &args.out else {
        return show(&page(command));
    };
    let failed = |path: &Path, error: std::io::Error| {
        CliError::user(format!("cannot write: {} ({})", system_error(&error), path.display()), None)
    };
    std::fs::create_dir_all(out).map_err(|error| failed(out, error))?;
    let mut count = 0;
    for (name, command) in all(command, "vitreous".to_string()) {
        let path = out.join(format!("{name}.1"));
        std::fs::write(&path, page(command)).map_err(|error| failed(&path, error))?;
        count += 1;
    }
    show(&line!("{count} pages written to {}", out.display()))
}

/// A command and all commands below it, with the names of their pages: `vitreous-data-fetch`.
fn all(command: Command, name: String) -> Vec<(String, Command)> {
    let inner: Vec<(String, Command)> = command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
        .flat_map(|inner| all(inner.clone(), format!("{name}-{}", inner.get_name())))
        .collect();
    let title: &'static str = Box::leak(name.clone().into_boxed_str());
    [(name, command.name(title))].into_iter().chain(inner).collect()
}

fn page(command: Command) -> String {
    // The first line of what follows the flags is its heading; clap_mangen calls every such section EXTRA.
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let heading = after.lines().next().unwrap_or_default().trim_end_matches(':').to_string();
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).expect("a list of bytes takes all");
    let page = String::from_utf8_lossy(&page);
    page.replace(&format!(".SH EXTRA\n{heading}:\n"), &format!(".SH \"{}\"\n", heading.to_uppercase()))
}
