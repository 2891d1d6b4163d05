/** The page's modules are what their JSDoc says: TypeScript checks them, strictly. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

const ASSETS = "../../crates/turnkit-server/assets/";

function check(...args) {
  const tsc = new URL("node_modules/typescript/bin/tsc", import.meta.url).pathname;
  return spawnSync(process.execPath, [tsc, ...args], { cwd: import.meta.dirname, encoding: "utf8" });
}

test("the page's modules have the types that they say", () => {
  const { status, stdout } = check("--project", ".", "--listFiles");
  assert.equal(status, 0, stdout);
  for (const name of ["turnkit.js", "page.js", "conversation.js", "answer.js", "developer.js"]) assert.match(stdout, new RegExp(`assets/${name}$`, "m"));
});

test("whoever takes turnkit.js gets its types, and a wrong call is told", () => {
  const { status, stdout } = check("--project", "tsconfig.consumer.json");
  assert.equal(status, 0, stdout);
});
