//! The agent that asks an OpenAI-compatible endpoint, over real sockets and against what real servers send.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod endpoints;
#[path = "../agent_harness/mod.rs"]
mod harness;
mod model;
mod upstream;

use std::time::Duration;

use harness::{Server, data, failure, impatient_log, joined, result};
use serde_json::json;
use turnkit_agents::openai::{Api, OpenAi, OpenAiBuilder, code};
use upstream::{Step, Upstream, answer, chunk, chunk_with, head, stream};

const KEY: &str = "sk-s3cret-of-the-operator";

fn agent(upstream: &Upstream) -> OpenAiBuilder {
    OpenAi::builder(upstream.base_url(), "small-model").key(KEY)
}

/// A substrate before an upstream that gives these answers, one a connection.
async fn serve(answers: Vec<Vec<Step>>) -> (Server, Upstream) {
    let upstream = Upstream::new(answers).await;
    let server = Server::with(agent(&upstream).build().unwrap()).await;
    (server, upstream)
}

/// The failure that one answer of an upstream leads to, and how much text came before.
async fn failure_of(answer: Vec<Step>) -> (String, String, String) {
    let (server, _upstream) = serve(vec![answer]).await;
    let events = server.ask("m").await;
    assert!(events.iter().all(|event| !event.as_json().contains(KEY)));
    let (code, message) = failure(&events);
    (code, message, joined(&events, "text"))
}

