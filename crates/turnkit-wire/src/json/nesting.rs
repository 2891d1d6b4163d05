//! Which containers are open, as a stack of bits.

/// Containers inside each other, the event's own object included (PROTOCOL 1.1).
pub(crate) const MAX_DEPTH: usize = 1024;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Container {
    Array,
    Object,
}

/// One bit for each open container inside the event's object; the innermost 64 stand in a word of their own.
pub(super) struct Nesting {
    depth: usize,
    inner: u64,
    outer: [u64; MAX_DEPTH / 64],
}

impl Nesting {
    #[inline]
    pub(super) fn new() -> Self {
        Nesting { depth: 1, inner: 0, outer: [0; MAX_DEPTH / 64] }
    }

    /// Whether there was room.
    #[inline]
    pub(super) fn push(&mut self, container: Container) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        if self.depth.is_multiple_of(64) {
            self.outer[self.depth / 64] = self.inner;
        }
        self.inner = self.inner << 1 | u64::from(container == Container::Object);
        self.depth += 1;
        true
    }

    #[inline]
    pub(super) fn pop(&mut self) {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth.is_multiple_of(64) {
            self.inner = self.outer[self.depth / 64];
        }
    }

    #[inline]
    pub(super) fn innermost(&self) -> Option<Container> {
        match (self.depth, self.inner & 1) {
            (1, _) => None,
            (_, 1) => Some(Container::Object),
            _ => Some(Container::Array),
        }
    }
}
