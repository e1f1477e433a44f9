// The page: asks for everything one person sees, draws what changed, and asks again when the stand-in says so.
import { drawAttachment, drawBlocks, drawFile } from "./blocks.js";
import { Modal, confirmed } from "./dialogs.js";
import { act, dayOf, el, exactTimeOf, timeOf } from "./dom.js";
import { Names, emoji, mrkdwn } from "./mrkdwn.js";

const GROUPED_WITHIN_S = 300; // messages of one author closer than this share a head, as in Slack
const NEAR_END_PX = 120;
const byId = (id) => document.getElementById(id);
const modal = new Modal();
const drawn = new Map(); // container id → Map(key → {text, node})
const seen = new Map(); // channel → number of messages read
let state = null;
let me = localStorage.getItem("me");
let place = null; // channel id, or "home"
let thread = null; // ts of the open thread
let threadClosed = false; // the reader closed one: no thread opens by itself any more
let asking = false;
let askAgain = false;

const permalink = location.pathname.match(/^\/archives\/([^/]+)\/p(\d{10})(\d{6})$/);
if (permalink) [place, thread] = [permalink[1], new URLSearchParams(location.search).get("thread_ts") ?? `${permalink[2]}.${permalink[3]}`];

// --- asking --------------------------------------------------------------------------------------------------------

async function refresh() {
  if (asking) { askAgain = true; return; }
  asking = true;
  try {
    do {
      askAgain = false;
      const answer = await fetch(`/lab/state?user=${encodeURIComponent(me ?? "")}`);
      state = await answer.json();
      if (!state.users[me] || state.users[me].is_bot) {
        me = Object.keys(state.users).find((id) => !state.users[id].is_bot);
        askAgain = true;
        continue;
      }
      draw();
    } while (askAgain);
  } finally {
    asking = false;
  }
}

function listen() {
  const stream = new EventSource("/lab/stream");
  stream.onmessage = () => refresh().catch(offline);
  stream.onerror = offline;
}

function offline() {
  byId("banner").textContent = "The stand-in Slack is not running. This page comes back when it does.";
  byId("banner").hidden = false;
}

// --- drawing -------------------------------------------------------------------------------------------------------

function draw() {
  const names = new Names(state, me);
  const rooms = state.channels.filter((c) => !c.direct);
  if (place === null || (place !== "home" && !state.channels.some((c) => c.id === place))) place = rooms[0]?.id ?? "home";
  openNewThread();
  byId("team").textContent = state.team.name;
  drawWho();
  drawSidebar();
  const notes = [state.outage && "Slack has an outage (simulated).", !state.connected && "natsmedic is not connected to Slack."].filter(Boolean);
  byId("banner").textContent = notes.join(" ");
  byId("banner").hidden = notes.length === 0;
  if (place === "home") drawHome(names);
  else drawChannel(names);
  drawThread(names);
  modal.show(state.view, names, me);
}

function openNewThread() {
  if (thread || threadClosed || place === "home") return;
  const parents = (state.messages[place] ?? []).filter((m) => m.reply_count && m.by_bot);
  if (parents.length) thread = parents.at(-1).ts;
}

function drawWho() {
  const people = Object.entries(state.users).filter(([, u]) => !u.is_bot);
  const label = (u) => u.display + (u.guest ? " (guest)" : "") + (u.foreign ? " (other workspace)" : "") + (u.deleted ? " (deactivated)" : "");
  const wanted = people.map(([id, u]) => id + label(u)).join();
  const select = byId("who");
  if (select.dataset.people !== wanted) {
    select.replaceChildren(...people.map(([id, u]) => el("option", { value: id }, label(u))));
    select.dataset.people = wanted;
  }
  select.value = me;
}

function drawSidebar() {
  const room = (c) => {
    const count = (state.messages[c.id] ?? []).length;
    if (c.id === place) seen.set(c.id, count);
    const unread = count > (seen.get(c.id) ?? 0);
    const mark = c.direct ? "✉" : c.private ? "🔒" : "#";
    return el("button", { type: "button", class: `place ${unread ? "unread" : ""}`, "aria-current": String(c.id === place), onclick: () => go(c.id) },
      el("span", { class: "mark", "aria-hidden": "true" }, mark), el("span", { class: "name" }, c.direct ? "natsmedic" : c.name),
      unread && el("span", { class: "count" }, String(count - (seen.get(c.id) ?? 0))));
  };
  const direct = state.channels.filter((c) => c.direct);
  byId("sidebar").replaceChildren(
    el("h3", {}, "Channels"), ...state.channels.filter((c) => !c.direct && !c.archived).map(room),
    ...(direct.length ? [el("h3", {}, "Direct messages"), ...direct.map(room)] : []),
    el("h3", {}, "Apps"),
    el("button", { type: "button", class: "place", "aria-current": String(place === "home"), onclick: () => go("home") },
      el("span", { class: `presence ${state.connected ? "on" : ""}`, title: state.connected ? "connected" : "not connected" }), el("span", { class: "name" }, "natsmedic")));
}

