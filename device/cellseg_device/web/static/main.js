// Chooses the screen by the part of the address after #, and tells it of changes.

import { showCamera } from "./camera.js";
import { el, put } from "./dom.js";
import { showImage } from "./image.js";
import { showImages } from "./images.js";
import { showNow } from "./now.js";
import { listen } from "./server.js";
import { showTeach } from "./teach.js";
import { showUpload } from "./upload.js";

/**
 * @typedef {object} Screen
 * @property {() => void} changed  Called when the results have changed.
 * @property {() => void} close
 */

/** @type {Record<string, (root: HTMLElement, query: URLSearchParams) => Screen>} */
const SCREENS = { now: showNow, images: showImages, image: showImage, teach: showTeach, upload: showUpload, camera: showCamera };

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const live = /** @type {HTMLElement} */ (document.getElementById("live"));
/** @type {Screen | null} */
let screen = null;

function route() {
    if (location.hash && !location.hash.startsWith("#/")) return; // a place in the page
    const [name, query] = location.hash.replace(/^#\//, "").split("?");
    const chosen = name in SCREENS ? name : "now";
    screen?.close();
    put(main);
    main.className = chosen;
    for (const link of document.querySelectorAll("nav a[data-screen]")) {
        const isHere = link.getAttribute("data-screen") === (chosen === "image" ? "images" : chosen);
        if (isHere) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
    }
    screen = SCREENS[chosen](main, new URLSearchParams(query ?? ""));
}

window.addEventListener("hashchange", route);
document.querySelector(".skip")?.addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
});
listen(
    () => screen?.changed(),
    (isThere) => {
        live.className = isThere ? "there" : "gone";
        put(live, el("span", { class: "dot", "aria-hidden": "true" }), el("span", {}, isThere ? "Live" : "No connection"));
    },
);
route();
