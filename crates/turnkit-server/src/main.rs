//! The program `turnkit`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // For the clients that read the process's own provider: Redis, and the export of spans. It fails only where one is
    // installed, which would do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    turnkit_server::cli::run()
}
