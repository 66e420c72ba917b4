// The tools that correct labels: what pointing and drawing with each of them asks the server for.

/** @typedef {import("./gestures.js").Point} Point */
/** @typedef {Record<string, unknown>} Edit  As `correcting.requests` has it. */

const CLOSE_PX = 12; // on the screen: so near to its first corner an outline is closed

/** @type {Record<string, {key: string, text: string, help: string}>} */
export const TOOLS = {
    select: { key: "v", text: "Select", help: "" },
    add: { key: "a", text: "Add", help: "Point at a cell that was missed: it grows from what the network sees there." },
    outline: { key: "d", text: "Draw", help: "Draw around a cell, or point at its corners and at the first one again." },
    remove: { key: "r", text: "Remove", help: "Point at what is not a cell." },
    join: { key: "j", text: "Join", help: "Point at two parts of one cell." },
    split: { key: "x", text: "Split", help: "Draw a line across a cell, or point at its two halves." },
    brush: { key: "b", text: "Brush", help: "Draw from inside a cell to enlarge it; from the ground, for a new cell." },
    erase: { key: "e", text: "Eraser", help: "Draw over what is not of a cell; of the chosen cell alone, if one is chosen." },
};

/** What the chosen tool does. */
export class Tools {
    /**
     * @param {import("./viewer.js").Viewer} viewer
     * @param {(edit: Edit) => void} ask
     */
    constructor(viewer, ask) {
        this.viewer = viewer;
        this.ask = ask;
        this.name = "select";
        this.radius = 6;
    }

    /**
     * Choose a tool.
     * @param {string} name
     */
    choose(name) {
        this.name = name;
        const { viewer } = this;
        viewer.tool = name === "select" ? null : this.tool(name);
        viewer.sketch = null;
        viewer.root.dataset.tool = name;
        viewer.ask();
    }

    /** Forget what was pointed at; false if there was nothing. */
    forget() {
        const had = Boolean(this.viewer.tool?.pending.length);
        this.choose(this.name);
        return had;
    }

    /**
     * @param {string} name
     * @returns {import("./gestures.js").Tool}
     */
    tool(name) {
        const tool = { draws: ["outline", "split", "brush", "erase"].includes(name), radius: ["brush", "erase"].includes(name) ? this.radius : 0, pending: /** @type {Point[]} */ ([]) };
        const click = (/** @type {Point} */ point) => this.click(name, tool.pending, point);
        const stroke = (/** @type {Point[]} */ points) => this.stroke(name, tool.pending, points);
        return Object.assign(tool, { click, stroke });
    }

    /**
     * @param {string} name
     * @param {Point[]} pending
     * @param {Point} point
     */
    click(name, pending, point) {
        if (name === "add" || name === "remove") this.ask({ what: name, at: point });
        else if (name === "brush" || name === "erase") this.stroke(name, pending, [point]);
        else if (name === "outline") this.corner(pending, point);
        else if (!pending.length) pending.push(point);
        else this.ask({ what: name === "join" ? "join" : "divide", first: pending.splice(0)[0], second: point });
    }

    /**
     * @param {string} name
     * @param {Point[]} pending
     * @param {Point[]} points
     */
    stroke(name, pending, points) {
        if (name === "outline") this.ask({ what: "outline", corners: [...pending.splice(0), ...points] });
        else if (name === "split") {
            pending.length = 0;
            this.ask({ what: "cut", line: points });
        }
        else this.ask({ what: name, points, radius: this.radius, cell: this.viewer.label || (name === "brush" ? this.viewer.labelAt(points[0]) : 0) });
    }

    /**
     * Take a corner of an outline, or close it.
     * @param {Point[]} corners
     * @param {Point} point
     */
    corner(corners, point) {
        const [x, y] = this.viewer.screenOf(point);
        const [firstX, firstY] = corners.length ? this.viewer.screenOf(corners[0]) : [Infinity, Infinity];
        if (corners.length > 2 && Math.hypot(x - firstX, y - firstY) <= CLOSE_PX) this.ask({ what: "outline", corners: corners.splice(0) });
        else corners.push(point);
    }
}
