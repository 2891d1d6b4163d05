import { Chat, useChat } from "@ai-sdk/react";
import { DefaultChatTransport, isToolUIPart, getToolName } from "ai";
import { useEffect } from "react";
import { createRoot } from "react-dom/client";

const server = import.meta.env.VITE_TURNKIT ?? "http://127.0.0.1:8787";

// The chat's id is made here and kept in the address: whoever opens it sees the same chat.
location.hash ||= crypto.randomUUID();
const id = location.hash.slice(1);
const api = `${server}/api/chat`;

async function saved() {
  const response = await fetch(`${api}/${id}`);
  if (response.status === 404) return []; // nothing was said yet
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

const chat = new Chat({
  id,
  messages: await saved(), // turnkit, 1: what was said is read from the server
  transport: new DefaultChatTransport({
    api, // turnkit, 2: the route
    // An answer that is not known to be saved is told again from its first chunk, also where it has ended meanwhile.
    prepareReconnectToStreamRequest: () => ({ api: `${api}/${id}/stream${chat.lastMessage?.metadata?.saved ? "" : "?startIndex=0"}` }),
  }),
});

function Part({ part }) {
  if (part.type === "text") return part.text;
  if (part.type === "reasoning") {
    return (
      <details className="reasoning" open={part.state === "streaming"}>
        <summary>Thinking</summary>
        {part.text}
      </details>
    );
  }
  if (isToolUIPart(part)) {
    return (
      <details className="tool">
        <summary>
          {getToolName(part)}: {part.state}
        </summary>
        <pre>{JSON.stringify(part.input, null, 2)}</pre>
        <pre>{part.errorText ?? (typeof part.output === "string" ? part.output : JSON.stringify(part.output, null, 2))}</pre>
      </details>
    );
  }
  return null;
}

function App() {
  const { messages, status, error, sendMessage, regenerate, resumeStream } = useChat({
    chat,
    resume: chat.messages.length > 0, // turnkit, 3: what still runs is taken up when the page is loaded
  });
  const isBusy = status === "submitted" || status === "streaming";

  // A cut is an error of the network, and never an end. The turn goes on at the server: so do we, as often as it takes. A message that
  // perhaps never arrived is sent again under its id, which starts it at most once.
  const isCut = error instanceof TypeError;
  useEffect(() => {
    if (!isCut) return;
    const timer = setTimeout(() => (chat.lastMessage.role === "user" ? sendMessage() : resumeStream()), 1000);
    return () => clearTimeout(timer);
  }, [error]);

  const send = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get("text").trim();
    if (text) sendMessage({ text });
    event.target.reset();
  };
  return (
    <>
      {messages.map((message) => (
        <article key={message.id} data-role={message.role}>
          {message.parts.map((part, at) => (
            <Part key={at} part={part} />
          ))}
        </article>
      ))}
      {error && <p role="alert">{isCut ? "The connection was lost. The answer goes on …" : error.message}</p>}
      <form onSubmit={send} data-status={isCut ? "cut" : status}>
        <input name="text" placeholder="Message" autoComplete="off" autoFocus />
        {isBusy ? (
          // Whoever closes the page leaves the turn running. This stops it, and the stream ends by itself.
          <button type="button" id="stop" onClick={() => fetch(`${api}/${id}/stream`, { method: "DELETE" })}>
            Stop
          </button>
        ) : (
          <button>Send</button>
        )}
        <button type="button" id="again" disabled={isBusy || isCut || messages.length === 0} onClick={() => regenerate()}>
          Answer again
        </button>
      </form>
    </>
  );
}

createRoot(document.querySelector("main")).render(<App />);
