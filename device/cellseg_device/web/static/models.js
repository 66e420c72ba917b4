// Models of these results: the one in use, others to upload, to try on ten images, and to use.

import { el, put } from "./dom.js";
import { asked } from "./server.js";
import { plural, whole } from "./words.js";

/** @typedef {{sha256: string, name: string, kind: string, about: string}} Model */

/**
 * @typedef {object} Tried
 * @property {number} before
 * @property {number} after
 * @property {number | null} corrected
 * @property {number | null} ap50_before
 * @property {number | null} ap50_after
 */

/**
 * Show them; what is returned shows them anew.
 * @param {HTMLElement} root
 * @param {AbortSignal} signal
 * @param {(error: unknown) => void} complain
 */
export function showModels(root, signal, complain) {
    const now = el("div");
    const list = el("ul", { class: "models", "aria-label": "Models" });
    const said = el("p", { class: "quiet", role: "status" });
    const file = el("input", { type: "file", accept: ".tflite", id: "model-file", change: () => (send.disabled = !file.files?.length) });
    const send = el("button", { type: "button", disabled: true, click: () => void upload() }, "Upload");
    const trial = el("div", { class: "trial" });
    root.append(now, el("p", { class: "upload" }, el("label", { for: "model-file" }, "A model’s file (.tflite)"), file, send), said, list, trial);
    let isBusy = false;
    let ends = new AbortController();

    /** @param {import("./teach.js").Facts} facts */
    function show(facts) {
        put(now, ...inUse(facts));
        const used = facts.in_use?.sha256;
        put(list, ...facts.kept.map((model) => item(model, model.sha256 === used)));
    }

    /** @param {import("./teach.js").Facts} facts */
    function inUse(facts) {
        const used = facts.in_use;
        const words = used ? [el("strong", {}, used.name), ` counts the images of ${used.kind === used.name ? "its kind" : `the kind ${used.kind}`}.`] : ["the ", el("strong", {}, "bundled models"), " count."];
        const former = facts.before?.name ?? "the bundled models";
        const back = (used || facts.before) && el("button", { type: "button", click: () => void change("/api/back", {}, back) }, `Back to ${former}`);
        return [el("p", { class: "in-use" }, el("span", {}, "From now on: ", ...words), back), el("p", { class: "quiet" }, "A watch or a camera that is running takes a change up before its next image. What was counted stays as it is.")];
    }

    /**
     * @param {Model} model
     * @param {boolean} isUsed
     */
    function item(model, isUsed) {
        const test = el("button", { type: "button", click: () => void tryOut(model) }, "Try on ten images");
        const use = el("button", { type: "button", class: "go", disabled: isUsed, click: () => void change("/api/use", { model: model.sha256 }, use) }, isUsed ? "In use" : "Use from now on");
        return el(
            "li",
            {},
            el("span", { class: "what" }, el("strong", { class: "name" }, model.name), el("span", { class: "quiet" }, [model.kind === model.name ? "" : `made from ${model.kind}`, model.about, model.sha256.slice(0, 8)].filter(Boolean).join("; "))),
            el("span", { class: "buttons" }, test, use),
        );
    }

    /** @param {() => Promise<void>} work */
    async function alone(work) {
        if (isBusy) return;
        isBusy = true;
        try {
            await work();
        } catch (error) {
            put(said);
            complain(error);
        }
        isBusy = false;
    }

    function upload() {
        return alone(async () => {
            const chosen = file.files?.[0];
            if (!chosen) return;
            put(said, `Sending ${chosen.name}, and running it on a known field …`);
            send.disabled = true;
            const answer = await (await asked("/api/models", { method: "POST", body: chosen, signal })).json();
            put(said, `${answer.model.name} is here: try it, then use it.`);
            file.value = "";
            show(await (await asked("/api/teach", { signal })).json());
        });
    }

    /**
     * @param {string} path
     * @param {import("./server.js").Query} query
     * @param {HTMLButtonElement | null | undefined | false} button
     */
    function change(path, query, button) {
        return alone(async () => {
            if (button) button.disabled = true;
            try {
                show(await (await asked(path, { method: "POST", query, signal })).json());
                put(said, "From the next image on.");
            } finally {
                if (button) button.disabled = false;
            }
        });
    }

    /** @param {Model} model */
    function tryOut(model) {
        ends.abort();
        ends = new AbortController();
        const mine = AbortSignal.any([signal, ends.signal]);
        const state = el("p", { role: "status" }, `Trying ${model.name} …`);
        const halt = el("button", { type: "button", click: () => ends.abort() }, "Stop");
        const rows = el("ul", { class: "tried", "aria-label": `${model.name} on these images` });
        put(trial, el("h3", {}, `${model.name} on ten images`), el("p", { class: "legend" }, el("span", { class: "was" }, "as counted"), el("span", { class: "is" }, model.name), el("span", { class: "both" }, "both")), el("p", { class: "state" }, state, halt), rows);
        return run(model, mine, state, rows).catch((error) => {
            if (mine.aborted) put(state, "Stopped.");
            else complain(error);
        }).finally(() => halt.remove());
    }

    /**
     * @param {Model} model
     * @param {AbortSignal} mine
     * @param {HTMLElement} state
     * @param {HTMLElement} rows
     */
    async function run(model, mine, state, rows) {
        const query = { model: model.sha256 };
        /** @type {{images: string[]}} */
        const { images } = await (await asked("/api/try", { method: "POST", query, signal: mine })).json();
        if (!images.length) return put(state, "There is no image to try it on.");
        /** @type {Tried[]} */
        const all = [];
        const begin = performance.now();
        for (const [done, image] of images.entries()) {
            const left = done ? `, about ${Math.ceil(((performance.now() - begin) / done) * (images.length - done) / 1000)} s left` : "";
            put(state, `${done} of ${images.length} tried${left} …`);
            try {
                const answer = await asked("/api/try", { method: "POST", query: { ...query, image }, signal: mine });
                /** @type {Tried} */
                const tried = JSON.parse(decodeURIComponent(answer.headers.get("X-Cellseg-Tried") ?? "null"));
                rows.append(await row(image, tried, await answer.blob()));
                all.push(tried);
            } catch (error) {
                if (mine.aborted) throw error;
                rows.append(el("li", {}, el("span", { class: "none" }, "!"), el("span", { class: "what" }, el("span", { class: "name" }, image), el("span", { class: "why" }, /** @type {Error} */ (error).message))));
            }
        }
        put(state, sums(all));
    }

    return { show };
}

