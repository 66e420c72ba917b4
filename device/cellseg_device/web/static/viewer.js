// A picture with its labels, to zoom, pan and point at. The outlines are drawn for the pixels of the screen, from the
// label of the image's pixel that each one shows: so a line is as thick at any zoom, and thousands of cells cost no more.

const MOST_ZOOM = 40, ZOOM_STEP = 1.25, PAN_PART = 0.15, CLICK_PX = 5;
const MOST_OVERLAY_PX = 2_500_000;
const THICK_FROM = 1.2; // zoom from which lines are two pixels thick
const NUMBERED_PX = 22; // diameter at which a cell has room for its number

// ABGR, as a little-endian computer has the bytes of a pixel
const COUNTED = 0xff5cff00, HALO = 0xa0000000, BESIDE = 0xff3fb4ff, CHOSEN_RIM = 0xffffffff, CHOSEN = 0x80ff9a3c;
const DIMMED = 0x80000000, RIM = 0xffffbe00;

/**
 * @typedef {object} Cells
 * @property {Float32Array} row  By label.
 * @property {Float32Array} col
 * @property {Float32Array} diameter
 */

/**
 * @typedef {object} Shown
 * @property {boolean} outlines
 * @property {boolean} numbers
 * @property {number} brightness  1 is as it is.
 * @property {number} contrast
 */

/** Labels, in the size of the picture. */
export class Labels {
    /**
     * @param {ImageBitmap} bitmap  Red is the low byte, green the high one, blue where cells were looked for.
     */
    constructor(bitmap) {
        const { width, height } = bitmap;
        const canvas = new OffscreenCanvas(width, height);
        const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
        this.width = width;
        this.height = height;
        this.values = new Uint16Array(width * height);
        /** @type {Uint8Array | null} */
        this.field = null;
        const rows = Math.max(1, Math.floor(1_000_000 / width)); // a part at a time: as pixels they take much memory
        context.drawImage(bitmap, 0, 0);
        for (let top = 0; top < height; top += rows) {
            const { data } = context.getImageData(0, top, width, Math.min(rows, height - top));
            for (let from = 0, to = top * width; from < data.length; from += 4, to += 1) {
                this.values[to] = data[from] | (data[from + 1] << 8);
                if (data[from + 2] === 0) {
                    this.field ??= new Uint8Array(width * height).fill(1);
                    this.field[to] = 0;
                }
            }
        }
    }

    /**
     * Return the label of a pixel; 0 for none.
     * @param {number} col
     * @param {number} row
     */
    at(col, row) {
        return col >= 0 && row >= 0 && col < this.width && row < this.height ? this.values[row * this.width + col] : 0;
    }

    /**
     * Return the labels that touch some edges.
     * @param {string[]} edges
     * @returns {Set<number>}
     */
    touching(edges) {
        const found = new Set();
        const { width, height } = this;
        for (let col = 0; col < width; col += 1) {
            if (edges.includes("top")) found.add(this.at(col, 0));
            if (edges.includes("bottom")) found.add(this.at(col, height - 1));
        }
        for (let row = 0; row < height; row += 1) {
            if (edges.includes("left")) found.add(this.at(0, row));
            if (edges.includes("right")) found.add(this.at(width - 1, row));
        }
        found.delete(0);
        return found;
    }
}

/** The canvases of a picture, and what pointers and keys do there. */
export class Viewer {
    /**
     * @param {HTMLElement} root  Is filled by the picture.
     * @param {((label: number) => void) | null} chosen  Called with the cell that somebody points at, 0 for none; null
     *   leaves pointers and keys to the page.
     */
    constructor(root, chosen) {
        this.root = root;
        this.chosen = chosen ?? (() => {});
        this.picture = document.createElement("canvas");
        this.overlay = document.createElement("canvas");
        this.overlay.className = "overlay";
        root.append(this.picture, this.overlay);
        /** @type {ImageBitmap | null} */
        this.bitmap = null;
        /** @type {Labels | null} */
        this.labels = null;
        /** @type {Cells | null} */
        this.cells = null;
        /** @type {string[]} */
        this.frame = [];
        /** @type {Set<number>} */
        this.beside = new Set();
        /** @type {number | null} */
        this.micrometres = null; // of a pixel of the picture
        this.scale = 1; // of the picture, against the image
        this.label = 0;
        /** @type {Shown} */
        this.shown = { outlines: true, numbers: false, brightness: 1, contrast: 1 };
        this.zoom = 1; // pixels of the screen (CSS) for one of the picture
        this.left = 0; // of the picture, at the left of the screen
        this.top = 0;
        this.isFitted = true;
        this.isAsked = false;
        /** @type {Map<number, PointerEvent>} */
        this.pointers = new Map();
        this.moved = 0;
        this.resizing = new ResizeObserver(() => {
            if (this.isFitted) this.fit();
            else this.ask();
        });
        this.resizing.observe(root);
        if (!chosen) return;
        root.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
        root.addEventListener("pointerdown", (event) => this.onDown(event));
        root.addEventListener("pointermove", (event) => this.onMove(event));
        root.addEventListener("pointerup", (event) => this.onUp(event));
        root.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
        root.addEventListener("keydown", (event) => this.onKey(event));
    }

