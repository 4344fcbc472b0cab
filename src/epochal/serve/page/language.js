// The language of the page: the browser's, or the one chosen here before.

import { texts } from "./texts.js";

let language = stored("language") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

/** Return a text in the page's language, with {names} replaced by `values`. */
export function t(key, values = {}) {
  return texts[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Return a number in the page's language, with at most so many decimal places. */
export function number(value, places = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: places }).format(value);
}

/** Return a probability as a percentage: "98.2". One that is not certain is never shown as 100 or 0. */
export function percent(probability) {
  const value = 100 * probability;
  if (value > 0 && value < 0.1) return "< 0.1";
  if (value < 100 && value > 99.9) return "> 99.9";
  return new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value);
}

/** Return names as a list in a sentence: "a, b or c"; or their number, if there are many. */
export function list(names, many, joined = "list") {
  if (names.length > 12) return t(many, { n: number(names.length) });
  if (names.length < 2) return names.join("");
  return t(joined, { first: names.slice(0, -1).join(t("comma")), last: names.at(-1) });
}

/** Write all fixed texts of the page; change to the other language first, if `change`. */
export function translate(change = false) {
  if (change) {
    language = t("otherCode");
    store("language", language);
  }
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const [attribute, set] of Object.entries({
    text: (element, text) => (element.textContent = text),
    label: (element, text) => element.setAttribute("aria-label", text),
    hint: (element, text) => (element.placeholder = text),
  })) {
    for (const element of document.querySelectorAll(`[data-${attribute}]`)) set(element, t(element.dataset[attribute]));
  }
  const button = document.getElementById("language");
  button.textContent = t("other");
  button.lang = t("otherCode");
}

/** What the page has kept in this browser under a name, or null. Some browsers keep nothing. */
export function stored(name) {
  try {
    return localStorage.getItem(`epochal-${name}`);
  } catch {
    return null;
  }
}

export function store(name, value) {
  try {
    localStorage.setItem(`epochal-${name}`, value);
  } catch {
    // Private windows may refuse; the choice then lasts as long as the page.
  }
}

export const current = () => language;
