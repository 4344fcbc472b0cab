// Small helpers for elements.

export const $ = (id) => document.getElementById(id);

/** Make an element with properties and children, which are elements or texts. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show or hide elements. */
export function show(is, ...elements) {
  for (const element of elements) element.hidden = !is;
}

/** Call `later` once no call came for so many milliseconds. */
export function debounced(milliseconds, later) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => later(...given), milliseconds);
  };
}

/** Show a problem and its fix in the page's place for it. */
export function showProblem({ message, fix = "" }) {
  $("problem").replaceChildren(make("p", {}, make("strong", { textContent: message })), make("p", { textContent: fix }));
  show(true, $("problem"));
}
