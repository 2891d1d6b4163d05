//! What sessions are called, and what is put away.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Rig, json_of};

async fn patch(client: &Client, session: &str, body: &Value) -> (u16, Value) {
    let request = client.http.request(Method::PATCH, client.at(&format!("/{session}")));
    let response = request.json(body).send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

async fn listed(client: &Client, query: &str) -> Vec<(Value, Value, Value)> {
    let list = json_of(client.get(query).await).await;
    let sessions = list["sessions"].as_array().unwrap().clone();
    let member = |info: &Value, name: &str| info[name].clone();
    let each =
        |info: &Value| (member(info, "sessionId"), member(info, "title"), member(info, "archived"));
    sessions.iter().map(each).collect()
}

#[tokio::test]
async fn a_session_is_called_by_its_first_words_until_its_user_names_it() {
    let rig = Rig::start().await;
    let client = rig.client();
    let [session, named] = [client.session().await, client.session().await];
    rig.substrate.allow(50);
    let (status, info) = patch(client, &named, &json!({ "title": "  Mine \u{1F980} " })).await;
    assert_eq!((status, &info["title"]), (200, &json!("Mine \u{1F980}")));
    assert_eq!((&info["sessionId"], &info["archived"]), (&json!(named), &json!(false)));
    for session in [&session, &named] {
        client.turn(session, "t", "## **Why**\n\n- is the `sky` blue?").await.all().await;
    }
    let titles: Vec<_> = listed(client, "").await.into_iter().map(|(_, title, _)| title).collect();
    assert_eq!(titles, ["Mine \u{1F980}", "Why is the sky blue?"]);
    let (status, again) = patch(client, &session, &json!({ "title": "x".repeat(200) })).await;
    assert_eq!((status, again["title"].as_str().map(str::len)), (200, Some(200)));
    let whole = json_of(client.get(&format!("/{session}")).await).await;
    assert_eq!((&whole["title"], &whole["archived"]), (&again["title"], &json!(false)));
}

#[tokio::test]
async fn what_is_archived_is_listed_where_it_is_asked_for() {
    let rig = Rig::start().await;
    let client = rig.client();
    let [one, two] = [client.session().await, client.session().await];
    let ids = async |query: &str| -> Vec<Value> {
        listed(client, query).await.into_iter().map(|(id, ..)| id).collect()
    };
    let (status, info) = patch(client, &one, &json!({ "archived": true })).await;
    assert_eq!((status, &info["archived"]), (200, &json!(true)));
    assert_eq!(ids("").await, *std::slice::from_ref(&two));
    assert_eq!(ids("?archived=false").await, *std::slice::from_ref(&two));
    assert_eq!(ids("?archived=true").await, *std::slice::from_ref(&one));
    assert_eq!(ids("?archived=any").await, [two.clone(), one.clone()]);
    let refused = client.get("?archived=maybe").await;
    assert_eq!(refused.status(), 400);
    assert_eq!(json_of(refused).await["error"]["field"], "archived");
    let (status, info) = patch(client, &one, &json!({ "archived": false })).await;
    assert_eq!((status, &info["archived"]), (200, &json!(false)));
    assert_eq!(ids("").await, [two, one]);
}

#[tokio::test]
async fn a_change_that_is_none_or_of_a_session_that_is_not_there_is_refused() {
    let rig = Rig::start().await;
    let client = rig.client();
    let session = client.session().await;
    for (body, says) in [
        (json!({}), "title or archived must be there"),
        (json!({ "title": " \t" }), "title must be 1 to 200 characters"),
        (json!({ "title": "x".repeat(201) }), "title must be 1 to 200 characters"),
        (json!({ "title": "a\nb" }), "without control characters"),
        (json!({ "title": 3 }), "title must be a string"),
        (json!({ "archived": "yes" }), "archived must be true or false"),
    ] {
        let (status, refusal) = patch(client, &session, &body).await;
        let message = refusal["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(says), "{body}: {refusal}");
    }
    let (status, refusal) = patch(client, "no-such", &json!({ "archived": true })).await;
    assert_eq!((status, &refusal["error"]["code"]), (404, &json!("session_not_found")));
}
