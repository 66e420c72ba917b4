// One image: its cells over it, to zoom, pan and point at, and their measurements.

import { el, put } from "./dom.js";
import { load, loadCells } from "./load.js";
import { flags } from "./now.js";
import { address, asked } from "./server.js";
import { Viewer } from "./viewer.js";
import { column, measured, plural, time, whole } from "./words.js";

const KEYS = "Arrow keys pan, + and - zoom, 0 shows all, 1 shows pixels as they are, n and p go to the next and the previous image, o and m switch outlines and numbers.";

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
    let table = { columns: [], lines: [] };
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
    const cell = el("section", { "aria-label": "Cell" }, el("label", { for: "cell" }, "Cell "), number, measures);
    root.append(
        el("div", { class: "stage" }, stage, zooms, note),
        el("aside", { "aria-label": "About the image" }, steps, heading, cell, settings, el("p", { class: "quiet keys", id: "keys" }, KEYS)),
    );
    stage.addEventListener("keydown", onKey);

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
        const line = table.lines[label];
        if (!line) {
            put(measures, table.lines.length > 1 ? el("p", { class: "quiet" }, "Point at a cell for its measurements.") : null);
            number.value = "";
            viewer.choose(0);
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

    async function refresh() {
        try {
            const former = facts?.stamp;
            facts = /** @type {import("./load.js").Facts} */ (await (await asked("/api/image", { query: { image, ...view }, signal: stop.signal })).json());
            put(steps, ...stepping(facts, view));
            put(heading, ...about(facts));
            if (former === facts.stamp) return;
            if (!facts.counts) {
                root.classList.add("without");
                put(note, "No picture: the image could not be used.");
                return;
            }
            const why = await load(viewer, facts, stop.signal);
            put(note, why && `Without the original, which ${why}`);
            note.hidden = !why;
            table = await loadCells(viewer, facts, stop.signal);
            number.max = String(table.lines.length - 1);
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
    const { count, count_in_frame: inFrame, left_out: leftOut, width_px: width, height_px: height, pixel_size_um: size } = facts.counts;
    const lines = [
        inFrame !== count && `${whole(inFrame)} in the counting frame, ${whole(count - inFrame)} not (dashed, orange)`,
        leftOut > 0 && `${plural(leftOut, "cell")} left out for their size or place (not drawn)`,
        facts.region && `Region: ${facts.region}`,
        `${whole(width)} × ${whole(height)} px${size ? `, ${Number(size.toPrecision(4))} µm a pixel` : ", pixel size unknown"}`,
        facts.counts.class_name && `Taken for ${facts.counts.class_name}${facts.counts.class_probability === null ? "" : ` (${Math.round(facts.counts.class_probability * 100)} %)`}; model ${facts.model}`,
        `Taken ${time(facts.taken_at)}, counted ${time(facts.recorded_at)}`,
    ];
    return [
        name,
        el("p", { class: "count" }, el("strong", {}, whole(count)), count === 1 ? " cell" : " cells"),
        flags(facts),
        el("ul", { class: "lines" }, ...lines.filter(Boolean).map((line) => el("li", {}, line))),
    ];
}