function go(where) {
  place = where;
  thread = null;
  threadClosed = true;
  if (where === "home") act("open_home", { user: me });
  draw();
}

function keep(container, entries, ...tail) {
  // Nodes whose content did not change stay, so that nothing under the pointer or the keyboard jumps.
  const old = drawn.get(container.id) ?? new Map();
  const fresh = new Map();
  const atEnd = container.scrollHeight - container.scrollTop - container.clientHeight < NEAR_END_PX;
  for (const { key, text, make } of entries) {
    const known = old.get(key);
    fresh.set(key, known?.text === text ? known : { text, node: make() });
    if (!known && old.size && container.dataset.shows === place + thread) fresh.get(key).node.classList.add("fresh");
  }
  const nodes = [...fresh.values()].map((entry) => entry.node).concat(tail);
  if (nodes.length !== container.children.length || nodes.some((node, n) => container.children[n] !== node)) container.replaceChildren(...nodes);
  drawn.set(container.id, fresh);
  const moved = container.dataset.shows !== place + thread;
  container.dataset.shows = place + thread;
  if (atEnd || moved) container.scrollTop = container.scrollHeight;
}

function drawChannel(names) {
  const channel = state.channels.find((c) => c.id === place);
  byId("title").textContent = (channel?.direct ? "" : "# ") + (channel?.direct ? "natsmedic" : channel?.name ?? "");
  byId("topic").textContent = channel?.topic ?? "";
  byId("composer").hidden = false;
  byId("words").placeholder = channel?.direct ? "Message natsmedic" : `Message #${channel?.name}, or a command such as /nats status`;
  byId("hint").textContent = "Enter sends · / for a command";
  const parents = (state.messages[place] ?? []).filter((m) => !m.thread_ts || m.thread_ts === m.ts);
  const empty = el("p", { class: "empty" }, "Nothing here yet. When an alert comes in, its thread appears here.");
  keep(byId("messages"), entriesOf(parents, names, true), ...(parents.length ? [] : [empty]));
}

function drawHome(names) {
  byId("title").textContent = "natsmedic";
  byId("topic").textContent = "Home";
  byId("composer").hidden = true;
  const press = presser((element, choice) => ["click_in_view", { user: me, home: true, what: element.action_id, choice }], names);
  const body = () => el("div", { class: "home" }, state.home
    ? drawBlocks(state.home.blocks, { names, press })
    : el("p", { class: "empty" }, "The app has published nothing for you yet."));
  keep(byId("messages"), [{ key: "home", text: `${me}${state.home?.hash}`, make: body }]);
}

function drawThread(names) {
  const messages = thread ? (state.messages[place] ?? []).filter((m) => m.ts === thread || m.thread_ts === thread) : [];
  byId("thread").hidden = messages.length === 0;
  if (!messages.length) return;
  byId("thread-of").textContent = `# ${state.channels.find((c) => c.id === place)?.name ?? ""}`;
  const entries = entriesOf(messages, names, false);
  const count = messages.filter((m) => !m.visible_to).length - 1;  // what one person sees alone is no reply
  const line = { key: "line", text: String(count), make: () => el("div", { class: "reply-line" }, count === 1 ? "1 reply" : `${count} replies`) };
  if (count > 0) entries.splice(1, 0, line);
  keep(byId("replies"), entries);
}

function entriesOf(messages, names, inChannel) {
  const entries = [];
  let before = null;
  for (const message of messages) {
    const day = dayOf(message.ts);
    if (inChannel && (!before || dayOf(before.ts) !== day)) {
      entries.push({ key: `day ${day}`, text: day, make: () => el("div", { class: "day" }, el("span", {}, day)) });
      before = null;
    }
    const compact = before !== null && before.user === message.user && !before.reply_count && !message.visible_to && !before.visible_to
      && Number(message.ts) - Number(before.ts) < GROUPED_WITHIN_S && (inChannel || before.ts !== thread);
    const shown = JSON.stringify([message, compact, inChannel, me]);
    entries.push({ key: `${message.ts}${message.visible_to ?? ""}`, text: shown, make: () => drawMessage(message, compact, inChannel, names) });
    before = message;
  }
  return entries;
}

