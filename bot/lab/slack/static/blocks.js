// Block Kit as DOM nodes. `ctx` is {names, press(element, block, choice), form} : what a button does, and in a dialog
// the collector of fields.
import { bytes, el, linkTo, safeLink, slackDate } from "./dom.js";
import { emoji, mrkdwn, plain, textObject } from "./mrkdwn.js";

const PICTURE_PX = { width: 560, height: 420 }; // as in blocks.css

export function drawBlocks(blocks, ctx) {
  return blocks.map((block) => drawBlock(block, ctx));
}

function drawBlock(block, ctx) {
  const draw = { header, section, context, divider, actions, image, rich_text, table, markdown, input }[block.type];
  return draw ? draw(block, ctx) : el("div", { class: "block context" }, `(${block.type})`);
}

const header = (block, ctx) => el("div", { class: "block header-block", role: "heading", "aria-level": 3 }, textObject(block.text, ctx.names));
const divider = () => el("hr", { class: "block" });

function section(block, ctx) {
  const body = el("div", { class: "body" }, block.text ? textObject(block.text, ctx.names) : null);
  if (block.fields) {
    body.append(el("div", { class: "fields" }, block.fields.map((f) => el("div", {}, textObject(f, ctx.names)))));
  }
  const side = block.accessory && el("div", { class: "accessory" }, drawElement(block.accessory, block, ctx));
  return el("div", { class: "block section" }, body, side);
}

function context(block, ctx) {
  const parts = block.elements.map((part) =>
    part.type === "image" ? picture(part) : el("span", {}, textObject(part, ctx.names)));
  return el("div", { class: "block context" }, parts);
}

const actions = (block, ctx) => el("div", { class: "block actions" }, block.elements.map((e) => drawElement(e, block, ctx)));

function picture(image) {
  // Pictures come from this stand-in only: the page loads nothing from elsewhere.
  const source = image.slack_file
    ? (image.slack_file.url ?? `${location.origin}/files/${encodeURIComponent(image.slack_file.id)}`) : image.image_url;
  const href = safeLink(source);
  const own = href !== null && new URL(href).origin === location.origin;
  return own ? el("img", { src: href, alt: image.alt_text }) : el("span", { class: "missing" }, `🖼 ${image.alt_text}`);
}

function image(block, ctx) {
  const title = block.title && el("figcaption", {}, textObject(block.title, ctx.names));
  return el("figure", { class: "block picture" }, title, picture(block));
}

