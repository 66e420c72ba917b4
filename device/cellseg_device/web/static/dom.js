// Elements, made of tags, properties and texts. A text is always a text: nothing here takes HTML.

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | null | false | undefined} Child */
/** @typedef {Record<string, unknown>} Properties */

/**
 * Return an element; a property that is a function listens to the event of its name.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Properties} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    fill(made, properties, children);
    return made;
}

/**
 * Return an element of a drawing.
 * @param {string} tag
 * @param {Properties} [properties]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, properties = {}, ...children) {
    const made = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
    fill(made, properties, children);
    return made;
}

/**
 * @param {Element} made
 * @param {Properties} properties
 * @param {Child[]} children
 */
function fill(made, properties, children) {
    for (const [name, value] of Object.entries(properties)) {
        if (typeof value === "function") made.addEventListener(name, /** @type {EventListener} */ (value));
        else if (value === true) made.setAttribute(name, "");
        else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
    }
    put(made, ...children);
}

/**
 * Put children in place of those that an element has.
 * @param {Element} parent
 * @param {...Child} children
 */
export function put(parent, ...children) {
    const shown = children.filter((child) => child !== null && child !== false && child !== undefined);
    parent.replaceChildren(...shown.map((child) => (child instanceof Node ? child : String(child))));
}
