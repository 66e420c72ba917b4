// A picture with its labels: which part of it is seen, and how large.

import { Gestures } from "./gestures.js";
import { drawFrame, drawNumbers, drawScaleBar, drawSketch, paint } from "./paint.js";

/** @typedef {import("./labels.js").Labels} Labels */
/** @typedef {import("./gestures.js").Point} Point */

const MOST_ZOOM = 40;
const MOST_OVERLAY_PX = 2_500_000;
const THICK_FROM = 1.2; // zoom from which lines are two pixels thick

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

/** The canvases of a picture. */
export class Viewer {
    /**
     * @param {HTMLElement} root  Is filled by the picture.
     * @param {((label: number) => void) | null} chosen  Called with the cell that somebody points at, 0 for none; null
     *   leaves pointers and keys to the page.
     */
    constructor(root, chosen) {
        this.root = root;
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
        /** @type {Set<number>} */
        this.uncounted = new Set(); // cells that do not count for their size or place
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
        /** @type {import("./gestures.js").Tool | null} */
        this.tool = null; // what pointing does, instead of choosing a cell
        /** @type {{points: Point[], radius: number} | null} */
        this.sketch = null; // what is being drawn
        this.isByKeys = false; // whether keys were used last
        this.resizing = new ResizeObserver(() => {
            if (this.isFitted) this.fit();
            else this.ask();
        });
        this.resizing.observe(root);
        this.gestures = chosen && new Gestures(this, chosen);
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

    /**
     * Put labels in place of those in a part, or of all.
     * @param {ImageBitmap} bitmap
     * @param {number} top
     * @param {number} left
     */
    change(bitmap, top, left) {
        if (!this.labels) return;
        this.labels.put(bitmap, top, left);
        this.beside = this.labels.touching(this.frame);
        this.ask();
    }

    /**
     * Return the point of the image that is seen at a place of the viewer.
     * @param {number} x
     * @param {number} y
     * @returns {Point}
     */
    pointAt(x, y) {
        return [(this.top + y / this.zoom) / this.scale - 0.5, (this.left + x / this.zoom) / this.scale - 0.5];
    }

    /**
     * Return where in the viewer a point of the image is seen.
     * @param {Point} point
     * @returns {[number, number]}
     */
    screenOf([row, col]) {
        return [((col + 0.5) * this.scale - this.left) * this.zoom, ((row + 0.5) * this.scale - this.top) * this.zoom];
    }

    /**
     * Return the label at a point of the image; 0 for none.
     * @param {Point} point
     */
    labelAt([row, col]) {
        return this.labels?.at(Math.floor((col + 0.5) * this.scale), Math.floor((row + 0.5) * this.scale)) ?? 0;
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
        paint(this, new Uint32Array(data.data.buffer), width, height, this.zoom * ratio, Math.max(1, Math.round(ratio * (this.zoom >= THICK_FROM ? 2 : 1))));
        context.putImageData(data, 0, 0);
        context.setTransform(ratio, 0, 0, ratio, 0, 0);
        if (this.shown.numbers) drawNumbers(this, context);
        drawFrame(this, context);
        drawScaleBar(this, context);
        drawSketch(this, context);
        context.setTransform(1, 0, 0, 1, 0, 0);
    }
}