#[tokio::test]
async fn an_answer_streams_with_reasoning_text_and_usage() {
    let body = [
        ": ping\n\n".to_owned(),
        chunk(&json!({ "role": "assistant", "content": "", "reasoning_content": null })),
        chunk(&json!({ "reasoning_content": "Hm. " })),
        chunk(&json!({ "content": "Grüß " })),
        chunk(&json!({ "content": "Gott" })),
        chunk_with(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })),
        chunk_with(
            &json!({ "choices": [], "usage": { "prompt_tokens": 12, "completion_tokens": 3 } }),
        ),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let whole = {
        let (server, upstream) = serve(vec![stream(&[body.as_bytes()])]).await;
        let events = server.ask("Hello?").await;
        assert_eq!(joined(&events, "reasoning"), "Hm. ");
        assert_eq!(joined(&events, "text"), "Grüß Gott");
        let result = result(&events);
        assert_eq!(result["finalText"], "Grüß Gott");
        assert_eq!(result["tokenUsage"], json!({ "inputTokens": 12, "outputTokens": 3 }));
        assert_eq!(result["metadata"], json!({ "traceId": "chatcmpl-1" }));
        assert_eq!(
            (&result["model"], &result["finishReason"]),
            (&json!("small-model"), &json!("stop"))
        );
        assert!(result["timing"]["totalMs"].is_u64());

        let request = &upstream.requests()[0];
        assert_eq!(request.line, "POST /v1/chat/completions HTTP/1.1");
        assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
        assert_eq!(request.header("accept"), Some("text/event-stream"));
        let expected = json!({
            "model": "small-model",
            "messages": [{ "role": "user", "content": "Hello?" }],
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        assert_eq!(request.body, expected);
        events
    };

    // However the network cuts it, in the middle of a frame and of a character too.
    let split = body.find('ü').unwrap() + 1;
    let bytes = body.as_bytes();
    let single: Vec<_> = bytes.chunks(1).collect();
    for pieces in [vec![&bytes[..split], &bytes[split..]], single] {
        let (server, _upstream) = serve(vec![stream(&pieces)]).await;
        let events = server.ask("Hello?").await;
        let parts = |events: &[turnkit_wire::Event]| -> Vec<_> {
            let parts = events.iter().filter(|event| event.kind() == "message.part.updated");
            parts.map(|event| event.as_json().to_owned()).collect()
        };
        assert_eq!(parts(&events), parts(&whole));
        assert_eq!(result(&events)["finalText"], "Grüß Gott");
    }
}

#[tokio::test]
async fn text_is_passed_on_while_the_answer_is_still_going_on() {
    let upstream = Upstream::new(vec![vec![
        head(200, "text/event-stream"),
        Step::send(&chunk(&json!({ "content": "first" }))),
        Step::Wait,
        Step::send("data: [DONE]\n\n"),
        Step::Close,
    ]])
    .await;
    let server = Server::with(agent(&upstream).build().unwrap()).await;
    let mut stream = server.open("exec-1", &json!({ "message": "m" })).await;
    let first = stream.until("message.part.updated").await;
    assert_eq!(data(&first)["delta"], "first");
    upstream.go_on();
    assert_eq!(result(&stream.rest().await)["finalText"], "first");
}

#[tokio::test]
async fn one_connection_serves_one_answer_after_the_other() {
    let body = [chunk(&json!({ "content": "x" })), "data: [DONE]\n\n".to_owned()].concat();
    let framed = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let one = || Step::send(&format!("{head}{}", framed(&body)));
    let (server, upstream) = serve(vec![vec![one(), Step::NextRequest, one(), Step::Close]]).await;
    for id in ["exec-1", "exec-2"] {
        let events = server.open(id, &json!({ "message": "m" })).await.rest().await;
        assert_eq!(result(&events)["finalText"], "x");
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (2, 1));
}

#[tokio::test]
async fn history_system_prompt_model_and_parameters_are_sent() {
    let upstream = Upstream::new(vec![answer("ok")]).await;
    let agent = agent(&upstream)
        .system("Be brief.")
        .offer("large-model")
        .parameter("temperature", 0)
        .parameter("stream_options", serde_json::Value::Null)
        .history(3, 1_000);
    let server = Server::with(agent.build().unwrap()).await;
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let history =
        [turn("user", "1"), turn("assistant", "one"), turn("user", "2"), turn("assistant", "two")];
    let body = json!({ "message": "3", "history": history, "backend": { "model": "large-model" } });
    result(&server.run(&body).await);
    let expected = json!({
        "model": "large-model",
        "messages": [turn("system", "Be brief."), turn("user", "2"), turn("assistant", "two"), turn("user", "3")],
        "stream": true,
        "temperature": 0,
    });
    assert_eq!(upstream.requests()[0].body, expected);
}

#[tokio::test]
async fn a_history_or_model_that_cannot_be_sent_fails_before_anything_is() {
    let (server, upstream) = serve(vec![]).await;
    let wrong = json!({ "message": "m", "history": [{ "role": "root", "content": "" }] });
    let (code, message) = failure(&server.run(&wrong).await);
    assert_eq!((code.as_str(), &message[..16]), (code::INVALID_HISTORY, "history[0].role "));
    let other = json!({ "message": "m", "backend": { "model": "huge" } });
    let events = server.open("exec-2", &other).await.rest().await;
    assert_eq!(failure(&events).0, code::MODEL_NOT_OFFERED);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_refusal_keeps_its_status_and_message_and_loses_the_key() {
    let error = |status, message: &str| {
        let body = json!({ "error": { "message": message, "type": "x", "code": "y" } });
        vec![head(status, "application/json"), Step::send(&body.to_string()), Step::Close]
    };
    let (code, message, _) = failure_of(error(401, &format!("Incorrect key: {KEY}"))).await;
    assert_eq!(code, code::UPSTREAM_UNAUTHORIZED);
    assert_eq!(message, "the upstream answered 401 Unauthorized: Incorrect key: [key]");
    let (code, message, _) = failure_of(error(400, &"long ".repeat(100_000))).await;
    assert_eq!(code, code::UPSTREAM_REJECTED);
    assert!(message.starts_with("the upstream answered 400 Bad Request") && message.len() < 600);
    assert_eq!(failure_of(error(500, "oops")).await.0, code::UPSTREAM_ERROR);
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_within_bounds() {
    let limited = |after: &str| {
        let head = format!(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {after}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow"
        );
        vec![Step::send(&head), Step::Close]
    };
    let (server, upstream) = serve(vec![limited("0"), answer("at last")]).await;
    assert_eq!(result(&server.ask("m").await)["finalText"], "at last");
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(upstream.requests()[0].body, upstream.requests()[1].body);

    let (server, upstream) = serve(vec![limited("31"), answer("too late")]).await;
    let expected = "the upstream answered 429 Too Many Requests: slow";
    assert_eq!(
        failure(&server.ask("m").await),
        (code::RATE_LIMITED.to_owned(), expected.to_owned())
    );
    assert_eq!(upstream.requests().len(), 1);

    let (server, upstream) =
        serve(vec![limited("0"), limited("0"), limited("0"), answer("too late")]).await;
    assert_eq!(failure(&server.ask("m").await).0, code::RATE_LIMITED);
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn nothing_is_asked_again_once_an_event_came() {
    let dropped = stream(&[chunk(&json!({ "content": "half" })).as_bytes()]);
    let (server, upstream) = serve(vec![dropped, answer("again")]).await;
    let events = server.ask("m").await;
    assert_eq!(failure(&events).0, code::UPSTREAM_INTERRUPTED);
    assert_eq!((joined(&events, "text").as_str(), upstream.connections()), ("half", 1));
}

#[tokio::test]
async fn a_connection_that_breaks_fails_the_run_behind_its_text() {
    let half = chunk(&json!({ "content": "half" }));
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let framed = format!("{head}{:x}\r\n{half}\r\n", half.len());
    let (code, _, text) = failure_of(vec![Step::send(&framed), Step::Close]).await;
    assert_eq!((code.as_str(), text.as_str()), (code::UPSTREAM_INTERRUPTED, "half"));

    let whole = [
        chunk(&json!({ "content": "whole" })),
        chunk_with(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })),
    ]
    .concat();
    let framed = format!("{head}{:x}\r\n{whole}\r\n", whole.len());
    let (server, _upstream) = serve(vec![vec![Step::send(&framed), Step::Close]]).await;
    assert_eq!(result(&server.ask("m").await)["finalText"], "whole", "only the usage was missing");
}

#[tokio::test]
async fn an_error_in_the_middle_fails_the_run_behind_its_text() {
    let error =
        format!("data: {{\"error\":{{\"message\":\"overloaded, {KEY}\",\"code\":529}}}}\n\n");
    let body = [chunk(&json!({ "content": "half" })), error].concat();
    let (code, message, text) = failure_of(stream(&[body.as_bytes()])).await;
    assert_eq!((code.as_str(), text.as_str()), (code::UPSTREAM_ERROR, "half"));
    assert_eq!(message, "the upstream sent an error: overloaded, [key]");
}

#[tokio::test]
async fn garbage_alone_fails_the_run_with_its_first_words() {
    let (code, message, _) = failure_of(stream(&[b"data: {\"choices\":[{]\n\n"])).await;
    assert_eq!(code, code::UPSTREAM_PROTOCOL);
    assert!(message.contains("begins with: {\"choices\":[{]"), "{message}");
    let html = format!("<html>\n<body>{KEY}</body>");
    let html = vec![head(200, "text/html"), Step::send(&html), Step::Close];
    let (code, message, _) = failure_of(html).await;
    assert_eq!((code.as_str(), message.contains("<html>")), (code::UPSTREAM_PROTOCOL, true));

    let endless = vec![b'x'; 64 * 1024];
    let mut pieces = vec![&b"data: "[..]];
    pieces.extend((0..40).map(|_| &endless[..]));
    let (code, message, _) = failure_of(stream(&pieces)).await;
    assert_eq!((code.as_str(), message.contains("too long")), (code::UPSTREAM_PROTOCOL, true));
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let json = |body: &serde_json::Value| {
        vec![
            head(200, "application/json; charset=utf-8"),
            Step::send(&body.to_string()),
            Step::Close,
        ]
    };
    let whole = json!({ "choices": [{ "message": { "content": "in one piece" }, "finish_reason": "stop" }] });
    let (server, _upstream) = serve(vec![json(&whole)]).await;
    assert_eq!(result(&server.ask("m").await)["finalText"], "in one piece");
    let (code, message, _) =
        failure_of(json(&json!({ "error": { "message": "no GPU left" } }))).await;
    assert_eq!(code, code::UPSTREAM_ERROR);
    assert_eq!(message, "the upstream sent an error: no GPU left");
}

#[tokio::test]
async fn an_option_that_a_server_does_not_know_is_left_out() {
    let refused = |words: &str| vec![head(422, "application/json"), Step::send(words), Step::Close];
    let unknown =
        r#"{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#;
    let (server, upstream) = serve(vec![refused(unknown), answer("ok")]).await;
    assert_eq!(result(&server.ask("m").await)["finalText"], "ok");
    let bodies: Vec<_> = upstream.requests().iter().map(|request| request.body.clone()).collect();
    assert!(bodies[0]["stream_options"].is_object() && bodies[1].get("stream_options").is_none());

    let (server, upstream) = serve(vec![refused(unknown), refused(unknown), answer("late")]).await;
    let (code, message) = failure(&server.ask("m").await);
    assert_eq!((code.as_str(), upstream.requests().len()), (code::UPSTREAM_REJECTED, 2));
    assert!(message.ends_with("body.stream_options: Extra inputs are not permitted"), "{message}");
}

#[tokio::test]
async fn a_model_with_a_small_context_gets_less_and_says_so() {
    let long = r#"{"error":{"code":400,"message":"request (5000 tokens) exceeds the available context size (4096 tokens)","type":"exceed_context_size_error"}}"#;
    let refused = || vec![head(400, "application/json"), Step::send(long), Step::Close];
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let history =
        [turn("user", "1"), turn("assistant", "one"), turn("user", "2"), turn("assistant", "two")];
    let body = json!({ "message": "3", "history": history });
    let (server, upstream) = serve(vec![refused(), answer("ok")]).await;
    let events = server.run(&body).await;
    assert_eq!(result(&events)["finalText"], "ok");
    let warning = data(&events[1]);
    assert_eq!((events[1].kind(), &warning["code"]), ("warning", &json!("history_omitted")));
    assert_eq!(
        upstream.requests()[1].body["messages"],
        json!([turn("user", "2"), turn("assistant", "two"), turn("user", "3")])
    );

    let (server, upstream) = serve(vec![refused(), refused(), answer("late")]).await;
    assert_eq!(failure(&server.run(&body).await).0, code::UPSTREAM_REJECTED);
    assert_eq!(upstream.requests().len(), 2);

    // Far over: half of it would be refused as well.
    let far = r#"{"error":{"code":400,"message":"request (20480 tokens) exceeds the available context size (4096 tokens)","type":"exceed_context_size_error"}}"#;
    let refused = vec![head(400, "application/json"), Step::send(far), Step::Close];
    let said = |at: usize| turn(["user", "assistant"][at % 2], &format!("{at:0>1000}"));
    let body = json!({ "message": "on", "history": (0..80).map(said).collect::<Vec<_>>() });
    let (server, upstream) = serve(vec![refused, answer("ok")]).await;
    assert_eq!(result(&server.run(&body).await)["finalText"], "ok");
    let sent = |at: usize| upstream.requests()[at].body["messages"].as_array().unwrap().len();
    assert_eq!((sent(0), sent(1)), (81, 15));
}

#[tokio::test]
async fn a_server_that_is_still_loading_is_waited_for() {
    let loading = || {
        let body = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
        let head = format!(
            "HTTP/1.1 503 \r\nretry-after-ms: 1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        vec![Step::send(&head), Step::Close]
    };
    let (server, upstream) = serve((0..5).map(|_| loading()).chain([answer("ok")]).collect()).await;
    assert_eq!(result(&server.ask("m").await)["finalText"], "ok");
    assert_eq!(upstream.requests().len(), 6);

    let upstream = Upstream::new(vec![loading(), answer("late")]).await;
    let agent = agent(&upstream).loading(Duration::ZERO).build().unwrap();
    assert_eq!(failure(&Server::with(agent).await.ask("m").await).0, code::UPSTREAM_ERROR);
}

#[tokio::test]
async fn each_api_is_asked_in_its_own_form() {
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let history = [turn("system", "Be kind."), turn("user", "1"), turn("assistant", "one")];
    let body = json!({ "message": "2", "history": history });
    let ask = async |api, answer: &str| {
        let upstream = Upstream::new(vec![stream(&[answer.as_bytes()])]).await;
        let agent = agent(&upstream).api(api).system("Be brief.").header("x-team", "a");
        let events = Server::with(agent.build().unwrap()).await.run(&body).await;
        assert_eq!(result(&events)["finalText"], "x");
        upstream.requests()[0].clone()
    };
    let said = [
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let request =
        ask(Api::Messages, &said.map(|event| format!("data: {event}\n\n")).concat()).await;
    assert_eq!(request.line, "POST /v1/messages HTTP/1.1");
    assert_eq!((request.header("x-api-key"), request.header("authorization")), (Some(KEY), None));
    assert_eq!(
        (request.header("anthropic-version"), request.header("x-team")),
        (Some("2023-06-01"), Some("a"))
    );
    let turns = json!([turn("user", "1"), turn("assistant", "one"), turn("user", "2")]);
    let expected = json!({ "model": "small-model", "system": "Be brief.\n\nBe kind.", "messages": turns, "max_tokens": 8192, "stream": true });
    assert_eq!(request.body, expected);

    let said = [
        r#"{"type":"response.output_text.delta","delta":"x"}"#,
        r#"{"type":"response.completed","response":{"status":"completed"}}"#,
    ];
    let request =
        ask(Api::Responses, &said.map(|event| format!("data: {event}\n\n")).concat()).await;
    assert_eq!(request.line, "POST /v1/responses HTTP/1.1");
    assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let turns = json!([
        turn("system", "Be kind."),
        turn("user", "1"),
        turn("assistant", "one"),
        turn("user", "2")
    ]);
    let expected = json!({ "model": "small-model", "instructions": "Be brief.", "input": turns, "store": false, "stream": true });
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn a_proxy_is_asked_only_where_it_is_named() {
    let proxy = Upstream::new(vec![answer("through the proxy")]).await;
    let url = proxy.base_url();
    let url = url.strip_suffix("/v1").unwrap();
    let agent = OpenAi::builder("http://nobody.invalid/v1", "m").proxy(url).build().unwrap();
    let events = Server::with(agent).await.ask("m").await;
    assert_eq!(result(&events)["finalText"], "through the proxy");
    assert_eq!(proxy.requests()[0].line, "POST http://nobody.invalid/v1/chat/completions HTTP/1.1");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::new(vec![answer("stolen")]).await;
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}/chat/completions\r\nContent-Length: 0\r\n\r\n",
        elsewhere.base_url()
    );
    let (code, message, _) = failure_of(vec![Step::send(&redirect), Step::Close]).await;
    assert_eq!(code, code::UPSTREAM_REJECTED);
    assert!(message.contains("307"), "{message}");
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn nobody_there_fails_the_run() {
    let upstream = Upstream::new(vec![]).await;
    let agent = agent(&upstream).retry(1, Duration::from_secs(10)).build().unwrap();
    let address = upstream.close().await;
    let (code, message) = failure(&Server::with(agent).await.ask("m").await);
    assert_eq!(code, code::UPSTREAM_UNREACHABLE);
    assert!(!message.contains(&address), "{message}");
}

#[tokio::test]
async fn silence_before_and_in_the_middle_of_an_answer_fails_the_run() {
    let patience = Duration::from_secs(1);
    let half = [
        head(200, "text/event-stream"),
        Step::send(&chunk(&json!({ "content": "half" }))),
        Step::Wait,
    ];
    let upstream = Upstream::new(vec![vec![Step::Wait], half.to_vec()]).await;
    let silent = [
        (agent(&upstream).answer_timeout(patience), ""),
        (agent(&upstream).idle_timeout(patience), "half"),
    ];
    for (agent, text) in silent {
        let events = Server::with(agent.build().unwrap()).await.ask("m").await;
        assert_eq!(failure(&events).0, code::UPSTREAM_TIMEOUT);
        assert_eq!(joined(&events, "text"), text);
    }
}

#[tokio::test]
async fn a_cancel_closes_the_connection_at_once() {
    let going_on = vec![
        head(200, "text/event-stream"),
        Step::send(&chunk(&json!({ "content": "half" }))),
        Step::UntilClosed,
    ];
    let before_the_head = vec![Step::UntilClosed];
    for answer in [going_on, before_the_head] {
        let (server, upstream) = serve(vec![answer]).await;
        let mut stream = server.open("exec-1", &json!({ "message": "m" })).await;
        stream.until("execution.started").await;
        upstream.asked().await;
        server.cancel("exec-1").await;
        upstream.left().await;
        assert_eq!(stream.rest().await.last().unwrap().kind(), "execution.cancelled");
    }
}

#[tokio::test]
async fn shutting_down_closes_the_connection() {
    let going_on = [
        head(200, "text/event-stream"),
        Step::send(&chunk(&json!({ "content": "half" }))),
        Step::UntilClosed,
    ];
    let upstream = Upstream::new(vec![going_on.to_vec()]).await;
    let agent = agent(&upstream).build().unwrap();
    let mut server = Server::with_log(agent, impatient_log()).await;
    let mut stream = server.open("exec-1", &json!({ "message": "m" })).await;
    stream.until("message.part.updated").await;
    server.stop();
    upstream.left().await;
    server.stopped().await;
}
