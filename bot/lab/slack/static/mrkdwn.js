// Slack's mrkdwn as DOM nodes.
import { el, linkTo, slackDate } from "./dom.js";

const EMOJI = await (await fetch("/static/emoji.json")).json(); // shared with the plain-text rendering

export function emoji(name) {
  return EMOJI[name] ? el("i", { class: "emoji", title: `:${name}:`, role: "img", "aria-label": name }, EMOJI[name]) : `:${name}:`;
}

const unescape = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
const INLINE = /(`[^`\n]+`)|<([^<>\n]+)>|(?<![\w*_~])([*_~])(?=\S)([^\n]+?)(?<=\S)\3(?![\w*~])|:([a-z0-9_+-]{2,40}):/g;
const STYLE = { "*": "b", _: "em", "~": "s" };

export class Names {
  constructor(state, me) { this.state = state; this.me = me; }
  user(id) {
    const name = this.state.users[id]?.display ?? id;
    return el("span", { class: id === this.me ? "mention me" : "mention" }, `@${name}`);
  }
  group(id) { return el("span", { class: "mention" }, `@${this.state.usergroups[id] ?? id}`); }
  channel(id) { return el("span", { class: "mention" }, `#${this.state.channels.find((c) => c.id === id)?.name ?? id}`); }
  broadcast(range) { return el("span", { class: "mention loud" }, `@${range}`); }
}

function token(body, names) {
  const bar = body.indexOf("|");
  const [target, label] = bar < 0 ? [body, ""] : [body.slice(0, bar), unescape(body.slice(bar + 1))];
  if (target.startsWith("@")) return names.user(target.slice(1));
  if (target.startsWith("#")) return names.channel(target.slice(1));
  if (target.startsWith("!subteam^")) return names.group(target.slice(9));
  if (target.startsWith("!date^")) {
    const [, seconds, format, url] = target.split("^");
    const shown = slackDate(seconds, format ?? "", label);
    return url ? linkTo(url, shown) : el("time", { title: label }, shown);
  }
  if (["!channel", "!here", "!everyone"].includes(target)) return names.broadcast(target.slice(1));
  return linkTo(unescape(target), label || unescape(target));
}

function inline(text, names) {
  const out = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    if (found.index > at) out.push(unescape(text.slice(at, found.index)));
    const [whole, code, angled, mark, styled, name] = found;
    if (code) out.push(el("code", {}, unescape(code.slice(1, -1))));
    else if (angled) out.push(token(angled, names));
    else if (mark) out.push(el(STYLE[mark], {}, ...inline(styled, names)));
    else out.push(emoji(name));
    at = found.index + whole.length;
  }
  if (at < text.length) out.push(unescape(text.slice(at)));
  return out;
}

function lines(text, names) {
  const out = [];
  let quote = null;
  text.split("\n").forEach((line, index, all) => {
    const quoted = line.match(/^(?:&gt;|>) ?(.*)$/);
    if (quoted) {
      if (!quote) out.push((quote = el("blockquote")));
      else quote.append(el("br"));
      quote.append(...inline(quoted[1], names));
      return;
    }
    out.push(...inline(line, names));
    if (index < all.length - 1) out.push(el("br"));
    quote = null;
  });
  return out;
}

export function mrkdwn(text, names) {
  const out = [];
  text.split(/```([\s\S]*?)```\n?/).forEach((part, index) => {
    if (index % 2) out.push(el("pre", {}, unescape(part.replace(/^\n|\n$/g, ""))));
    else if (part) out.push(...lines(part, names));
  });
  return out;
}

export function plain(text, withEmoji = true) {
  if (!withEmoji) return [text];
  return text.split(/:([a-z0-9_+-]{2,40}):/).map((part, index) => (index % 2 ? emoji(part) : part));
}

export function textObject(object, names) {
  if (!object) return [];
  const body = object.text ?? "";
  if (object.type === "mrkdwn") return mrkdwn(body, names);
  return plain(body, object.emoji !== false).flatMap((part) =>
    typeof part === "string" ? part.split("\n").flatMap((line, i) => (i ? [el("br"), line] : [line])) : [part]);
}
