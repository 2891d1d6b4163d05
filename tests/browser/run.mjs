/**
 * Runs all tests of the page: `node run.mjs [PATH OF THE BINARY turnkit]`. Without a binary, what needs the real server is
 * left out, and that is said. Needs Node 20 and Chromium (Debian: `apt-get install chromium`), or `CHROMIUM=/path`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { resolve } from "node:path";

const here = import.meta.dirname;
const binary = process.argv[2] ?? process.env.TURNKIT;

function run(program, args, env = {}) {
  const { status, error } = spawnSync(program, args, { cwd: here, stdio: "inherit", env: { ...process.env, ...env } });
  if (error || status !== 0) stop(`${program} ${args[0]} failed${error ? `: ${error.message}` : ""}`);
}

function stop(message) {
  console.error(message);
  process.exit(1);
}

if (binary && !existsSync(binary)) stop(`there is no ${binary}`);
if (!existsSync(new URL("node_modules/playwright-core", import.meta.url))) run("npm", ["ci", "--no-audit", "--no-fund"]);
const { chromiumPath } = await import("./browser.mjs");
if (!chromiumPath()) stop("there is no Chromium: install it, or name it in CHROMIUM");
if (!binary) console.error("no binary was named: the tests with the real server are left out");

const tests = readdirSync(here).filter((name) => name.endsWith(".test.mjs") && (binary || name !== "server.test.mjs"));
run(process.execPath, ["--test", "--test-concurrency=1", ...tests], binary ? { TURNKIT: resolve(binary) } : {});
