// Loads a picture with its labels and cells into a viewer.

import { Labels, bitmapOf } from "./labels.js";
import { asked } from "./server.js";

/**
 * @typedef {object} Facts
 * @property {string} image
 * @property {string | null} reason
 * @property {string} recorded_at
 * @property {string} taken_at
 * @property {string} stamp
 * @property {string} model
 * @property {string[]} frame
 * @property {string[]} flags
 * @property {string} region
 * @property {any} counts
 * @property {string | null} before
 * @property {string | null} after
 * @property {number | null} at
 * @property {number} of
 * @property {import("./server.js").Correction | null} correction
 */

/**
 * @typedef {object} Table
 * @property {string[]} columns
 * @property {Map<number, string>} lines  By label, as the table has them.
 */

/**
 * Whether the labels of an image are corrected ones.
 * @param {Facts} facts
 */
export function isCorrected(facts) {
    return Boolean(facts.correction && !facts.correction.error && facts.correction.standing !== "stale");
}

/**
 * Return an image's labels as they are now.
 * @param {Facts} facts
 * @param {AbortSignal} signal
 * @param {string} under  What the addresses begin with, of images that are not among the results.
 */
export async function loadLabels(facts, signal, under = "") {
    const [path, query] = isCorrected(facts) ? ["/corrected", { image: facts.image }] : [`${under}/labels`, { image: facts.image, v: facts.stamp }];
    return bitmapOf(await (await asked(path, { query, signal })).blob());
}

/**
 * Show an image in a viewer; return why its original is not shown, which is empty if it is.
 * @param {import("./viewer.js").Viewer} viewer
 * @param {Facts} facts
 * @param {AbortSignal} signal
 * @param {string} under  As for `loadLabels`.
 */
export async function load(viewer, facts, signal, under = "") {
    const query = { image: facts.image, v: facts.stamp };
    const picture = await asked(`${under}/picture`, { query, signal });
    const raster = await loadLabels(facts, signal, under);
    const bitmap = await createImageBitmap(await picture.blob());
    if (signal.aborted) return "";
    const scale = bitmap.width / facts.counts.width_px;
    const size = facts.counts.pixel_size_um;
    viewer.show(bitmap, new Labels(raster), { frame: facts.frame, micrometres: size && size / scale, scale });
    raster.close();
    return decodeURIComponent(picture.headers.get("X-Cellseg-Note") ?? "");
}

/**
 * Return an image's table of cells, and give the viewer their places.
 * @param {import("./viewer.js").Viewer} viewer
 * @param {Facts} facts
 * @param {AbortSignal} signal
 * @returns {Promise<Table>}
 */
export async function loadCells(viewer, facts, signal) {
    const path = isCorrected(facts) ? "/corrected-cells" : "/api/cells";
    const text = await (await asked(path, { query: { image: facts.image }, signal })).text();
    const [heading, ...lines] = text.trim().split("\n");
    const columns = heading.split(",");
    const [row, col, diameter] = ["centroid_row_px", "centroid_col_px", "equivalent_diameter_area_px"].map((name) => columns.indexOf(name));
    const byLabel = new Map(lines.map((line) => [parseInt(line, 10), line]));
    const most = Math.max(0, ...byLabel.keys());
    const places = [row, col, diameter].map(() => new Float32Array(most + 1));
    for (const [label, line] of byLabel) {
        const values = line.split(",");
        [row, col, diameter].forEach((column, at) => (places[at][label] = Number(values[column])));
    }
    viewer.cells = { row: places[0], col: places[1], diameter: places[2] };
    viewer.ask();
    return { columns, lines: byLabel };
}
