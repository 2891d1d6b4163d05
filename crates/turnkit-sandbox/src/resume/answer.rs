//! What a refusal means to whoever asked (PROTOCOL 4.1).

use super::Answer;
use crate::{Error, Refusal};

/// What the refusal of a run is to the machine, and as the turn's failure.
pub(crate) fn of_run(refusal: &Refusal) -> (Answer, Error) {
    let error = match (refusal.status(), error_of(refusal.clone())) {
        // Nothing else of a run is a precondition than the log that it names, also where the code has got lost.
        (412, Error::Refused(refusal)) => Error::LogChanged(refusal),
        (_, error) => error,
    };
    classed(error, refusal)
}

/// What the refusal of an attach is, where "not found" and "gone" can mean nothing but the execution, also without a code that is
/// known, and a conflict that says nothing else nothing but the cursor.
pub(crate) fn of_attach(refusal: &Refusal) -> (Answer, Error) {
    let error = match (refusal.status(), error_of(refusal.clone())) {
        (404 | 410, Error::Refused(refusal)) => Error::Lost(refusal),
        (409, Error::Refused(refusal)) if refusal.code().is_none() => Error::Lost(refusal),
        (_, error) => error,
    };
    classed(error, refusal)
}

/// The error that a refusal of any call is, by its code.
pub(crate) fn error_of(refusal: Refusal) -> Error {
    match refusal.code() {
        Some("execution_not_found" | "execution_expired" | "invalid_replay_cursor") => {
            Error::Lost(refusal)
        }
        Some("execution_conflict") => Error::Conflict(refusal),
        Some("log_changed") => Error::LogChanged(refusal),
        _ => Error::Refused(refusal),
    }
}

/// A server that fails, or says "not now", says nothing about the execution, whatever code goes with it.
fn classed(error: Error, refusal: &Refusal) -> (Answer, Error) {
    let (status, retry_after) = (refusal.status(), refusal.retry_after());
    let answer = match &error {
        Error::Lost(_) if status < 500 && !refusal.is_transient() => Answer::Lost,
        _ => Answer::Refused { status, retry_after },
    };
    (answer, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str) -> Refusal {
        let body = format!(r#"{{"error":{{"code":"{code}"}}}}"#);
        Refusal::new(status, body.as_bytes(), None)
    }

    #[test]
    fn an_execution_is_lost_by_code_and_to_an_attach_by_status() {
        for (status, code) in [
            (404, "execution_not_found"),
            (410, "execution_expired"),
            (409, "invalid_replay_cursor"),
        ] {
            for (answer, error) in
                [of_run(&refusal(status, code)), of_attach(&refusal(status, code))]
            {
                assert!(matches!((answer, error), (Answer::Lost, Error::Lost(_))), "{code}");
            }
        }
        for status in [404, 410] {
            assert_eq!(of_attach(&refusal(status, "no_such_route")).0, Answer::Lost);
            let (answer, error) = of_run(&refusal(status, "no_such_route"));
            assert!(matches!((answer, error), (Answer::Refused { .. }, Error::Refused(_))));
        }
        assert_eq!(of_attach(&Refusal::new(409, b"", None)).0, Answer::Lost);
        assert!(matches!(of_attach(&refusal(409, "execution_conflict")).1, Error::Conflict(_)));
    }

    #[test]
    fn a_server_that_fails_has_not_lost_anything() {
        let (answer, _) = of_attach(&refusal(503, "execution_not_found"));
        assert_eq!(answer, Answer::Refused { status: 503, retry_after: None });
    }

    #[test]
    fn a_log_that_has_changed_is_no_lost_execution() {
        for refusal in [refusal(412, "log_changed"), Refusal::new(412, b"", None)] {
            let (answer, error) = of_run(&refusal);
            assert_eq!(answer, Answer::Refused { status: 412, retry_after: None });
            assert!(matches!(error, Error::LogChanged(_)));
        }
    }
}
