//! What must not compile.

#[test]
fn raw_text_cannot_be_persisted_and_a_driver_must_be_used() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile-fail/*.rs");
}
