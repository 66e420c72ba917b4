// Counts over time, as a drawing.

import { svg } from "./dom.js";
import { plural, time, whole } from "./words.js";

const HEIGHT = 220, LEFT = 44, RIGHT = 10, TOP = 12, BOTTOM = 30;

/** @typedef {[image: string, takenAt: string, count: number, flags: string]} Point */

/**
 * Return the smallest of 1, 2 and 5 times a power of ten that is at least `least`.
 * @param {number} least
 */
function niceStep(least) {
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * (1 - 1e-9)) ?? 10 * power;
}

/**
 * Return a chart with a point for each image, in the order in which they were counted.
 * @param {Point[]} points
 * @param {number} width  In pixels.
 */
export function chart(points, width) {
    const highest = Math.max(1, ...points.map(([, , count]) => count));
    const step = Math.max(1, niceStep(highest / 4));
    const top = Math.ceil(highest / step) * step;
    const inner = width - LEFT - RIGHT;
    const x = (/** @type {number} */ at) => LEFT + (points.length < 2 ? 0.5 : at / (points.length - 1)) * inner;
    const y = (/** @type {number} */ count) => HEIGHT - BOTTOM - (count / top) * (HEIGHT - TOP - BOTTOM);
    const lines = [];
    for (let count = 0; count <= top; count += step) {
        lines.push(
            svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(count), y2: y(count), class: "grid" }),
            svg("text", { x: LEFT - 6, y: y(count) + 4, class: "tick end" }, whole(count)),
        );
    }
    const radius = points.length > 120 ? 2 : points.length > 40 ? 3 : 4.5;
    const path = points.map(([, , count], at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(count).toFixed(1)}`).join("");
    const dots = points.map(([image, takenAt, count, flags], at) =>
        svg(
            "circle",
            { cx: x(at).toFixed(1), cy: y(count).toFixed(1), r: radius, class: flags ? "point flagged" : "point" },
            svg("title", {}, `${image}: ${plural(count, "cell")}, ${time(takenAt)}${flags ? `, ${flags}` : ""}`),
        ),
    );
    const [first, last] = [points[0], points[points.length - 1]];
    const flagged = points.filter(([, , , flags]) => flags).length;
    const words = `Counts of the last ${plural(points.length, "image")}, from ${whole(Math.min(...points.map((p) => p[2])))} to ${whole(highest)} cells, ${whole(flagged)} flagged`;
    return svg(
        "svg",
        { viewBox: `0 0 ${width} ${HEIGHT}`, class: "chart", role: "img", "aria-label": words },
        ...lines,
        svg("path", { d: path, class: "line" }),
        ...dots,
        svg("text", { x: LEFT, y: HEIGHT - 8, class: "tick" }, time(first[1])),
        points.length > 1 && svg("text", { x: width - RIGHT, y: HEIGHT - 8, class: "tick end" }, time(last[1])),
    );
}
