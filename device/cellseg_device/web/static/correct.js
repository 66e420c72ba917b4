// Corrects an image: the tools, what each edit comes to, and what is said of the correction as a whole.

import { el, put } from "./dom.js";
import { bitmapOf } from "./labels.js";
import { Refused, asked } from "./server.js";
import { TOOLS, Tools } from "./tools.js";
import { plural, time } from "./words.js";

/** @typedef {import("./server.js").Correction} Correction */

export const REPLACED = "The image was replaced after it was corrected: that correction is kept, and not used.";

const NAME = "cellseg-name"; // under which the browser remembers who corrects
const LARGEST_RADIUS = 60;
const CONFLICT = 409;
const MARKS = ["checked", "left out", "begun"];

/** The part of the screen that corrects. */
export class Correct {
    /**
     * @param {object} options
     * @param {import("./viewer.js").Viewer} options.viewer
     * @param {string} options.image
     * @param {AbortSignal} options.signal
     * @param {(correction: Correction) => void} options.changed  Called with what an edit came to.
     * @param {() => Promise<void>} options.reload  Loads the labels as the server has them.
     * @param {() => boolean} options.next  Goes to the next image; false if there is none.
     */
    constructor({ viewer, image, signal, changed, reload, next }) {
        this.viewer = viewer;
        this.image = image;
        this.signal = signal;
        this.changed = changed;
        this.reload = reload;
        this.next = next;
        /** @type {Correction | null} */
        this.correction = null;
        this.why = "Loading …"; // why nothing can be corrected
        this.waiting = 0;
        /** @type {Promise<unknown>} */
        this.queue = Promise.resolve();
        this.refusals = 0;
        this.conflicts = 0;
        this.tools = new Tools(viewer, (edit) => void this.ask(edit));

        const button = (/** @type {string} */ text, /** @type {string} */ key, /** @type {() => void} */ click, extra = {}) =>
            el("button", { type: "button", click, "aria-keyshortcuts": key, ...extra }, el("span", {}, text), " ", el("kbd", { "aria-hidden": "true" }, shown(key)));
        this.buttons = Object.fromEntries(
            Object.entries(TOOLS).map(([name, { key, text, help }]) => [name, button(text, key, () => this.choose(name), { title: help, "aria-pressed": "false" })]),
        );
        this.undo = button("Undo", "Control+z", () => void this.ask({ what: "undo" }));
        this.redo = button("Redo", "Control+y", () => void this.ask({ what: "redo" }));
        this.right = button("Right, next image", "Enter", () => void this.mark("checked"), { class: "right" });
        this.leave = button("Leave this image out", "l", () => void this.mark(this.correction?.state === "left out" ? "begun" : "left out"), {
            title: "It is not used for teaching; its count stays that of the machine.",
        });
        this.anew = el("button", { type: "button", hidden: true, click: () => void this.ask({ what: "begin anew" }) }, "Begin a new correction");
        this.size = el("input", { type: "range", min: 1, max: LARGEST_RADIUS, step: 1, value: this.tools.radius, input: () => this.resize(this.size.valueAsNumber) });
        this.sizeLabel = el("label", { class: "slider", hidden: true }, "Size ", this.size);
        this.name = el("input", { type: "text", maxlength: 100, autocomplete: "name", placeholder: "optional", value: remembered(), change: () => remember(this.name.value) });
        this.help = el("p", { class: "quiet help" });
        this.standing = el("p", { class: "standing" });
        this.message = el("p", { class: "message", role: "status" });
        this.element = el(
            "section",
            { class: "correct", "aria-label": "Correct" },
            this.standing,
            this.anew,
            el("div", { class: "toolbar", role: "group", "aria-label": "Tools" }, ...Object.values(this.buttons), this.undo, this.redo),
            this.sizeLabel,
            this.help,
            this.message,
            el("div", { class: "marks" }, this.right, this.leave),
            el("label", { class: "who" }, "Your name ", this.name),
        );
        this.choose("select");
        this.show();
    }

    /** The lines of the journal that the labels on the screen have. */
    get revision() {
        return this.correction?.revision ?? 0;
    }

    /** Whether edits can be made now. */
    get isReady() {
        return !this.why && !this.signal.aborted;
    }

    /**
     * Take note of how the correction stands, and why nothing can be corrected ("" if it can).
     * @param {Correction | null} correction
     * @param {string} why
     */
    set(correction, why) {
        this.correction = correction;
        this.why = why;
        this.show();
    }

    show() {
        const { correction, isReady } = this;
        for (const button of [...Object.values(this.buttons), this.right, this.leave]) button.disabled = !isReady;
        this.undo.disabled = !isReady || !correction?.can_undo;
        this.redo.disabled = !isReady || !correction?.can_redo;
        this.leave.setAttribute("aria-pressed", String(correction?.state === "left out"));
        this.anew.hidden = correction?.standing !== "stale";
        put(this.standing, this.why || standing(correction));
        this.standing.className = `standing ${correction?.state === "checked" && !this.why ? "checked" : ""}`;
        if (!isReady && this.tools.name !== "select") this.choose("select");
    }

    /**
     * @param {string} name
     */
    choose(name) {
        this.tools.choose(name);
        for (const [other, button] of Object.entries(this.buttons)) button.setAttribute("aria-pressed", String(other === name));
        this.sizeLabel.hidden = name !== "brush" && name !== "erase";
        put(this.help, TOOLS[name].help);
        put(this.message);
    }

    /** @param {number} radius */
    resize(radius) {
        this.tools.radius = Math.min(LARGEST_RADIUS, Math.max(1, radius));
        this.size.value = String(this.tools.radius);
        this.tools.choose(this.tools.name);
    }

