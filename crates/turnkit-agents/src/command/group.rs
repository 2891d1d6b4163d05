//! A program and all that it starts, as one process group.

use std::{io, process::ExitStatus, time::Duration};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
    },
};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    signal::unix::{self, SignalKind},
    time,
};

/// A process group, which ends with this value at the latest.
///
/// The program at its head is not reaped before the rest of the group was killed: until then its id, which is the group's too,
/// cannot become someone else's.
pub(super) struct Group {
    leader: Child,
    /// Some child of this process has ended.
    child_ended: unix::Signal,
}

/// A program's ends of its three pipes, seen from here.
pub(super) struct Pipes {
    pub(super) input: Option<ChildStdin>,
    pub(super) output: Option<ChildStdout>,
    pub(super) errors: Option<ChildStderr>,
}

impl Group {
    /// Starts `program` at the head of a group of its own.
    pub(super) fn start(program: &mut Command) -> io::Result<(Self, Pipes)> {
        // Before the start, so that no end is missed.
        let child_ended = unix::signal(SignalKind::child())?;
        let mut leader = program.process_group(0).spawn()?;
        let pipes = Pipes {
            input: leader.stdin.take(),
            output: leader.stdout.take(),
            errors: leader.stderr.take(),
        };
        let group = Self { leader, child_ended };
        Ok((group, pipes))
    }

    /// Resolves when the program itself has ended; what it started may live on. May be dropped and asked again.
    pub(super) async fn ended(&mut self) {
        while !self.has_ended() {
            if self.child_ended.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks the whole group to end, gives the program `grace` to do so, and kills what is left.
    pub(super) async fn terminate(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        if time::timeout(grace, self.ended()).await.is_err() {
            tracing::warn!(?grace, "a program did not end in time and is killed");
        }
        self.reap().await
    }

    /// Kills what is left of the group, the program too, and says how that ended. Then nothing of it runs any more.
    pub(super) async fn reap(&mut self) -> io::Result<ExitStatus> {
        let id = self.id();
        self.kill();
        let status = self.leader.wait().await;
        if let Some(id) = id {
            emptied(id).await;
        }
        status
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn has_ended(&self) -> bool {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let Some(id) = self.id() else { return true };
        !matches!(waitid(WaitId::Pid(id), peek), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        let Some(id) = self.id() else { return };
        match kill_process_group(id, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                tracing::error!(%error, ?signal, "a process group could not be signalled");
            }
        }
    }

    /// None once the program is reaped.
    fn id(&self) -> Option<Pid> {
        let id = i32::try_from(self.leader.id()?).ok()?;
        Pid::from_raw(id)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Resolves when no process is left in a group that was killed. The kernel tells nobody but a process's parent, so this
/// asks again and again; not for ever, for there may be nobody who reaps.
async fn emptied(group: Pid) {
    let mut pause = Duration::from_millis(1);
    while test_kill_process_group(group).is_ok() {
        if pause > EMPTIED_WITHIN {
            tracing::warn!("killed processes of a program's group are still there");
            return;
        }
        time::sleep(pause).await;
        pause *= 2;
    }
}

/// The longest pause between two looks, and about how long is waited in all.
const EMPTIED_WITHIN: Duration = Duration::from_millis(256);
