// One image: its cells over it, to zoom, pan and point at, and their measurements.

import { el, put } from "./dom.js";
import { Correct, REPLACED } from "./correct.js";
import { isCorrected, load, loadCells, loadLabels } from "./load.js";
import { flags } from "./now.js";
import { address, asked } from "./server.js";
import { Viewer } from "./viewer.js";
import { column, measured, plural, time, whole } from "./words.js";

const KEYS = "Arrow keys pan (with Shift a little), + and - zoom, 0 shows all, 1 shows pixels as they are, n and p go to the next and the previous image, o and m switch outlines and numbers. Space uses the tool in the middle of the picture, Delete removes the chosen cell, [ and ] change the size of the brush. With a tool, two fingers or the right button move the picture.";
const MEASURED_AFTER_MS = 600; // since the last edit

/**
 * Show it.
 * @param {HTMLElement} root
 * @param {URLSearchParams} query
 * @returns {import("./main.js").Screen}
 */
export function showImage(root, query) {
    const image = query.get("image") ?? "";
    const view = Object.fromEntries([...query].filter(([name]) => name !== "image"));
    document.title = `${image} · cellseg`;
    const stop = new AbortController();
    /** @type {import("./load.js").Table} */
    let table = { columns: [], lines: new Map() };
    let why = ""; // the original is not there
    let measuring = 0;
    /** @type {import("./load.js").Facts | null} */
    let facts = null;

    const stage = el("div", { class: "viewer", tabindex: 0, role: "application", "aria-label": `Picture of ${image}`, "aria-describedby": "keys" });
    const viewer = new Viewer(stage, choose);
    const note = el("p", { class: "note", role: "status" }, "Loading …");
    const heading = el("div");
    const number = el("input", { type: "number", min: 1, step: 1, id: "cell", inputmode: "numeric", change: () => choose(number.valueAsNumber || 0) });
    const measures = el("div", { class: "measures", role: "status" });
    const outlines = box("Outlines", true, (isOn) => (viewer.shown.outlines = isOn));
    const numbers = box("Numbers", false, (isOn) => (viewer.shown.numbers = isOn));
    const brightness = slider("Brightness", (value) => (viewer.shown.brightness = value));
    const contrast = slider("Contrast", (value) => (viewer.shown.contrast = value));
    const steps = el("nav", { class: "steps", "aria-label": "Images" });
    const button = (/** @type {string} */ text, /** @type {string} */ label, /** @type {() => void} */ click) => el("button", { type: "button", "aria-label": label, title: label, click }, text);
    const zooms = el(
        "div",
        { class: "zooms" },
        button("−", "Zoom out", () => viewer.zoomBy(1 / 1.5)),
        button("+", "Zoom in", () => viewer.zoomBy(1.5)),
        button("Fit", "Show all of the image", () => viewer.fit()),
        button("1:1", "Show pixels as they are", () => viewer.zoomBy(1 / viewer.zoom)),
    );
    const settings = el(
        "section",
        { class: "settings", "aria-label": "View" },
        el("div", { class: "boxes" }, outlines.label, numbers.label),
        brightness.label,
        contrast.label,
        el("button", { type: "button", click: reset }, "Reset contrast"),
    );
    const correct = new Correct({
        viewer,
        image,
        signal: stop.signal,
        changed: onEdit,
        reload: reloadLabels,
        next: () => {
            go(facts?.after ?? null);
            return Boolean(facts?.after);
        },
    });
    const cell = el("section", { "aria-label": "Cell" }, el("label", { for: "cell" }, "Cell "), number, measures);
    root.append(
        el("div", { class: "stage" }, stage, zooms, note),
        el("aside", { "aria-label": "About the image" }, steps, heading, correct.element, cell, settings, el("p", { class: "quiet keys", id: "keys" }, KEYS)),
    );
    root.addEventListener("keydown", onKey, { signal: stop.signal });
    window.addEventListener("beforeunload", (event) => correct.waiting && event.preventDefault(), { signal: stop.signal });

    /**
     * @param {string} text
     * @param {boolean} isOn
     * @param {(isOn: boolean) => void} changed
     */
    function box(text, isOn, changed) {
        const input = el("input", {
            type: "checkbox",
            checked: isOn,
            change: () => {
                changed(input.checked);
                viewer.ask();
            },
        });
        return { input, label: el("label", {}, input, ` ${text}`) };
    }

    /**
     * @param {string} text
     * @param {(value: number) => void} changed
     */
    function slider(text, changed) {
        const set = () => {
            changed(2 ** input.valueAsNumber);
            viewer.ask();
        };
        const input = el("input", { type: "range", min: -2, max: 3, step: 0.1, value: 0, input: set });
        return { input, set, label: el("label", { class: "slider" }, `${text} `, input) };
    }

    function reset() {
        for (const { input, set } of [brightness, contrast]) {
            input.value = "0";
            set();
        }
    }

    /** @param {number} label */
    function choose(label) {
        const line = table.lines.get(label);
        if (!line) {
            const isThere = label > 0 && isCorrected(/** @type {import("./load.js").Facts} */ (facts)) && viewer.labels?.values.includes(label);
            const words = isThere ? "This cell is not measured yet, or does not count for its size or place." : "Point at a cell for its measurements.";
            put(measures, table.lines.size > 0 || isThere ? el("p", { class: "quiet" }, words) : null);
            number.value = isThere ? String(label) : "";
            viewer.choose(isThere ? label : 0);
            return;
        }
        const values = line.split(",");
        const rows = table.columns.flatMap((name, at) => {
            if (name === "label") return [];
            const [words, unit] = column(name);
            const value = name === "touches_border" ? (values[at] === "1" ? "yes" : "no") : measured(values[at]);
            return [el("tr", {}, el("th", { scope: "row" }, words), el("td", {}, value === "unknown" ? value : `${value}${unit && ` ${unit}`}`))];
        });
        number.value = String(label);
        const beside = viewer.beside.has(label);
        put(measures, beside && el("p", { class: "beside" }, "Not in the counting frame: it belongs to the neighbouring field."), el("table", {}, el("tbody", {}, ...rows)));
        viewer.choose(label);
    }

    /** @param {string | null} to */
    function go(to) {
        if (to) location.hash = address("#/image", { image: to, ...view });
    }

    /** @param {KeyboardEvent} event */
    function onKey(event) {
        const target = /** @type {HTMLElement} */ (event.target);
        if (target.matches("input:not([type=checkbox], [type=range]), select")) return;
        if (event.key === "Enter" && target.matches("button, a")) return;
        if (correct.element.isConnected && correct.onKey(event)) {
            event.preventDefault();
            return;
        }
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        /** @type {Record<string, () => void>} */
        const actions = {
            n: () => go(facts?.after ?? null),
            p: () => go(facts?.before ?? null),
            o: () => outlines.input.click(),
            m: () => numbers.input.click(),
            Escape: () => choose(0),
        };
        actions[event.key]?.();
    }

    /**
     * Take note of what an edit came to.
     * @param {import("./server.js").Correction} correction
     */
    function onEdit(correction) {
        if (!facts) return;
        facts = { ...facts, correction };
        put(heading, ...about(facts));
        clearTimeout(measuring);
        measuring = window.setTimeout(() => void measure(), MEASURED_AFTER_MS);
    }

    /** Load the table of cells. */
    async function measure() {
        if (!facts || (why && isCorrected(facts))) return;
        try {
            const revision = correct.revision;
            const found = await loadCells(viewer, facts, stop.signal);
            if (revision !== correct.revision) return; // a further edit has asked for another one
            table = found;
            viewer.uncounted = new Set(isCorrected(facts) ? viewer.labels?.values : []);
            for (const label of table.lines.keys()) viewer.uncounted.delete(label);
            number.max = String(Math.max(1, ...table.lines.keys()));
            choose(viewer.label);
        } catch (error) {
            if (!stop.signal.aborted) put(measures, el("p", { class: "quiet" }, /** @type {Error} */ (error).message));
        }
    }

    /** Load the labels as the server has them now. */
    async function reloadLabels() {
        const found = await known();
        facts = found;
        const raster = await loadLabels(found, stop.signal);
        viewer.change(raster, 0, 0);
        raster.close();
        correct.set(found.correction, whyNot());
        put(heading, ...about(found));
        await measure();
    }

    /** @returns {Promise<import("./load.js").Facts>} */
    async function known() {
        return (await asked("/api/image", { query: { image, ...view }, signal: stop.signal })).json();
    }

    /** Return why nothing can be corrected; empty if it can. */
    function whyNot() {
        if (facts?.correction?.error) return facts.correction.error;
        if (facts?.correction?.standing === "stale") return REPLACED;
        return why && `It cannot be corrected without the original, which ${why.replace(/, and a picture needs it.*/, "")}.`;
    }

    async function refresh() {
        try {
            const former = facts;
            facts = await known();
            put(steps, ...stepping(facts, view));
            if (former?.stamp === facts.stamp && former.counts) {
                const isBehind = (facts.correction?.revision ?? 0) < correct.revision; // of an edit made meanwhile
                if (correct.waiting || isBehind) facts = { ...facts, correction: correct.correction };
                else if ((facts.correction?.revision ?? 0) !== correct.revision) {
                    await reloadLabels();
                    correct.say("This image was corrected elsewhere: what is shown is the newest.");
                } else if (correct.why !== "Loading …") {
                    const counts = { corrected: facts.correction?.corrected ?? correct.correction?.corrected, left_out: correct.correction?.left_out };
                    facts = { ...facts, correction: facts.correction && /** @type {any} */ ({ ...facts.correction, ...counts }) };
                    correct.set(facts.correction, whyNot());
                }
                put(heading, ...about(facts));
                return;
            }
            put(heading, ...about(facts));
            if (!facts.counts) {
                root.classList.add("without");
                correct.element.remove();
                put(note, "No picture: the image could not be used.");
                return;
            }
            why = await load(viewer, facts, stop.signal);
            put(note, why && `Without the original, which ${why}`);
            note.hidden = !why;
            correct.set(facts.correction, whyNot());
            await measure();
            choose(0);
        } catch (error) {
            if (stop.signal.aborted) return;
            put(note, /** @type {Error} */ (error).message);
            note.hidden = false;
        }
    }

    stage.focus({ preventScroll: true });
    void refresh();
    return {
        changed: () => void refresh(),
        close: () => {
            stop.abort();
            clearTimeout(measuring);
            viewer.close();
        },
    };
}

