/** The page's Markdown in a real browser: what it draws, that cuts change nothing, and that no text becomes more than text. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { openBrowser, openTab } from "./browser.mjs";
import { Mock } from "./mock.mjs";

/** Runs in the page: draws the pieces and gives the HTML. */
async function drawn(pieces) {
  const { Markdown } = await import("/assets/markdown.js");
  const root = document.createElement("div");
  const markdown = new Markdown(root);
  for (const piece of pieces) markdown.append(piece);
  markdown.end();
  for (const copy of root.querySelectorAll(".copy")) copy.remove();
  return root.innerHTML.replaceAll(/ (?:tabindex="0"|dir="(?:auto|ltr)")/g, "");
}

/** Runs in the page. */
async function textOf(text) {
  const { Markdown } = await import("/assets/markdown.js");
  const root = document.createElement("div");
  const markdown = new Markdown(root);
  for (let at = 0; at < text.length; at += 64) markdown.append(text.slice(at, at + 64));
  markdown.end();
  return root.textContent;
}

/** Runs in the page: random text of what Markdown is made of, drawn whole and in random pieces. */
async function compare({ seed, rounds }) {
  const { Markdown } = await import("/assets/markdown.js");
  const random = (limit) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >> 8) % limit;
  };
  const fragments = "a|b |*|**|_|`|``|```|~~~|~~|\n|\n\n|\n|  |    |# |- |1. |2) |> |[|](|)|!|\\|https://e.example/|<|<br>|&amp;|&#x|。|:|---|\u{1F980}|é".split("|").concat("|", "| a | b |\n|-|-|\n");
  const html = (pieces) => {
    const root = document.createElement("div");
    const markdown = new Markdown(root);
    for (const piece of pieces) markdown.append(piece);
    markdown.end();
    return root.innerHTML;
  };
  const differing = [];
  for (let round = 0; round < rounds; round += 1) {
    const text = Array.from({ length: 1 + random(25) }, () => fragments[random(fragments.length)]).join("");
    const cuts = Array.from({ length: random(6) }, () => random(text.length + 1)).sort((a, b) => a - b);
    const pieces = [0, ...cuts].map((from, index) => text.slice(from, cuts[index] ?? text.length));
    if (html([text]) !== html(pieces)) differing.push(JSON.stringify(pieces));
  }
  return differing.slice(0, 5);
}

const link = (href, text) => `<a href="${href}" rel="noopener noreferrer nofollow" target="_blank" title="${href}">${text}</a>`;

const bare = (href) => link(href, href);
const row = (cells, tag) => `<tr>${cells.map((cell) => `<${tag} class="start">${cell}</${tag}>`).join("")}</tr>`;
const table = (head, ...rows) => `<div class="table"><table><thead>${row(head, "th")}</thead><tbody>${rows.map((cells) => row(cells, "td")).join("")}</tbody></table></div>`;

