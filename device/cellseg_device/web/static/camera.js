// The screen of a camera: what it sees now, how sharp that is, and an image on request.

import { el, put } from "./dom.js";
import { asked } from "./server.js";

const RECENT_MS = 60_000; // of which the best focus is remembered
const AGAIN_MS = 1000; // after which a camera that was not there is looked for again

/**
 * @typedef {object} Frame
 * @property {number} number
 * @property {number} focus
 * @property {number} height
 * @property {number} width
 * @property {string} camera
 * @property {number | null} exposure_s
 * @property {number | null} gain
 * @property {number | [number, number] | null} awb
 * @property {boolean} is_played
 */

/**
 * Show it.
 * @param {HTMLElement} root
 * @returns {import("./main.js").Screen}
 */
export function showCamera(root) {
    document.title = "Camera · cellseg";
    const stop = new AbortController();
    const canvas = el("canvas", { role: "img", "aria-label": "What the camera sees" });
    const state = el("p", { class: "note", role: "status" }, "Looking for a camera …");
    const score = el("strong", {}, "–");
    const part = el("p", { class: "quiet" }, "No picture yet");
    const fill = el("span");
    const bar = el("div", { class: "bar", role: "meter", "aria-label": "Focus, against the best of the last minute", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, fill);
    const snap = el("button", { type: "button", class: "go", disabled: true, click: () => void take() }, "Take an image now");
    const said = el("p", { role: "status" });
    const facts = el("ul", { class: "lines" });
    root.append(
        el("h1", { class: "unseen" }, "Camera"),
        el("section", { class: "live", "aria-label": "Live picture" }, canvas, state),
        el(
            "section",
            { class: "card", "aria-label": "Focus" },
            el("p", { class: "count" }, "Focus ", score),
            bar,
            part,
            el("p", { class: "quiet" }, "Turn the focus until the bar is full. Stay on one field: another one has another score."),
        ),
        el("section", { class: "card", "aria-label": "Image" }, snap, said, facts),
    );
    /** @type {[number, number][]} */
    let recent = []; // when, and how sharp
    let last = "";

    async function watch() {
        while (!stop.signal.aborted) {
            if (document.hidden) {
                await rest(AGAIN_MS);
                continue;
            }
            try {
                const answer = await asked("/api/camera/frame", { method: "POST", query: { after: last }, signal: stop.signal });
                const head = answer.headers.get("X-Cellseg-Frame");
                if (head === null) {
                    missing(await answer.json());
                    await rest(AGAIN_MS);
                } else await show(JSON.parse(decodeURIComponent(head)), await answer.blob());
            } catch (error) {
                if (stop.signal.aborted) return;
                missing({ state: "none", words: /** @type {Error} */ (error).message });
                await rest(AGAIN_MS);
            }
        }
    }

    /** @param {{state: string, words: string, command?: string}} answer */
    function missing(answer) {
        const isGone = answer.state === "none";
        canvas.classList.toggle("gone", isGone);
        snap.disabled = isGone;
        if (isGone) {
            recent = [];
            put(score, "–");
            put(part, "No picture now");
        }
        const words = `${answer.words} ${answer.command ?? ""}`;
        if (state.textContent !== words) put(state, answer.words, " ", answer.command && el("code", {}, answer.command));
        state.hidden = false;
    }

    /**
     * @param {Frame} frame
     * @param {Blob} picture
     */
    async function show(frame, picture) {
        const bitmap = await createImageBitmap(picture);
        last = String(frame.number);
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
        canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
        bitmap.close();
        canvas.classList.remove("gone");
        state.hidden = true;
        if (!said.textContent?.startsWith("Taking")) snap.disabled = frame.is_played;
        const now = performance.now();
        recent = [...recent.filter(([when]) => when > now - RECENT_MS), [now, frame.focus]];
        const best = Math.max(...recent.map(([, focus]) => focus));
        const share = best > 0 ? Math.round((frame.focus / best) * 100) : 0;
        put(score, frame.focus.toFixed(4));
        put(part, `${share} % of the best of the last minute, ${best.toFixed(4)}`);
        fill.style.width = `${share}%`;
        bar.setAttribute("aria-valuenow", String(share));
        const lines = about(frame);
        if (facts.textContent !== lines.join("")) put(facts, ...lines.map((line) => el("li", {}, line)));
    }

    async function take() {
        snap.disabled = true;
        put(said, "Taking an image …");
        try {
            const { image } = await (await asked("/api/camera/snap", { method: "POST", signal: stop.signal })).json();
            put(said, `${image} is taken. Its count comes on `, el("a", { href: "#/now" }, "Now"), ".");
        } catch (error) {
            if (!stop.signal.aborted) put(said, /** @type {Error} */ (error).message);
        }
        snap.disabled = false;
    }

    /** @param {number} milliseconds */
    function rest(milliseconds) {
        return new Promise((done) => setTimeout(done, milliseconds));
    }

    void watch();
    return { changed: () => {}, close: () => stop.abort() };
}

/** @param {Frame} frame */
function about(frame) {
    const { exposure_s: exposure, gain, awb } = frame;
    const locked = [
        exposure !== null && `exposure ${Number((exposure * 1000).toPrecision(4))} ms`,
        gain !== null && `gain ${Number(gain.toPrecision(4))}`,
        awb !== null && (Array.isArray(awb) ? `white balance ${awb.map((value) => Number(value.toPrecision(4))).join(", ")}` : `white balance ${awb} K`),
    ].filter(Boolean);
    return [
        frame.camera,
        locked.length ? `Locked, so that counts do not drift: ${locked.join(", ")}` : "This camera sets its light by itself",
        locked.length ? "To change them, start the camera again with --exposure, --gain and --awb" : "",
        frame.is_played ? "It plays images from files: only those that it takes are shown" : "",
    ].filter(Boolean);
}
