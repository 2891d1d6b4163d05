//! The program `turnkit`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    turnkit_server::cli::run()
}