const CASES = [
  ["plain\ntext\n\nsecond", "<p>plain\ntext</p><p>second</p>"],
  ["**bold** and *thin*, ***both***, ~~gone~~, __b__ _i_", "<p><strong>bold</strong> and <em>thin</em>, <strong><em>both</em></strong>, <del>gone</del>, <strong>b</strong> <em>i</em></p>"],
  ["snake_case_name 2 * 3 * 4 **open", "<p>snake_case_name 2 * 3 * 4 **open</p>"],
  ["*a **b** c* and **a *b***", "<p><em>a <strong>b</strong> c</em> and <strong>a <em>b</em></strong></p>"],
  ["`code *x*` and ``a`b`` \\*no\\*", "<p><code>code *x*</code> and <code>a`b</code> *no*</p>"],
  ["[label](https://e.example/a_(b)) <https://e.example/x_y>.", `<p>${link("https://e.example/a_(b)", "label")} ${link("https://e.example/x_y", "https://e.example/x_y")}.</p>`],
  ["see https://e.example/a?b=c_d_e, then", `<p>see ${link("https://e.example/a?b=c_d_e", "https://e.example/a?b=c_d_e")}, then</p>`],
  ["![alt](https://e.example/i.png)", `<p>${link("https://e.example/i.png", "alt")}</p>`],
  ["[a](javascript:alert(1)) [b](data:text/html,x) [c](/relative) [d](vbscript:x)", "<p><span>a</span> <span>b</span> <span>c</span> <span>d</span></p>"],
  ["<script>alert(1)</script> <img src=x onerror=alert(1)> &lt;b>", "<p>&lt;script&gt;alert(1)&lt;/script&gt; &lt;img src=x onerror=alert(1)&gt; &lt;b&gt;</p>"],
  ["# One\n## Two ##x\n####### seven", "<h3>One</h3><h4>Two ##x</h4><p>####### seven</p>"],
  ["- a\n- b\n  - c\n\n  more\n- d\n\nafter", "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p></li></ul><p>more</p></li><li><p>d</p></li></ul><p>after</p>"],
  ["3. c\n4. d\nlazy\n- other", '<ol start="3"><li><p>c</p></li><li><p>d\nlazy</p></li></ol><ul><li><p>other</p></li></ul>'],
  ["> quoted\n> - list\n\nafter", "<blockquote><p>quoted</p><ul><li><p>list</p></li></ul></blockquote><p>after</p>"],
  ["```rust\nlet x = \"<b>\";\n\n  y\n```\nafter", '<figure class="code"><figcaption>rust</figcaption><pre><code>let x = "&lt;b&gt;";\n\n  y</code></pre></figure><p>after</p>'],
  ["- item\n  ```\n  code\n  ```\n- next", '<ul><li><p>item</p><figure class="code"><figcaption></figcaption><pre><code>code</code></pre></figure></li><li><p>next</p></li></ul>'],
  ["~~~\nopen ``` end", '<figure class="code"><figcaption></figcaption><pre><code>open ``` end</code></pre></figure>'],
  ["a\n\n---\n\n* * *\nb", "<p>a</p><hr><hr><p>b</p>"],
  [
    "| a | b |\n|:-:|--:|\n| *1* | 2 \\| 3 |\n| 4 |\nafter",
    '<div class="table"><table><thead><tr><th class="center">a</th><th class="end">b</th></tr></thead><tbody><tr><td class="center"><em>1</em></td><td class="end">2 | 3</td></tr><tr><td class="center">4</td><td class="end"></td></tr></tbody></table></div><p>after</p>',
  ],
  ["| no | table |\n| here |", "<p>| no | table |\n| here |</p>"],
  ["text\n| a | b |\n|---|---|\n| 1 | 2 |", `<p>text</p>${table(["a", "b"], ["1", "2"])}`],
  ["text\n| a |\nmore\n| b", "<p>text\n| a |\nmore\n| b</p>"],
  ["- one\n  | a | b |\n  |---|---|\n  | 1 | 2 |", `<ul><li><p>one</p>${table(["a", "b"], ["1", "2"])}</li></ul>`],
  ["a | b\n--- | ---\n1 | 2\n\n1 | 2\n3 | 4", `${table(["a", "b"], ["1", "2"])}<p>1 | 2\n3 | 4</p>`],
  ["| a |\n|---|\n| one<br>two<BR />three |", table(["a"], ["one<br>two<br>three"])],
  ["a<br/>b <br c> <break> <br", "<p>a<br>b &lt;br c&gt; &lt;break&gt; &lt;br</p>"],
  ["a&nbsp;b &amp; &lt;b&gt; &copy; &Omega;&omega; &euro; &hellip;", "<p>a&nbsp;b &amp; &lt;b&gt; © Ωω € …</p>"],
  ["&#42;x&#x2A; &#0;&#xD800;&#x110000; &#128512;", "<p>*x* \ufffd\ufffd\ufffd \u{1F600}</p>"],
  ["&nosuch; &constructor; AT&T & &; &#; `&amp;`", "<p>&amp;nosuch; &amp;constructor; AT&amp;T &amp; &amp;; &amp;#; <code>&amp;amp;</code></p>"],
  ["https://e.example/x。次 （https://e.example/y） “https://e.example/z”", `<p>${bare("https://e.example/x")}。次 （${bare("https://e.example/y")}） “${bare("https://e.example/z")}”</p>`],
  ["https://e.example/A_(b) (https://e.example/c_(d)). [https://e.example/e]!", `<p>${bare("https://e.example/A_(b)")} (${bare("https://e.example/c_(d)")}). [${bare("https://e.example/e")}]!</p>`],
  ['"https://e.example/q", `https://e.example/c` <b>https://e.example/t</b>', `<p>"${bare("https://e.example/q")}", <code>https://e.example/c</code> &lt;b&gt;${bare("https://e.example/t")}&lt;/b&gt;</p>`],
  ["HTTPS://e.example/?a=1&amp;b=2&nbsp;x", `<p>${link("https://e.example/?a=1&amp;b=2", "HTTPS://e.example/?a=1&amp;b=2")}&nbsp;x</p>`],
  ["https://e.example/Zürich/日本", `<p>${link("https://e.example/Z%C3%BCrich/%E6%97%A5%E6%9C%AC", "https://e.example/Zürich/日本")}</p>`],
  ["[a](https://e.example/?b=1&amp;c=2)", `<p>${link("https://e.example/?b=1&amp;c=2", "a")}</p>`],
  ["1) a\r\n2) b\r\n", "<ol><li><p>a</p></li><li><p>b</p></li></ol>"],
  ["é_https://e.example/x", "<p>é_https://e.example/x</p>"],
  ["~~~\nx\n~~~\n> q", '<figure class="code"><figcaption></figcaption><pre><code>x</code></pre></figure><blockquote><p>q</p></blockquote>'],
  ["2024 was\n1.5 is\n-x\n+1", "<p>2024 was\n1.5 is\n-x\n+1</p>"],
];

