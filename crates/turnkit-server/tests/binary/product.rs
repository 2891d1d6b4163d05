//! `turnkit serve` keeps the contract of products.

use std::fs;

use turnkit_testkit::product_contract::{Product, User};

use crate::support::turnkit;

fn serve() -> Product {
    let users = ["Bearer a-token-of-ann", "Bearer a-token-of-bob"];
    Product::new(users.map(|shown| User::new("authorization", shown)), |at| {
        let tokens = at.directory.join("tokens");
        fs::write(&tokens, "a-token-of-ann acme ann\na-token-of-bob acme bob\n").unwrap();
        let mut command = turnkit();
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", at.port)]);
        command.args(["--substrate", at.substrate_url]);
        command.arg("--data-dir").arg(at.directory).arg("--tokens").arg(tokens);
        command.env("TURNKIT_SUBSTRATE_TOKEN", at.substrate_token);
        command
    })
}

turnkit_testkit::product_contract!(serve());
