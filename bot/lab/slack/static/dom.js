// Small helpers. Text from messages only ever becomes text nodes; nothing here takes markup.

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function safeLink(url) {
  // Only whole addresses a browser opens as pages; a javascript: link stays text.
  try {
    const parsed = new URL(url);
    return ["http:", "https:", "mailto:"].includes(parsed.protocol) ? parsed.href : null;
  } catch {
    return null;
  }
}

export function linkTo(url, ...children) {
  const href = safeLink(url);
  if (href === null) return el("span", {}, ...children);
  return el("a", { href, target: "_blank", rel: "noopener noreferrer", title: href }, ...children);
}

export async function act(gesture, body) {
  try {
    const answer = await fetch(`/lab/${gesture}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({}));
      return { ok: false, failure: problem.error ?? "That did not work.", errors: {} };
    }
    return await answer.json();
  } catch {
    return { ok: false, failure: "Slack could not be reached.", errors: {} };
  }
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const dayName = new Intl.DateTimeFormat(undefined, { weekday: "long", month: "long", day: "numeric" });
const dayNumber = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

export const timeOf = (ts) => clock.format(Number(ts) * 1000);
export const exactTimeOf = (ts) => exact.format(Number(ts) * 1000);

export function dayOf(ts) {
  const day = new Date(Number(ts) * 1000);
  return day.toDateString() === new Date().toDateString() ? "Today" : dayName.format(day);
}

export function slackDate(seconds, format, fallback) {
  const at = new Date(Number(seconds) * 1000);
  if (Number.isNaN(at.getTime())) return fallback;
  const pretty = at.toDateString() === new Date().toDateString() ? "today" : dayNumber.format(at);
  const parts = {
    date_num: at.toISOString().slice(0, 10), date: dayName.format(at), date_short: dayNumber.format(at),
    date_long: dayName.format(at), date_pretty: pretty, date_short_pretty: pretty, date_long_pretty: pretty,
    time: clock.format(at), time_secs: at.toLocaleTimeString(), ago: ago(at),
  };
  return format.replace(/\{(\w+)\}/g, (whole, name) => parts[name] ?? whole);
}

function ago(at) {
  const minutes = Math.round((Date.now() - at.getTime()) / 60000);
  const words = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  return Math.abs(minutes) < 60 ? words.format(-minutes, "minute") : words.format(-Math.round(minutes / 60), "hour");
}

export function bytes(size) {
  if (size < 1024) return `${size} bytes`;
  return size < 1048576 ? `${(size / 1024).toFixed(1)} kB` : `${(size / 1048576).toFixed(1)} MB`;
}
