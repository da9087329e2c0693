/**
 * @file How much of a held-out text stands word for word in the training text: the share of its n-grams of tokens that
 * occur there. An n-gram is known by a hash of 64 bits; with 10^8 of them the chance of a false match is below 10^-3.
 */

/** Documents one after the other, as in a token shard. */
export interface GramText {
  /** Ids. */
  readonly tokens: Uint16Array | Int32Array;
  /** Int32Array `[documents + 1]`: where each document's end-of-text id is. */
  readonly starts: Int32Array;
}

const empty = 0;
const held = 1;
const seen = 2;

/**
 * Shares of n-grams of each held-out document that the training text has.
 *
 * @param size - tokens of an n-gram
 * @returns float64 `[documents]`, 0 for a document with fewer tokens
 */
export function sharedGramShares(training: GramText, heldOut: GramText, size: number): Float64Array {
  const table = createTable(heldOut.tokens.length);
  eachGram(heldOut, size, (low, high) => {
    const at = table.find(low, high);
    if (table.states[at] === empty) table.put(at, low, high);
  });
  eachGram(training, size, (low, high) => {
    const at = table.find(low, high);
    if (table.states[at] === held) table.states[at] = seen;
  });
  const documents = heldOut.starts.length - 1;
  const all = new Float64Array(documents);
  const shared = new Float64Array(documents);
  eachGram(heldOut, size, (low, high, document) => {
    all[document] = all[document]! + 1;
    if (table.states[table.find(low, high)] === seen) shared[document] = shared[document]! + 1;
  });
  return shared.map((count, document) => (all[document] === 0 ? 0 : count / all[document]!));
}

/** Visits every n-gram that lies inside one document, end-of-text left out. */
function eachGram(
  { tokens, starts }: GramText,
  size: number,
  visit: (low: number, high: number, document: number) => void,
): void {
  for (let document = 0; document + 1 < starts.length; document++) {
    const last = starts[document + 1]! - size;
    for (let first = starts[document]! + 1; first <= last; first++) {
      let low = 0x811c9dc5;
      let high = 0x9e3779b9;
      for (let at = first; at < first + size; at++) {
        low = Math.imul(low ^ tokens[at]!, 0x01000193);
        high = Math.imul(high + tokens[at]!, 0x85ebca6b);
        high ^= high >>> 15;
      }
      visit(low >>> 0, high >>> 0, document);
    }
  }
}

interface GramTable {
  readonly states: Uint8Array;
  /** Where a gram is, or the free place where it belongs. */
  find(low: number, high: number): number;
  put(at: number, low: number, high: number): void;
}

/** Open addressing, at most half full. */
function createTable(grams: number): GramTable {
  let places = 16;
  while (places < 2 * grams) places *= 2;
  const lows = new Uint32Array(places);
  const highs = new Uint32Array(places);
  const states = new Uint8Array(places);
  return {
    states,
    find(low, high) {
      let at = (low ^ Math.imul(high, 0x9e3779b1)) & (places - 1);
      if (at < 0) at += places;
      while (states[at] !== empty && (lows[at] !== low || highs[at] !== high)) at = (at + 1) & (places - 1);
      return at;
    },
    put(at, low, high) {
      lows[at] = low;
      highs[at] = high;
      states[at] = held;
    },
  };
}
