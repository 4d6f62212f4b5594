//! The `vitreous` program.

fn main() -> std::process::ExitCode {
    vitreous::cli::main()
}
