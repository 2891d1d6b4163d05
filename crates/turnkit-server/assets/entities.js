/**
 * Characters that text spells as HTML does: `&nbsp;`, `&#160;`, `&#xA0;`. Those that HTML 4 has a name for, and all by their number;
 * looked up, never parsed as HTML.
 */

/** Names of the characters from `first` on; a `-` has none. @param {number} first @param {string} names @returns {[string, string][]} */
const run = (first, names) => names.split(/\s+/).map((name, at) => [name, String.fromCodePoint(first + at)]);

const LATIN = `nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute micro para
  middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc
  Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN szlig
  agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave iacute icirc iuml eth ntilde ograve oacute
  ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml`;
const GREEK_CAPITALS = "Alpha Beta Gamma Delta Epsilon Zeta Eta Theta Iota Kappa Lambda Mu Nu Xi Omicron Pi Rho - Sigma Tau Upsilon Phi Chi Psi Omega";
const GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigmaf sigma tau upsilon phi chi psi omega";
const OTHERS = `quot " amp & lt < gt > apos ' OElig Œ oelig œ Scaron Š scaron š Yuml Ÿ fnof ƒ circ ˆ tilde ˜ thetasym ϑ upsih ϒ piv ϖ
  ndash – mdash — lsquo ‘ rsquo ’ sbquo ‚ ldquo “ rdquo ” bdquo „ dagger † Dagger ‡ bull • hellip … permil ‰ prime ′ Prime ″
  lsaquo ‹ rsaquo › oline ‾ frasl ⁄ euro € image ℑ weierp ℘ real ℜ trade ™ alefsym ℵ larr ← uarr ↑ rarr → darr ↓ harr ↔ crarr ↵
  lArr ⇐ uArr ⇑ rArr ⇒ dArr ⇓ hArr ⇔ forall ∀ part ∂ exist ∃ empty ∅ nabla ∇ isin ∈ notin ∉ ni ∋ prod ∏ sum ∑ minus − lowast ∗
  radic √ prop ∝ infin ∞ ang ∠ and ∧ or ∨ cap ∩ cup ∪ int ∫ there4 ∴ sim ∼ cong ≅ asymp ≈ ne ≠ equiv ≡ le ≤ ge ≥ sub ⊂ sup ⊃
  nsub ⊄ sube ⊆ supe ⊇ oplus ⊕ otimes ⊗ perp ⊥ sdot ⋅ lceil ⌈ rceil ⌉ lfloor ⌊ rfloor ⌋ lang ⟨ rang ⟩ loz ◊ spades ♠ clubs ♣
  hearts ♥ diams ♦ ensp \u2002 emsp \u2003 thinsp \u2009 zwnj \u200c zwj \u200d lrm \u200e rlm \u200f`;

/** @type {Map<string, string>} */
const NAMED = new Map([
  ...run(0xa0, LATIN),
  ...run(0x391, GREEK_CAPITALS),
  ...run(0x3b1, GREEK),
  ...[...OTHERS.matchAll(/(\w+) (.)/gu)].map(([, name, character]) => /** @type {[string, string]} */ ([name, character])),
]);

/** What one is called, and how long it can be. */
const ENTITY = /^&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,8}));/;
const BEGUN = /^&(?:#\d{0,7}|#[xX][0-9a-fA-F]{0,6}|[A-Za-z][A-Za-z0-9]{0,8})?$/;

/** The character that is spelt at the beginning of `text`, and the length of its spelling. @param {string} text */
export function entity(text) {
  const [spelling, decimal, hexadecimal, name] = ENTITY.exec(text) ?? [];
  if (spelling === undefined) return null;
  const character = name === undefined ? numbered(decimal ? parseInt(decimal, 10) : parseInt(hexadecimal, 16)) : NAMED.get(name);
  return character === undefined ? null : { character, length: spelling.length };
}

/** Whether `text` may become one. @param {string} text */
export const isBegun = (text) => BEGUN.test(text);

/** `text` with all of them read. @param {string} text */
export const decoded = (text) => text.replace(/&[#\w]{1,10};/g, (spelling) => entity(spelling)?.character ?? spelling);

/** NUL, halves of a pair and what is beyond Unicode are U+FFFD, as the standard says. @param {number} code */
function numbered(code) {
  const isCharacter = code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  return isCharacter ? String.fromCodePoint(code) : "\ufffd";
}
