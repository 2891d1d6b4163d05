use std::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use super::*;

fn asked(data: &str) -> Event {
    Event::from_parts("interaction", data.as_bytes()).unwrap()
}

/// What is wrong with a question; empty where nothing is.
fn wrong(data: &str) -> String {
    Question::read(&asked(data)).err().map_or_else(String::new, |error| error.to_string())
}

fn value(json: &str) -> Value<'_> {
    Value::verify(json.as_bytes()).unwrap()
}

#[test]
fn a_question_is_read_as_it_was_written() {
    let input = Json::verify(r#"{"command":"rm -r build"}"#).unwrap();
    let options = [("once", "Allow once"), ("never", "Never")];
    let event = Interaction::new(Kind::Approval, "q:1")
        .title("Run it?")
        .message("It \"deletes\".")
        .call_id("call_1")
        .tool("bash")
        .input(&input)
        .options(&options)
        .expires_at(1_700_000_000_000)
        .event();
    assert_eq!(
        event.as_json(),
        r#"{"type":"interaction","data":{"id":"q:1","kind":"approval","title":"Run it?","message":"It \"deletes\".","callId":"call_1","tool":"bash","input":{"command":"rm -r build"},"options":[{"id":"once","label":"Allow once"},{"id":"never","label":"Never"}],"expiresAt":1700000000000}}"#
    );
    let question = Question::read(&event).unwrap();
    assert_eq!((question.id(), question.kind()), ("q:1", Kind::Approval));
    assert_eq!(question.expires_at(), Some(1_700_000_000_000));
}

#[test]
fn answers_and_inputs_are_read_as_they_were_written() {
    let data = Json::verify(r#"{"age":7}"#).unwrap();
    let event = answered("q", Outcome::Accepted, Some(&data), Some("ann"));
    assert_eq!(
        event.data_json(),
        Some(r#"{"id":"q","outcome":"accepted","data":{"age":7},"by":"ann"}"#)
    );
    let view = Answered::of(&event).unwrap();
    assert!(view.id().unwrap().is("q") && view.by().unwrap().is("ann"));
    assert_eq!(view.outcome(), Some(Outcome::Accepted));
    assert_eq!(view.data().unwrap().json(), br#"{"age":7}"#);
    let bare = answered("q", Outcome::Expired, None, None);
    assert_eq!(bare.data_json(), Some(r#"{"id":"q","outcome":"expired"}"#));

    let event = input("i", "a \"b\"\n", None);
    assert_eq!(event.data_json(), Some(r#"{"id":"i","message":"a \"b\"\n"}"#));
    assert_eq!(Input::of(&event).unwrap().message().unwrap().to_str(), "a \"b\"\n");
    assert_eq!(input_taken("i").as_json(), r#"{"type":"input.taken","data":{"id":"i"}}"#);
    assert!(Answered::of(&event).is_none() && Input::of(&bare).is_none());
}

#[test]
fn what_is_no_question_is_refused_with_its_place() {
    for (data, place) in [
        (r#"{"kind":"approval"}"#, "data.id"),
        (r#"{"id":"a b","kind":"approval"}"#, "data.id"),
        (r#"{"id":"","kind":"approval"}"#, "data.id"),
        (r#"{"id":7,"kind":"approval"}"#, "data.id"),
        (r#"{"id":"a","kind":"order"}"#, "data.kind"),
        (r#"{"id":"a","kind":"tool","callId":1}"#, "data.callId"),
        (r#"{"id":"a","kind":"tool","expiresAt":"7"}"#, "data.expiresAt"),
        (r#"{"id":"a","kind":"tool","expiresAt":-7}"#, "data.expiresAt"),
        (r#"{"id":"a","kind":"tool","expiresAt":7.5}"#, "data.expiresAt"),
        (r#"{"id":"a","kind":"question","options":[]}"#, "data.options"),
        (r#"{"id":"a","kind":"question","options":[{"id":"x"}]}"#, "data.options"),
        (
            r#"{"id":"a","kind":"question","options":[{"id":"x","label":""},{"id":"\u0078","label":""}]}"#,
            "data.options",
        ),
        (
            r#"{"id":"a","kind":"question","options":[{"id":"x","label":""}],"schema":{"type":"object"}}"#,
            "data",
        ),
        ("[]", "data.id"),
    ] {
        let error = Question::read(&asked(data)).unwrap_err();
        assert_eq!(error.place(), place, "{data}: {error}");
    }
    let large = format!(r#"{{"id":"a","kind":"tool","input":"{}"}}"#, "x".repeat(MAX_INTERACTION));
    assert_eq!(wrong(&large), "data must be at most 256 KiB");
    let well_formed =
        r#"{"id":"a","kind":"tool","title":null,"callId":"c","more":[1],"expiresAt":7}"#;
    assert_eq!(wrong(well_formed), "");
}

/// What is wrong with a schema; empty where nothing is.
fn schema_error(schema: &str) -> String {
    Schema::parse(value(schema)).err().map_or_else(String::new, |error| error.to_string())
}

#[test]
fn a_schema_that_could_not_be_kept_is_refused() {
    for (schema, error) in [
        ("{}", "data.schema.type must be \"object\""),
        (r#""object""#, "data.schema.type must be \"object\""),
        (r#"{"type":"array"}"#, "data.schema.type must be \"object\""),
        (
            r#"{"type":"object","oneOf":[]}"#,
            "data.schema.oneOf must not be there: it would not be checked",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"object"}}}"#,
            "data.schema.properties.a.type must be what its keyword says",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"string","pattern":"(a+)+"}}}"#,
            "data.schema.properties.a.pattern must not be there: it would not be checked",
        ),
        (
            r#"{"type":"object","properties":{"a":{"enum":[{}]}}}"#,
            "data.schema.properties.a.enum must be what its keyword says",
        ),
        (
            r#"{"type":"object","properties":{"a":{"title":"A"}}}"#,
            "data.schema.properties.a must have a type or an enum",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"string"},"\u0061":{"type":"number"}}}"#,
            "data.schema.properties must have no name twice",
        ),
        (
            r#"{"type":"object","required":["a"]}"#,
            "data.schema.required must be names of properties",
        ),
        (
            r#"{"type":"object","additionalProperties":{}}"#,
            "data.schema.additionalProperties must be true or false",
        ),
    ] {
        assert_eq!(schema_error(schema), error, "{schema}");
    }
    let properties = |count: usize| {
        let each: Vec<_> = (0..count).map(|at| format!(r#""p{at}":{{"type":"string"}}"#)).collect();
        format!(r#"{{"type":"object","properties":{{{}}}}}"#, each.join(","))
    };
    assert_eq!(schema_error(&properties(64)), "");
    assert_eq!(schema_error(&properties(65)), "data.schema.properties must be at most 64");
    let values = |count: usize| {
        let each: Vec<_> = (0..count).map(|at| format!("{at}")).collect();
        format!(r#"{{"type":"object","properties":{{"a":{{"enum":[{}]}}}}}}"#, each.join(","))
    };
    assert_eq!(schema_error(&values(256)), "");
    assert!(schema_error(&values(257)).starts_with("data.schema.properties.a.enum"));
    let deep = format!(r#"{{"type":"object","default":{}{}}}"#, "[".repeat(900), "]".repeat(900));
    assert_eq!(schema_error(&deep), "", "what is for people may look as it likes");
    let large = format!(r#"{{"type":"object","title":"{}"}}"#, "x".repeat(64 * 1024));
    assert_eq!(schema_error(&large), "data.schema must be at most 64 KiB");
}

const FORM: &str = r#"{"type":"object","title":"Trip","required":["name","age"],"properties":{
    "name":{"type":"string","minLength":2,"maxLength":4},
    "age":{"type":"integer","minimum":0,"maximum":150},
    "weight":{"type":"number"},
    "vegan":{"type":"boolean"},
    "class":{"enum":["first","second",3,null]}}}"#;

#[test]
fn an_answer_fits_or_is_told_where_it_does_not() {
    let schema = Schema::parse(value(FORM)).unwrap();
    let misfit = |data: &str| {
        schema.check(value(data)).err().map_or_else(String::new, |misfit| misfit.to_string())
    };
    for fits in [
        r#"{"name":"Ann","age":7}"#,
        r#"{"name":"\u0041nn","age":7.0,"other":{"deep":[1]}}"#,
        r#"{"name":"日本語!","age":15e1,"weight":1e3,"vegan":false,"class":"first"}"#,
        r#"{"name":"An","age":0,"class":3.0}"#,
        r#"{"name":"An","age":0,"class":null}"#,
    ] {
        assert_eq!(misfit(fits), "", "{fits}");
    }
    for (data, error) in [
        ("7", "data must be an object"),
        ("{}", "data.name must be there"),
        (r#"{"name":"Ann"}"#, "data.age must be there"),
        (r#"{"name":7,"age":7}"#, "data.name must be a string"),
        (r#"{"name":"A","age":7}"#, "data.name must have at least 2 characters"),
        (r#"{"name":"Annie","age":7}"#, "data.name must have at most 4 characters"),
        (r#"{"name":"Ann","age":"7"}"#, "data.age must be a whole number"),
        (r#"{"name":"Ann","age":7.5}"#, "data.age must be a whole number"),
        (r#"{"name":"Ann","age":1e999}"#, "data.age must be a whole number"),
        (r#"{"name":"Ann","age":-1}"#, "data.age must be at least 0"),
        (r#"{"name":"Ann","age":151}"#, "data.age must be at most 150"),
        (r#"{"name":"Ann","age":7,"age":"x"}"#, "data.age must be a whole number"),
        (r#"{"name":"Ann","age":7,"weight":"x"}"#, "data.weight must be a number"),
        (r#"{"name":"Ann","age":7,"vegan":"true"}"#, "data.vegan must be true or false"),
        (
            r#"{"name":"Ann","age":7,"class":"third"}"#,
            "data.class must be one of the values of the schema",
        ),
    ] {
        assert_eq!(misfit(data), error, "{data}");
    }
    let closed = Schema::parse(value(r#"{"type":"object","additionalProperties":false}"#)).unwrap();
    assert_eq!(closed.check(value("{}")), Ok(()));
    let error = closed.check(value(r#"{"secret":1}"#)).unwrap_err();
    assert_eq!(error.to_string(), "data must have no members but those of the schema");
}

#[test]
fn an_option_is_one_of_those_that_were_offered() {
    let options = r#""options":[{"id":"x","label":"X"}]"#;
    let of = |kind: &str| asked(&format!(r#"{{"id":"a","kind":"{kind}",{options}}}"#));
    let (question, approval) = (of("question"), of("approval"));
    let (question, approval) =
        (Question::read(&question).unwrap(), Question::read(&approval).unwrap());
    let chosen = value(r#"{"option":"\u0078"}"#);
    let other = value(r#"{"option":"y"}"#);
    for asked in [&question, &approval] {
        assert_eq!(asked.check(Outcome::Accepted, Some(chosen)), Ok(()));
        let misfit = asked.check(Outcome::Accepted, Some(other)).unwrap_err();
        assert_eq!(misfit.place(), "data.option");
        assert_eq!(asked.check(Outcome::Declined, Some(other)), Ok(()), "nothing is relied on");
    }
    assert!(question.check(Outcome::Accepted, None).is_err());
    assert_eq!(approval.check(Outcome::Accepted, None), Ok(()), "yes is enough");
}
