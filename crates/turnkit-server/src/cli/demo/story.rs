//! The demo as it is told.

use std::fmt::Display;
use std::io;
use std::path::Path;

use serde_json::json;
use turnkit_wire::Event;

use super::evidence::{Check, Evidence};
use crate::cli::terminal::{Look, Screen, Written, columns, fitted, harmless};

/// Width of the column that says which layer it is.
const LAYER: usize = 9;
/// The way of an event.
const PATH: &str = "client ← HTTP ← server: engine ← adapter ← HTTP ← substrate: log ← agent";

/// Tells the demo while it is played; as JSON, only its verdict.
pub(super) struct Story {
    screen: Screen<io::Stdout>,
    width: Option<usize>,
    is_json: bool,
}

impl Story {
    pub(super) fn new(is_json: bool) -> Story {
        Story { screen: Screen::stdout(), width: columns(), is_json }
    }

    pub(super) fn opening(&mut self, server: &str, substrate: &str, database: &Path) -> Written {
        self.title("One chat turn over HTTP, cut in the middle and taken up again")?;
        self.told(Look::Dim, "", PATH)?;
        self.blank()?;
        self.did("server", server)?;
        self.did("substrate", format_args!("{substrate}, with a token made for this run"))?;
        self.did("database", database.display())
    }

    pub(super) fn begins(&mut self, session: &str, turn: &str, execution: &str) -> Written {
        self.title("A turn begins")?;
        let path = format!("/api/sessions/{session}/turns");
        self.client(format_args!("POST {path}  {{\"turnId\":\"{turn}\",\u{2026}}}"))?;
        self.did(
            "server",
            "writes turn and message in one transaction, and marks the turn as dispatched, once",
        )?;
        self.did("adapter", format_args!("POST /agents/run/stream  X-Execution-ID: {execution}"))?;
        self.did(
            "substrate",
            "binds that id to this one run, and logs each event before anyone gets it",
        )?;
        self.did(
            "engine",
            "hands on each line as it is; how many there were is the client's cursor",
        )?;
        self.blank()
    }

    /// One line of the turn, with the cursor that its reader has then.
    pub(super) fn line(&mut self, event: &Event, cursor: Option<u64>) -> Written {
        let is_envelope = event.class().is_envelope();
        let (layer, look) =
            if is_envelope { ("engine", Look::Magenta) } else { ("agent", Look::Yellow) };
        let cursor = cursor.map_or_else(|| "end".to_owned(), |cursor| cursor.to_string());
        let json = harmless(event.as_json());
        let room = self.width.map(|width| width.saturating_sub(LAYER + 6));
        let line = format!("{cursor:>3}  {}", fitted(&json, room));
        self.told(look, layer, line)
    }

    pub(super) fn cut(&mut self, cursor: u64) -> Written {
        self.title(format_args!("The connection is cut after {cursor} lines"))?;
        self.client("is gone")?;
        self.did("engine", "goes on: the turn does not depend on its client")?;
        self.did("substrate", "goes on logging what the agent says")
    }

    pub(super) fn comes_back(
        &mut self,
        session: &str,
        turn: &str,
        cursor: u64,
        missed: usize,
    ) -> Written {
        self.title(format_args!(
            "The turn has written {missed} more lines when the client comes back"
        ))?;
        self.client(format_args!("GET /api/sessions/{session}/turns/{turn}?after={cursor}"))?;
        self.did(
            "adapter",
            "attaches to the same execution, from its first event; it cannot start one",
        )?;
        self.did(
            "engine",
            format_args!("makes the same lines again, and leaves out the first {cursor}"),
        )?;
        self.blank()
    }

    /// What became of it.
    pub(super) fn verdict(&mut self, evidence: &Evidence, checks: &[Check]) -> Written {
        if self.is_json {
            return self.screen.line(as_json(evidence, checks));
        }
        self.layers(evidence)?;
        self.title("Checked")?;
        for check in checks {
            self.check(check)?;
        }
        self.title("Read back from the database")?;
        for saved in &evidence.saved {
            self.told(Look::Green, &saved.role, harmless(&saved.text))?;
        }
        self.blank()?;
        self.conclusion(checks)
    }

    fn layers(&mut self, evidence: &Evidence) -> Written {
        self.title("What each layer did")?;
        for (layer, deed) in evidence.deeds() {
            self.did(layer, deed)?;
        }
        Ok(())
    }

    fn check(&mut self, check: &Check) -> Written {
        let (mark, look) =
            if check.holds { ("\u{2713}", Look::Green) } else { ("\u{2717}", Look::Red) };
        let mark = format!("  {}", self.screen.paint(look, mark));
        self.screen.line(format_args!("{mark} {}", check.claim))?;
        let seen = self.screen.paint(Look::Dim, &check.seen).to_string();
        self.screen.line(format_args!("    {seen}"))
    }

    fn conclusion(&mut self, checks: &[Check]) -> Written {
        let broken: Vec<_> =
            checks.iter().filter(|check| !check.holds).map(|check| check.claim).collect();
        let (look, text) = match broken.as_slice() {
            [] => (
                Look::Green,
                "The agent ran once, every line came once, the answer was saved once.".to_owned(),
            ),
            broken => (Look::Red, format!("Not true: {}", broken.join("; "))),
        };
        let text = self.screen.paint(look, text).to_string();
        self.screen.line(text)
    }

    fn client(&mut self, text: impl Display) -> Written {
        self.told(Look::Green, "client", text)
    }

    fn did(&mut self, layer: &str, text: impl Display) -> Written {
        self.told(Look::Cyan, layer, text)
    }

    fn title(&mut self, text: impl Display) -> Written {
        self.blank()?;
        let title = self.screen.paint(Look::Bold, text).to_string();
        self.raw(title)
    }

    fn told(&mut self, look: Look, layer: &str, text: impl Display) -> Written {
        let layer = self.screen.paint(look, format!("{layer:>LAYER$}")).to_string();
        self.raw(format_args!("{layer}  {text}"))
    }

    fn blank(&mut self) -> Written {
        self.raw("")
    }

    fn raw(&mut self, text: impl Display) -> Written {
        if self.is_json {
            return Ok(());
        }
        self.screen.line(text)
    }
}

fn as_json(evidence: &Evidence, checks: &[Check]) -> serde_json::Value {
    let check = |check: &Check| json!({ "name": check.name, "ok": check.holds, "claim": check.claim, "seen": check.seen });
    json!({
        "ok": checks.iter().all(|check| check.holds),
        "executionId": evidence.execution_id,
        "linesBeforeCut": evidence.before.len(),
        "linesAfterCut": evidence.after.len(),
        "agentRuns": evidence.runs_started,
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "answer": evidence.answer().map(|saved| &saved.text),
    })
}
