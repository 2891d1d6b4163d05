//! The arrows of the architecture: which crate may know which.

use anyhow::Context;
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::shell::root;

/// A crate, the members of the workspace that it may depend on, and outside crates that it must not know.
struct Rule {
    krate: &'static str,
    members: &'static [&'static str],
    never: &'static [&'static str],
}

const IO: &[&str] =
    &["tokio", "futures-util", "axum", "hyper", "reqwest", "tracing", "http", "http-body"];
/// What a crate must not know that may know a body's trait.
const NETWORKS: &[&str] =
    &["tokio", "futures-util", "axum", "hyper", "reqwest", "tracing", "serde_json"];
const HTTP_FRAMEWORKS: &[&str] = &["axum", "hyper", "hyper-util", "reqwest", "tower", "tower-http"];

const RULES: [Rule; 13] = [
    Rule { krate: "turnkit-wire", members: &[], never: IO },
    Rule { krate: "turnkit-id", members: &[], never: IO },
    Rule { krate: "turnkit-ui", members: &["turnkit-wire"], never: NETWORKS },
    Rule { krate: "turnkit", members: &["turnkit-wire", "turnkit-id"], never: HTTP_FRAMEWORKS },
    Rule {
        krate: "turnkit-sandbox",
        members: &["turnkit", "turnkit-wire", "turnkit-id", "turnkit-http"],
        never: &["axum"],
    },
    Rule { krate: "turnkit-http", members: &["turnkit-wire"], never: &["reqwest"] },
    Rule {
        krate: "turnkit-agent",
        members: &["turnkit-wire", "turnkit-id"],
        never: HTTP_FRAMEWORKS,
    },
    Rule {
        krate: "turnkit-agents",
        members: &["turnkit", "turnkit-agent", "turnkit-wire", "turnkit-id", "turnkit-http"],
        never: &["axum", "hyper", "hyper-util"],
    },
    Rule {
        krate: "turnkit-substrate",
        members: &["turnkit-agent", "turnkit-wire", "turnkit-id", "turnkit-http"],
        never: &["reqwest"],
    },
    Rule {
        krate: "turnkit-client",
        members: &["turnkit-wire", "turnkit-http"],
        never: &["axum", "hyper"],
    },
    Rule {
        krate: "turnkit-chat",
        members: &[
            "turnkit",
            "turnkit-wire",
            "turnkit-id",
            "turnkit-ui",
            "turnkit-http",
            "turnkit-sandbox",
        ],
        never: &["hyper", "reqwest"],
    },
    Rule {
        krate: "turnkit-testkit",
        members: &[
            "turnkit",
            "turnkit-wire",
            "turnkit-id",
            "turnkit-chat",
            "turnkit-client",
            "turnkit-substrate",
        ],
        never: &["axum"],
    },
    Rule {
        krate: "turnkit-server",
        members: &[
            "turnkit",
            "turnkit-wire",
            "turnkit-id",
            "turnkit-http",
            "turnkit-chat",
            "turnkit-client",
            "turnkit-sandbox",
            "turnkit-agent",
            "turnkit-agents",
            "turnkit-substrate",
        ],
        never: &["rusqlite"],
    },
];

pub(super) fn check() -> anyhow::Result<Vec<String>> {
    let metadata =
        MetadataCommand::new().current_dir(root()).no_deps().exec().context("cargo metadata")?;
    let members: Vec<&str> =
        metadata.packages.iter().map(|package| package.name.as_str()).collect();
    Ok(metadata.packages.iter().flat_map(|package| check_package(package, &members)).collect())
}

fn check_package(package: &Package, members: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    let Some(rule) = RULES.iter().find(|rule| rule.krate == package.name.as_str()) else {
        return findings;
    };
    for name in normal_dependencies(package) {
        let arrow = members.contains(&name) && !rule.members.contains(&name);
        if arrow || rule.never.contains(&name) {
            findings.push(format!("{} must not depend on {name} (ARCHITECTURE.md)", package.name));
        }
    }
    findings
}

fn normal_dependencies(package: &Package) -> impl Iterator<Item = &str> {
    let normal =
        package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
    normal.map(|dependency| dependency.name.as_str())
}
