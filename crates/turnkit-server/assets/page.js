/** The page: the list of chats, the message field, and the conversation that is shown. */
import { Account } from "./account.js";
import { make } from "./elements.js";
import { Attempts } from "./attempts.js";
import { Conversation } from "./conversation.js";
import { Developer } from "./developer.js";
import { Feed } from "./feed.js";
import { SessionList } from "./sessions.js";
import { ofBrowser, ofTab, tabsNamed } from "./storage.js";
import { isSend } from "./turn.js";
import { Turnkit, TurnkitError } from "./turnkit.js";

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

const SUGGESTIONS = [
  "What happens when I reload this page?",
  "Give me a long answer, so that I can interrupt it.",
];
/** How often another device's turns are looked for, while the page is visible, nothing runs and the server does not tell. */
const POLL = 5000;

/** Where the page is served: at the root of its host, or under a path of it. */
const turnkit = new Turnkit({ base: new URL("..", import.meta.url).pathname.replace(/\/$/, "") });
const tabs = tabsNamed("turnkit");
const sessions = new SessionList(turnkit, $("sessions"), $("more-sessions"), { changed: showTitle, remove: askToDelete });
const feed = new Feed(`${turnkit.options.base}/api/events`, { opened: feedOpened, told });
const developer = new Developer($("developer"), $("figures"), $("lines"));
const traceOf = (/** @type {import("./attempts.js").Turn} */ { session, turnId }) =>
  turnkit.call("GET", `/api/sessions/${encodeURIComponent(session)}/turns/${encodeURIComponent(turnId)}/trace`);
const attempts = new Attempts($("attempts"), $("attempts-note"), traceOf);
const account = new Account(
  turnkit,
  { dialog: $("sign-in"), token: $("token"), error: $("sign-in-error"), account: $("account"), user: $("user") },
  signedInOrOut,
);
/** @type {Conversation | null} */
let conversation = null;
/** The chat that this page has begun, while the server has taken no message of it. */
let begun = "";
let isFrameAsked = false;
let isAtEnd = true;
let lastTop = 0;
let isOnline = true;

/** @type {import("./conversation.js").Page} */
const page = {
  changed: showState,
  network: showNetwork,
  draw: askFrame,
  announce: (text) => ($("announcer").textContent = text),
  refused: showError,
  agent: () => $("agent").value || undefined,
  returned(message, error) {
    // Of a first message that was refused nothing stays.
    if (conversation?.session === begun && conversation.last === null) forget();
    // What was written meanwhile stays, below.
    setDraft([message, $("message").value].filter(Boolean).join("\n"));
    showError(error);
  },
};

// ── the conversation ──

/** @param {string} session  empty: a new chat */
async function show(session) {
  if (conversation?.session === session) return;
  conversation?.close();
  conversation = session ? newConversation(session) : null;
  const shown = conversation;
  notice("");
  developer.show(null);
  setDraft(ofTab.get(draftKey()) ?? "");
  isAtEnd = true;
  showNetwork(null);
  showState();
  sessions.show(session);
  refreshSessions();
  await attempt(async () => shown?.open());
  if (shown === conversation) followEnd();
}

/** @param {string} session */
const newConversation = (session) => new Conversation(turnkit, session, $("conversation"), page);

/** @param {string} text */
async function send(text) {
  // Half a character, as a paste can end with, is none.
  const message = text.toWellFormed();
  if (message.trim() === "") return;
  notice("");
  $("send").disabled = true;
  const draft = draftKey();
  const isSent = await attempt(async () => {
    const session = conversation?.session ?? (begun = await turnkit.createSession());
    conversation ??= newConversation(session);
    history.replaceState(null, "", `#${session}`);
    isAtEnd = true;
    sessions.show(session);
    conversation.send(message);
  });
  if (isSent) {
    ofTab.remove(draft);
    setDraft("");
  }
  showState();
}

/** Sends what stands in the field into the answer that is being written. */
async function sendNow() {
  const message = $("message").value.toWellFormed();
  if (message.trim() === "" || !conversation?.takesInput) return;
  notice("");
  const draft = draftKey();
  setDraft("");
  const isSent = await attempt(async () => conversation?.interject(message));
  if (isSent) return ofTab.remove(draft);
  setDraft([message, $("message").value].filter(Boolean).join("\n"));
}

