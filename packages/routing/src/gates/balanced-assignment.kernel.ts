/**
 * @file The balanced assignment problem, exactly: every token gets one expert, every expert gets as many tokens as any other (or one more,
 * where the experts do not divide the tokens), and the sum of scores is the largest there is.
 *
 * Tokens enter one after another by the shortest augmenting path (a minimum-cost flow whose nodes are the experts): token → e costs -score,
 * and e → f costs what it loses to hand its cheapest token on to f. A heap for each ordered pair of experts knows that token. A node `E` stands
 * for the places beyond `floor(T / E)`. Cost O(T · (E³ worst, E² typical) + moves · E log T).
 *
 * Letters: `T` tokens, `E` experts.
 */

/**
 * Solves it.
 *
 * @param scores - `[T, E]`, finite; only read
 * @param experts - `E`
 * @returns Int32Array `[T]`, the expert of each token; the same for the same scores
 */
export function balancedAssignment(scores: ArrayLike<number>, experts: number): Int32Array {
  const tokens = scores.length / experts;
  const state = createState(scores, { tokens, experts });
  for (let t = 0; t < tokens; t += 1) place(state, t);
  return state.owner;
}

interface State {
  readonly scores: ArrayLike<number>;
  readonly experts: number;
  /** Int32Array `[T]`, expert of each token, -1 before it enters. */
  readonly owner: Int32Array;
  readonly load: Int32Array;
  /** Tokens that every expert has. */
  readonly floor: number;
  /** Experts that have one more, at most. */
  readonly extras: number;
  /** Experts that have one more now. */
  usedExtras: number;
  /** `[E·E]`: tokens of e by what it costs to hand them to f, cheapest first; entries of tokens that left are stale. */
  readonly heaps: readonly number[][];
  /** `[E·E]`, what it costs e to hand its cheapest token to f; Infinity without one. */
  readonly handOver: Float64Array;
  /** Scratch of a search, `[E + 1]`. */
  readonly distance: Float64Array;
  readonly parent: Int32Array;
}

function createState(
  scores: ArrayLike<number>,
  { tokens, experts }: { readonly tokens: number; readonly experts: number },
): State {
  return {
    scores,
    experts,
    owner: new Int32Array(tokens).fill(-1),
    load: new Int32Array(experts),
    floor: Math.floor(tokens / experts),
    extras: tokens % experts,
    usedExtras: 0,
    heaps: Array.from({ length: experts * experts }, () => []),
    handOver: new Float64Array(experts * experts).fill(Infinity),
    distance: new Float64Array(experts + 1),
    parent: new Int32Array(experts + 1),
  };
}

/** Puts one token in, moving others along the cheapest path. */
function place(state: State, token: number): void {
  const { scores, experts, distance, parent, load, floor } = state;
  for (let e = 0; e < experts; e += 1) distance[e] = -scores[token * experts + e]!;
  distance[experts] = Infinity;
  parent.fill(-1);
  for (let round = 0; round <= experts && relax(state); round += 1);
  let end = -1;
  for (let e = 0; e < experts; e += 1)
    if (load[e]! < floor && (end < 0 || distance[e]! < distance[end]!)) end = e;
  const isOpen = state.usedExtras < state.extras;
  if (isOpen && (end < 0 || distance[experts]! < distance[end]!)) end = experts;
  if (end === experts) state.usedExtras += 1;
  else load[end]! += 1;
  moveAlong(state, { token, end });
}

/** One round of relaxations over all edges; whether anything became cheaper. */
function relax(state: State): boolean {
  const { experts, distance, parent, load, floor, handOver } = state;
  let changed = false;
  const lower = (to: number, from: number, cost: number): void => {
    const next = distance[from]! + cost;
    if (!(next < distance[to]! - tolerance(next))) return;
    distance[to] = next;
    parent[to] = from;
    changed = true;
  };
  for (let e = 0; e < experts; e += 1) {
    if (load[e] === floor) lower(experts, e, 0);
    for (let f = 0; f < experts; f += 1) if (f !== e) lower(f, e, handOver[e * experts + f]!);
  }
  for (let e = 0; e < experts; e += 1) if (load[e]! > floor) lower(e, experts, 0);
  return changed;
}

/** Differences below it are rounding: a cycle of zero cost must not be followed for ever. */
function tolerance(value: number): number {
  return Number.isFinite(value) ? 1e-12 * (1 + Math.abs(value)) : 0;
}

function lossOf(
  { scores, experts }: State,
  token: number,
  { e, f }: { readonly e: number; readonly f: number },
): number {
  return scores[token * experts + e]! - scores[token * experts + f]!;
}

function cheapest(state: State, e: number, f: number): number {
  const heap = state.heaps[e * state.experts + f]!;
  while (heap.length > 0 && state.owner[heap[0]!] !== e) pop(state, heap, { e, f });
  return heap[0] ?? -1;
}

/** Walks the path back from its end: each node hands its cheapest token on, the first takes the new one. */
function moveAlong(state: State, { token, end }: { readonly token: number; readonly end: number }): void {
  const { experts, parent, load } = state;
  const path: number[] = [];
  for (let node = end; node >= 0; node = parent[node]!) path.unshift(node);
  const handed = path.map((node, i) => {
    const next = path[i + 1];
    if (next === undefined || node === experts || next === experts) return -1;
    return cheapest(state, node, next);
  });
  for (const [i, node] of path.entries()) {
    const [next, before] = [path[i + 1], path[i - 1]];
    if (node === experts) continue;
    if (next === experts) load[node]! += 1;
    if (before === experts) load[node]! -= 1;
    const moved = handed[i]!;
    if (moved >= 0) enter(state, moved, next!);
  }
  enter(state, token, path[0]!);
  for (const node of path) if (node < experts) updateHandOver(state, node);
}

function updateHandOver(state: State, e: number): void {
  const { experts, handOver } = state;
  for (let f = 0; f < experts; f += 1) {
    const token = f === e ? -1 : cheapest(state, e, f);
    handOver[e * experts + f] = token < 0 ? Infinity : lossOf(state, token, { e, f });
  }
}

function enter(state: State, token: number, expert: number): void {
  const { experts, owner, heaps } = state;
  owner[token] = expert;
  for (let f = 0; f < experts; f += 1)
    if (f !== expert) push(state, heaps[expert * experts + f]!, { token, e: expert, f });
}

interface Edge {
  readonly e: number;
  readonly f: number;
}

/** Whether token a is handed on before token b; ties go to the earlier one. */
function isBefore(state: State, a: number, b: number, edge: Edge): boolean {
  const difference = lossOf(state, a, edge) - lossOf(state, b, edge);
  return difference < 0 || (difference === 0 && a < b);
}

function push(state: State, heap: number[], { token, ...edge }: Edge & { readonly token: number }): void {
  let at = heap.push(token) - 1;
  while (at > 0) {
    const up = (at - 1) >> 1;
    if (!isBefore(state, token, heap[up]!, edge)) break;
    heap[at] = heap[up]!;
    at = up;
  }
  heap[at] = token;
}

function pop(state: State, heap: number[], edge: Edge): void {
  const last = heap.pop()!;
  if (heap.length === 0) return;
  let at = 0;
  for (;;) {
    let down = 2 * at + 1;
    if (down >= heap.length) break;
    if (down + 1 < heap.length && isBefore(state, heap[down + 1]!, heap[down]!, edge)) down += 1;
    if (!isBefore(state, heap[down]!, last, edge)) break;
    heap[at] = heap[down]!;
    at = down;
  }
  heap[at] = last;
}
