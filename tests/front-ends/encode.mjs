/** The encoders, as the example `encode` of turnkit-ui runs them. */
import { spawnSync } from "node:child_process";

const ENCODE = process.env.ENCODE;

/** @returns {{bytes: Buffer, cut: boolean}} */
export function encode(args, lines) {
  if (!ENCODE) throw new Error("ENCODE names no binary: see run.mjs");
  const { status, stdout, stderr, error } = spawnSync(ENCODE, args.map(String), { input: lines, maxBuffer: 1 << 28 });
  if (error) throw error;
  const cut = status !== 0;
  if (cut && !`${stderr}`.includes("Ended")) throw new Error(`encode ${args[0]}: ${stderr}`);
  return { bytes: stdout, cut };
}

export const aiSdk = (version, lines, after = 0) => encode(["ai-sdk", version, "local:s:0", "t", after], lines).bytes;
export const agUi = (lines, after = 0) => encode(["ag-ui", "s", "t", "local:s:0", after], lines).bytes;
export const uiMessage = (version, lines) => JSON.parse(encode(["ui-message", version, "local:s:0", "t"], lines).bytes);
export const agUiMessages = (lines) => JSON.parse(encode(["ag-ui-messages", "s", "t", "local:s:0"], lines).bytes);
export const tanStackMessages = (lines) => JSON.parse(encode(["tanstack-messages", "s", "t", "local:s:0"], lines).bytes);

/** The numbered chunks of a stream, and where each ends in it. */
export function counted(bytes) {
  const ends = [];
  let at = 0;
  for (const block of bytes.toString().split(/(?<=\n\n)/)) {
    at += Buffer.byteLength(block);
    if (block.startsWith("id: ")) ends.push(at);
  }
  return ends;
}
