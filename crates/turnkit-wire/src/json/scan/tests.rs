use super::*;

#[test]
fn the_nesting_remembers_1023_containers() {
    let mut nesting = Nesting::new();
    let container = |level: usize| {
        if level.is_multiple_of(3) { Container::Object } else { Container::Array }
    };
    for level in 0..MAX_DEPTH - 1 {
        assert!(nesting.push(container(level)));
    }
    assert!(!nesting.push(Container::Array));
    for level in (0..MAX_DEPTH - 1).rev() {
        assert!(nesting.innermost() == Some(container(level)));
        nesting.pop();
    }
    assert!(nesting.innermost().is_none());
}
