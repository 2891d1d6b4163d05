/**
 * Runs all tests of front ends: `node run.mjs [PATH OF THE EXAMPLE encode] [PATH OF THE BINARY turnkit] [--postgres]`. With --postgres those
 * alone in which turns are asked, taken up again and answered, in a PostgreSQL. Installs what package-lock.json names. Needs Node 20.11 and npm.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { startPostgres } from "../browser/database.mjs";

const here = import.meta.dirname;
const [encode = process.env.ENCODE, turnkit = process.env.TURNKIT] = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));

function run(program, args, env = {}) {
  const { status, error } = spawnSync(program, args, { cwd: here, stdio: "inherit", env: { ...process.env, ...env } });
  if (error || status !== 0) stop(`${program} ${args[0]} failed${error ? `: ${error.message}` : ""}`);
}

function stop(message) {
  console.error(message);
  process.exit(1);
}

/** Whether npm has installed what the lock file names now. */
function isInstalled() {
  const [wanted, got] = ["package-lock.json", "node_modules/.package-lock.json"].map((name) => statSync(resolve(here, name), { throwIfNoEntry: false }));
  return got !== undefined && got.mtimeMs >= wanted.mtimeMs;
}

for (const binary of [encode, turnkit]) if (!binary || !existsSync(binary)) stop(`there is no ${binary ?? "binary: name the example encode, and turnkit"}`);
if (!isInstalled()) run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
const env = { ENCODE: resolve(encode), TURNKIT: resolve(turnkit) };
if (process.argv.includes("--postgres")) {
  const postgres = await startPostgres();
  const tests = ["--test", "--test-concurrency=2", "--test-reporter=spec", "asked.test.mjs", "served.test.mjs"];
  const { status } = spawnSync(process.execPath, tests, { cwd: here, stdio: "inherit", env: { ...process.env, ...env, TURNKIT_TEST_POSTGRES: postgres.url } });
  await postgres.stop();
  if (status !== 0) stop("the tests in PostgreSQL failed");
} else {
  const tests = readdirSync(here).filter((name) => name.endsWith(".test.mjs"));
  run(process.execPath, ["--test", "--test-concurrency=2", "--test-reporter=spec", ...tests], env);
}
