// The screen for the wall: the newest image and its count, what came before, what failed, and how the computer is.

import { chart } from "./chart.js";
import { el, put } from "./dom.js";
import { load } from "./load.js";
import { address, asked } from "./server.js";
import { Viewer } from "./viewer.js";
import { plural, sentence, time, whole } from "./words.js";

/** @typedef {import("./server.js").Row} Row */
/** @typedef {{name: string, state: string, text: string, fix: string | null}} Finding */

/**
 * Show it.
 * @param {HTMLElement} root
 * @returns {import("./main.js").Screen}
 */
export function showNow(root) {
    document.title = "Now · cellseg";
    const stop = new AbortController();
    const picture = el("a", { class: "viewer", href: "#/images" });
    const [count, facts, sums, counts, failures, computer] = Array.from({ length: 6 }, () => el("div"));
    const check = el("button", { type: "button", click: checkUp }, "Check this computer");
    const found = el("div", { role: "status" });
    const trouble = el("p", { class: "trouble", role: "alert", hidden: true });
    root.append(
        el("h1", { class: "unseen" }, "Now"),
        trouble,
        el("section", { class: "newest", "aria-label": "Newest image" }, picture, el("div", { class: "beside" }, count, facts)),
        el("section", { class: "sums", "aria-label": "All images" }, sums),
        el("section", { class: "card" }, el("h2", {}, "Counts"), counts),
        el("section", { class: "card" }, el("h2", {}, "Images that failed"), failures),
        el("section", { class: "card" }, el("h2", {}, "This computer"), computer, check, found),
    );
    const viewer = new Viewer(picture, null);
    let stamp = "";
    let isAsking = false, isStale = false;

    async function refresh() {
        if (isAsking) {
            isStale = true;
            return;
        }
        isAsking = true;
        try {
            await show(await (await asked("/api/now", { signal: stop.signal })).json());
            trouble.hidden = true;
        } catch (error) {
            if (!stop.signal.aborted) complain(/** @type {Error} */ (error));
        }
        isAsking = false;
        if (isStale && !stop.signal.aborted) {
            isStale = false;
            void refresh();
        }
    }

    /** @param {Error} error */
    function complain(error) {
        put(trouble, error.message);
        trouble.hidden = false;
    }

    /** @param {any} now */
    async function show(now) {
        put(sums, ...tiles(now));
        put(counts, now.counts.length ? chart(now.counts, Math.max(280, counts.clientWidth)) : el("p", {}, "Nothing has been counted yet."));
        put(failures, now.failures.length ? list(now.failures) : el("p", {}, "None."));
        put(computer, findings(now.computer));
        /** @type {Row | null} */
        const newest = now.newest;
        picture.hidden = !newest;
        if (!newest) {
            put(count, el("p", { class: "count" }, "No images yet"));
            put(facts, el("p", {}, `The page follows ${now.folder}.`));
            return;
        }
        put(count, ...counted(newest));
        put(facts, el("p", { class: "name" }, newest.image), el("p", { class: "quiet" }, time(newest.taken_at)), flags(newest));
        picture.href = address("#/image", { image: newest.image, order: "time", descending: 1 });
        picture.setAttribute("aria-label", `Open ${newest.image}`);
        if (newest.stamp + newest.image === stamp) return;
        const about = await (await asked("/api/image", { query: { image: newest.image }, signal: stop.signal })).json();
        await load(viewer, about, stop.signal);
        stamp = newest.stamp + newest.image;
    }

    async function checkUp() {
        check.disabled = true;
        put(found, "Checking: this takes some seconds …");
        try {
            const answer = await (await asked("/api/checkup", { method: "POST", signal: stop.signal })).json();
            put(found, findings(answer.findings));
        } catch (error) {
            put(found, /** @type {Error} */ (error).message);
        }
        check.disabled = false;
    }

    void refresh();
    return {
        changed: () => void refresh(),
        close: () => {
            stop.abort();
            viewer.close();
        },
    };
}

/** @param {Row} row */
function counted(row) {
    const cells = row.corrected ?? row.count ?? 0;
    return [
        el("p", { class: "count" }, el("strong", {}, whole(cells)), cells === 1 ? " cell" : " cells"),
        row.corrected !== null && el("p", { class: "checked" }, `as corrected; ${whole(row.count ?? 0)} by the machine`),
        row.corrected === null && row.in_frame !== cells && el("p", { class: "quiet" }, `${whole(row.in_frame ?? 0)} in the counting frame`),
    ];
}

/**
 * Return the flags of an image as a list; nothing if it has none.
 * @param {{flags: string[]}} row
 */
export function flags(row) {
    return row.flags.length > 0 && el("ul", { class: "flags", "aria-label": "Why the count may be wrong" }, ...row.flags.map((flag) => el("li", {}, sentence(flag))));
}

/** @param {any} now */
function tiles(now) {
    const counting = now.begun.length ? `Counting ${now.begun.join(", ")}` : now.is_counting ? "A watch is running" : "No watch seems to be running";
    const failed = el("a", { href: "#/images?show=failed" }, `${whole(now.failed)} failed`);
    return [
        el("p", {}, el("strong", {}, whole(now.done)), now.done === 1 ? " image" : " images"),
        el("p", {}, el("strong", {}, whole(now.cells)), " cells in all", now.checked > 0 && `, as corrected in ${plural(now.checked, "image")}`),
        el("p", { class: now.flagged ? "warn" : "" }, el("a", { href: "#/images?show=flagged" }, `${whole(now.flagged)} flagged`)),
        el("p", { class: now.failed ? "bad" : "" }, failed),
        el("p", { class: "quiet wide" }, `${counting}; results in ${now.folder}`),
    ];
}

/** @param {Row[]} rows */
function list(rows) {
    const items = rows.map((row) => el("li", {}, el("span", { class: "name" }, row.image), ` ${row.reason ?? ""}`));
    return el("ul", { class: "failures" }, ...items);
}

/** @param {Finding[]} all */
function findings(all) {
    const item = (/** @type {Finding} */ finding) =>
        el(
            "li",
            { class: finding.state },
            el("span", { class: "state" }, finding.state === "ok" ? "ok" : finding.state === "warning" ? "to note" : finding.state === "problem" ? "to fix" : "not here"),
            el("span", {}, el("b", {}, finding.name), `: ${finding.text}`, finding.fix && el("span", { class: "quiet" }, ` – ${finding.fix}`)),
        );
    return el("ul", { class: "findings" }, ...all.map(item));
}

