// The screen for images from elsewhere: send one, see its cells and its count, and remove it.

import { el, put } from "./dom.js";
import { load } from "./load.js";
import { flags } from "./now.js";
import { address, asked } from "./server.js";
import { Viewer } from "./viewer.js";
import { plural, time, whole } from "./words.js";

const UNDER = "/uploads"; // what the addresses of their pictures begin with
const KINDS = ".png,.jpg,.jpeg,.tif,.tiff,.btf,.tf2,.tf8,.lsm,.stk,image/png,image/jpeg,image/tiff";

/** @typedef {import("./server.js").Row & {name: string}} Upload */

/**
 * Show it.
 * @param {HTMLElement} root
 * @returns {import("./main.js").Screen}
 */
export function showUpload(root) {
    document.title = "Upload · cellseg";
    const stop = new AbortController();
    const trouble = el("p", { class: "trouble", role: "alert", hidden: true });
    const said = el("p", { class: "quiet", role: "status" });
    const file = el("input", { type: "file", accept: KINDS, multiple: true, id: "image-file", change: () => (send.disabled = !file.files?.length) });
    const send = el("button", { type: "button", class: "go", disabled: true, click: () => upload([...(file.files ?? [])]) }, "Count");
    const picture = el("div", { class: "viewer", tabindex: 0, role: "application", "aria-label": "Picture of the chosen image" });
    const about = el("div", { class: "beside" });
    const one = el("section", { class: "card uploaded", "aria-label": "Chosen image", hidden: true }, picture, about);
    const list = el("ul", { class: "uploads", "aria-label": "Uploads" });
    const sum = el("p", { class: "quiet" }, "Loading …");
    const zone = el(
        "section",
        { class: "card", dragover: (/** @type {DragEvent} */ event) => event.preventDefault(), drop: onDrop },
        el("h2", {}, "Count an image"),
        el("p", { class: "upload" }, el("label", { for: "image-file" }, "PNG, JPEG or TIFF, up to 512 MB"), file, send),
        said,
        el("p", { class: "quiet" }, "It is counted like the newest image of the results, and kept apart from them."),
    );
    root.append(el("h1", { class: "unseen" }, "Upload"), trouble, zone, one, el("section", { class: "card" }, el("h2", {}, "Uploads"), sum, list));
    /** @type {Viewer | null} */
    let viewer = null;
    let chosen = "";
    let turn = Promise.resolve();

    /** @param {unknown} error */
    function complain(error) {
        if (stop.signal.aborted) return;
        put(trouble, /** @type {Error} */ (error).message);
        trouble.hidden = false;
    }

    /**
     * Do this after what is being done.
     * @param {() => Promise<void>} work
     */
    function inTurn(work) {
        turn = turn.then(() => {
            trouble.hidden = true;
            return work();
        }).catch(complain);
    }

    /** @param {DragEvent} event */
    function onDrop(event) {
        event.preventDefault();
        upload([...(event.dataTransfer?.files ?? [])]);
    }

    /** @param {File[]} files */
    function upload(files) {
        inTurn(async () => {
            send.disabled = true;
            const refused = [];
            const begin = performance.now();
            for (const [done, one] of files.entries()) {
                const seconds = Math.ceil(((performance.now() - begin) / done) * (files.length - done) / 1000);
                put(said, `Sending and counting ${one.name}${files.length > 1 ? `, ${done + 1} of ${files.length}` : ""}${done ? `, about ${seconds} s left` : ""} …`);
                try {
                    const answer = await asked("/api/upload", { method: "POST", query: { name: one.name }, body: one, signal: stop.signal });
                    chosen = (await answer.json()).image;
                    await refresh();
                } catch (error) {
                    if (stop.signal.aborted) return;
                    refused.push(`${one.name}: ${/** @type {Error} */ (error).message}`);
                }
            }
            file.value = "";
            const counted = files.length - refused.length;
            put(said, counted > 0 && `${plural(counted, "image")} counted.`);
            if (refused.length) complain(new Error(refused.join(" ")));
        });
    }

    /** @param {Upload} row */
    function remove(row) {
        if (!confirm(`Remove ${row.name}, with its count?`)) return;
        inTurn(async () => {
            await asked("/api/uploads/remove", { method: "POST", query: { image: row.image }, signal: stop.signal });
            if (chosen === row.image) chosen = "";
            await refresh();
            put(said, "Removed.");
        });
    }

    async function refresh() {
        /** @type {{number: number, rows: Upload[]}} */
        const { number, rows } = await (await asked("/api/uploads", { signal: stop.signal })).json();
        put(sum, number === 0 ? "None yet." : number > rows.length ? `The newest ${whole(rows.length)} of ${plural(number, "image")}.` : plural(number, "image"));
        const row = rows.find((other) => other.image === chosen) ?? rows[0];
        chosen = row?.image ?? "";
        put(list, ...rows.map(item));
        one.hidden = !row;
        if (row) await show(row);
    }

    /** @param {Upload} row */
    function item(row) {
        const cells = row.count ?? 0;
        const open = el(
            "button",
            { type: "button", class: "open", "aria-pressed": row.image === chosen ? "true" : "false", click: () => inTurn(() => choose(row)) },
            el("span", { class: "thumb" }, el("img", { src: address(`${UNDER}/thumbnail`, { image: row.image, v: row.stamp }), alt: "", loading: "lazy", decoding: "async" })),
            el(
                "span",
                { class: "what" },
                el("span", {}, el("strong", {}, whole(cells)), cells === 1 ? " cell" : " cells"),
                el("span", { class: "name" }, row.name),
                row.flags.length > 0 && el("span", { class: "why" }, `⚠ ${row.flags.join("; ")}`),
                el("span", { class: "quiet" }, time(row.recorded_at)),
            ),
        );
        return el("li", {}, open, el("button", { type: "button", "aria-label": `Remove ${row.name}`, click: () => remove(row) }, "Remove"));
    }

    /** @param {Upload} row */
    async function choose(row) {
        chosen = row.image;
        await refresh();
        one.scrollIntoView({ block: "nearest" });
    }

    /** @param {Upload} row */
    async function show(row) {
        const query = { image: row.image };
        const facts = await (await asked(`${UNDER}/api/image`, { query, signal: stop.signal })).json();
        const { count, count_in_frame: inFrame, width_px: width, height_px: height, pixel_size_um: size } = facts.counts;
        put(
            about,
            el("p", { class: "count" }, el("strong", {}, whole(count)), count === 1 ? " cell" : " cells"),
            inFrame !== count && el("p", { class: "quiet" }, `${whole(inFrame)} in the counting frame`),
            el("p", { class: "name" }, row.name),
            flags(row),
            el("p", { class: "quiet" }, `${whole(width)} × ${whole(height)} px${size ? `, ${Number(size.toPrecision(4))} µm a pixel` : ", pixel size unknown"}; model ${facts.model}`),
            el(
                "p",
                { class: "downloads" },
                el("a", { href: address(`${UNDER}/download/labels.tif`, query), download: "" }, "Mask (TIFF)"),
                el("a", { href: address(`${UNDER}/api/cells`, query), download: `${row.image}.cells.csv` }, "Cells (CSV)"),
                el("a", { href: `${UNDER}/download/counts.csv`, download: "" }, "All counts (CSV)"),
            ),
        );
        viewer ??= new Viewer(picture, () => {});
        picture.setAttribute("aria-label", `Picture of ${row.name}`);
        await load(viewer, facts, stop.signal, UNDER);
    }

    void refresh().catch(complain);
    return {
        changed: () => {},
        close: () => {
            stop.abort();
            viewer?.close();
        },
    };
}
