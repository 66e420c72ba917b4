// Which cell each pixel belongs to.

/** Labels, in the size of the picture. */
export class Labels {
    /**
     * @param {ImageBitmap} bitmap  Red is the low byte, green the high one, blue where cells were looked for.
     */
    constructor(bitmap) {
        const { width, height } = bitmap;
        this.width = width;
        this.height = height;
        this.values = new Uint16Array(width * height);
        /** @type {Uint8Array | null} */
        this.field = null;
        this.put(bitmap, 0, 0);
    }

    /**
     * Put labels in place of those in a part.
     * @param {ImageBitmap} bitmap  As for the whole.
     * @param {number} top
     * @param {number} left
     */
    put(bitmap, top, left) {
        const { width, height } = bitmap;
        const canvas = new OffscreenCanvas(width, height);
        const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
        const rows = Math.max(1, Math.floor(1_000_000 / width)); // a part at a time: as pixels they take much memory
        context.drawImage(bitmap, 0, 0);
        for (let row = 0; row < height; row += rows) {
            const { data } = context.getImageData(0, row, width, Math.min(rows, height - row));
            for (let from = 0; from < data.length; from += 4) {
                const at = from >> 2;
                const to = (top + row + Math.floor(at / width)) * this.width + left + (at % width);
                this.values[to] = data[from] | (data[from + 1] << 8);
                if (data[from + 2] === 0) {
                    this.field ??= new Uint8Array(this.width * this.height).fill(1);
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

/**
 * Return labels in a picture file, as numbers that no colour management has changed.
 * @param {Blob} blob
 */
export function bitmapOf(blob) {
    const exactly = /** @type {ImageBitmapOptions} */ ({ colorSpaceConversion: "none", premultiplyAlpha: "none" });
    return createImageBitmap(blob, exactly);
}
