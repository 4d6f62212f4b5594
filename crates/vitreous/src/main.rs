//! The `vitreous` program.

#![deny(unsafe_code)]
#![warn(missing_docs)]

fn main() -> std::process::ExitCode {
    vitreous::cli::main()
}
