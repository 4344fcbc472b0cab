// Pieces of words from a vocabulary, split as in Python: see epochal/data/inputs/text/pieces.py.

import { BLANK, Memory, PART, WORD, kindsOf, known } from "./characters.js";

class Pieces {
  constructor({ most, characters, vocabulary }) {
    Object.assign(this, { most, kinds: kindsOf(characters), ids: new Map(vocabulary.map((piece, number) => [piece, number])), memory: new Memory() });
  }

  /** Return the number of each piece, in order. */
  encode(text, length) {
    const numbers = [];
    for (const word of this.words(known(text, this.kinds, this.most))) {
      numbers.push(...this.memory.recall(word, () => this.split(word)).slice(0, length));
      if (numbers.length >= length) break;
    }
    return [numbers.slice(0, length)];
  }
}

const LONGEST = 100; // longer words are unknown

/** Of each word, the longest piece that it begins with, then the longest that the rest begins with, and so on. */
export class WordPiece extends Pieces {
  words(text) {
    const read = (letter) => {
      const kind = this.kinds[letter.codePointAt(0)];
      return kind === PART ? letter.toLowerCase() : kind === WORD ? ` ${letter} ` : kind === BLANK ? " " : "";
    };
    return Array.from(text.normalize("NFD"), read).join("").split(" ").filter(Boolean);
  }

  split(word) {
    const letters = Array.from(word);
    const unknown = [this.ids.get("[UNK]")];
    if (letters.length > LONGEST) return unknown;
    const found = [];
    for (let begin = 0; begin < letters.length; ) {
      let end = letters.length;
      const piece = () => (begin ? "##" : "") + letters.slice(begin, end).join("");
      while (end > begin && !this.ids.get(piece())) end--;
      if (end === begin) return unknown;
      found.push(this.ids.get(piece()));
      begin = end;
    }
    return found;
  }
}

/** Single characters, of which neighbours are merged, again and again, whose piece is first in the vocabulary. */
export class BytePairs extends Pieces {
  words(text) {
    return text ? `▁${text.replaceAll(" ", "▁")}`.match(/▁+[^▁]*|[^▁]+/gu) : [];
  }

  split(word) {
    const pieces = Array.from(word).flatMap((letter) => (this.ids.has(letter) ? [letter] : bytesOf(letter)));
    // Merged pieces are in the place of the left one; the right one is empty.
    const [before, after] = [pieces.map((_, place) => place - 1), pieces.map((_, place) => place + 1)];
    const waiting = new Heap();
    const offer = (left, right) => {
      if (left < 0 || right >= pieces.length) return;
      const merged = pieces[left] + pieces[right];
      // Runs of blanks are merged last.
      if (this.ids.has(merged)) waiting.push({ rank: [/[^▁]/u.test(merged) ? 0 : 1, this.ids.get(merged), this.ids.get(pieces[left]), left], merged });
    };
    for (let left = 0; left + 1 < pieces.length; left++) offer(left, left + 1);
    for (let next; (next = waiting.pop()); ) {
      const { rank: [, , , left], merged } = next;
      const right = after[left];
      if (!pieces[left] || right === pieces.length || pieces[left] + pieces[right] !== merged) continue; // One of them has been merged with another.
      [pieces[left], pieces[right]] = [merged, ""];
      after[left] = after[right];
      if (after[left] < pieces.length) before[after[left]] = left;
      offer(before[left], left);
      offer(left, after[left]);
    }
    return pieces.filter(Boolean).map((piece) => this.ids.get(piece));
  }
}

/** The pieces of the bytes of a character in UTF-8; halves of pairs have three, as in Python. */
function bytesOf(letter) {
  const code = letter.codePointAt(0);
  const rest = (shift) => 0x80 | ((code >> shift) & 0x3f);
  const bytes = code < 0x80 ? [code] : code < 0x800 ? [0xc0 | (code >> 6), rest(0)] : code < 0x10000 ? [0xe0 | (code >> 12), rest(6), rest(0)] : [0xf0 | (code >> 18), rest(12), rest(6), rest(0)];
  return bytes.map((byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
}

/** Pairs of pieces, of which the one of the least rank comes first. */
class Heap {
  pairs = [];

  push(pair) {
    const { pairs } = this;
    let place = pairs.length;
    for (let above; place && isBefore(pair, pairs[(above = (place - 1) >> 1)]); place = above) pairs[place] = pairs[above];
    pairs[place] = pair;
  }

  pop() {
    const { pairs } = this;
    const [least, pair] = [pairs[0], pairs.pop()];
    const count = pairs.length;
    if (!count) return least;
    let place = 0;
    for (let below; (below = 2 * place + 1) < count; place = below) {
      if (below + 1 < count && isBefore(pairs[below + 1], pairs[below])) below++;
      if (!isBefore(pairs[below], pair)) break;
      pairs[place] = pairs[below];
    }
    pairs[place] = pair;
    return least;
  }
}

function isBefore({ rank }, { rank: other }) {
  const place = rank.findIndex((value, index) => value !== other[index]);
  return place >= 0 && rank[place] < other[place];
}