    close() {
        this.resizing.disconnect();
        this.bitmap?.close();
        this.bitmap = null;
    }

    /**
     * Show a picture.
     * @param {ImageBitmap} bitmap
     * @param {Labels} labels
     * @param {{frame: string[], micrometres: number | null, scale: number}} about
     */
    show(bitmap, labels, { frame, micrometres, scale }) {
        this.bitmap?.close();
        this.bitmap = bitmap;
        this.labels = labels;
        this.frame = frame;
        this.beside = labels.touching(frame);
        this.micrometres = micrometres;
        this.scale = scale;
        this.fit();
    }

    /** Show all of it. */
    fit() {
        if (!this.bitmap) return;
        const { clientWidth, clientHeight } = this.root;
        this.zoom = Math.min(clientWidth / this.bitmap.width, clientHeight / this.bitmap.height, MOST_ZOOM);
        this.left = (this.bitmap.width - clientWidth / this.zoom) / 2;
        this.top = (this.bitmap.height - clientHeight / this.zoom) / 2;
        this.isFitted = true;
        this.ask();
    }

    /** The least zoom: all of it, at half the size. */
    get leastZoom() {
        const { clientWidth, clientHeight } = this.root;
        return this.bitmap ? Math.min(clientWidth / this.bitmap.width, clientHeight / this.bitmap.height, 1) / 2 : 1;
    }

    /**
     * Zoom, and leave a point of the screen where it is.
     * @param {number} factor
     * @param {number} [x]  From the left of the viewer; its middle if it is not given.
     * @param {number} [y]
     */
    zoomBy(factor, x = this.root.clientWidth / 2, y = this.root.clientHeight / 2) {
        const zoom = Math.min(MOST_ZOOM, Math.max(this.leastZoom, this.zoom * factor));
        this.left += x / this.zoom - x / zoom;
        this.top += y / this.zoom - y / zoom;
        this.zoom = zoom;
        this.isFitted = false;
        this.keepInSight();
        this.ask();
    }

    /**
     * Move the picture, in pixels of the screen.
     * @param {number} x
     * @param {number} y
     */
    panBy(x, y) {
        this.left -= x / this.zoom;
        this.top -= y / this.zoom;
        this.isFitted = false;
        this.keepInSight();
        this.ask();
    }

    /** Keep the middle of the screen within the picture. */
    keepInSight() {
        if (!this.bitmap) return;
        const [width, height] = [this.root.clientWidth / this.zoom / 2, this.root.clientHeight / this.zoom / 2];
        this.left = Math.min(Math.max(this.left, -width), this.bitmap.width - width);
        this.top = Math.min(Math.max(this.top, -height), this.bitmap.height - height);
    }

    /**
     * Mark a cell; bring it into sight if it is not.
     * @param {number} label
     */
    choose(label) {
        this.label = label;
        const { cells, scale } = this;
        if (cells && label && label < cells.row.length) {
            const [x, y] = [(cells.col[label] * scale - this.left) * this.zoom, (cells.row[label] * scale - this.top) * this.zoom];
            if (x < 0 || y < 0 || x > this.root.clientWidth || y > this.root.clientHeight) {
                this.panBy(this.root.clientWidth / 2 - x, this.root.clientHeight / 2 - y);
            }
        }
        this.ask();
    }

    /** Draw soon. */
    ask() {
        if (this.isAsked) return;
        this.isAsked = true;
        requestAnimationFrame(() => {
            this.isAsked = false;
            this.draw();
        });
    }

