// The screen for teaching: what is checked, what to correct next, and models to try and to use.

import { showAdapting } from "./adapting.js";
import { el, put } from "./dom.js";
import { showModels } from "./models.js";
import { address, asked } from "./server.js";
import { plural } from "./words.js";

const ENOUGH = 100; // cells, with which a model learns something

/**
 * @typedef {object} Facts
 * @property {number} checked
 * @property {number} cells
 * @property {number} changed
 * @property {string} kind
 * @property {boolean} [can_adapt]  Whether a model can be taught on this computer.
 * @property {Record<string, number>} others
 * @property {import("./models.js").Model | null} in_use
 * @property {import("./models.js").Model | null} before
 * @property {import("./models.js").Model[]} kept
 */

/** @typedef {{image: string, crop: [number, number, number, number], doubt: number, is_random: boolean}} Part */

/**
 * Show it.
 * @param {HTMLElement} root
 * @returns {import("./main.js").Screen}
 */
export function showTeach(root) {
    document.title = "Teach · cellseg";
    const stop = new AbortController();
    const trouble = el("p", { class: "trouble", role: "alert", hidden: true });
    const [checked, next, about] = [el("div"), el("div", {}, el("p", { class: "quiet" }, "Looking for doubtful cells …")), el("div")];
    const models = showModels(about, stop.signal, complain);
    const adapting = showAdapting(stop.signal, complain, () => void refresh());
    root.append(
        el("h1", { class: "unseen" }, "Teach"),
        trouble,
        el("section", { class: "card" }, el("h2", {}, "1. Checked images"), checked),
        el("section", { class: "card" }, el("h2", {}, "2. Worth correcting next"), next),
        el("section", { class: "card" }, el("h2", {}, "3. Models"), about),
    );

    /** @param {unknown} error */
    function complain(error) {
        if (stop.signal.aborted) return;
        put(trouble, /** @type {Error} */ (error).message);
        trouble.hidden = false;
    }

    let isAsking = false;

    async function refresh() {
        if (isAsking || document.hidden) return;
        isAsking = true;
        try {
            /** @type {Facts} */
            const facts = await (await asked("/api/teach", { signal: stop.signal })).json();
            put(checked, ...numbers(facts), facts.can_adapt && facts.checked > 0 && adapting);
            models.show(facts);
            trouble.hidden = true;
        } catch (error) {
            complain(error);
        }
        isAsking = false;
    }

    async function suggest() {
        try {
            /** @type {{parts: Part[]}} */
            const { parts } = await (await asked("/api/suggested", { signal: stop.signal })).json();
            put(next, ...suggestions(parts));
        } catch (error) {
            if (!stop.signal.aborted) put(next, el("p", {}, "None can be shown now."));
            complain(error);
        }
    }

    void refresh().then(suggest);
    return { changed: () => void refresh(), close: () => stop.abort() };
}

/** @param {Facts} facts */
function numbers(facts) {
    const others = Object.entries(facts.others).map(([kind, number]) =>
        el("p", { class: "quiet" }, `Not among them: ${plural(number, "image")} for the model ${kind}. Pack those with `, el("code", {}, `cellseg-device corrections --model ${kind}`)),
    );
    if (!facts.checked)
        return [
            el("p", {}, "None yet. Open an image, mend what is wrong, and press “Right, next”. "),
            el("p", { class: "quiet" }, "Five to ten images that differ, with 100 to 200 cells in all, are enough to begin with."),
        ];
    const far = facts.cells < ENOUGH ? `About ${ENOUGH} cells are enough to begin with. ` : "";
    return [
        el(
            "p",
            { class: "sum" },
            el("span", {}, el("strong", {}, plural(facts.checked, "image")), " checked"),
            el("span", {}, el("strong", {}, plural(facts.cells, "cell")), " in them"),
            el("span", {}, el("strong", {}, String(facts.changed)), " with another count than before"),
        ),
        el("p", { class: "quiet" }, `${far}A model learns from them on a workstation, or here only its thresholds:`),
        el("ul", { class: "commands" }, el("li", {}, el("code", {}, "cellseg-host adapt corrections.zip --out mine.tflite")), el("li", {}, el("code", {}, "cellseg-device tune corrections.zip --out mine.tflite"))),
        el("p", { class: "downloads" }, el("a", { href: "/download/corrections.zip", download: "corrections.zip" }, "Download corrections.zip")),
        ...others,
    ];
}

/** @param {Part[]} parts */
function suggestions(parts) {
    if (!parts.length) return [el("p", {}, "All images are checked, or left out.")];
    const items = parts.map((part) => {
        const [row, column] = part.crop;
        const why = part.is_random ? "by chance" : part.doubt < 0.5 ? "hardly a doubtful cell" : `about ${plural(Math.round(part.doubt), "doubtful cell")}`;
        return el(
            "li",
            {},
            el(
                "a",
                { href: address("#/image", { image: part.image, show: "unchecked" }) },
                el("span", { class: "crop" }, el("img", { src: address("/part", { image: part.image, row, column }), alt: "", loading: "lazy", width: 256, height: 256 })),
                el("span", { class: "name" }, part.image),
                el("span", { class: "quiet" }, `${why}; at row ${row}, column ${column}`),
            ),
        );
    });
    return [
        el("ul", { class: "parts" }, ...items),
        el("p", { class: "quiet" }, "Those parts of images that have the most cells of unusual size or shape. Each third is chosen by chance, since cells that were not found are in no table."),
    ];
}
