// Numbers, times and flags as people read them.

const NUMBER = new Intl.NumberFormat("en");
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** @type {Record<string, string>} */
const COLUMNS = {
    centroid_row: "row of the middle",
    centroid_col: "column of the middle",
    equivalent_diameter_area: "diameter",
    axis_major_length: "long axis",
    axis_minor_length: "short axis",
    intensity_mean: "mean intensity",
};

/** @param {number} value */
export function whole(value) {
    return NUMBER.format(value);
}

/**
 * Return a count with its noun in the right number.
 * @param {number} count
 * @param {string} noun
 */
export function plural(count, noun) {
    return `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * Return a time in this place's way; one without a zone, by a camera's clock, is taken as it is.
 * @param {string} iso
 */
export function time(iso) {
    const moment = new Date(iso);
    return Number.isNaN(moment.getTime()) ? iso : TIME.format(moment);
}

/**
 * Return a measured value with four digits, or fewer.
 * @param {string} text
 */
export function measured(text) {
    const value = Number(text);
    if (text === "" || Number.isNaN(value)) return "unknown";
    return Number.isInteger(value) ? whole(value) : String(Number(value.toPrecision(4)));
}

/**
 * Return what a column of a table of cells holds, and its unit.
 * @param {string} name
 * @returns {[string, string]}
 */
export function column(name) {
    const [, stem, unit] = /** @type {string[]} */ (/^(.*?)(?:_(px|um|um2|rad))?$/.exec(name));
    const units = { px: stem === "area" ? "px²" : "px", um: "µm", um2: "µm²", rad: "rad" };
    return [COLUMNS[stem] ?? stem.replaceAll("_", " "), unit ? units[/** @type {keyof typeof units} */ (unit)] : ""];
}

/**
 * Return a flag in the order of words of a sentence.
 * @param {string} flag
 */
export function sentence(flag) {
    return flag.charAt(0).toUpperCase() + flag.slice(1);
}
