// The list of all images: only the rows in sight are there, and only those parts of the list are asked for.

import { el, put } from "./dom.js";
import { address, asked } from "./server.js";
import { plural, time, whole } from "./words.js";

/** @typedef {import("./server.js").Row} Row */

const PART = 100; // rows in one answer
const AROUND = 6; // rows beyond those in sight
const ORDERS = { name: "Name", time: "Time", count: "Count", doubt: "Doubt" };
const SHOWN = { all: "All images", flagged: "Flagged", unchecked: "Not checked", checked: "Checked", failed: "Failed" };
const MARKS = /** @type {Record<string, string>} */ ({ begun: "correction begun", "left out": "left out of teaching", stale: "corrected before it was replaced" });

let scrolled = { view: "", top: 0 }; // where the list was left, to come back to
let used = ""; // what of the tools changed the list, and keeps the focus

/**
 * Show it.
 * @param {HTMLElement} root
 * @param {URLSearchParams} query
 * @returns {import("./main.js").Screen}
 */
export function showImages(root, query) {
    document.title = "Images · cellseg";
    const view = {
        order: query.get("order") ?? "name",
        descending: query.get("descending") === "1" ? 1 : 0,
        show: query.get("show") ?? "all",
        text: query.get("text") ?? "",
    };
    const stop = new AbortController();
    /** @type {Map<number, Row[]>} */
    const parts = new Map();
    /** @type {Set<number>} */
    const coming = new Set();
    /** @type {Set<string>} */
    const chosen = new Set();
    /** @type {Map<number, HTMLLIElement>} */
    const there = new Map();
    let number = -1;
    let edition = 0;

    const list = el("ul", { class: "rows", "aria-label": "Images", keydown: onKey });
    const scroll = el("div", { class: "scroll", scroll: () => draw() }, list);
    const sum = el("p", { class: "quiet", role: "status" }, "Loading …");
    const trouble = el("p", { class: "trouble", role: "alert", hidden: true });
    const order = select("Sort by", ORDERS, view.order, (value) => go({ order: value, descending: value === "name" ? 0 : 1 }));
    const show = select("Show", SHOWN, view.show, (value) => go({ show: value }));
    const turn = el(
        "button",
        { type: "button", "aria-label": "Turn the order around", "aria-pressed": view.descending ? "true" : "false", click: () => go({ descending: view.descending ? 0 : 1 }) },
        view.descending ? "↓" : "↑",
    );
    const find = el("input", { type: "search", value: view.text, placeholder: "Find a name", "aria-label": "Find a name", change: () => go({ text: find.value }) });
    const named = el("input", { type: "hidden", name: "images" });
    const archive = el("button", { type: "submit" }, "ZIP of all listed");
    const form = el(
        "form",
        { method: "post", action: "/download/results.zip", submit: () => (named.value = JSON.stringify([...chosen])) },
        named,
        ...Object.entries(view).map(([name, value]) => el("input", { type: "hidden", name, value })),
        archive,
    );
    root.append(
        el("h1", { class: "unseen" }, "Images"),
        el("div", { class: "tools" }, find, el("label", {}, "Show ", show), el("label", {}, "Sort by ", order), turn),
        el(
            "details",
            { class: "downloads" },
            el("summary", {}, "Download"),
            el(
                "div",
                {},
                el("a", { href: "/download/counts.csv", download: "counts.csv" }, "All counts (CSV)"),
                el("a", { href: "/download/cells.csv", download: "cells.csv" }, "All cells (CSV)"),
                el("a", { href: "/download/images.xlsx", download: "images.xlsx" }, "Workbook (XLSX)"),
                form,
            ),
        ),
        trouble,
        sum,
        scroll,
    );

    const tools = [find, show, order, turn];
    tools.find((tool) => tool.getAttribute("aria-label") === used)?.focus({ preventScroll: true });
    used = "";

    /**
     * @param {string} label
     * @param {Record<string, string>} options
     * @param {string} value
     * @param {(value: string) => void} changed
     */
    function select(label, options, value, changed) {
        const items = Object.entries(options).map(([name, text]) => el("option", { value: name, selected: name === value }, text));
        const made = el("select", { "aria-label": label, change: () => changed(made.value) }, ...items);
        return made;
    }

    /** @param {Partial<typeof view>} change */
    function go(change) {
        used = document.activeElement?.getAttribute("aria-label") ?? "";
        location.replace(address("#/images", { ...view, ...change }));
    }

    /** @param {number} part */
    async function fetchPart(part) {
        if (coming.has(part)) return;
        coming.add(part);
        const mine = edition;
        try {
            const answer = await (await asked("/api/images", { query: { ...view, first: part * PART, number: PART }, signal: stop.signal })).json();
            if (mine !== edition) return;
            parts.set(part, answer.rows);
            setNumber(answer.number);
            trouble.hidden = true;
            draw();
        } catch (error) {
            if (stop.signal.aborted) return;
            put(trouble, /** @type {Error} */ (error).message);
            trouble.hidden = false;
        } finally {
            if (mine === edition) coming.delete(part);
        }
    }

    /** @param {number} value */
    function setNumber(value) {
        if (value === number) return;
        const isFirst = number < 0;
        number = value;
        list.style.height = `calc(${number} * var(--row))`;
        put(sum, number ? plural(number, "image") : view.show === "all" && !view.text ? "No images yet." : "No such images.");
        if (isFirst && scrolled.view === JSON.stringify(view)) scroll.scrollTop = scrolled.top;
        label();
    }

    function label() {
        put(archive, chosen.size ? `ZIP of the chosen ${whole(chosen.size)}` : `ZIP of all ${whole(Math.max(number, 0))} listed`);
        archive.disabled = number < 1;
    }

    function rowHeight() {
        return parseFloat(getComputedStyle(list).getPropertyValue("--row-px")) || 88;
    }

    /** Put the rows in sight into the list, and take the others out. */
    function draw() {
        if (number < 0) return;
        const height = rowHeight();
        const first = Math.max(0, Math.floor(scroll.scrollTop / height) - AROUND);
        const last = Math.min(number, Math.ceil((scroll.scrollTop + scroll.clientHeight) / height) + AROUND);
        for (const [at, item] of there) {
            if ((at < first || at >= last) && !item.contains(document.activeElement)) {
                item.remove();
                there.delete(at);
            }
        }
        for (let at = first; at < last; at += 1) {
            const part = Math.floor(at / PART);
            const row = parts.get(part)?.[at % PART];
            if (!row) {
                if (!parts.has(part)) void fetchPart(part);
                continue;
            }
            const former = there.get(at);
            const key = `${row.image}\n${row.stamp}\n${row.state}\n${row.corrected}`;
            if (former?.dataset.key === key) continue;
            const item = made(at, row, key);
            if (former) {
                const hadFocus = former.contains(document.activeElement);
                former.replaceWith(item);
                if (hadFocus) item.querySelector("a")?.focus();
            } else {
                const after = [...there.keys()].filter((other) => other > at);
                list.insertBefore(item, after.length ? /** @type {HTMLLIElement} */ (there.get(Math.min(...after))) : null);
            }
            there.set(at, item);
        }
        scrolled = { view: JSON.stringify(view), top: scroll.scrollTop };
    }

    /**
     * @param {number} at
     * @param {Row} row
     * @param {string} key
     */
    function made(at, row, key) {
        const isFailed = row.count === null;
        const picture = isFailed
            ? el("span", { class: "none", "aria-hidden": "true" }, "!")
            : el("img", { src: address("/thumbnail", { image: row.image, v: row.stamp }), alt: "", loading: "lazy", decoding: "async" });
        const box = el("input", {
            type: "checkbox",
            "aria-label": `Choose ${row.image}`,
            change: () => {
                if (box.checked) chosen.add(row.image);
                else chosen.delete(row.image);
                label();
            },
        });
        box.checked = chosen.has(row.image);
        box.disabled = isFailed;
        const cells = row.corrected ?? row.count ?? 0;
        const mark = row.state === "checked" ? `✓ checked${row.corrected === row.count ? "" : `, ${whole(row.count ?? 0)} by the machine`}` : MARKS[row.state];
        const link = el(
            "a",
            { href: address("#/image", { image: row.image, ...view }) },
            el("span", { class: "thumb" }, picture),
            el(
                "span",
                { class: "about" },
                isFailed ? el("span", { class: "failed" }, "failed") : el("span", { class: "cells" }, el("strong", {}, whole(cells)), cells === 1 ? " cell" : " cells"),
                el("span", { class: "name" }, row.image),
                isFailed && el("span", { class: "why" }, row.reason),
                row.flags.length > 0 && el("span", { class: "why" }, `⚠ ${row.flags.join("; ")}`),
                mark && el("span", { class: row.state === "checked" ? "checked" : "quiet" }, mark),
                !isFailed && !row.flags.length && !mark && el("span", { class: "quiet" }, time(row.taken_at)),
            ),
        );
        const item = el("li", { "aria-setsize": number, "aria-posinset": at + 1 }, box, link);
        item.style.top = `calc(${at} * var(--row))`;
        item.dataset.key = key;
        return item;
    }

    /** @param {KeyboardEvent} event */
    function onKey(event) {
        const item = /** @type {HTMLElement} */ (event.target).closest("li");
        const at = [...there].find(([, other]) => other === item)?.[0];
        if (at === undefined) return;
        const page = Math.max(1, Math.floor(scroll.clientHeight / rowHeight()) - 1);
        /** @type {Record<string, number>} */
        const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -number, End: number };
        if (!(event.key in steps)) return;
        event.preventDefault();
        void focus(Math.min(number - 1, Math.max(0, at + steps[event.key])));
    }

    /** @param {number} at */
    async function focus(at) {
        const height = rowHeight();
        if (at * height < scroll.scrollTop) scroll.scrollTop = at * height;
        else if ((at + 1) * height > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = (at + 1) * height - scroll.clientHeight;
        if (!parts.has(Math.floor(at / PART))) await fetchPart(Math.floor(at / PART));
        draw();
        there.get(at)?.querySelector("a")?.focus({ preventScroll: true });
        draw(); // what had the focus may be out of sight
    }

    const resizing = new ResizeObserver(() => draw());
    resizing.observe(scroll);
    void fetchPart(0);
    return {
        changed: () => {
            edition += 1; // rows stay until the new ones come
            coming.clear();
            const inSight = new Set([...there.keys()].map((at) => Math.floor(at / PART)));
            for (const part of parts.keys()) if (!inSight.has(part)) parts.delete(part);
            for (const part of inSight.size ? inSight : [0]) void fetchPart(part);
        },
        close: () => {
            stop.abort();
            resizing.disconnect();
        },
    };
}
