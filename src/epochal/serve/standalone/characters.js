// What each character is, by Python's version of Unicode, which comes with the model: browsers have other ones.

/** A character by itself is nothing of a word, a part of one, or a word; some count as not written. NEW ones are not in Python's Unicode. */
export const [BLANK, PART, WORD, ABSENT, NEW] = [0, 1, 2, 3, 4];

// Added to these: what a character is for the lower case of a sigma beside it.
const [CASED, OVERLOOKED] = [8, 16];

/** Return the kind of each character: `runs` are the first of those that follow each other with the same kind, and that kind. */
export function kindsOf(runs) {
  const kinds = new Uint8Array(0x110000);
  for (let place = 0; place < runs.length; place += 2) kinds.fill(runs[place + 1], runs[place]);
  return kinds;
}

/** Return the first characters of a text; those that Python does not know become one that no Unicode has, which nothing changes. */
export function known(text, kinds, most) {
  const letters = Array.from(text.slice(0, 2 * most)).slice(0, most);
  return letters.map((letter) => (kinds[letter.codePointAt(0)] === NEW ? "\uffff" : letter)).join("");
}

/** Return a text in lower case. That of a sigma depends on whether letters with case are before and after it. */
export function lower(text, kinds) {
  if (!text.includes("Σ")) return text.toLowerCase();
  const letters = Array.from(text);
  const isBeside = (place, step) => {
    do place += step;
    while (place in letters && kinds[letters[place].codePointAt(0)] & OVERLOOKED);
    return place in letters && Boolean(kinds[letters[place].codePointAt(0)] & CASED);
  };
  const read = (letter, place) => (letter !== "Σ" ? letter : isBeside(place, -1) && !isBeside(place, 1) ? "ς" : "σ");
  return letters.map(read).join("").toLowerCase();
}

/** A memory of what was made of words, which is emptied when it is full. */
export class Memory extends Map {
  recall(word, make) {
    if (!this.has(word)) {
      if (this.size > 50_000) this.clear();
      this.set(word, make(word));
    }
    return this.get(word);
  }
}
