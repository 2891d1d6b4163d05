//! The agents that clients can choose from.

use serde_json::{Value, json};

use crate::support::{Client, Rig, TestServer, TestSubstrate, failure, json_of, kind};
use turnkit_agents::demo::Demo;
use turnkit_server::{Agents, Server, ServerConfig, SubstrateChoice};

/// The names, and the default one.
async fn listed(client: &Client) -> (Vec<String>, Value) {
    let list = client.http.get(format!("{}/api/agents", client.url)).send().await.unwrap();
    let list = json_of(list).await;
    let name = |agent: &Value| agent["name"].as_str().unwrap().to_owned();
    (list["agents"].as_array().unwrap().iter().map(name).collect(), list["default"].clone())
}

fn names(names: [&str; 2]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

#[tokio::test]
async fn the_agents_are_those_of_the_substrate() {
    let data_dir = tempfile::tempdir().unwrap();
    let substrate = TestSubstrate::with_agents(|builder| builder.agent("coder", Demo::new())).await;
    let server = TestServer::start(data_dir.path(), &substrate).await;
    assert_eq!(listed(&server.client).await, (names(["coder", "default"]), json!("default")));
}

#[tokio::test]
async fn the_first_agent_of_an_embedded_substrate_answers_where_none_is_named() {
    let data_dir = tempfile::tempdir().unwrap();
    let agents = Agents::new("demo", Demo::new()).with("another", Demo::new());
    let config = ServerConfig::new(
        "127.0.0.1:0".parse().unwrap(),
        data_dir.path(),
        SubstrateChoice::Embedded(agents),
    );
    let server = Server::start(config).await.unwrap();
    let client = Client::new(server.url());
    assert_eq!(listed(&client).await, (names(["another", "demo"]), json!("demo")));
}

#[tokio::test]
async fn a_turn_of_an_unknown_agent_is_not_accepted() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let ask = json!({ "turnId": "t", "message": "hello", "agent": "nobody" });
    let refused = rig.client().post(&format!("/{session}/turns"), &ask).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(json_of(refused).await["error"]["code"], "invalid_request");
    assert_eq!(rig.client().messages(&session).await, []);
    assert_eq!(rig.substrate.runs(), 0);
}

#[tokio::test]
async fn a_turn_that_was_accepted_is_taken_up_though_its_agent_is_gone() {
    let data_dir = tempfile::tempdir().unwrap();
    let agents = Agents::new("demo", Demo::new().pace(std::time::Duration::ZERO));
    let config = ServerConfig::new(
        "127.0.0.1:0".parse().unwrap(),
        data_dir.path(),
        SubstrateChoice::Embedded(agents),
    );
    let server = TestServer::run(config).await;
    let session = server.client.session().await;
    let ask = json!({ "turnId": "t", "message": "hello", "agent": "demo" });
    let first = server.client.post(&format!("/{session}/turns"), &ask).await.text().await.unwrap();
    assert!(first.contains("session.run.completed"), "{first}");
    server.kill().await;
    let substrate = TestSubstrate::start().await;
    let server = TestServer::start(data_dir.path(), &substrate).await;
    let again = server.client.post(&format!("/{session}/turns"), &ask).await.text().await.unwrap();
    assert!(again.contains("\"replayed\":true"), "{again}");
}

#[tokio::test]
async fn a_substrate_that_is_away_holds_no_turn_up() {
    let data_dir = tempfile::tempdir().unwrap();
    let refuses = |router: axum::Router| {
        let gone = || async { http::StatusCode::INTERNAL_SERVER_ERROR };
        axum::Router::new().route("/agents", axum::routing::get(gone)).fallback_service(router)
    };
    let substrate = TestSubstrate::behind(refuses).await;
    let server = TestServer::start(data_dir.path(), &substrate).await;
    let list = server.client.http.get(format!("{}/api/agents", server.client.url));
    assert_eq!(list.send().await.unwrap().status(), 503);
    let session = server.client.session().await;
    let ask = json!({ "turnId": "t", "message": "hello", "agent": "nobody" });
    let body = server.client.post(&format!("/{session}/turns"), &ask).await.text().await.unwrap();
    let lines: Vec<String> =
        body.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(kind(&lines[0]), "session.run.started");
    assert!(!failure(&lines).1, "{lines:?}");
}
