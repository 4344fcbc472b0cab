// Hashed words, and n-grams with their counts, by the same arithmetic as in Python: see epochal/data/inputs/text/features.py.

import { Memory, PART, WORD, kindsOf, known, lower } from "./characters.js";

const [BASE, ORDER, MIX] = [0x9e3779b97f4a7c15n, 0x9fb21c651e98df25n, 0xd6e8feb86659fd93n];
const [BEGIN, END] = [0x200000n, 0x200001n]; // the borders of a word, and of a text, which are no characters
const PLACES = 1024; // in a word, beyond which characters count alike
const LENGTHS = [3, 4, 5]; // of runs of characters

const wrap = (number) => BigInt.asUintN(64, number);

export class Hashed {
  constructor({ tokens, bits, most, characters }) {
    Object.assign(this, { tokens, most, kinds: kindsOf(characters), shift: BigInt(64 - bits), memory: new Memory() });
  }

  /** Return the number of each word, in order; or those of n-grams, and how often each occurs: of too many, the first are kept. */
  encode(text, length) {
    const words = this.words(text).map((word) => this.memory.recall(word, () => this.read(word)));
    if (this.tokens === "words") return [words.slice(0, length).map(({ number }) => number)];
    const counts = new Map();
    const count = (number) => counts.set(number, (counts.get(number) ?? 0) + 1);
    for (const { number } of words) count(number);
    if (words.length) this.countRuns([BEGIN, ...words.map(({ hash }) => hash), END], count);
    LENGTHS.forEach((_, place) => words.forEach(({ runs }) => runs[place].forEach(count)));
    const kept = Array.from(counts.keys()).slice(0, length).sort((a, b) => a - b);
    return [kept, kept.map((number) => counts.get(number))];
  }

  words(text) {
    const found = [];
    let word = "";
    for (const letter of lower(known(text, this.kinds, this.most), this.kinds).normalize("NFC")) {
      const kind = this.kinds[letter.codePointAt(0)] & 7;
      if (kind === PART) word += letter;
      else if (word) [, word] = [found.push(word), ""];
      if (kind === WORD) found.push(letter);
    }
    return word ? [...found, word] : found;
  }

  /** Return the hash of a word, its number, and those of the runs of characters in it, by length. */
  read(word) {
    const codes = Array.from(word, (letter) => BigInt(letter.codePointAt(0)));
    let [hash, power] = [0n, 1n];
    codes.forEach((code, place) => {
      if (place < PLACES) power = wrap(power * BASE);
      hash = wrap(hash + (code + 1n) * power);
    });
    hash = mixed(hash);
    const runs = LENGTHS.map(() => []);
    if (codes.length > 1) {
      const bordered = [BEGIN, ...codes, END];
      for (let first = 0; first < bordered.length; first++) {
        let run = 0n;
        for (let length = 1; length <= LENGTHS.at(-1) && first + length <= bordered.length; length++) {
          run = wrap(run * BASE + bordered[first + length - 1] + 1n);
          if (length >= LENGTHS[0]) runs[length - LENGTHS[0]].push(this.number(mixed(run ^ (BigInt(length) << 40n))));
        }
      }
    }
    return { hash, number: this.number(hash), runs };
  }

  /** Count runs of two and of three words. */
  countRuns(hashes, count) {
    for (let length = 2; length <= 3; length++) {
      for (let first = 0; first + length <= hashes.length; first++) {
        let run = 0n;
        for (let place = first; place < first + length; place++) run = wrap(run * ORDER + hashes[place]);
        count(this.number(mixed(wrap(run + BigInt(length)))));
      }
    }
  }

  number(hash) {
    return Number(hash >> this.shift) + 1;
  }
}

/** Spread a number over all of 64 bits. */
function mixed(number) {
  for (let time = 0; time < 2; time++) number = wrap((number ^ (number >> 32n)) * MIX);
  return number ^ (number >> 32n);
}
