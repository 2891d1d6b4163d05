// Clients that send one turn after the other, each with a session of its own, for so many seconds or until SIGTERM. Exits with 1 where a turn
// has failed.  node load.mjs URL TOKEN CLIENTS SECONDS|until-told
import { Turnkit } from "../../crates/turnkit-server/assets/turnkit.js";

const [base, token, clients, seconds] = process.argv.slice(2);
let goesOn = true;
const stop = () => (goesOn = false);
process.on("SIGTERM", stop);
if (Number(seconds)) setTimeout(stop, Number(seconds) * 1000);

const [counts, failures] = [{ turns: 0, events: 0, disconnected: 0, again: 0 }, new Map()];
const turnkit = new Turnkit({ base, headers: { Authorization: `Bearer ${token}` } });

async function session() {
  for (;;) {
    try {
      return await turnkit.createSession();
    } catch (error) {
      counts.again += 1;
      await new Promise((done) => setTimeout(done, 200));
    }
  }
}

async function client() {
  const id = await session();
  while (goesOn) {
    for await (const update of turnkit.send(id, "a long answer")) {
      if (update.kind === "event") counts.events += 1;
      if (update.kind === "disconnected") counts.disconnected += 1;
      if (update.kind === "failed") failures.set(update.error.code, (failures.get(update.error.code) ?? 0) + 1);
    }
    counts.turns += 1;
  }
}

const ended = await Promise.allSettled(Array.from({ length: Number(clients) }, client));
for (const { reason } of ended.filter(({ status }) => status === "rejected")) {
  failures.set(`${reason}`, (failures.get(`${reason}`) ?? 0) + 1);
}
const failed = [...failures].map(([code, count]) => `${count} ${code}`).join(", ") || "none";
const { turns, events, disconnected, again } = counts;
console.log(`${turns} turns by ${clients} clients, ${events} events; connections lost ${disconnected}, sessions asked for again ${again}; failed: ${failed}`);
process.exit(failures.size > 0 ? 1 : 0);