    draw() {
        const { clientWidth: width, clientHeight: height } = this.root;
        if (!this.bitmap || !this.labels || !width || !height) return;
        const ratio = Math.min(devicePixelRatio || 1, Math.sqrt(MOST_OVERLAY_PX / (width * height)));
        for (const canvas of [this.picture, this.overlay]) {
            const [wide, tall] = [Math.round(width * ratio), Math.round(height * ratio)];
            if (canvas.width !== wide || canvas.height !== tall) {
                canvas.width = wide;
                canvas.height = tall;
            }
        }
        const { brightness, contrast } = this.shown;
        this.picture.style.filter = brightness === 1 && contrast === 1 ? "" : `brightness(${brightness}) contrast(${contrast})`;
        this.drawPicture(ratio);
        this.drawOverlay(ratio);
    }

    /** @param {number} ratio */
    drawPicture(ratio) {
        const context = /** @type {CanvasRenderingContext2D} */ (this.picture.getContext("2d"));
        context.setTransform(1, 0, 0, 1, 0, 0);
        context.clearRect(0, 0, this.picture.width, this.picture.height);
        const zoom = this.zoom * ratio;
        context.imageSmoothingEnabled = zoom < 3;
        context.imageSmoothingQuality = "high";
        context.setTransform(zoom, 0, 0, zoom, -this.left * zoom, -this.top * zoom);
        context.drawImage(/** @type {ImageBitmap} */ (this.bitmap), 0, 0);
    }

