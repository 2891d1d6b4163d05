/** Where servers keep their turns: in a directory, or in a PostgreSQL that lives as long as a run of the tests. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

/** The databases that were made, by directory. */
const made = new Map();

/** What a server is started with, so that it keeps its turns in `directory`, or in a database of its own where `TURNKIT_TEST_POSTGRES` says which PostgreSQL. */
export function keptIn(directory) {
  const at = process.env.TURNKIT_TEST_POSTGRES;
  if (!at) return ["--data-dir", directory];
  if (!made.has(directory)) {
    const name = `test_${basename(directory).replace(/\W/g, "_")}_${process.pid}_${made.size}`.toLowerCase();
    execFileSync(program("psql"), ["--no-psqlrc", "--quiet", "-c", `CREATE DATABASE ${name}`, `${at}/postgres`]);
    made.set(directory, ["--database", `${at}/${name}?sslmode=disable`]);
  }
  return made.get(directory);
}

/** A PostgreSQL on a free port of the loopback. Root starts it as somebody else: PostgreSQL refuses root. */
export async function startPostgres() {
  const folder = mkdtempSync(join(tmpdir(), "turnkit-postgres-"));
  const user = userInfo().uid === 0 ? "postgres" : undefined;
  if (user) execFileSync("chown", [user, folder]);
  const as = (name, args) => (user ? ["setpriv", [`--reuid=${user}`, `--regid=${user}`, "--clear-groups", "--", program(name), ...args]] : [program(name), args]);
  const data = join(folder, "data");
  execFileSync(...as("initdb", ["--username=turnkit", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", data]), { stdio: "ignore", cwd: folder });
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  const server = spawn(...as("postgres", ["-D", data, "-k", folder, "-h", "127.0.0.1", "-p", String(port), "-c", "fsync=off", "-c", "max_connections=500"]), { stdio: "ignore", cwd: folder });
  const isUp = () => {
    try {
      execFileSync(program("pg_isready"), ["-q", "-h", "127.0.0.1", "-p", String(port)]);
      return true;
    } catch {
      return false;
    }
  };
  const stop = async () => {
    const gone = server.exitCode === null && once(server, "exit");
    server.kill("SIGQUIT");
    await gone;
    rmSync(folder, { recursive: true });
  };
  for (let left = 1000; !isUp(); left--) {
    if (left === 0 || server.exitCode !== null) {
      await stop();
      throw new Error("PostgreSQL does not start");
    }
    await wait(20);
  }
  return { url: `postgres://turnkit@127.0.0.1:${port}`, stop };
}

/** Debian keeps the programs of a server out of the path. */
function program(name) {
  const versions = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql").map((version) => `/usr/lib/postgresql/${version}/bin`) : [];
  const folder = [...(process.env.PATH ?? "").split(":"), ...versions].find((folder) => ["initdb", "postgres", "psql", "pg_isready"].every((name) => existsSync(join(folder, name))));
  if (!folder) throw new Error("there is no PostgreSQL: apt-get install postgresql");
  return join(folder, name);
}