    /**
     * Have an edit made, after those that were asked for before; true if it was. It is not if one of those is refused
     * that it depends on: a mark on each, everything on being of the newest labels. Who goes on to another image
     * meanwhile leaves nothing undone.
     * @param {import("./tools.js").Edit} edit
     */
    ask(edit) {
        const { refusals, conflicts } = this;
        const isMark = MARKS.includes(String(edit.what));
        const stands = () => conflicts === this.conflicts && (!isMark || refusals === this.refusals);
        this.waiting += 1;
        const made = this.queue.then(() => stands() && this.make(edit)).finally(() => (this.waiting -= 1));
        this.queue = made;
        return made;
    }

    /** @param {import("./tools.js").Edit} edit */
    async make(edit) {
        if (this.why && edit.what !== "begin anew") return false;
        this.element.setAttribute("aria-busy", "true");
        try {
            const body = JSON.stringify({ ...edit, revision: this.revision, by: this.name.value });
            const answer = await asked("/api/correct", { query: { image: this.image }, method: "POST", body, headers: { "Content-Type": "application/json" } });
            const found = JSON.parse(decodeURIComponent(answer.headers.get("X-Cellseg-Correction") ?? "{}"));
            const { standing: former } = this.correction ?? {};
            this.correction = { ...found, standing: former === "recounted" ? former : "as begun", by: this.name.value, checked_at: "" };
            if (this.signal.aborted) return true;
            await this.put(found.box, await answer.blob());
            this.say(found.note);
            return true;
        } catch (error) {
            const isConflict = error instanceof Refused && error.status === CONFLICT;
            this.refusals += 1;
            if (isConflict) this.conflicts += 1;
            if (this.signal.aborted) return false;
            this.say(/** @type {Error} */ (error).message, true);
            if (isConflict) await this.reload();
            return false;
        } finally {
            this.element.removeAttribute("aria-busy");
        }
    }

    /**
     * Show what an edit came to.
     * @param {[number, number, number, number] | null} box
     * @param {Blob} blob
     */
    async put(box, blob) {
        const { correction } = this;
        if (box && this.viewer.scale === 1) {
            const part = await bitmapOf(blob);
            this.viewer.change(part, box[0], box[1]);
            part.close();
        } else if (box) await this.reload(); // a picture that is smaller than the image
        this.set(correction, "");
        this.changed(/** @type {Correction} */ (this.correction));
    }

    /** @param {string} state */
    async mark(state) {
        const isMade = await this.ask({ what: state });
        if (isMade && !this.signal.aborted && state !== "begun" && !this.next()) this.say(state === "checked" ? "Checked. It was the last image of the list." : "Left out. It was the last image of the list.");
    }

    /**
     * @param {string} text
     * @param {boolean} [isTrouble]
     */
    say(text, isTrouble = false) {
        put(this.message, text);
        this.message.classList.toggle("trouble", isTrouble);
    }

    /**
     * Use a key; false if it has no meaning here.
     * @param {KeyboardEvent} event
     */
    onKey(event) {
        const name = Object.keys(TOOLS).find((tool) => TOOLS[tool].key === event.key.toLowerCase());
        const isCommand = event.ctrlKey || event.metaKey;
        if (event.altKey) return false;
        if (isCommand && event.key.toLowerCase() === "z") (event.shiftKey ? this.redo : this.undo).click();
        else if (isCommand && event.key.toLowerCase() === "y") this.redo.click();
        else if (isCommand) return false;
        else if (name) this.buttons[name].click();
        else if (event.key === "Enter") this.right.click();
        else if (event.key === "l") this.leave.click();
        else if (event.key === "[" || event.key === "]") this.resize(this.tools.radius + (event.key === "]" ? 1 : -1));
        else if (event.key === "Delete" || event.key === "Backspace") this.removeChosen();
        else if (event.key === "Escape") return this.tools.forget();
        else return false;
        return true;
    }

    /** Remove the chosen cell. */
    removeChosen() {
        const { label, labels, scale } = this.viewer;
        const at = label && labels ? labels.values.indexOf(label) : -1;
        if (at < 0 || !labels) return;
        const [row, col] = [Math.floor(at / labels.width), at % labels.width];
        void this.ask({ what: "remove", at: [(row + 0.5) / scale - 0.5, (col + 0.5) / scale - 0.5] });
    }
}

/**
 * Return in words how a correction stands.
 * @param {Correction | null} correction
 */
function standing(correction) {
    if (!correction) return "Not checked yet.";
    const by = correction.by ? ` by ${correction.by}` : "";
    const when = correction.checked_at ? `, ${time(correction.checked_at)}` : "";
    const recounted = correction.standing === "recounted" ? " The machine has counted it again since; the correction stays." : "";
    const leftOut = correction.left_out ? ` ${plural(correction.left_out, "cell")} of it too small, too large or outside of the region.` : "";
    if (correction.state === "checked") return `✓ Checked${by}${when}.${recounted}${leftOut}`;
    if (correction.state === "left out") return `Left out${by}${when}: not used for teaching.${recounted}`;
    return `Begun, not checked yet.${recounted}${leftOut}`;
}

/** @param {string} key */
function shown(key) {
    return key === "Enter" ? "↵" : key.replace("Control+", "Ctrl ").replace(/[a-z]$/, (letter) => letter.toUpperCase());
}

function remembered() {
    try {
        return localStorage.getItem(NAME) ?? "";
    } catch {
        return "";
    }
}

/** @param {string} name */
function remember(name) {
    try {
        localStorage.setItem(NAME, name);
    } catch {
        // a browser that keeps nothing asks again
    }
}
