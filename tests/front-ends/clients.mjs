/** The published clients, fed with a response: what they hold in the end. */
import { HttpAgent } from "@ag-ui/client";
import { ChatClient, fetchServerSentEvents } from "@tanstack/ai-client";
import * as ai5 from "ai5";
import * as ai6 from "ai6";
import * as ai7 from "ai7";
import { Chat as Chat5 } from "react5";
import { Chat as Chat6 } from "react6";
import { Chat as Chat7 } from "react7";

export const AI = { 5: { ...ai5, Chat: Chat5 }, 6: { ...ai6, Chat: Chat6 }, 7: { ...ai7, Chat: Chat7 } };
export const VERSIONS = [5, 6, 7];

/** JSON as it would be saved: without what is `undefined`. */
export const plain = (value) => JSON.parse(JSON.stringify(value));

export function response(bytes) {
  return new Response(bytes, { headers: { "content-type": "text/event-stream", "x-workflow-run-id": "run_x" } });
}

/** What `useChat` holds when it was answered by these bytes: its message, and its error. */
export async function uiMessageOf(version, bytes) {
  const { Chat, DefaultChatTransport } = AI[version];
  const data = [];
  const transport = new DefaultChatTransport({ api: "/api/chat", fetch: async () => response(bytes) });
  const chat = new Chat({ id: "c", transport, onData: (part) => data.push(part) });
  await chat.sendMessage({ text: "Hi" });
  return { message: plain(chat.messages.slice(1)).at(-1), error: chat.error, status: chat.status, data };
}

/** What `HttpAgent` holds when it was answered by these bytes: its messages but the user's. */
export async function agUiMessagesOf(bytes, threadId = "s", runId = "t") {
  const agent = new HttpAgent({ url: "http://none/", threadId, initialMessages: [{ id: "u", role: "user", content: "Hi" }], fetch: async () => response(bytes) });
  const ends = [];
  const result = await agent.runAgent({ runId }, { onRunFinishedEvent: ({ event }) => void ends.push(event), onRunErrorEvent: ({ event }) => void ends.push(event) }).catch((error) => error);
  return { messages: plain(agent.messages.slice(1)), ends, error: result instanceof Error ? result : undefined, interrupts: agent.pendingInterrupts };
}

/** What TanStack AI holds when it was answered by these bytes: its messages but the user's. */
export async function tanStackMessagesOf(bytes) {
  const errors = [];
  const connection = fetchServerSentEvents("http://none/", { fetchClient: async () => response(bytes) });
  const client = new ChatClient({ connection, threadId: "s", onError: (error) => errors.push(error) });
  await client.sendMessage("Hi");
  const messages = plain(client.getMessages().slice(1)).map(({ createdAt, ...message }) => message);
  return { messages, error: errors[0], status: client.getStatus() };
}

/** `HttpAgent` leaves a rejection unhandled where it cancels a response that broke off: its reader is cancelled without one here. */
export async function calm(url, init) {
  const response = await fetch(url, init);
  if (!response.ok) return response;
  const reader = response.body.getReader();
  const body = { getReader: () => ({ read: () => reader.read(), cancel: () => reader.cancel().catch(() => {}) }) };
  return { ok: response.ok, status: response.status, headers: response.headers, text: () => response.text(), body };
}
