// Teaching a model on this computer, where the workstation's package is installed: how far it is, and what came of it.

import { el, put } from "./dom.js";
import { asked } from "./server.js";
import { sentence } from "./words.js";

const EVERY_MS = 3000;

/** @typedef {{state: "none" | "running" | "done" | "refused" | "stopped", words?: string, model?: import("./models.js").Model}} State */

/**
 * Return the part of the screen.
 * @param {AbortSignal} signal
 * @param {(error: unknown) => void} complain
 * @param {() => void} made  Called when there is a new model.
 */
export function showAdapting(signal, complain, made) {
    const words = el("p", { role: "status" });
    const begin = el("button", { type: "button", class: "go", click: () => void ask("/api/adapt", "POST") }, "Teach a model here");
    const halt = el("button", { type: "button", hidden: true, click: () => void ask("/api/adapt/stop", "POST") }, "Stop");
    const root = el("div", { class: "adapting" }, el("p", { class: "state" }, begin, halt, words), el("p", { class: "quiet" }, "It takes ten minutes or more, while counting goes first. The model is kept only if it is better on images that it has not learnt from."));
    let was = "";
    let timer = 0;

    /**
     * @param {string} path
     * @param {string} method
     */
    async function ask(path, method) {
        clearTimeout(timer);
        try {
            show(await (await asked(path, { method, signal })).json());
        } catch (error) {
            if (signal.aborted) return;
            complain(error);
            timer = setTimeout(look, EVERY_MS);
        }
    }

    function look() {
        void ask("/api/adapt", "GET");
    }

    /** @param {State} found */
    function show(found) {
        const isRunning = found.state === "running";
        begin.hidden = isRunning;
        halt.hidden = !isRunning;
        const said = { none: "", running: `${sentence(found.words ?? "")} …`, done: `${found.model?.name} is better, and among the models below: try it, then use it.`, refused: sentence(found.words ?? ""), stopped: "Stopped." };
        if (words.textContent !== said[found.state]) put(words, said[found.state]);
        if (was === "running" && found.state === "done") made();
        was = found.state;
        if (isRunning) timer = setTimeout(look, EVERY_MS);
    }

    signal.addEventListener("abort", () => clearTimeout(timer));
    look();
    return root;
}
