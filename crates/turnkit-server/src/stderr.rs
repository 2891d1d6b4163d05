//! Standard error, without waiting for whoever reads it.
//!
//! A pipe that nobody reads takes no more once it is full, nor does a terminal that was stopped with Ctrl-S: whoever writes to one
//! waits for as long as its reader likes. So the log's lines go through a bounded queue to a thread of its own. What finds no room
//! is dropped and counted, and the log says how much that was as soon as something is read again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, thread};

use tracing_subscriber::fmt::MakeWriter;

/// How many bytes of lines may wait.
const CAPACITY: usize = 256 * 1024;

/// One for the process, as standard error is.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines this process has not logged, because nobody read those before them.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED.load(Relaxed)
}

/// Takes whole lines, and waits for nobody. A clone has the same queue.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or all is written.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    /// What was taken from here is not written yet.
    is_writing: bool,
    /// Lines that found no room since this was last told.
    dropped: u64,
}

impl Lines {
    /// Lines for standard error.
    ///
    /// # Errors
    /// Where there is no thread to write them.
    pub(crate) fn start() -> io::Result<Lines> {
        Lines::to(standard_error())
    }

    fn to(output: impl Write + Send + 'static) -> io::Result<Lines> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        thread::Builder::new().name("turnkit-log".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.write_for_ever(output)
        })?;
        Ok(Lines(shared))
    }

    /// Waits until all lines are written, for as long as `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        let is_left = |queue: &mut Queue| !queue.waiting.is_empty() || queue.is_writing;
        let queue = self.0.lock();
        // Either way: a reader that does not come has had its time.
        drop(self.0.changed.wait_timeout_while(queue, patience, is_left));
    }
}

impl Shared {
    fn write_for_ever(&self, mut output: impl Write) {
        let (mut lines, mut missing) = (Vec::new(), 0);
        loop {
            let mut queue = self.lock();
            queue.is_writing = false;
            self.changed.notify_all();
            let waited = self.changed.wait_while(queue, |queue| queue.waiting.is_empty());
            queue = waited.unwrap_or_else(PoisonError::into_inner);
            queue.is_writing = true;
            mem::swap(&mut queue.waiting, &mut lines);
            missing += mem::take(&mut queue.dropped);
            drop(queue);
            if output.write_all(&lines).is_err() {
                // Told once something is written again. A line about it now would be lost as well, and be told of in its turn.
                let lost = lines.split_inclusive(|byte| *byte == b'\n').count() as u64;
                DROPPED.fetch_add(lost, Relaxed);
                missing += lost;
            } else if missing > 0 {
                let lines = mem::take(&mut missing);
                let in_all = dropped_lines();
                tracing::warn!(
                    lines,
                    in_all,
                    "lines of the log are missing here: standard error was not read"
                );
            }
            lines.clear();
        }
    }

    /// Nothing that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &Lines {
    /// Takes a whole line, or drops it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.lock();
        if queue.waiting.len() + line.len() <= CAPACITY {
            queue.waiting.extend_from_slice(line);
            self.0.changed.notify_all();
        } else {
            queue.dropped += 1;
            DROPPED.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

/// A handle of its own, past the lock of the standard library: a write that waits for ever would keep that lock from whoever else has
/// something to say there.
#[cfg(unix)]
fn standard_error() -> Box<dyn Write + Send> {
    use std::os::fd::AsFd as _;

    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(own) => Box::new(std::fs::File::from(own)),
        Err(_) => Box::new(io::stderr()),
    }
}

/// A console there takes text, which the standard library makes of the bytes.
#[cfg(not(unix))]
fn standard_error() -> Box<dyn Write + Send> {
    Box::new(io::stderr())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Writes when it is let to.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(io::Error::other)?;
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_whole_and_counted() {
        let (open, opened) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let lines = Lines::to(Gate { open: opened, written }).unwrap();
        let before = dropped_lines();
        (&lines).write_all(b"first\n").unwrap();
        let is_taken = || {
            let queue = lines.0.lock();
            queue.is_writing && queue.waiting.is_empty()
        };
        while !is_taken() {
            thread::yield_now();
        }
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..=CAPACITY / line.len() {
            (&lines).write_all(&line).unwrap();
        }
        assert_eq!(dropped_lines() - before, 1);
        lines.flush(Duration::from_millis(1));

        let mut text = Vec::new();
        while text.len() < 6 + CAPACITY {
            open.send(()).unwrap();
            text.extend(read.recv().unwrap());
        }
        assert!(text.starts_with(b"first\nx") && text.ends_with(b"x\n"));
        lines.flush(Duration::from_secs(60));
        assert_eq!(lines.0.lock().dropped, 0, "it is told");
    }
}