describe("Markdown", () => {
  const mock = new Mock(() => ({ deltas: [] }));
  let browser;
  let tab;
  before(async () => {
    await mock.start();
    browser = await openBrowser();
    tab = await openTab(await browser.newContext(), mock.url);
  });
  after(async () => {
    await browser?.close();
    await mock.stop();
  });

  for (const [source, expected] of CASES) {
    test(JSON.stringify(source), async () => {
      assert.equal(await tab.evaluate(drawn, [source]), expected);
    });
  }

  test("random text is the same wherever it is cut", async () => {
    const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
    const differing = await tab.evaluate(compare, { seed, rounds: 3000 });
    assert.deepEqual(differing, [], `seed ${seed}`);
  });

  test("hostile text takes time in proportion and no stack", async () => {
    for (const piece of ["> ", "- ", "*a ", "[", "`a", "**a*", "![](", "\\", "| a ", "https://", "__a_", "<http://", "&", "&#", "&amp", "<br ", "https://a)", "a|b\n"]) {
      const text = piece.repeat(20_000);
      const shown = await tab.evaluate(textOf, text);
      assert.ok(shown.length > 0 || /^[>-]/.test(piece), piece);
    }
  });

  test("each block has the writing direction of its text, and code is written from left to right", async () => {
    const directions = await tab.evaluate(async (text) => {
      const { Markdown } = await import("/assets/markdown.js");
      const root = document.body.appendChild(document.createElement("div"));
      root.className = "markdown";
      const markdown = new Markdown(root);
      markdown.append(text);
      markdown.end();
      const found = [...root.querySelectorAll("p, ul, li, .table, pre")].map((element) => `${element.localName} ${getComputedStyle(element).direction}`);
      root.remove();
      return found;
    }, "مرحبا\n\nhello\n\n- مرحبا\n- hello\n\n| مرحبا |\n|---|\n| b |\n\n```\nمرحبا\n```\n");
    assert.deepEqual(directions, ["p rtl", "p ltr", "ul rtl", "li rtl", "p rtl", "li rtl", "p rtl", "div rtl", "pre ltr"]);
  });

  test("is the same wherever it is cut", async () => {
    for (const [source, expected] of CASES) {
      const cuts = Array.from({ length: source.length + 1 }, (_, at) => [source.slice(0, at), source.slice(at)]);
      for (const pieces of [...cuts, [...source]]) assert.equal(await tab.evaluate(drawn, pieces), expected, JSON.stringify(pieces));
    }
  });
});