function forget() {
  if (!conversation) return;
  turnkit.deleteSession(conversation.session).catch(quietly);
  ofTab.remove(draftKey());
  conversation.close();
  conversation = null;
  history.replaceState(null, "", location.pathname);
  sessions.show("");
}

/** Runs what calls the server, and shows where it fails. @param {() => Promise<unknown>} work */
async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof TurnkitError)) throw error;
    showError(error);
    return false;
  }
}

let shownRunning = "";

function showState() {
  const running = conversation?.running ?? null;
  $("welcome").hidden = conversation?.last != null;
  $("earlier").hidden = !conversation?.hasEarlier;
  $("stop").hidden = running === null;
  $("send").disabled = false;
  $("send").ariaLabel = conversation?.isBusy ? "Send when the answer is done" : "Send";
  $("send-now").hidden = !conversation?.takesInput;
  $("stop").disabled = running?.wantsStop === true;
  showTitle();
  developer.show(conversation?.last?.log ?? null);
  showAttempts();
  askFrame();
  const now = `${conversation?.session} ${running?.turnId}`;
  if (now !== shownRunning && conversation) {
    tabs?.postMessage({ session: conversation.session });
    refreshSessions();
  }
  shownRunning = now;
}

function showTitle() {
  const title = conversation?.last ? sessions.titleOf(conversation.session, conversation.info) : "New chat";
  $("edit-chat").hidden = !conversation?.info;
  $("title").textContent = title;
  document.title = conversation?.last ? `${title} – turnkit` : "turnkit";
}

function askFrame() {
  if (!isFrameAsked) requestAnimationFrame(drawFrame);
  isFrameAsked = true;
}

function drawFrame() {
  isFrameAsked = false;
  conversation?.draw();
  developer.draw();
  if (isAtEnd) followEnd();
  $("latest").hidden = isAtEnd;
}

function followEnd() {
  $("scroller").scrollTop = $("scroller").scrollHeight;
}

// ── what may go wrong ──

/** @param {TurnkitError | null} error */
function showNetwork(error) {
  const isNow = error === null;
  if (isNow === isOnline) return;
  isOnline = isNow;
  $("network").hidden = isNow;
  $("network-text").textContent = isNow ? "" : "Connection lost. The answer goes on without you, and here as soon as the server is back.";
  if (isNow) page.announce("Connected again.");
}

/** @param {TurnkitError} error */
function showError(error) {
  if (account.askAfter(error)) return;
  if (error.code === "queue_full") return notice("So many messages wait already. Send yours when the next answer is done.");
  if (error.code === "turn_running") return notice("Another answer is being written in this chat. Send your message when it is done.");
  if (error.details.status === 404) return notice("This chat does not exist, or is not yours.");
  notice(error.retryable ? "The server cannot be reached. Nothing is lost: try again in a moment." : error.message);
}

/** @param {string} text */
function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

/** What the page does by itself fails quietly: the next time it may succeed. @param {unknown} error */
function quietly(error) {
  if (!(error instanceof TurnkitError)) throw error;
  account.askAfter(error);
  return null;
}

/** Another user's drafts and messages are not for this one. @param {boolean} isIn */
function signedInOrOut(isIn) {
  if (!isIn) {
    ofTab.clear();
    history.replaceState(null, "", location.pathname);
  }
  tabs?.postMessage({ account: true });
  location.reload();
}

// ── chats and agents ──

const refreshSessions = () => sessions.refresh().catch(quietly);

/** @param {string} session @param {string} title */
function askToDelete(session, title) {
  $("delete-title").textContent = `Delete “${title}”?`;
  $("delete").dataset.session = session;
  $("delete").returnValue = "";
  $("delete").showModal();
}

async function deleteSession() {
  const { session } = $("delete").dataset;
  if ($("delete").returnValue !== "delete") return;
  const isDeleted = await attempt(() => turnkit.deleteSession(session));
  if (!isDeleted) return;
  tabs?.postMessage({ session });
  left(session);
  page.announce("The chat was deleted.");
  $("new-chat").focus();
}

