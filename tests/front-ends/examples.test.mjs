/**
 * The examples, built as they are, in a browser before `turnkit serve`, with a network between them that can be cut; and the guide's
 * snippets, run as they are printed.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { Network, Process } from "../browser/processes.mjs";

const ROOT = join(import.meta.dirname, "../..");
const TYPES = { ".html": "text/html", ".js": "text/javascript" };

/** It thinks, calls a tool, and says "One "; the rest waits until there is the file that the message names. */
const AGENT = `
import { existsSync } from "node:fs";
import { text } from "node:stream/consumers";
import { setTimeout as wait } from "node:timers/promises";
const { message } = JSON.parse(await text(process.stdin));
const tell = (part, delta) => console.log(JSON.stringify({ type: "message.part.updated", data: { part, delta } }));
const call = (state) => tell({ id: "t1", type: "tool", tool: "bash", callID: "call_1", state });
tell({ id: "r1", type: "reasoning" }, "Let me think.");
call({ status: "running", input: { command: "ls" } });
call({ status: "completed", input: { command: "ls" }, output: "a" });
tell({ id: "p1", type: "text" }, "One ");
while (!existsSync(message)) await wait(10);
tell({ id: "p1", type: "text" }, "file “a”.");
console.log(JSON.stringify({ type: "result", data: { finishReason: "stop" } }));
`;

function run(program, args, cwd, env = {}) {
  const { status, error, stderr } = spawnSync(program, args, { cwd, encoding: "utf8", env: { ...process.env, ...env } });
  assert.equal(status, 0, `${program} ${args.join(" ")} in ${cwd}: ${error ?? stderr}`);
}

function install(directory) {
  if (!existsSync(join(directory, "node_modules"))) run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], directory);
}

/** Serves a directory of files. */
async function site(directory) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://x").pathname.replace(/\/$/, "/index.html");
    const file = await readFile(join(directory, path)).catch(() => undefined);
    response.writeHead(file ? 200 : 404, { "Content-Type": TYPES[extname(path)] ?? "text/plain" }).end(file);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => (server.close(), server.closeAllConnections()) };
}

const EXAMPLES = {
  "react-ai-sdk": { first: 'ThinkingLet me think.bash: output-available{\n  "command": "ls"\n}aOne ', running: "streaming" },
  "ag-ui": { first: 'ThinkingLet me think.bash: done{"command":"ls"}aOne ', running: "running", unhandled: "TypeError: network error" },
};

