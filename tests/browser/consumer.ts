/** What a product's own TypeScript may write, and what it may not: checked, and never run. */
import { Turnkit, TurnkitError, newTurnId, type Message, type Update } from "../../crates/turnkit-server/assets/turnkit.js";

const turnkit = new Turnkit({ base: "https://chat.example", headers: { Authorization: "Bearer …" }, idleTimeout: 30_000 });
const session: string = await turnkit.createSession();
const texts: string[] = [];

for await (const update of turnkit.send(session, "Hello", { turnId: newTurnId(), signal: AbortSignal.timeout(1000) })) {
  switch (update.kind) {
    case "connected":
      if (update.cursor === 0) texts.length = 0;
      break;
    case "event":
      texts.push(update.event.type, update.line);
      break;
    case "queued":
      texts.push(`number ${update.position.toFixed(0)}`);
      break;
    case "disconnected":
      texts.push(update.error.code, update.delay.toFixed(0));
      break;
    case "failed":
      throw update.error;
    case "completed":
      texts.push(String(update.replayed));
      break;
    default:
      update satisfies never;
  }
}

const messages: Message[] = await turnkit.messages(session, { turns: 10 });
const first: Update["kind"] | undefined = messages[0] && "event";
const isRetryable = (error: unknown) => error instanceof TurnkitError && error.retryable;
export { first, isRetryable };

// @ts-expect-error: a session is named by a string
turnkit.resume(3, "turn");
// @ts-expect-error: a cursor is a number
turnkit.resume(session, "turn", { after: "3" });
// @ts-expect-error: there is no such status
messages.filter(({ status }) => status === "done");
