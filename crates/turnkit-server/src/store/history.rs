//! What was said in a session before a turn.

use rusqlite::{Connection, params};

use super::{Store, StoreError, Turn};

/// Messages that go with a run (PROTOCOL 4.2).
const MAX_MESSAGES: u32 = 100;
/// Bytes of their JSON, in all: with the longest message they stay within a run's body (PROTOCOL 3.2).
const MAX_BYTES: usize = 256 * 1024;

/// A message of a session, as agents get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

impl Store {
    /// The questions before this turn and the answers to them, the oldest first: whole turns, the newest that keep to the
    /// limits. A turn without any answer is left out.
    pub(crate) async fn history(&self, turn: &Turn) -> Result<Vec<Said>, StoreError> {
        let (session, before) = (turn.session_id.clone(), turn.index.cast_signed());
        self.reader.run(move |db| history(db, &session, before)).await
    }
}

fn history(db: &Connection, session: &str, before: i64) -> rusqlite::Result<Vec<Said>> {
    let sql = "SELECT asked.text, answer.text FROM messages asked
        JOIN messages answer ON answer.execution_id = asked.execution_id AND answer.role = 'assistant'
        WHERE asked.session_id = ?1 AND asked.turn_index < ?2 AND asked.role = 'user' AND trim(answer.text) <> ''
        ORDER BY asked.turn_index DESC LIMIT ?3";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![session, before, MAX_MESSAGES / 2])?;
    let (mut newest_first, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let asked = Said { role: "user", content: row.get(0)? };
        let answer = Said { role: "assistant", content: row.get(1)? };
        bytes += asked.json_len() + answer.json_len();
        if bytes > MAX_BYTES {
            break;
        }
        newest_first.extend([answer, asked]);
    }
    newest_first.reverse();
    Ok(newest_first)
}

impl Said {
    /// Bytes of its JSON, a comma after it too.
    fn json_len(&self) -> usize {
        let content =
            serde_json::to_string(&self.content).map_or(usize::MAX / 4, |json| json.len());
        content + self.role.len() + r#"{"role":"","content":},"#.len()
    }
}
