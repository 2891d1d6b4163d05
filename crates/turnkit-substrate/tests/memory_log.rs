//! The memory log keeps the contract of every log.

use turnkit_substrate::MemoryLog;

turnkit_testkit::log_contract!(MemoryLog::with_clock);