    /** @param {number} ratio */
    drawOverlay(ratio) {
        const context = /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext("2d"));
        const { width, height } = this.overlay;
        const data = context.createImageData(width, height);
        this.paint(new Uint32Array(data.data.buffer), width, height, this.zoom * ratio, Math.max(1, Math.round(ratio * (this.zoom >= THICK_FROM ? 2 : 1))));
        context.putImageData(data, 0, 0);
        context.setTransform(ratio, 0, 0, ratio, 0, 0);
        if (this.shown.numbers) this.drawNumbers(context);
        this.drawFrame(context);
        this.drawScaleBar(context);
        context.setTransform(1, 0, 0, 1, 0, 0);
    }

    /**
     * Paint outlines, the chosen cell, and what lies outside the region.
     * @param {Uint32Array} out
     * @param {number} width
     * @param {number} height
     * @param {number} zoom
     * @param {number} thick  Of lines, in pixels.
     */
    paint(out, width, height, zoom, thick) {
        const labels = /** @type {Labels} */ (this.labels);
        const { values, field } = labels;
        const outlines = this.shown.outlines;
        const cols = new Int32Array(width + 2 * thick);
        for (let x = 0; x < cols.length; x += 1) {
            const col = Math.floor(this.left + (x - thick + 0.5) / zoom);
            cols[x] = col >= 0 && col < labels.width ? col : -1;
        }
        const rowAt = (/** @type {number} */ y) => {
            const row = Math.floor(this.top + (y + 0.5) / zoom);
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
                if (label && label === this.label) out[at] = isEdge ? CHOSEN_RIM : CHOSEN;
                else if (!outlines || !isEdge) {
                    if (field && !field[here + col]) out[at] = DIMMED;
                } else if (!label) out[at] = HALO;
                else if (this.beside.has(label)) out[at] = ((x + y) / thick) & 4 ? BESIDE : HALO;
                else out[at] = COUNTED;
                if (field && field[here + col] && !isEdge) {
                    const isRim = (before >= 0 && !field[here + before]) || (after >= 0 && !field[here + after]) ||
                        (above >= 0 && !field[above + col]) || (below >= 0 && !field[below + col]);
                    if (isRim) out[at] = RIM;
                }
            }
        }
    }

    /** @param {CanvasRenderingContext2D} context */
    drawNumbers(context) {
        const { cells, scale, zoom } = this;
        if (!cells) return;
        context.font = "600 12px system-ui, sans-serif";
        context.textAlign = "center";
        context.textBaseline = "middle";
        context.lineWidth = 3;
        context.strokeStyle = "#000";
        context.fillStyle = "#fff";
        const { clientWidth: width, clientHeight: height } = this.root;
        for (let label = 1; label < cells.row.length; label += 1) {
            if (cells.diameter[label] * scale * zoom < NUMBERED_PX) continue;
            const [x, y] = [(cells.col[label] * scale + 0.5 - this.left) * zoom, (cells.row[label] * scale + 0.5 - this.top) * zoom];
            if (x < 0 || y < 0 || x > width || y > height) continue;
            context.strokeText(String(label), x, y);
            context.fillText(String(label), x, y);
        }
    }

    /**
     * Draw the counting frame: dashed red where it excludes cells.
     * @param {CanvasRenderingContext2D} context
     */
    drawFrame(context) {
        if (!this.frame.length || !this.bitmap || !this.shown.outlines) return;
        const [left, top] = [-this.left * this.zoom, -this.top * this.zoom];
        const [right, bottom] = [left + this.bitmap.width * this.zoom, top + this.bitmap.height * this.zoom];
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
                if (this.frame.includes(edge) !== isExcluding) continue;
                context.moveTo(x1, y1);
                context.lineTo(x2, y2);
            }
            context.stroke();
        }
        context.setLineDash([]);
    }

    /** @param {CanvasRenderingContext2D} context */
    drawScaleBar(context) {
        if (!this.micrometres) return;
        const longest = (this.root.clientWidth * 0.25 / this.zoom) * this.micrometres;
        const power = 10 ** Math.floor(Math.log10(longest));
        const length = [5, 2, 1].map((factor) => factor * power).find((size) => size <= longest) ?? power;
        const pixels = (length / this.micrometres) * this.zoom;
        const text = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(3))} µm`;
        const [x, y] = [16, this.root.clientHeight - 18];
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
     * Return where an event is, from the left and the top of the viewer.
     * @param {MouseEvent} event
     * @returns {[number, number]}
     */
    place(event) {
        const box = this.root.getBoundingClientRect();
        return [event.clientX - box.left, event.clientY - box.top];
    }

    /** @param {WheelEvent} event */
    onWheel(event) {
        event.preventDefault();
        const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
        this.zoomBy(Math.exp(-Math.max(-100, Math.min(100, pixels)) * (event.ctrlKey ? 0.01 : 0.002)), ...this.place(event));
    }

    /** @param {PointerEvent} event */
    onDown(event) {
        if (event.button) return;
        this.root.setPointerCapture(event.pointerId);
        if (!this.pointers.size) this.moved = 0;
        this.pointers.set(event.pointerId, event);
    }

    /** @param {PointerEvent} event */
    onMove(event) {
        const former = this.pointers.get(event.pointerId);
        if (!former) return;
        const [x, y] = [event.clientX - former.clientX, event.clientY - former.clientY];
        this.moved += Math.abs(x) + Math.abs(y);
        const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
        this.pointers.set(event.pointerId, event);
        if (!other) {
            if (this.moved > CLICK_PX) this.panBy(x, y);
            return;
        }
        this.moved = Infinity;
        const apart = (/** @type {PointerEvent} */ pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
        const [x1, y1] = this.place(event);
        const [x2, y2] = this.place(other);
        this.panBy(x / 2, y / 2);
        this.zoomBy(apart(event) / Math.max(apart(former), 1), (x1 + x2) / 2, (y1 + y2) / 2);
    }

    /** @param {PointerEvent} event */
    onUp(event) {
        if (!this.pointers.delete(event.pointerId) || this.moved > CLICK_PX || !this.labels) return;
        const [x, y] = this.place(event);
        this.chosen(this.labels.at(Math.floor(this.left + x / this.zoom), Math.floor(this.top + y / this.zoom)));
    }

    /** @param {KeyboardEvent} event */
    onKey(event) {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const step = PAN_PART * Math.min(this.root.clientWidth, this.root.clientHeight);
        /** @type {Record<string, () => void>} */
        const actions = {
            ArrowLeft: () => this.panBy(step, 0),
            ArrowRight: () => this.panBy(-step, 0),
            ArrowUp: () => this.panBy(0, step),
            ArrowDown: () => this.panBy(0, -step),
            "+": () => this.zoomBy(ZOOM_STEP),
            "=": () => this.zoomBy(ZOOM_STEP),
            "-": () => this.zoomBy(1 / ZOOM_STEP),
            0: () => this.fit(),
            1: () => this.zoomBy(1 / this.zoom),
        };
        const action = actions[event.key];
        if (!action) return;
        event.preventDefault();
        action();
    }
}