/**
 * @param {import("./load.js").Facts} facts
 * @param {Record<string, string>} view
 */
function stepping(facts, view) {
    const link = (/** @type {string | null} */ to, /** @type {string} */ text) => (to ? el("a", { href: address("#/image", { image: to, ...view }) }, text) : el("span", { class: "quiet" }, text));
    return [
        link(facts.before, "‹ Previous"),
        el("a", { href: address("#/images", view) }, facts.at === null ? "All images" : `${whole(facts.at + 1)} of ${whole(facts.of)}`),
        link(facts.after, "Next ›"),
    ];
}

/** @param {import("./load.js").Facts} facts */
function about(facts) {
    const name = el("h1", { class: "name" }, facts.image);
    if (!facts.counts) return [name, el("p", { class: "count failed" }, "Failed"), el("p", { class: "why" }, facts.reason)];
    const { count: machine, count_in_frame: machineInFrame, left_out: leftOut, width_px: width, height_px: height, pixel_size_um: size } = facts.counts;
    const isOurs = isCorrected(facts) && facts.correction?.corrected !== null;
    const count = isOurs ? Number(facts.correction?.corrected) : machine;
    const inFrame = isOurs ? Number(facts.correction?.corrected_in_frame) : machineInFrame;
    const lines = [
        isOurs && `${whole(machine)} by the machine${facts.correction?.state === "checked" ? "" : ", which stays the count until this is checked"}`,
        inFrame !== count && `${whole(inFrame)} in the counting frame, ${whole(count - inFrame)} not (dashed, orange)`,
        leftOut > 0 && `${plural(leftOut, "cell")} left out for their size or place (not drawn)`,
        facts.region && `Region: ${facts.region}`,
        `${whole(width)} × ${whole(height)} px${size ? `, ${Number(size.toPrecision(4))} µm a pixel` : ", pixel size unknown"}`,
        facts.counts.class_name && `Taken for ${facts.counts.class_name}${facts.counts.class_probability === null ? "" : ` (${Math.round(facts.counts.class_probability * 100)} %)`}; model ${facts.model}`,
        `Taken ${time(facts.taken_at)}, counted ${time(facts.recorded_at)}`,
    ];
    return [
        name,
        el("p", { class: "count" }, el("strong", {}, whole(count)), `${count === 1 ? " cell" : " cells"}${isOurs ? ", corrected" : ""}`),
        flags(facts),
        el("ul", { class: "lines" }, ...lines.filter(Boolean).map((line) => el("li", {}, line))),
    ];
}
