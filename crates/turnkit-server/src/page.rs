//! The page and its modules, embedded in the binary: no build step, and nothing is loaded from elsewhere.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
/// Text of a model reaches the page, so the page runs and loads what comes from here, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset {
            path: concat!("/assets/", $name),
            content_type: $content_type,
            content: include_str!(concat!("../assets/", $name)),
        }
    };
}

static PAGE: Asset =
    Asset { path: "/", content_type: HTML, content: include_str!("../assets/index.html") };

static ASSETS: [Asset; 18] = [
    asset!("page.css", CSS),
    asset!("icon.svg", SVG),
    asset!("turnkit.js", SCRIPT),
    asset!("page.js", SCRIPT),
    asset!("conversation.js", SCRIPT),
    asset!("turn.js", SCRIPT),
    asset!("feed.js", SCRIPT),
    asset!("answer.js", SCRIPT),
    asset!("question.js", SCRIPT),
    asset!("elements.js", SCRIPT),
    asset!("markdown.js", SCRIPT),
    asset!("inline.js", SCRIPT),
    asset!("entities.js", SCRIPT),
    asset!("sessions.js", SCRIPT),
    asset!("storage.js", SCRIPT),
    asset!("developer.js", SCRIPT),
    asset!("attempts.js", SCRIPT),
    asset!("account.js", SCRIPT),
];

/// The page at `/` and what it is made of at `/assets/`.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    [&PAGE].into_iter().chain(&ASSETS).fold(Router::new(), |router, asset| {
        let tag = asset.tag();
        router.route(
            asset.path,
            get(move |headers: HeaderMap| async move { asset.respond(tag, &headers) }),
        )
    })
}

impl Asset {
    /// What names this content; another build may name the same content otherwise, which costs one download.
    fn tag(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.content.hash(&mut hasher);
        hasher.finish()
    }

    fn respond(&self, tag: u64, request: &HeaderMap) -> Response {
        let tag = format!("\"{tag:016x}\"");
        let is_known =
            request.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let headers = (HEADERS, [(CONTENT_TYPE, self.content_type), (ETAG, &tag)]);
        if is_known {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        } else {
            (headers, self.content).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fetch(path: &str, known: &str) -> reqwest::Response {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, routes::<()>()).into_future());
        let tls = turnkit_http::client::tls_config().unwrap();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
        let request = client.get(url).header(IF_NONE_MATCH, known);
        let response = request.send().await.unwrap();
        server.abort();
        response
    }

    #[tokio::test]
    async fn the_page_may_run_and_load_only_what_comes_from_here() {
        let page = fetch("/", "").await;
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(page.headers()[CONTENT_SECURITY_POLICY], POLICY);
        assert_eq!(page.headers()[CONTENT_TYPE], HTML);
        assert_eq!(page.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        let html = page.text().await.unwrap();
        assert!(!html.contains("<style") && !html.contains(" style="), "no inline style");
        assert_eq!(
            html.matches("<script").count(),
            html.matches("<script type=\"module\" src=\"assets/").count()
        );
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
    }

    #[tokio::test]
    async fn whoever_has_an_asset_is_not_sent_it_again() {
        let first = fetch("/assets/turnkit.js", "").await;
        assert_eq!(first.headers()[CONTENT_TYPE], SCRIPT);
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        let again = fetch("/assets/turnkit.js", &tag).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(again.headers()[ETAG].to_str().unwrap(), tag);
        assert_eq!(again.text().await.unwrap(), "");
    }

    #[test]
    fn whatever_the_page_and_its_modules_name_is_served() {
        let served: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        for asset in [&PAGE].into_iter().chain(&ASSETS) {
            for named in asset
                .content
                .split(['"', '\''])
                .filter(|text| text.starts_with("./") || text.starts_with("assets/"))
            {
                let path = format!("/assets/{}", &named[named.find('/').unwrap() + 1..]);
                assert!(served.contains(&path.as_str()), "{} names {named}", asset.path);
            }
        }
    }
}
