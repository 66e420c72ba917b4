// Draws over a picture, for the pixels of the screen: outlines from the label of the image's pixel that each one shows, so
// that a line is as thick at any zoom and thousands of cells cost no more; numbers, the counting frame, and a scale bar.

const NUMBERED_PX = 22; // diameter at which a cell has room for its number

// ABGR, as a little-endian computer has the bytes of a pixel
const COUNTED = 0xff5cff00, HALO = 0xa0000000, BESIDE = 0xff3fb4ff, CHOSEN_RIM = 0xffffffff, CHOSEN = 0x80ff9a3c;
const DIMMED = 0x80000000, RIM = 0xffffbe00, UNCOUNTED = 0xffc8c8c8;

/** @typedef {import("./viewer.js").Viewer} Viewer */

/**
 * Paint outlines, the chosen cell, and what lies outside the region.
 * @param {Viewer} viewer
 * @param {Uint32Array} out
 * @param {number} width
 * @param {number} height
 * @param {number} zoom
 * @param {number} thick  Of lines, in pixels.
 */
export function paint(viewer, out, width, height, zoom, thick) {
    const labels = /** @type {import("./labels.js").Labels} */ (viewer.labels);
    const { values, field } = labels;
    const outlines = viewer.shown.outlines;
    const cols = new Int32Array(width + 2 * thick);
    for (let x = 0; x < cols.length; x += 1) {
        const col = Math.floor(viewer.left + (x - thick + 0.5) / zoom);
        cols[x] = col >= 0 && col < labels.width ? col : -1;
    }
    const rowAt = (/** @type {number} */ y) => {
        const row = Math.floor(viewer.top + (y + 0.5) / zoom);
        return row >= 0 && row < labels.height ? row * labels.width : -1;
    };
    for (let y = 0; y < height; y += 1) {
        const [here, above, below] = [rowAt(y), rowAt(y - thick), rowAt(y + thick)];
        if (here < 0) continue;
        for (let x = 0; x < width; x += 1) {
            const col = cols[x + thick];
            if (col < 0) continue;
            const [before, after] = [cols[x], cols[x + 2 * thick]];
            const label = values[here + col];
            const at = y * width + x;
            const isEdge =
                (before >= 0 && values[here + before] !== label) ||
                (after >= 0 && values[here + after] !== label) ||
                (above >= 0 && values[above + col] !== label) ||
                (below >= 0 && values[below + col] !== label);
            if (label && label === viewer.label) out[at] = isEdge ? CHOSEN_RIM : CHOSEN;
            else if (!outlines || !isEdge) {
                if (field && !field[here + col]) out[at] = DIMMED;
            } else if (!label) out[at] = HALO;
            else if (viewer.uncounted.has(label)) out[at] = ((x + y) / thick) & 4 ? UNCOUNTED : HALO;
            else if (viewer.beside.has(label)) out[at] = ((x + y) / thick) & 4 ? BESIDE : HALO;
            else out[at] = COUNTED;
            if (field && field[here + col] && !isEdge) {
                const isRim = (before >= 0 && !field[here + before]) || (after >= 0 && !field[here + after]) ||
                    (above >= 0 && !field[above + col]) || (below >= 0 && !field[below + col]);
                if (isRim) out[at] = RIM;
            }
        }
    }
}

/**
 * Draw the numbers of cells that have room for them.
 * @param {Viewer} viewer
 * @param {CanvasRenderingContext2D} context
 */
export function drawNumbers(viewer, context) {
    const { cells, scale, zoom } = viewer;
    if (!cells) return;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = "#000";
    context.fillStyle = "#fff";
    const { clientWidth: width, clientHeight: height } = viewer.root;
    for (let label = 1; label < cells.row.length; label += 1) {
        if (!(cells.diameter[label] > 0) || cells.diameter[label] * scale * zoom < NUMBERED_PX) continue;
        const [x, y] = [(cells.col[label] * scale + 0.5 - viewer.left) * zoom, (cells.row[label] * scale + 0.5 - viewer.top) * zoom];
        if (x < 0 || y < 0 || x > width || y > height) continue;
        context.strokeText(String(label), x, y);
        context.fillText(String(label), x, y);
    }
}

