/** What the encoders make, in the published clients: the cases of tests/vectors/ui, and random turns. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { agUiMessagesOf, tanStackMessagesOf, uiMessageOf, VERSIONS } from "./clients.mjs";
import { agUi, agUiMessages, aiSdk, counted, tanStackMessages, uiMessage } from "./encode.mjs";
import { Random } from "./random.mjs";

const VECTORS = join(import.meta.dirname, "../vectors/ui");
const names = readdirSync(VECTORS).flatMap((file) => /^(.*)\.turnkit\.ndjson$/.exec(file)?.[1] ?? []);
const read = (file) => readFileSync(join(VECTORS, file));
const RANDOM = Number(process.env.TURNS ?? 150);

/** A client of version 5 keeps no titles of calls. */
function older(version, message) {
  const withoutTitle = ({ title, ...part }) => part;
  return version === 5 ? { ...message, parts: message.parts.map((part) => (part.type === "dynamic-tool" ? withoutTitle(part) : part)) } : message;
}

/**
 * The input that a client guesses of pieces that are no JSON is its own affair. And at rest a call stands before the question about it, and
 * as it was in the end: whether it had ended when somebody asked or answered is not known there.
 */
function settled(message, rest) {
  const parts = message.parts.map((part, at) => {
    if (part.type !== "dynamic-tool") return part;
    const { input, state, approval, ...others } = part;
    const isAskedWhenOver = approval !== undefined && ("output" in part || "errorText" in part);
    return { ...others, ...("input" in (rest.parts[at] ?? {}) && { input }), ...(!isAskedWhenOver && { state, approval }) };
  });
  return { ...message, parts };
}

describe("the cases", () => {
  assert.ok(names.length >= 14);
  for (const name of names) {
    const lines = read(`${name}.turnkit.ndjson`);
    for (const version of VERSIONS) {
      test(`${name} in the AI SDK ${version}`, async () => {
        const expected = older(version, JSON.parse(read(`${name}.ui-message.json`)));
        const { message, error, status } = await uiMessageOf(version, aiSdk(version, lines));
        assert.deepEqual(message, expected);
        assert.deepEqual(uiMessage(version, lines), expected);
        assert.equal(status, name.startsWith("fails") ? "error" : "ready");
        assert.equal(error !== undefined, name.startsWith("fails"));
      });
    }
    test(`${name} in AG-UI`, async () => {
      const expected = JSON.parse(read(`${name}.ag-ui-messages.json`));
      const { messages, ends, error } = await agUiMessagesOf(agUi(lines));
      assert.equal(error, undefined);
      assert.equal(ends.length, 1);
      assert.deepEqual(messages, expected);
      assert.deepEqual(agUiMessages(lines), expected);
    });
    test(`${name} in TanStack AI`, async () => {
      const { messages, error, status } = await tanStackMessagesOf(agUi(lines));
      assert.equal(status, name.startsWith("fails") ? "error" : "ready");
      assert.equal(error !== undefined, name.startsWith("fails"));
      assert.deepEqual(messages, tanStackMessages(lines));
    });
  }
});

describe("random turns", () => {
  for (const version of VERSIONS) {
    test(`${RANDOM} are taken by the AI SDK ${version}, which holds what is at rest`, async () => {
      for (let seed = 0; seed < RANDOM; seed++) {
        const lines = new Random(seed).turn();
        const { message, error } = await uiMessageOf(version, aiSdk(version, lines));
        const where = `seed ${seed}\n${lines}`;
        assert.ok(error === undefined || error.message === "it failed", `${error?.stack} ${where}`);
        const rest = older(version, uiMessage(version, lines));
        assert.deepEqual(settled(message, rest), settled(rest, rest), where);
      }
    });
  }

  test(`${RANDOM} are taken by AG-UI, which holds what is at rest`, async () => {
    for (let seed = 0; seed < RANDOM; seed++) {
      const lines = new Random(seed).turn();
      const { messages, ends, error } = await agUiMessagesOf(agUi(lines));
      const where = `seed ${seed}\n${lines}`;
      assert.equal(error, undefined, where);
      assert.equal(ends.length, 1, where);
      assert.deepEqual(messages, agUiMessages(lines), where);
    }
  });
});

describe("random turns in TanStack AI", () => {
  /** It tells a text twice that goes on behind a result of the same message: what it holds then is its own affair. */
  const isDoubled = (messages) => messages.some(({ parts }) => parts.filter(({ type }) => type === "text").length > 1);
  /** Each client makes up the id of a message without a text, and has one without anything where a turn failed at once. */
  const named = (messages) => messages.filter(({ parts }) => parts.length > 0).map((message) => (message.parts.some(({ type }) => type === "text") ? message : { ...message, id: undefined }));

  test(`${RANDOM} are taken, and held as they are at rest`, async () => {
    let compared = 0;
    for (let seed = 0; seed < RANDOM; seed++) {
      const lines = new Random(seed).turn();
      const { messages, error } = await tanStackMessagesOf(agUi(lines));
      const where = `seed ${seed}\n${lines}`;
      assert.ok(error === undefined || error.message === "it failed", `${error?.stack} ${where}`);
      if (isDoubled(messages)) continue;
      compared++;
      assert.deepEqual(named(messages), named(tanStackMessages(lines)), where);
    }
    assert.ok(compared > RANDOM / 2, `${compared} of ${RANDOM}`);
  });
});

describe("resumed", () => {
  test("the rest after each chunk is byte for byte what follows it", () => {
    for (let seed = 0; seed < 10; seed++) {
      const lines = new Random(seed).turn();
      for (const told of [(after) => aiSdk(7, lines, after), (after) => agUi(lines, after)]) {
        const whole = told(0);
        for (const [at, end] of counted(whole).entries()) assert.ok(whole.subarray(end).equals(told(at + 1)), `seed ${seed} after ${at + 1}`);
      }
    }
  });
});