/**
 * @param {string} image
 * @param {Tried} tried
 * @param {Blob} picture
 */
async function row(image, tried, picture) {
    const bitmap = await createImageBitmap(picture);
    const canvas = el("canvas", { width: bitmap.width, height: bitmap.height, role: "img", "aria-label": `Where both differ most in ${image}` });
    canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
    bitmap.close();
    const agreement = tried.ap50_before !== null && tried.ap50_after !== null;
    return el(
        "li",
        {},
        canvas,
        el(
            "span",
            { class: "what" },
            el("span", { class: "cells" }, el("strong", {}, `${whole(tried.before)} → ${whole(tried.after)}`), " cells"),
            el("span", { class: "name" }, image),
            tried.corrected !== null && el("span", { class: "quiet" }, `as corrected: ${whole(tried.corrected)}`),
            agreement && el("span", { class: "quiet" }, `agreement with that: ${score(tried.ap50_before)} → ${score(tried.ap50_after)}`),
        ),
    );
}

/** @param {Tried[]} all */
function sums(all) {
    if (!all.length) return "It could be tried on none.";
    const total = (/** @type {(one: Tried) => number | null} */ of, /** @type {Tried[]} */ from) => from.reduce((sum, one) => sum + (of(one) ?? 0), 0);
    const checked = all.filter((one) => one.ap50_before !== null && one.ap50_after !== null);
    const counted = `${plural(all.length, "image")}: ${whole(total((one) => one.before, all))} → ${whole(total((one) => one.after, all))} cells`;
    if (!checked.length) return `${counted}. None of them is checked, so nothing says which count is right.`;
    const [was, is] = [(/** @type {Tried} */ one) => one.ap50_before, (/** @type {Tried} */ one) => one.ap50_after].map((of) => total(of, checked) / checked.length);
    return `${counted}. Agreement with the ${plural(checked.length, "corrected image")} (AP@0.5, 1 is best): ${score(was)} → ${score(is)}; it may have learnt from these.`;
}

/** @param {number | null} value */
function score(value) {
    return (value ?? 0).toFixed(2);
}
