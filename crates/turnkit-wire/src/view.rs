//! Tolerant, borrowed views of the events that the layers act on.
