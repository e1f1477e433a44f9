// The modal a view is drawn in, and the confirm dialog of a button.
import { drawBlocks } from "./blocks.js";
import { act, el } from "./dom.js";
import { plain, textObject } from "./mrkdwn.js";

export function confirmed(question, names) {
  const box = document.getElementById("confirm");
  return new Promise((resolve) => {
    const answer = (yes) => { box.close(); resolve(yes); };
    const look = question.style === "danger" ? "danger" : "primary";
    box.replaceChildren(
      el("div", { class: "dialog-head" }, el("h2", { id: "confirm-title" }, textObject(question.title, names))),
      el("div", { class: "dialog-body" }, textObject(question.text, names)),
      el("div", { class: "dialog-foot" },
        el("button", { type: "button", class: "btn large", onclick: () => answer(false) }, question.deny?.text ?? "Cancel"),
        el("button", { type: "button", class: `btn large ${look}`, onclick: () => answer(true) }, question.confirm?.text ?? "Yes")));
    box.oncancel = () => resolve(false);
    box.showModal();
  });
}

export class Modal {
  constructor() {
    this.box = document.getElementById("modal");
    this.shown = null;
    this.fields = new Map();
    this.box.addEventListener("cancel", (event) => { event.preventDefault(); this.dismiss(); });
  }

  add(blockId, field) { this.fields.set(blockId, field); }

  show(view, names, me) {
    if (!view) {
      if (this.box.open) this.box.close();
      this.shown = null;
      return;
    }
    if (this.shown?.id === view.id && this.shown.hash === view.hash) return;
    const typed = this.shown ? new Map([...this.fields].map(([id, field]) => [id, field.read()])) : new Map();
    this.fields = new Map();
    this.shown = view;
    this.me = me;
    this.draw(view, names);
    for (const [id, value] of typed) this.fields.get(id)?.write(value);
    if (!this.box.open) this.box.showModal();
    this.box.querySelector(".dialog-body input, .dialog-body textarea")?.focus({ preventScroll: true });
  }

  draw(view, names) {
    const press = async (element, block, choice, node) => {
      if (element.confirm && !(await confirmed(element.confirm, names))) return;
      node.setAttribute("aria-busy", "true");
      await act("click_in_view", { user: this.me, what: element.action_id, choice, values: this.values() });
      node.removeAttribute("aria-busy");
    };
    this.trouble = el("span", { class: "trouble", role: "alert" });
    this.submit = view.submit && el("button", { type: "submit", class: "btn large primary" }, plain(view.submit.text));
    const close = el("button", { type: "button", class: "btn large", onclick: () => this.dismiss() }, view.close?.text ?? "Cancel");
    const form = el("form", { novalidate: true },
      el("div", { class: "dialog-head" }, el("span", { class: "avatar bot", "aria-hidden": "true" }, "N"),
        el("h2", { id: "modal-title" }, plain(view.title.text)),
        el("button", { type: "button", class: "icon", "aria-label": "Close dialog", onclick: () => this.dismiss() }, "✕")),
      el("div", { class: "dialog-body" }, drawBlocks(view.blocks, { names, press, form: this })),
      el("div", { class: "dialog-foot" }, this.trouble, close, this.submit));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    this.box.replaceChildren(form);
  }

  values() {
    const filled = [...this.fields].map(([id, field]) => [id, field.read()]);
    return Object.fromEntries(filled.filter(([, value]) => value !== null));
  }

  async send() {
    if (!this.submit || this.submit.disabled) return;
    for (const field of this.fields.values()) field.say(null);
    this.trouble.textContent = "";
    this.submit.disabled = true;
    this.submit.setAttribute("aria-busy", "true");
    const { submit, trouble, fields } = this;
    const outcome = await act("submit", { user: this.me, values: this.values() });
    submit.disabled = false;
    submit.removeAttribute("aria-busy");
    trouble.textContent = outcome.failure ?? "";
    for (const [id, message] of Object.entries(outcome.errors ?? {})) fields.get(id)?.say(message);
  }

  dismiss() { act("close_view", { user: this.me }); }
}
