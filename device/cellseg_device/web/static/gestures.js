// What pointers and keys do to a picture: zoom, pan, point at a cell, and use a tool.

const ZOOM_STEP = 1.25, PAN_PART = 0.15, CLICK_PX = 5;
const LEAST_STEP_PX = 2; // between two points of a stroke, on the screen

/** @typedef {[number, number]} Point  Row and column in the image; whole numbers are the centres of pixels. */

/**
 * @typedef {object} Tool
 * @property {boolean} draws  Whether dragging draws, instead of moving the picture.
 * @property {number} radius  Of what it draws, in pixels of the image; 0 for a line.
 * @property {Point[]} pending  What was pointed at before, which the next point goes with.
 * @property {(point: Point) => void} click
 * @property {(points: Point[]) => void} stroke
 */

/** Pointers and keys of a viewer. */
export class Gestures {
    /**
     * @param {import("./viewer.js").Viewer} viewer
     * @param {(label: number) => void} chosen  Called with the cell that somebody points at without a tool, 0 for none.
     */
    constructor(viewer, chosen) {
        this.viewer = viewer;
        this.chosen = chosen;
        /** @type {Map<number, PointerEvent>} */
        this.pointers = new Map();
        this.moved = 0;
        /** @type {Point[] | null} */
        this.stroke = null;
        const { root } = viewer;
        root.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
        root.addEventListener("pointerdown", (event) => this.onDown(event));
        root.addEventListener("pointermove", (event) => this.onMove(event));
        root.addEventListener("pointerup", (event) => this.onUp(event));
        root.addEventListener("pointercancel", (event) => this.onCancel(event));
        root.addEventListener("contextmenu", (event) => viewer.tool && event.preventDefault());
        root.addEventListener("keydown", (event) => this.onKey(event));
    }

    /**
     * Return where an event is, from the left and the top of the viewer.
     * @param {MouseEvent} event
     * @returns {[number, number]}
     */
    place(event) {
        const box = this.viewer.root.getBoundingClientRect();
        return [event.clientX - box.left, event.clientY - box.top];
    }

    /** @param {WheelEvent} event */
    onWheel(event) {
        event.preventDefault();
        const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
        this.viewer.zoomBy(Math.exp(-Math.max(-100, Math.min(100, pixels)) * (event.ctrlKey ? 0.01 : 0.002)), ...this.place(event));
    }

    /** @param {PointerEvent} event */
    onDown(event) {
        const { viewer } = this;
        if (event.button && !viewer.tool) return; // with a tool, the other buttons move the picture
        viewer.root.setPointerCapture(event.pointerId);
        viewer.isByKeys = false;
        if (!this.pointers.size) this.moved = event.button ? Infinity : 0;
        this.pointers.set(event.pointerId, event);
        this.draw(this.pointers.size === 1 && !event.button && viewer.tool?.draws ? [viewer.pointAt(...this.place(event))] : null);
    }

    /** @param {PointerEvent} event */
    onMove(event) {
        const former = this.pointers.get(event.pointerId);
        if (!former) return;
        const { viewer, stroke } = this;
        const [x, y] = [event.clientX - former.clientX, event.clientY - former.clientY];
        if (stroke && Math.hypot(x, y) < LEAST_STEP_PX) return;
        this.moved += Math.abs(x) + Math.abs(y);
        const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
        this.pointers.set(event.pointerId, event);
        if (stroke) {
            this.draw([...stroke, viewer.pointAt(...this.place(event))]);
            return;
        }
        if (!other) {
            if (this.moved > CLICK_PX) viewer.panBy(x, y);
            return;
        }
        this.moved = Infinity;
        const apart = (/** @type {PointerEvent} */ pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
        const [x1, y1] = this.place(event);
        const [x2, y2] = this.place(other);
        viewer.panBy(x / 2, y / 2);
        viewer.zoomBy(apart(event) / Math.max(apart(former), 1), (x1 + x2) / 2, (y1 + y2) / 2);
    }

    /** @param {PointerEvent} event */
    onUp(event) {
        const { viewer, stroke } = this;
        if (!this.pointers.delete(event.pointerId) || !viewer.labels) return;
        const point = viewer.pointAt(...this.place(event));
        this.draw(null);
        if (this.moved <= CLICK_PX) this.act(stroke ? stroke[0] : point);
        else if (stroke) viewer.tool?.stroke([...stroke, point]);
    }

    /** @param {PointerEvent} event */
    onCancel(event) {
        this.pointers.delete(event.pointerId);
        this.draw(null);
    }

    /**
     * Use the tool, or choose the cell at a point.
     * @param {Point} point
     */
    act(point) {
        const { viewer } = this;
        if (viewer.tool) viewer.tool.click(point);
        else this.chosen(viewer.labelAt(point));
        this.draw(null);
    }

    /**
     * Show what is being drawn.
     * @param {Point[] | null} stroke
     */
    draw(stroke) {
        const { viewer } = this;
        this.stroke = stroke;
        const points = [...(viewer.tool?.pending ?? []), ...(stroke ?? [])];
        viewer.sketch = points.length && viewer.tool ? { points, radius: viewer.tool.radius } : null;
        viewer.ask();
    }

    /** @param {KeyboardEvent} event */
    onKey(event) {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const { viewer } = this;
        const { clientWidth: width, clientHeight: height } = viewer.root;
        const step = PAN_PART * Math.min(width, height) * (event.shiftKey ? 0.1 : 1);
        /** @type {Record<string, () => void>} */
        const actions = {
            ArrowLeft: () => viewer.panBy(step, 0),
            ArrowRight: () => viewer.panBy(-step, 0),
            ArrowUp: () => viewer.panBy(0, step),
            ArrowDown: () => viewer.panBy(0, -step),
            "+": () => viewer.zoomBy(ZOOM_STEP),
            "=": () => viewer.zoomBy(ZOOM_STEP),
            "-": () => viewer.zoomBy(1 / ZOOM_STEP),
            0: () => viewer.fit(),
            1: () => viewer.zoomBy(1 / viewer.zoom),
            " ": () => this.act(viewer.pointAt(width / 2, height / 2)),
        };
        const action = actions[event.key];
        if (!action) return;
        event.preventDefault();
        viewer.isByKeys = true;
        action();
    }
}