for (const [name, { first, running, unhandled }] of Object.entries(EXAMPLES)) {
  describe(`examples/${name}`, { timeout: 300_000 }, () => {
    let [browser, context, directory, errors, gate, gates, network, server, pages] = [];

    before(async () => {
      for (const wanted of ["tests/browser", `examples/${name}`]) install(join(ROOT, wanted));
      const { openBrowser } = await import("../browser/browser.mjs");
      directory = await mkdtemp(join(tmpdir(), "turnkit-examples-"));
      gates = 0;
      await writeFile(join(directory, "agent.mjs"), AGENT);
      pages = await site(join(directory, "dist"));
      const agent = ["--agent", "command", "--command", process.execPath, join(directory, "agent.mjs")];
      const serve = ["--data-dir", join(directory, "data"), "--log-level", "error", "--allow-origin", pages.url, ...agent];
      server = await new Process("serve", serve).start();
      network = await new Network().open(server.url);
      const build = ["vite", "build", "--logLevel", "error", "--outDir", join(directory, "dist"), "--emptyOutDir"];
      run("npx", build, join(ROOT, "examples", name), { VITE_TURNKIT: network.url.replace(/\/$/, "") });
      browser = await openBrowser();
    });
    after(async () => {
      await browser?.close();
      network?.close();
      await server?.end();
      pages?.close();
      await rm(directory, { recursive: true });
    });
    beforeEach(async () => {
      context = await browser.newContext();
      errors = [];
      gate = join(directory, `gate-${++gates}`);
    });
    afterEach(() => context.close());

    async function open(address = pages.url) {
      const tab = await context.newPage();
      tab.setDefaultTimeout(60_000);
      // HttpAgent tells a connection that broke twice: to whoever ran it, and to nobody.
      tab.on("pageerror", (error) => `${error}` !== unhandled && errors.push(`${error}`));
      await tab.goto(address);
      await tab.locator("form").waitFor();
      return tab;
    }

    const drawn = (tab) => tab.locator("main").evaluate((main) => [...main.querySelectorAll("article, details")].filter((part) => !part.parentElement.closest("article")).map(({ textContent }) => textContent).join(""));
    const shows = (tab, expected) => tab.waitForFunction((text) => [...document.querySelectorAll("main article, main details")].filter((part) => !part.parentElement.closest("article")).map(({ textContent }) => textContent).join("") === text, expected);
    const status = (tab, is) => tab.locator(`form[data-status="${is}"]`).waitFor();

    /** A tab in the middle of an answer. */
    async function asked() {
      const tab = await open();
      await tab.locator("input").fill(gate);
      await tab.locator("input").press("Enter");
      await shows(tab, `${gate}${first}`);
      return tab;
    }
    const goOn = () => writeFile(gate, "");

    async function holds(...tabs) {
      for (const tab of tabs) {
        await status(tab, "ready");
        assert.equal(await drawn(tab), `${gate}${first}file “a”.`);
      }
      const [tab] = tabs;
      await tab.reload();
      await shows(tab, `${gate}${first}file “a”.`);
      await status(tab, "ready");
      assert.deepEqual(errors, []);
    }

    test("an answer that is cut goes on in the page, without a gap or a doubled word", async () => {
      const tab = await asked();
      network.cut();
      await status(tab, "cut");
      await status(tab, running);
      await shows(tab, `${gate}${first}`);
      await goOn();
      await holds(tab);
    });

    test("an answer that is saved while the page is cut off is told when it is back", async () => {
      const tab = await asked();
      await context.setOffline(true);
      network.cut();
      await status(tab, "cut");
      await goOn();
      const id = new URL(tab.url()).hash.slice(1);
      for (let response; response?.status !== 204; ) {
        response = await fetch(`${server.url}api/chat/${id}/stream`);
        await response.text();
      }
      await context.setOffline(false);
      await holds(tab);
    });

    test("a page that is loaded again in the middle, and a second one beside it, see it to its end", async () => {
      const tab = await asked();
      await tab.reload();
      await shows(tab, `${gate}${first}`);
      const second = await open(tab.url());
      await shows(second, `${gate}${first}`);
      await goOn();
      await holds(tab, second);
    });

    test("a stop ends the turn, and what there was is kept", async () => {
      const tab = await asked();
      await tab.locator("#stop").click();
      await status(tab, "ready");
      assert.equal(await drawn(tab), `${gate}${first}`);
      const id = new URL(tab.url()).hash.slice(1);
      const messages = await (await fetch(`${server.url}api/chat/${id}`)).json();
      assert.equal(messages[1].metadata.error.code, "cancelled");
      await tab.reload();
      await shows(tab, `${gate}${first}`);
      assert.deepEqual(errors, []);
    });

    if (name === "react-ai-sdk") {
      test("another answer takes the place of the first", async () => {
        await goOn();
        const tab = await open();
        await tab.locator("input").fill(gate);
        await tab.locator("input").press("Enter");
        await shows(tab, `${gate}${first}file “a”.`);
        await status(tab, "ready");
        const id = new URL(tab.url()).hash.slice(1);
        const answer = async () => (await (await fetch(`${server.url}api/chat/${id}`)).json())[1]?.id;
        const old = await answer();
        await tab.locator("#again").click();
        while ([old, undefined].includes(await answer()));
        await holds(tab);
      });
    }
  });
}