function askForName() {
  const { session, info } = /** @type {Conversation} */ (conversation);
  Object.assign($("chat").dataset, { session, name: sessions.titleOf(session, info) });
  $("chat-name").value = $("chat").dataset.name;
  $("chat-archived").checked = info?.archived === true;
  $("chat").returnValue = "";
  $("chat").showModal();
}

async function editSession() {
  if ($("chat").returnValue !== "save") return;
  const { session } = $("chat").dataset;
  const { name } = $("chat").dataset;
  const title = $("chat-name").value.toWellFormed().trim();
  // What a chat is called that nobody has named is not its name.
  const changes = { title: title === "" || title === name ? undefined : title, archived: $("chat-archived").checked };
  const isEdited = await attempt(() => turnkit.editSession(session, changes));
  if (!isEdited) return;
  tabs?.postMessage({ session });
  await refreshSessions();
  if (session === conversation?.session) await conversation?.afresh().catch(quietly);
}

/** A chat is no longer there. @param {string} session */
function left(session) {
  refreshSessions();
  if (conversation?.session !== session) return;
  history.replaceState(null, "", location.pathname);
  show("");
}

async function showAgents() {
  const { agents = [], default: first } = (await turnkit.call("GET", "/api/agents").catch(quietly)) ?? {};
  const kept = ofBrowser.get("turnkit.agent");
  const chosen = agents.some((/** @type {any} */ { name }) => name === kept) ? kept : first;
  const options = agents.map((/** @type {any} */ { name, description }) => {
    const option = new Option(name, name, name === first, name === chosen);
    option.title = description ?? "";
    return option;
  });
  $("agent").replaceChildren(...options);
  $("agent").hidden = options.length < 2;
}

// ── the message field ──

const draftKey = () => `turnkit.draft.${conversation?.session ?? ""}`;

/** @param {string} text */
function setDraft(text) {
  $("message").value = text;
  keepDraft();
}

function keepDraft() {
  const { value } = $("message");
  if (value) ofTab.set(draftKey(), value);
  else ofTab.remove(draftKey());
  if (CSS.supports("field-sizing", "content")) return;
  $("message").style.height = "auto";
  $("message").style.height = `${$("message").scrollHeight}px`;
}

/** @param {boolean} isOpen */
function showMenu(isOpen) {
  document.body.classList.toggle("menu-open", isOpen);
  $("menu").setAttribute("aria-expanded", `${isOpen}`);
  $("scrim").hidden = !isOpen;
  if (isOpen) $("new-chat").focus();
}

/** @param {boolean} isOpen */
function showDeveloper(isOpen) {
  $("developer").hidden = !isOpen;
  document.body.classList.toggle("developer-open", isOpen);
  $("developer-toggle").setAttribute("aria-pressed", `${isOpen}`);
  ofBrowser.set("turnkit.developer", isOpen ? "open" : "");
  showAttempts();
  askFrame();
}

function showAttempts() {
  const turn = conversation?.last;
  if (!conversation || !turn?.isTaken || $("developer").hidden) return attempts.show(null);
  attempts.show({ session: conversation.session, turnId: turn.turnId, isRunning: turn.state === "running" });
}

/** The server tells from now on; what was before has to be read. */
function feedOpened() {
  refreshSessions();
  look();
}

/** Brings the chat that is shown to what the server has. */
function look() {
  if (conversation?.isOpen) conversation.afresh().catch(quietly);
  else catchUp();
}

/** @param {string} name @param {import("./feed.js").Entry} entry */
function told(name, { sessionId, turnId = "" }) {
  const isHere = conversation?.session === sessionId;
  if (name === "session.deleted") {
    const wasHere = isHere;
    left(sessionId);
    if (wasHere) notice("This chat was deleted.");
    return;
  }
  // A message that waited may run now.
  if (name === "turn.accepted") turnkit.wake();
  if (name === "turn.accepted" || name === "session.updated") refreshSessions();
  // A turn that is followed tells by itself that it runs, and what its agent asks.
  const isToldThere = name === "turn.accepted" || name.startsWith("interaction.");
  if (isHere && !(isToldThere && conversation?.has(turnId, false))) look();
}

/** A page that nobody sees is told nothing: it reads what there is when somebody looks. */
function seen() {
  if (document.hidden) return feed.close();
  feed.open();
  catchUp();
}