function avatar(id) {
  const user = state.users[id];
  if (user?.is_bot) return el("span", { class: "avatar bot", "aria-hidden": "true" }, "N");
  const sum = [...id].reduce((total, char) => total + char.charCodeAt(0), 0);
  const letters = (user?.display ?? "?").split(" ").map((word) => word[0]).join("").slice(0, 2);
  return el("span", { class: `avatar tint${sum % 6}`, "aria-hidden": "true" }, letters);
}

function drawMessage(message, compact, inChannel, names) {
  const user = state.users[message.user];
  const article = el("article", { class: `message ${compact ? "compact" : ""} ${message.visible_to ? "private" : ""}`, "aria-label": `Message from ${user?.display ?? message.user}` });
  const gesture = (element, choice, block) => ["click", { user: me, channel: place, ts: message.ts, what: element.action_id, block_id: block.block_id, choice }];
  const ctx = { names, press: presser(gesture, names) };
  const content = el("div", { class: "content" },
    message.visible_to && el("div", { class: "only-you" }, "👁 Only visible to you",
      el("button", { type: "button", onclick: () => act("dismiss", { user: me, ts: message.ts }) }, "Dismiss")),
    el("div", { class: "by" }, el("b", {}, user?.display ?? message.user), message.by_bot && el("span", { class: "badge" }, "APP"),
      el("time", { class: "time", title: exactTimeOf(message.ts) }, timeOf(message.ts))));
  if (message.blocks?.length) content.append(...drawBlocks(message.blocks, ctx));
  else if (message.text) content.append(el("div", { class: "block words" }, mrkdwn(message.text, names)));
  if (message.edited) content.append(el("span", { class: "edited", title: exactTimeOf(message.edited.ts) }, "(edited)"));
  content.append(...(message.attachments ?? []).map((a) => drawAttachment(a, ctx)));
  if (message.files?.length) content.append(el("div", { class: "files" }, message.files.map(drawFile)));
  if (message.reactions) content.append(el("div", { class: "reactions" }, message.reactions.map((r) => el("span", {}, emoji(r.name), ` ${r.count}`))));
  if (inChannel && message.reply_count) content.append(answers(message));
  article.append(avatar(message.user), content);
  if (inChannel && !message.visible_to) {
    article.append(el("div", { class: "hover-bar" }, el("button", { type: "button", onclick: () => openThread(message.ts) }, "💬 Reply in thread")));
  }
  return article;
}

function answers(message) {
  const count = message.reply_count === 1 ? "1 reply" : `${message.reply_count} replies`;
  return el("button", { type: "button", class: "answers", onclick: () => openThread(message.ts) },
    message.reply_users.slice(0, 3).map(avatar), el("b", {}, count), el("span", { class: "last" }, `Last reply ${dayOf(message.latest_reply).toLowerCase()} at ${timeOf(message.latest_reply)}`));
}

function openThread(ts) {
  thread = ts;
  draw();
  byId("reply-words").focus();
}

function presser(gesture, names) {
  return async (element, block, choice, node) => {
    if (element.confirm && !(await confirmed(element.confirm, names))) return;
    node.setAttribute("aria-busy", "true");
    if (node.tagName === "BUTTON") node.disabled = true;
    const outcome = await act(...gesture(element, choice, block));
    node.removeAttribute("aria-busy");
    node.disabled = false;
    node.parentElement?.querySelector(":scope > .trouble")?.remove();
    if (outcome.failure) node.after(el("span", { class: "trouble", role: "alert" }, `⚠ natsmedic did not respond (${outcome.failure})`));
  };
}

// --- writing -------------------------------------------------------------------------------------------------------

async function write(box, threadTs) {
  const text = box.value.trim();
  if (!text) return;
  if (text.startsWith("/") && threadTs) {
    box.setCustomValidity("Slash commands do not work in threads.");
    box.reportValidity();
    return;
  }
  box.value = "";
  if (text.startsWith("/")) await act("slash", { user: me, channel: place, line: text });
  else await act("say", { user: me, channel: place, text: escaped(text), thread_ts: threadTs ?? undefined });
}

function escaped(text) {
  const safe = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return safe.replace(/@natsmedic\b/g, `<@${state.bot}>`);
}

for (const [form, box, inThread] of [["composer", "words", false], ["reply", "reply-words", true]]) {
  const send = () => write(byId(box), inThread ? thread : null);
  byId(form).addEventListener("submit", (event) => { event.preventDefault(); send(); });
  byId(box).addEventListener("input", () => byId(box).setCustomValidity(""));
  byId(box).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); send(); }
  });
}
byId("who").addEventListener("change", (event) => {
  me = event.target.value;
  localStorage.setItem("me", me);
  modal.show(null);
  refresh();
});
byId("thread-close").addEventListener("click", () => { thread = null; threadClosed = true; draw(); });
listen();
refresh().catch(offline);