const markdown = (block, ctx) =>
  el("div", { class: "block" }, mrkdwn(block.text.replace(/\*\*(.+?)\*\*/g, "*$1*").replace(/^#+ (.*)$/gm, "*$1*"), ctx.names));

function table(block, ctx) {
  const side = (column) => block.column_settings?.[column]?.align ?? "left";
  const cell = (value) => (value.type === "raw_text" ? value.text : value.elements.map((part) => richPart(part, ctx)));
  const row = (cells, tag) => el("tr", {}, cells.map((value, n) => el(tag, { class: side(n) }, cell(value))));
  const [first, ...rest] = block.rows;
  return el("div", { class: "block table-wrap" },
    el("table", {}, el("thead", {}, row(first, "th")), el("tbody", {}, rest.map((cells) => row(cells, "td")))));
}

const rich_text = (block, ctx) => el("div", { class: "block" }, block.elements.map((part) => richPart(part, ctx)));

function richPart(part, ctx) {
  if (part.type === "rich_text_list") {
    const tag = part.style === "ordered" ? "ol" : "ul";
    const start = tag === "ol" && part.offset ? part.offset + 1 : undefined;
    const items = part.elements.map((item) => el("li", {}, item.elements.map((leaf) => richLeaf(leaf, ctx))));
    return el(tag, { class: `rich indent${Math.min(part.indent ?? 0, 3)}`, start }, items);
  }
  const tag = { rich_text_preformatted: "pre", rich_text_quote: "blockquote" }[part.type] ?? "div";
  return el(tag, {}, (part.elements ?? []).map((leaf) => richLeaf(leaf, ctx)));
}

function richLeaf(leaf, ctx) {
  let node = richBody(leaf, ctx);
  const style = leaf.style ?? {};
  for (const [name, tag] of [["code", "code"], ["strike", "s"], ["italic", "em"], ["bold", "b"]]) {
    if (style[name]) node = el(tag, {}, node);
  }
  return node;
}

function richBody(leaf, { names }) {
  switch (leaf.type) {
    case "text": return el("span", {}, leaf.text.split("\n").flatMap((line, n) => (n ? [el("br"), line] : [line])));
    case "link": return linkTo(leaf.url, leaf.text ?? leaf.url);
    case "user": return names.user(leaf.user_id);
    case "usergroup": return names.group(leaf.usergroup_id);
    case "channel": return names.channel(leaf.channel_id);
    case "broadcast": return names.broadcast(leaf.range);
    case "emoji": return emoji(leaf.name);
    case "date": return el("time", {}, slackDate(leaf.timestamp, leaf.format ?? "{date_short} {time}", leaf.fallback ?? ""));
    default: return `(${leaf.type})`;
  }
}

// --- interactive elements in messages ------------------------------------------------------------------------------

function drawElement(element, block, ctx) {
  if (element.type === "image") return picture(element);
  if (element.type === "button") return button(element, block, ctx);
  if (element.type === "checkboxes" || element.type === "radio_buttons") {
    const group = choices(element, element.action_id);
    group.addEventListener("change", () => ctx.press(element, block, chosenIn(group, element), group));
    return group;
  }
  return menu(element, block, ctx);
}

function button(element, block, ctx) {
  const look = `btn ${element.style ?? ""}`;
  const label = element.accessibility_label;
  if (element.url && safeLink(element.url)) {
    const link = linkTo(element.url, plain(element.text.text));
    link.className = look;
    link.addEventListener("click", () => ctx.press(element, block, null, link));
    return link;
  }
  const node = el("button", { type: "button", class: look, "aria-label": label }, plain(element.text.text));
  node.addEventListener("click", () => ctx.press(element, block, null, node));
  return node;
}

function menu(element, block, ctx) {
  const first = element.type === "overflow" ? "⋯" : element.placeholder?.text ?? "Choose…";
  const node = el("select", { class: "menu", "aria-label": element.type === "overflow" ? "More actions" : first },
    el("option", { value: "" }, first), options(element, ctx));
  node.addEventListener("change", () => node.value && ctx.press(element, block, node.value, node));
  return node;
}

function options(element, ctx) {
  if (element.type === "users_select") {
    return Object.entries(ctx.names.state.users).filter(([, u]) => !u.is_bot).map(([id, u]) => el("option", { value: id }, u.display));
  }
  const draw = (option) => el("option", { value: option.value, selected: option.value === element.initial_option?.value }, option.text.text);
  if (element.option_groups) {
    return element.option_groups.map((group) => el("optgroup", { label: group.label.text }, group.options.map(draw)));
  }
  return (element.options ?? []).map(draw);
}

function choices(element, name) {
  const kind = element.type === "checkboxes" ? "checkbox" : "radio";
  const begun = new Set([...(element.initial_options ?? []), element.initial_option].filter(Boolean).map((o) => o.value));
  return el("div", { role: kind === "radio" ? "radiogroup" : "group" }, element.options.map((option) =>
    el("label", { class: "choice" },
      el("input", { type: kind, name, value: option.value, checked: begun.has(option.value) }),
      el("span", {}, plain(option.text.text), option.description && el("small", {}, plain(option.description.text))))));
}

function chosenIn(group, element) {
  const picked = [...group.querySelectorAll("input:checked")].map((box) => box.value);
  return element.type === "checkboxes" ? picked : picked[0] ?? null;
}

// --- input blocks in dialogs ---------------------------------------------------------------------------------------

function input(block, ctx) {
  const { element } = block;
  const id = `field-${block.block_id}`;
  const many = element.type === "checkboxes" || element.type === "radio_buttons";
  const control = many ? choices(element, id) : single(element, id, ctx);
  const label = many ? el("div", { class: "label", id: `${id}-label` }) : el("label", { for: id });
  label.append(...plain(block.label.text));
  if (block.optional) label.append(el("span", { class: "optional" }, "(optional)"));
  if (many) control.setAttribute("aria-labelledby", `${id}-label`);
  const error = el("p", { class: "field-error", role: "alert", id: `${id}-error`, hidden: true });
  const hint = block.hint && el("p", { class: "hint" }, plain(block.hint.text));
  ctx.form?.add(block.block_id, {
    read: () => (many ? chosenIn(control, element) : control.value || null),
    write: (value) => { if (!many && value !== null) control.value = value; },
    say: (message) => {
      error.hidden = !message;
      error.textContent = message ?? "";
      control.setAttribute("aria-invalid", message ? "true" : "false");
      if (message) control.setAttribute("aria-describedby", `${id}-error`);
    },
  });
  return el("div", { class: "block field" }, label, control, error, hint);
}

function single(element, id, ctx) {
  const placeholder = element.placeholder?.text;
  const limits = { maxlength: element.max_length ?? 3000, placeholder, id };
  if (element.type === "plain_text_input" && element.multiline) {
    return el("textarea", limits, element.initial_value ?? "");
  }
  if (/select$/.test(element.type)) {
    return el("select", { id }, el("option", { value: "" }, placeholder ?? "Choose an option"), options(element, ctx));
  }
  const kind = { number_input: "number", datepicker: "date", timepicker: "time" }[element.type] ?? "text";
  const begun = element.initial_value ?? element.initial_date ?? element.initial_time;
  return el("input", { ...limits, type: kind, value: begun, autocomplete: "off", spellcheck: "false" });
}

// --- what hangs below a message ------------------------------------------------------------------------------------

const NAMED_BARS = ["good", "warning", "danger"];

export function drawAttachment(attachment, ctx) {
  const named = NAMED_BARS.includes(attachment.color);
  const node = el("div", { class: `attachment ${named ? `bar-${attachment.color}` : ""}` });
  if (/^#?[0-9a-f]{6}$/i.test(attachment.color ?? "")) node.style.borderLeftColor = `#${attachment.color.replace("#", "")}`;
  if (attachment.pretext) node.append(el("div", {}, mrkdwn(attachment.pretext, ctx.names)));
  if (attachment.title) node.append(el("b", { class: "title" }, attachment.title_link ? linkTo(attachment.title_link, attachment.title) : attachment.title));
  if (attachment.blocks) node.append(...drawBlocks(attachment.blocks, ctx));
  else node.append(el("div", {}, mrkdwn(attachment.text ?? attachment.fallback ?? "", ctx.names)));
  if (attachment.footer) node.append(el("div", { class: "foot" }, attachment.footer));
  return node;
}

export function drawFile(file) {
  const link = `/files/${encodeURIComponent(file.id)}`;
  const opened = { href: link, target: "_blank", rel: "noopener" };
  if (["png", "jpg", "jpeg", "gif", "webp"].includes(file.filetype)) {
    // Its room is kept before it has come, so that a thread which is scrolled to its end stays there.
    const scale = Math.min(1, PICTURE_PX.width / file.original_w, PICTURE_PX.height / file.original_h) || 1;
    const room = file.original_w ? { width: Math.round(file.original_w * scale), height: Math.round(file.original_h * scale) } : {};
    return el("figure", { class: "picture" }, el("figcaption", {}, file.title), el("a", opened, el("img", { src: link, alt: file.alt_txt || file.title, ...room })));
  }
  return el("a", { ...opened, class: "file", "aria-label": `Open file ${file.title}` },
    el("i", {}, file.filetype.slice(0, 4)), el("span", {}, file.title, el("small", {}, `${file.name} · ${bytes(file.size)}`)));
}
