//! Hooks that an attempt only borrows.

use turnkit::TurnHooks;

fn share(hooks: impl TurnHooks) {
    start(&hooks);
    start(Box::new(hooks));
}

fn start(_: impl TurnHooks) {}

fn main() {}
