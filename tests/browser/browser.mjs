/** A headless Chromium, and what the tests do on the page in it. */
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

export const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", chromium.executablePath()];

const PATIENCE = 120_000;

/** The browser that `CHROMIUM` names, or else one of the system's or Playwright's. */
export function chromiumPath() {
  const named = process.env.CHROMIUM;
  return (named ? [named] : PLACES).find(existsSync);
}

/** A browser with a profile of its own. @param {string[]} [flags] */
export function openBrowser(flags = []) {
  return chromium.launch({ executablePath: chromiumPath(), args: [...FLAGS, ...flags] });
}

/** A tab whose errors fail the test: a script that threw, and whatever the content security policy stopped. */
export async function openTab(context, url, errors = []) {
  const tab = await context.newPage();
  // A slow machine is no failure.
  tab.setDefaultTimeout(PATIENCE);
  tab.on("pageerror", (error) => errors.push(`${error}`));
  tab.on("console", (message) => /Content Security Policy/.test(message.text()) && errors.push(message.text()));
  await tab.goto(url);
  await tab.locator("#message").waitFor();
  return tab;
}

export async function send(tab, message) {
  await tab.locator("#message").fill(message);
  await tab.locator("#message").press("Enter");
}

/** Waits until the last turn is `complete`, `stopped` or `failed`. */
export async function ended(tab, state) {
  await tab.locator(`.turn:last-child[data-state="${state}"]`).waitFor();
}

/** Waits until the last answer has some text. */
export async function begun(tab, words = 1) {
  const wait = (count) => (document.querySelector(".turn:last-child .markdown")?.textContent.trim().split(/\s+/).filter(Boolean).length ?? 0) >= count;
  await tab.waitForFunction(wait, words);
}

/** Opens the parts of each of these selectors, of which there is at least one. What is in one is drawn at its `toggle`, a moment after the click. */
export async function unfold(tab, ...selectors) {
  for (const selector of selectors) {
    const parts = tab.locator(selector);
    await parts.first().waitFor();
    for (const part of await parts.all()) {
      await part.locator("summary").click();
      await part.locator(":scope[open] > :not(summary):not(:empty)").first().waitFor();
    }
  }
}

export const sessionOf = (tab) => new URL(tab.url()).hash.slice(1);

/** What the server has of the chat that the tab shows. */
export async function saved(tab, base = tab.url()) {
  if (!sessionOf(tab)) return [];
  const { messages } = await (await fetch(new URL(`api/sessions/${sessionOf(tab)}/messages`, base))).json();
  return messages;
}

/** The text of each answer on the page, and of what the server saved drawn by the page's own renderer. */
export async function shownAndSaved(tab) {
  const messages = await saved(tab);
  return tab.evaluate(async (messages) => {
    const { Markdown } = await import(new URL("assets/markdown.js", document.baseURI).href);
    const plain = (root) => root.textContent.replaceAll("Copy", "");
    const drawn = (text) => {
      const root = document.createElement("div");
      const markdown = new Markdown(root);
      markdown.append(text);
      markdown.end();
      return plain(root);
    };
    const texts = [...document.querySelectorAll(".turn")].map((turn) => [...turn.querySelectorAll(".markdown")].map(plain).join(""));
    return { shown: texts, saved: messages.filter(({ role }) => role === "assistant").map(({ text }) => drawn(text)) };
  }, messages);
}
