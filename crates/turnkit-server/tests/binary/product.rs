//! `turnkit serve` keeps the contract of products, over either database.

use std::fs;
use std::path::Path;
use std::process::Command;

use turnkit_testkit::product_contract::{Product, User};

use crate::support::turnkit;

fn serve(database: fn(&mut Command, &Path)) -> Product {
    let users = ["Bearer a-token-of-ann", "Bearer a-token-of-bob"];
    Product::new(users.map(|shown| User::new("authorization", shown)), move |at| {
        let tokens = at.directory.join("tokens");
        fs::write(&tokens, "a-token-of-ann acme ann\na-token-of-bob acme bob\n").unwrap();
        let mut command = turnkit();
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", at.port)]);
        command.args(["--substrate", at.substrate_url]).arg("--tokens").arg(tokens);
        command.env("TURNKIT_SUBSTRATE_TOKEN", at.substrate_token);
        database(&mut command, at.directory);
        command
    })
}

mod over_sqlite {
    use super::*;

    turnkit_testkit::product_contract!(serve(|command, directory| {
        command.arg("--data-dir").arg(directory);
    }));
}

#[cfg(feature = "postgres")]
mod over_postgres {
    use super::*;
    use crate::postgres::SERVER;

    /// The product that is started again in a directory has the database that it had.
    fn database(command: &mut Command, directory: &Path) {
        let kept = directory.join("database");
        if !kept.exists() {
            fs::write(&kept, SERVER.database()).unwrap();
        }
        command.env("TURNKIT_DATABASE", fs::read_to_string(kept).unwrap());
    }

    turnkit_testkit::product_contract!(serve(database));
}
