// What the server is asked for, and its events.

/**
 * @typedef {object} Row
 * @property {string} image
 * @property {number | null} count
 * @property {number | null} in_frame
 * @property {string[]} flags
 * @property {string | null} reason
 * @property {string} taken_at
 * @property {string} recorded_at
 * @property {string} stamp
 * @property {number | null} corrected  The corrected count, where it takes the place of the other.
 * @property {string} state  Of its correction; empty without one.
 */

/**
 * @typedef {object} Correction
 * @property {number} revision
 * @property {string} standing
 * @property {string} state
 * @property {number | null} corrected
 * @property {number | null} corrected_in_frame
 * @property {number} [left_out]
 * @property {string} by
 * @property {string} checked_at
 * @property {boolean} can_undo
 * @property {boolean} can_redo
 * @property {string} [error]
 */

/** @typedef {Record<string, string | number>} Query */

/**
 * Return an address with a query.
 * @param {string} path
 * @param {Query} query
 */
export function address(path, query) {
    const pairs = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
    return pairs.length ? `${path}?${pairs.join("&")}` : path;
}

/** The server refuses, for a reason in words. */
export class Refused extends Error {
    /**
     * @param {string} message
     * @param {number} status
     */
    constructor(message, status) {
        super(message);
        this.status = status;
    }
}

/**
 * Return what the server answers; throw with its words if it refuses.
 * @param {string} path
 * @param {RequestInit & {query?: Query}} [options]
 */
export async function asked(path, { query = {}, ...options } = {}) {
    let answer;
    try {
        answer = await fetch(address(path, query), options);
    } catch (error) {
        if (error instanceof DOMException && error.name === "AbortError") throw error;
        throw new Error("The computer beside the microscope does not answer.");
    }
    if (!answer.ok) throw new Refused((await answer.text()).slice(0, 300) || `The server answers ${answer.status}.`, answer.status);
    return answer;
}

/**
 * Call a function with each change of the results, and another with whether there is a connection.
 * @param {() => void} changed
 * @param {(isThere: boolean) => void} connected
 */
export function listen(changed, connected) {
    const events = new EventSource("/api/events");
    let last = "";
    events.addEventListener("open", () => connected(true));
    events.addEventListener("error", () => connected(false));
    events.addEventListener("changed", (event) => {
        const version = /** @type {MessageEvent<string>} */ (event).data;
        if (last && version !== last) changed();
        last = version;
    });
}
