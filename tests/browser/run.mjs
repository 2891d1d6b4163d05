/**
 * Runs all tests of the page, or takes its pictures: `node run.mjs [PATH OF THE BINARY turnkit] [--postgres | --screenshots]`. Without a
 * binary, what needs the real server is left out, and that is said. With --postgres, what a database can make different runs once more,
 * in a PostgreSQL. Installs what package-lock.json names. Needs Node 20.11
 * and Chromium: `apt-get install chromium`, `npx playwright-core install chromium`, or `CHROMIUM=/path`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { startPostgres } from "./database.mjs";

const here = import.meta.dirname;
const isShooting = process.argv.includes("--screenshots");
const isInPostgres = process.argv.includes("--postgres");
const binary = process.argv.slice(2).find((argument) => !argument.startsWith("--")) ?? process.env.TURNKIT;
/** Each file has a browser of its own and mostly waits. */
const AT_ONCE = 3;

/** What is read back, waits, is told to others or goes on at another process; of each the quickest. */
const BY_THE_DATABASE = "log is elsewhere|a question waits|each user signs in|stay beside|messages that wait|two browsers";

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

if (binary && !existsSync(binary)) stop(`there is no ${binary}`);
if (!isInstalled()) run("npm", ["ci", "--no-audit", "--no-fund"]);
const { chromiumPath } = await import("./browser.mjs");
if (!chromiumPath()) stop("there is no Chromium: `apt-get install chromium`, `npx playwright-core install chromium` in tests/browser, or name one in CHROMIUM");

const env = binary ? { TURNKIT: resolve(binary) } : {};
if (isShooting) run(process.execPath, ["screenshots.mjs"], env);
else if (isInPostgres) {
  const postgres = await startPostgres();
  const tests = ["--test", "--test-reporter=spec", `--test-name-pattern=${BY_THE_DATABASE}`, "server.test.mjs"];
  const { status } = spawnSync(process.execPath, tests, { cwd: here, stdio: "inherit", env: { ...process.env, ...env, TURNKIT_TEST_POSTGRES: postgres.url } });
  await postgres.stop();
  if (status !== 0) stop("the tests in PostgreSQL failed");
} else {
  if (!binary) console.error("no binary was named: the tests with the real server are left out");
  const tests = readdirSync(here).filter((name) => name.endsWith(".test.mjs") && (binary || !name.startsWith("server")));
  run(process.execPath, ["--test", `--test-concurrency=${AT_ONCE}`, "--test-reporter=spec", ...tests], env);
}
