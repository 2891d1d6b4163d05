//! What must not compile.

#[test]
fn what_a_turn_forbids_does_not_compile_and_says_why() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile-fail/*.rs");
}