describe("docs/guide/front-ends.md", { timeout: 300_000 }, () => {
  let [directory, server, snippets] = [];

  before(async () => {
    install(join(ROOT, "tests/browser"));
    // Beside the packages that the snippets import.
    directory = await mkdtemp(join(import.meta.dirname, ".guide-"));
    const serve = ["--data-dir", join(directory, "data"), "--log-level", "error", "--demo-pace", "1ms"];
    server = await new Process("serve", serve).start();
    const guide = await readFile(join(ROOT, "docs/guide/front-ends.md"), "utf8");
    snippets = [...guide.matchAll(/^```js\n(.*?)^```/gms)].map(([, code]) => code);
    assert.match(snippets[0], /http:\/\/127\.0\.0\.1:8787/);
    snippets[0] = snippets[0].replace("http://127.0.0.1:8787", server.url.replace(/\/$/, ""));
  });
  after(async () => {
    await server?.end();
    await rm(directory, { recursive: true });
  });

  /** The snippet of the guide that has this in it, after the first one, which they all need. */
  function printed(mark) {
    const found = snippets.filter((code) => code.includes(mark));
    assert.equal(found.length, 1, mark);
    return snippets[0] + found[0];
  }

  /** What `told` is, behind the snippet. */
  async function told(mark, then, version = 7) {
    const code = `${printed(mark)}\n${then}`;
    const named = code.replace('"ai"', `"ai${version}"`).replace('"@ai-sdk/react"', `"react${version}"`).replace("?ai=5", `?ai=${version}`);
    const file = join(directory, "snippet.mjs");
    await writeFile(file, `${named}\nconsole.log(JSON.stringify(told));\n`);
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: "utf8", timeout: 60_000 });
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout);
  }

  const WHOLE = ["ready", ["step-start", "reasoning", "dynamic-tool", "text"], true];
  const TOLD = "const told = [chat.status, chat.messages[1]?.parts.map(({ type }) => type), chat.messages[1]?.metadata.saved];";
  const ASKED = (version) => `const { Chat } = await import("react${version}"); const chat = new Chat({ id, transport }); await chat.sendMessage({ text: "Hello" }); ${TOLD}`;

  test("useChat answers, answers again, and edits", async () => {
    assert.deepEqual(await told("useChat({ chat", `await chat.sendMessage({ text: "Hello" }); ${TOLD}`), WHOLE);
    const then = `
      await chat.sendMessage({ text: "Hello" });
      const first = chat.messages[1].id;
      await chat.regenerate();
      const told = [chat.messages.length, chat.messages[1].id !== first];
      await chat.sendMessage({ text: "Edited", messageId: chat.messages[0].id });
      const saved = await (await fetch(api + "/" + id)).json();
      told.push(saved.length, saved[0].parts[0].text);`;
    assert.deepEqual(await told("useChat({ chat", then), [2, true, 2, "Edited"]);
  });

  for (const version of [5, 6, 7]) test(`the counting transport, ai ${version}`, async () => assert.deepEqual(await told("function lastingTransport", ASKED(version), version), WHOLE));

  test("the guide prints the counting transport that is tested", async () => {
    const [, code] = (await readFile(join(import.meta.dirname, "lasting.mjs"), "utf8")).split("*/\n");
    assert.ok(printed("function lastingTransport").includes(code.replace("export ", "")));
  });

  test("WorkflowChatTransport", async () => assert.deepEqual(await told("new WorkflowChatTransport", ASKED(7)), WHOLE));

  test("HttpAgent holds what is at rest", async () => {
    const [held, saved] = await told("new HttpAgent", "const told = [agent.messages, (await (await fetch(agent.url + '?threadId=' + id)).json()).messages];");
    assert.deepEqual(held.map(({ role }) => role), ["user", "reasoning", "assistant", "tool", "assistant"]);
    assert.deepEqual(held, saved);
  });

  test("an approval of the AI SDK, and an interrupt of AG-UI", async () => {
    const chat = `
      const [{ Chat }, { DefaultChatTransport }] = [await import("react7"), await import("ai7")];
      const chat = new Chat({ id, transport: new DefaultChatTransport({ api: server + "/api/chat" }), sendAutomaticallyWhen: isAnswered });
      await chat.sendMessage({ text: "please approve" });
      await approve(chat, chat.messages[1].parts.find(({ state }) => state === "approval-requested"));
      while (!chat.messages[1].metadata.saved) await new Promise((resolve) => setTimeout(resolve, 20));
      ${TOLD}`;
    assert.deepEqual(await told("const isAnswered", chat), ["ready", ["step-start", "reasoning", "dynamic-tool", "step-start", "text"], true]);
    const agent = `
      const { HttpAgent } = await import("@ag-ui/client");
      const agent = new HttpAgent({ url: server + "/api/ag-ui", threadId: id, initialMessages: [{ id: "u", role: "user", content: "please approve" }] });
      const outcomes = [];
      const onRunFinishedEvent = ({ event }) => void outcomes.push(event.outcome);
      agent.subscribe({ onRunFinishedEvent });
      await agent.runAgent({ runId: "u" });
      await approve(agent, outcomes[0].interrupts[0]);
      const told = [outcomes.map(({ type }) => type), agent.messages.map(({ role }) => role)];`;
    assert.deepEqual(await told("const approve = (agent", agent), [["interrupt", "success"], ["user", "reasoning", "assistant", "tool", "assistant"]]);
  });

  test("TanStack AI", async () => {
    const then = "const told = [client.getStatus(), client.getMessages().map(({ role }) => role)];";
    assert.deepEqual(await told("new ChatClient", then), ["ready", ["user", "assistant"]]);
  });

  test("EventSource, in a browser", async (each) => {
    const { openBrowser } = await import("../browser/browser.mjs");
    const browser = await openBrowser();
    each.after(() => browser.close());
    const tab = await browser.newPage();
    await tab.goto(`${server.url}health`);
    const then = 'await new Promise((resolve) => source.addEventListener("session.run.completed", resolve)); return { text, sessionId };';
    const { text, sessionId } = await tab.evaluate(`(async () => {${printed("new EventSource")}\n${then}})()`);
    const { messages } = await (await fetch(`${server.url}api/sessions/${sessionId}/messages`)).json();
    assert.equal(text, messages[1].text);
  });
});