/** Other tabs and devices write in this chat, too. */
async function catchUp() {
  if (document.hidden || !conversation || conversation.running) return;
  const isFirst = !conversation.isOpen;
  await conversation.open().catch(quietly);
  if (isFirst && conversation.isOpen) notice("");
}

async function poll() {
  if (document.hidden || !conversation || conversation.running || (feed.isOpen && conversation.isOpen)) return;
  const hasNews = !conversation.isOpen || (await conversation.hasNews().catch(quietly));
  if (hasNews) await catchUp();
}

// ── events ──

/** @param {string} id @param {string} type @param {(event: any) => void} handle */
const on = (id, type, handle) => $(id).addEventListener(type, handle);

on("skip", "click", (event) => {
  // The fragment of the address names the chat.
  event.preventDefault();
  $("message").focus();
});
on("composer", "submit", (event) => {
  event.preventDefault();
  send($("message").value);
});
on("message", "keydown", (event) => {
  if (!isSend(event)) return;
  event.preventDefault();
  if ((event.ctrlKey || event.metaKey) && conversation?.takesInput) sendNow();
  else send($("message").value);
});
on("message", "input", () => {
  keepDraft();
  conversation?.learn().catch(quietly);
});
on("send-now", "click", sendNow);
on("stop", "click", stop);
on("conversation", "click", ({ target }) => {
  const code = target.closest(".copy")?.closest("figure").querySelector("code");
  if (code) navigator.clipboard.writeText(code.textContent).then(() => page.announce("Copied."));
});
on("menu", "click", () => showMenu(!document.body.classList.contains("menu-open")));
on("scrim", "click", () => showMenu(false));
on("sidebar", "click", (event) => event.target.closest("a") && showMenu(false));
on("new-chat", "click", () => $("message").focus());
on("developer-toggle", "click", () => showDeveloper($("developer").hidden));
on("developer-close", "click", () => {
  showDeveloper(false);
  $("developer-toggle").focus();
});
on("retry-now", "click", () => turnkit.wake());
on("latest", "click", () => {
  isAtEnd = true;
  askFrame();
});
on("scroller", "scroll", () => {
  const { scrollHeight, scrollTop, clientHeight } = $("scroller");
  const isNear = scrollHeight - scrollTop - clientHeight < 60;
  // Who scrolls up wants to read there; what grows below does not take anybody along who did.
  isAtEnd = isNear || (isAtEnd && scrollTop >= lastTop);
  lastTop = scrollTop;
  $("latest").hidden = isAtEnd;
});
new ResizeObserver(askFrame).observe($("scroller"));
on("earlier", "click", () => attempt(async () => conversation?.earlier()));
on("more-sessions", "click", () => attempt(() => sessions.more()));
on("delete", "close", deleteSession);
on("edit-chat", "click", askForName);
on("chat", "close", editSession);
on("chat-cancel", "click", () => $("chat").close(""));
on("archive", "click", () => {
  const isOpen = $("archive").getAttribute("aria-pressed") !== "true";
  $("archive").setAttribute("aria-pressed", `${isOpen}`);
  attempt(() => sessions.showArchived(isOpen));
});
on("sign-out", "click", () => attempt(() => account.signOut()));
on("agent", "change", () => ofBrowser.set("turnkit.agent", $("agent").value));

async function stop() {
  $("stop").disabled = true;
  await conversation?.stop();
}

addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("menu-open")) {
    showMenu(false);
    $("menu").focus();
  } else if (conversation?.running) stop();
});
addEventListener("hashchange", () => show(location.hash.slice(1)));
addEventListener("offline", () => conversation?.running && showNetwork(new TurnkitError("network", "offline")));
document.addEventListener("visibilitychange", seen);
addEventListener("focus", catchUp);
tabs?.addEventListener("message", ({ data }) => {
  if (data.account) return location.reload();
  refreshSessions();
  if (data.session === conversation?.session) catchUp();
});
setInterval(poll, POLL);

for (const text of SUGGESTIONS) {
  const suggestion = make("button", "suggestion", text);
  suggestion.setAttribute("type", "button");
  suggestion.addEventListener("click", () => send(text));
  $("suggestions").append(suggestion);
}
showDeveloper(ofBrowser.get("turnkit.developer") === "open");
account.open().catch(quietly);
showAgents();
seen();
show(location.hash.slice(1));
