// Loads a picture with its labels and cells into a viewer.

import { asked } from "./server.js";
import { Labels } from "./viewer.js";

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
 */

/**
 * @typedef {object} Table
 * @property {string[]} columns
 * @property {string[]} lines  By label, as the table has them; the first is empty.
 */

/**
 * Show an image in a viewer; return why its original is not shown, which is empty if it is.
 * @param {import("./viewer.js").Viewer} viewer
 * @param {Facts} facts
 * @param {AbortSignal} signal
 */
export async function load(viewer, facts, signal) {
    const query = { image: facts.image, v: facts.stamp };
    const picture = await asked("/picture", { query, signal });
    const labels = await asked("/labels", { query, signal });
    const exactly = /** @type {ImageBitmapOptions} */ ({ colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const [bitmap, raster] = await Promise.all([createImageBitmap(await picture.blob()), createImageBitmap(await labels.blob(), exactly)]);
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
    const text = await (await asked("/api/cells", { query: { image: facts.image }, signal })).text();
    const [heading, ...lines] = text.trim().split("\n");
    const columns = heading.split(",");
    const [row, col, diameter] = ["centroid_row_px", "centroid_col_px", "equivalent_diameter_area_px"].map((name) => columns.indexOf(name));
    const places = [row, col, diameter].map(() => new Float32Array(lines.length + 1));
    lines.forEach((line, index) => {
        const values = line.split(",");
        [row, col, diameter].forEach((column, at) => (places[at][index + 1] = Number(values[column])));
    });
    viewer.cells = { row: places[0], col: places[1], diameter: places[2] };
    viewer.ask();
    return { columns, lines: ["", ...lines] };
}
