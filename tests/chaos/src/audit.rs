//! What is written down inside PostgreSQL about every change of a turn's row, so that a lease which was taken from the living and an answer
//! that was saved twice are seen, whatever clients see of them.

use crate::stage::Stage;

/// `lived` is whether the worker that held the lease before had renewed it lately enough; one that renews at this very moment is no evidence.
const TRIGGERS: &str = "
    CREATE TABLE chaos_broken (at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(), what TEXT NOT NULL);

    CREATE FUNCTION chaos_turn() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        lived BOOLEAN;
    BEGIN
        lived := EXISTS (SELECT 1 FROM turnkit_workers w WHERE w.id = OLD.worker
            AND w.renewed_at BETWEEN clock_timestamp() - interval '14 seconds' AND clock_timestamp() - interval '1 second');
        IF NEW.epoch <> OLD.epoch AND lived AND NOT OLD.released THEN
            INSERT INTO chaos_broken (what) VALUES (format('the lease of %s was taken from a worker that lives', OLD.execution_id));
        END IF;
        IF NEW.epoch NOT IN (OLD.epoch, OLD.epoch + 1) THEN
            INSERT INTO chaos_broken (what) VALUES (format('epoch %s of %s became %s', OLD.epoch, OLD.execution_id, NEW.epoch));
        END IF;
        IF NEW.worker IS DISTINCT FROM OLD.worker AND NEW.epoch = OLD.epoch THEN
            INSERT INTO chaos_broken (what) VALUES (format('%s has another worker in the same epoch', OLD.execution_id));
        END IF;
        IF OLD.dispatched AND NOT NEW.dispatched OR NEW.ran AND NEW.epoch <> OLD.epoch AND OLD.dispatched THEN
            INSERT INTO chaos_broken (what) VALUES (format('%s was dispatched twice', OLD.execution_id));
        END IF;
        IF OLD.state = 'complete' OR OLD.state <> 'open' AND NEW.state NOT IN (OLD.state, 'complete') THEN
            INSERT INTO chaos_broken (what) VALUES (format('%s was %s, and became %s', OLD.execution_id, OLD.state, NEW.state));
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_turn AFTER UPDATE ON turnkit_turns FOR EACH ROW
        WHEN ((OLD.epoch, OLD.worker, OLD.state, OLD.dispatched) IS DISTINCT FROM (NEW.epoch, NEW.worker, NEW.state, NEW.dispatched))
        EXECUTE FUNCTION chaos_turn();

    CREATE FUNCTION chaos_message() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO chaos_broken (what) VALUES (format('the answer of %s was saved twice', OLD.execution_id));
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_message AFTER UPDATE OR DELETE ON turnkit_messages FOR EACH ROW WHEN (OLD.status = 'complete')
        EXECUTE FUNCTION chaos_message();
";

/// What must not be there once nothing runs.
const REST: &str = "
    SELECT what FROM chaos_broken
    UNION ALL
    SELECT format('%s is still open', execution_id) FROM turnkit_turns WHERE state = 'open'
    UNION ALL
    SELECT format('%s is %s, and has %s answers', t.execution_id, t.state, count(m.role)) FROM turnkit_turns t
        LEFT JOIN turnkit_messages m ON m.execution_id = t.execution_id AND m.role = 'assistant' AND m.status = t.state
        WHERE t.state <> 'open' GROUP BY t.execution_id, t.state HAVING count(m.role) <> 1
    UNION ALL
    SELECT format('%s waits, and its session is not paused', q.turn_id) FROM turnkit_queue q JOIN turnkit_sessions s ON s.id = q.session_id
        WHERE NOT q.removed AND NOT s.queue_paused
";

/// Begins to look, where the database is one that can.
pub(crate) fn begin(stage: &Stage) {
    stage.sql(TRIGGERS);
}

/// What was seen that must not be.
pub(crate) fn found(stage: &Stage) -> Vec<String> {
    stage.sql(REST).unwrap_or_default().lines().map(str::to_owned).collect()
}