/**
 * Draw the counting frame: dashed red where it excludes cells.
 * @param {Viewer} viewer
 * @param {CanvasRenderingContext2D} context
 */
export function drawFrame(viewer, context) {
    if (!viewer.frame.length || !viewer.bitmap || !viewer.shown.outlines) return;
    const [left, top] = [-viewer.left * viewer.zoom, -viewer.top * viewer.zoom];
    const [right, bottom] = [left + viewer.bitmap.width * viewer.zoom, top + viewer.bitmap.height * viewer.zoom];
    /** @type {Record<string, [number, number, number, number]>} */
    const edges = {
        top: [left, top, right, top], bottom: [left, bottom, right, bottom],
        left: [left, top, left, bottom], right: [right, top, right, bottom],
    };
    context.lineWidth = 2;
    for (const isExcluding of [false, true]) {
        context.strokeStyle = isExcluding ? "#ff4d4d" : "#e6e6e6";
        context.setLineDash(isExcluding ? [8, 6] : []);
        context.beginPath();
        for (const [edge, [x1, y1, x2, y2]] of Object.entries(edges)) {
            if (viewer.frame.includes(edge) !== isExcluding) continue;
            context.moveTo(x1, y1);
            context.lineTo(x2, y2);
        }
        context.stroke();
    }
    context.setLineDash([]);
}

/**
 * Draw a scale bar, where the size of a pixel is known.
 * @param {Viewer} viewer
 * @param {CanvasRenderingContext2D} context
 */
export function drawScaleBar(viewer, context) {
    if (!viewer.micrometres) return;
    const longest = (viewer.root.clientWidth * 0.25 / viewer.zoom) * viewer.micrometres;
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].map((factor) => factor * power).find((size) => size <= longest) ?? power;
    const pixels = (length / viewer.micrometres) * viewer.zoom;
    const text = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(3))} µm`;
    const [x, y] = [16, viewer.root.clientHeight - 18];
    context.font = "600 13px system-ui, sans-serif";
    const wide = Math.max(pixels, context.measureText(text).width);
    context.fillStyle = "rgba(0, 0, 0, 0.65)";
    context.fillRect(x - 8, y - 24, wide + 16, 34);
    context.fillStyle = "#fff";
    context.fillRect(x, y, pixels, 4);
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(text, x, y - 7);
}

/**
 * Draw what is being drawn with a tool, and where it acts when it is used by keys.
 * @param {Viewer} viewer
 * @param {CanvasRenderingContext2D} context
 */
export function drawSketch(viewer, context) {
    const { sketch, zoom, scale } = viewer;
    const across = viewer.isByKeys && viewer.tool ? [viewer.root.clientWidth / 2, viewer.root.clientHeight / 2] : null;
    const lines = () => {
        if (across) {
            const [x, y] = across;
            for (const [x1, y1, x2, y2] of [[x - 14, y, x - 4, y], [x + 4, y, x + 14, y], [x, y - 14, x, y - 4], [x, y + 4, x, y + 14]]) {
                context.moveTo(x1, y1);
                context.lineTo(x2, y2);
            }
        }
        if (!sketch) return;
        const places = sketch.points.map((point) => viewer.screenOf(point));
        if (!sketch.radius) places.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
        for (const [x, y] of sketch.radius ? [] : places.length > 30 ? places.slice(0, 1) : places) {
            context.moveTo(x + 5, y);
            context.arc(x, y, 5, 0, 7);
        }
    };
    context.lineJoin = context.lineCap = "round";
    if (sketch?.radius) {
        context.strokeStyle = context.fillStyle = "rgba(255, 255, 255, 0.45)";
        context.lineWidth = 2 * sketch.radius * scale * zoom;
        context.beginPath();
        const places = sketch.points.map((point) => viewer.screenOf(point));
        places.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
        if (places.length === 1) context.lineTo(places[0][0] + 0.01, places[0][1]);
        context.stroke();
    }
    for (const [color, width] of /** @type {[string, number][]} */ ([["#000", 4], ["#fff", 2]])) {
        context.strokeStyle = color;
        context.lineWidth = width;
        context.beginPath();
        lines();
        context.stroke();
    }
    context.lineCap = "butt";
}
