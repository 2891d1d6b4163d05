//! Distinct tuples give distinct ids (PROTOCOL 1.4).

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use proptest::prelude::*;
use turnkit_id::ExecutionId;

type Tuple = (String, String, u64);

/// Names from few characters, the delimiters among them, so that near-collisions are common; some over 256 bytes.
fn tuple() -> impl Strategy<Value = Tuple> {
    let name = || prop_oneof![4 => "[a:%3A0 é]{1,4}", 1 => "[a:]{120,130}"];
    (name(), name(), prop_oneof![0..12u64, Just(ExecutionId::MAX_TURN_INDEX)])
        .prop_filter("blank names are refused", |(p, s, _)| {
            !p.trim().is_empty() && !s.trim().is_empty()
        })
}

fn derive((project, session, turn_index): &Tuple) -> ExecutionId {
    ExecutionId::derive(project, session, *turn_index).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn ids_are_equal_exactly_when_their_tuples_are(a in tuple(), b in tuple()) {
        prop_assert_eq!(derive(&a) == derive(&b), a == b);
    }

    #[test]
    fn moving_a_character_over_the_border_gives_another_id(text in "[a:%]{2,6}", cut in 1..5usize) {
        let cut = cut.min(text.len() - 1);
        let split = (text[..cut].to_owned(), text[cut..].to_owned(), 1);
        let joined = (text.clone(), "x".to_owned(), 1);
        prop_assert_ne!(derive(&split), derive(&joined));
        for other in (1..text.len()).filter(|at| *at != cut) {
            let moved = (text[..other].to_owned(), text[other..].to_owned(), 1);
            prop_assert_ne!(derive(&split), derive(&moved));
        }
    }

    #[test]
    fn a_readable_id_tells_its_tuple(tuple in tuple()) {
        let id = derive(&tuple);
        let parts: Vec<&str> = id.as_str().split(':').collect();
        match parts.as_slice() {
            ["sha256", digest] => prop_assert_eq!(digest.len(), 64),
            [project, session, turn_index] => prop_assert_eq!(tuple, (
                decode(project), decode(session), turn_index.parse().unwrap(),
            )),
            _ => prop_assert!(false, "{} has neither form", id),
        }
    }
}

fn decode(name: &str) -> String {
    percent_encoding::percent_decode_str(name).decode_utf8().unwrap().into_owned()
}
