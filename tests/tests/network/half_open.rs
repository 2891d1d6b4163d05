//! Peers that are gone without a word: their packets vanish, and no FIN and no RST tells of it.

use turnkit_sandbox::RunRequest;

use crate::{
    namespace::{client_of, drop_packets_of, given_up, in_a_network_of_its_own},
    site::{Site, WORDS, client, next, rest, run, says, word},
};

#[test]
fn a_substrate_gives_up_a_reader_that_is_gone_and_keeps_its_run() {
    let test = "half_open::a_substrate_gives_up_a_reader_that_is_gone_and_keeps_its_run";
    in_a_network_of_its_own(test, async {
        let site = Site::start().await;
        let sandbox = client(site.address);
        let mut turn = run(&sandbox);
        site.allow(2);
        says(&mut turn, 0..2).await;
        let reader = client_of(site.address.port()).await;
        drop_packets_of(reader);
        given_up(site.address.port(), reader).await;
        site.allow(WORDS);
        let mut other = sandbox.attach(turn.execution_id().clone());
        says(&mut other, 0..WORDS).await;
        assert_eq!(next(&mut other).await, None);
        assert_eq!(site.runs(), 1);
    });
}

#[test]
fn an_adapter_gives_up_a_substrate_that_is_silent_and_goes_on_by_cursor() {
    let test = "half_open::an_adapter_gives_up_a_substrate_that_is_silent_and_goes_on_by_cursor";
    in_a_network_of_its_own(test, async {
        let site = Site::start().await;
        let mut turn = run(&client(site.address));
        site.allow(2);
        says(&mut turn, 0..2).await;
        drop_packets_of(client_of(site.address.port()).await);
        site.allow(WORDS);
        says(&mut turn, 2..WORDS).await;
        assert_eq!(next(&mut turn).await, None);
        assert_eq!(site.runs(), 1);
    });
}

#[test]
fn a_run_whose_answer_never_comes_is_asked_for_again_and_runs_once() {
    let test = "half_open::a_run_whose_answer_never_comes_is_asked_for_again_and_runs_once";
    in_a_network_of_its_own(test, async {
        let site = Site::start().await;
        let sandbox = client(site.address);
        // A kept connection that dies while nobody uses it: the next run goes into the void first.
        let unknown = RunRequest::new("network:unknown:0".parse().unwrap(), "");
        assert!(sandbox.status(unknown.execution_id()).await.is_err());
        drop_packets_of(client_of(site.address.port()).await);
        site.allow(WORDS);
        let mut turn = run(&sandbox);
        says(&mut turn, 0..WORDS).await;
        assert_eq!(next(&mut turn).await, None);
        assert_eq!(site.runs(), 1);
    });
}

#[test]
fn a_product_gives_up_a_browser_that_is_gone_and_it_comes_back_with_its_cursor() {
    let test =
        "half_open::a_product_gives_up_a_browser_that_is_gone_and_it_comes_back_with_its_cursor";
    in_a_network_of_its_own(test, async {
        let site = Site::start().await;
        let shop = site.product(site.address).await;
        let (session, mut body) = shop.begin(shop.address).await;
        site.allow(2);
        let before = body.take(3).await;
        assert_eq!(before[2], word(1).as_json());
        let browser = client_of(shop.address.port()).await;
        drop_packets_of(browser);
        // What is sent now stays unacknowledged.
        site.allow(1);
        given_up(shop.address.port(), browser).await;
        let mut resumed = shop.resume(shop.address, &session, before.len()).await;
        site.allow(WORDS);
        assert_eq!(resumed.take(WORDS - 1).await, rest(2, &session));
        assert_eq!(site.runs(), 1);
    });
}
