/**
 * @file Selection on the host: logits `[T, E]` → the k best experts of each token, and the host form of the gate's weights.
 *
 * Ties go to the lowest index. Where the selection score is monotone in the logits of a token (no selection bias, no groups), logits
 * are compared themselves: no exponentials, and no ties through rounding. Otherwise scores are computed here in float64.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k, `G` groups.
 */
import type { GateConfig, GateGroups, GateScore } from './gate-config.ts';

/** Result of {@link selectExperts}. */
export interface Selection {
  /** Int32Array `[T, K]`, best first; undefined rows (zeros) for masked tokens. */
  readonly ids: Int32Array;
  /** First token whose logits hold a NaN, +∞, or nothing but -∞; -1 when there is none. */
  readonly badToken: number;
}

/** Host arrays that selection reads. */
export interface SelectionInput {
  /** Float32Array `[T, E]`. */
  readonly logits: ArrayLike<number>;
  /** Float32Array `[E]`, added to the scores for selection only. */
  readonly selectionBias?: ArrayLike<number>;
  /** Uint8Array `[T]`, 0 skips the token. */
  readonly mask?: Uint8Array;
}

/**
 * Chooses experts for every unmasked token.
 *
 * @param input - host arrays, only read
 * @param config - a parsed gate
 * @returns fresh ids
 */
export function selectExperts(input: SelectionInput, config: GateConfig): Selection {
  const { logits, mask, selectionBias } = input;
  const { experts, topK, groups } = config;
  const tokens = experts === 0 ? 0 : logits.length / experts;
  const ids = new Int32Array(tokens * topK);
  const best = new Float64Array(topK);
  const direct = groups === null && selectionBias === undefined;
  const row = new Float64Array(direct ? 0 : experts);
  const scratch = groups === null ? null : createGroupScratch(groups);
  for (let t = 0; t < tokens; t += 1) {
    if (mask !== undefined && mask[t] === 0) continue;
    if (!rowIsUsable(logits, t * experts, experts)) return { ids, badToken: t };
    if (direct) {
      topKOfRow(logits, t * experts, experts, ids, t * topK, best);
      continue;
    }
    if (config.scoreAfterTopK) for (let e = 0; e < experts; e += 1) row[e] = logits[t * experts + e]!;
    else scoreRowInto(row, logits, t * experts, config);
    if (selectionBias !== undefined) for (let e = 0; e < experts; e += 1) row[e]! += selectionBias[e]!;
    if (scratch !== null && groups !== null) maskGroupsInto(row, groups, scratch);
    topKOfRow(row, 0, experts, ids, t * topK, best);
  }
  return { ids, badToken: -1 };
}

/** No NaN, no +∞ and at least one finite value; one pass, one comparison at the end. */
export function rowIsUsable(logits: ArrayLike<number>, from: number, experts: number): boolean {
  let sum = 0;
  for (let e = 0; e < experts; e += 1) sum += logits[from + e]!;
  if (Number.isFinite(sum)) return true;
  let finite = 0;
  for (let e = 0; e < experts; e += 1) {
    const value = logits[from + e]!;
    if (Number.isNaN(value) || value === Infinity) return false;
    if (value !== -Infinity) finite += 1;
  }
  return finite > 0;
}

/**
 * The k largest of a row by insertion into a sorted list, ties to the lowest index; O(E + k·insertions).
 *
 * @param values - holds the row, only read
 * @param from - where it begins
 * @param experts - its length
 * @param ids - written from `at`, best first
 * @param at - first place in `ids`
 * @param best - Float64Array `[K]`, scratch
 */
export function topKOfRow(
  values: ArrayLike<number>,
  from: number,
  experts: number,
  ids: Int32Array,
  at: number,
  best: Float64Array,
): void {
  const topK = best.length;
  for (let e = 0; e < experts; e += 1) {
    const value = values[from + e]!;
    if (e >= topK && value <= best[topK - 1]!) continue;
    let place = e < topK ? e : topK - 1;
    while (place > 0 && value > best[place - 1]!) {
      best[place] = best[place - 1]!;
      ids[at + place] = ids[at + place - 1]!;
      place -= 1;
    }
    best[place] = value;
    ids[at + place] = e;
  }
}

/**
 * Scores of one row of logits in float64.
 *
 * @param row - `[E]`, written
 * @param logits - `[T, E]`, only read
 * @param from - where the row begins
 * @param config - experts and score function
 */
export function scoreRowInto(
  row: Float64Array,
  logits: ArrayLike<number>,
  from: number,
  config: Pick<GateConfig, 'experts' | 'score'>,
): void {
  const { experts, score } = config;
  if (score === 'softmax') {
    softmaxRowInto(row, logits, from, experts);
    return;
  }
  for (let e = 0; e < experts; e += 1) {
    row[e] = scoreOf(logits[from + e]!, score);
  }
}

function scoreOf(logit: number, score: Exclude<GateScore, 'softmax'>): number {
  if (score === 'sigmoid') return 1 / (1 + Math.exp(-logit));
  // ln(1 + e^z) without overflow.
  if (score === 'sqrt-softplus')
    return Math.sqrt(Math.max(logit, 0) + Math.log1p(Math.exp(-Math.abs(logit))));
  return score === 'relu' ? Math.max(logit, 0) : logit;
}

function softmaxRowInto(row: Float64Array, logits: ArrayLike<number>, from: number, experts: number): void {
  let largest = -Infinity;
  for (let e = 0; e < experts; e += 1) if (logits[from + e]! > largest) largest = logits[from + e]!;
  let sum = 0;
  for (let e = 0; e < experts; e += 1) sum += row[e] = Math.exp(logits[from + e]! - largest);
  for (let e = 0; e < experts; e += 1) row[e]! /= sum;
}

interface GroupScratch {
  readonly scores: Float64Array;
  readonly kept: Int32Array;
  readonly best: Float64Array;
  readonly stays: Uint8Array;
}

function createGroupScratch(groups: GateGroups): GroupScratch {
  return {
    scores: new Float64Array(groups.count),
    kept: new Int32Array(groups.keep),
    best: new Float64Array(groups.keep),
    stays: new Uint8Array(groups.count),
  };
}

function maskGroupsInto(row: Float64Array, groups: GateGroups, scratch: GroupScratch): void {
  const size = row.length / groups.count;
  for (let g = 0; g < groups.count; g += 1) {
    let first = -Infinity;
    let second = -Infinity;
    for (let e = g * size; e < (g + 1) * size; e += 1) {
      const value = row[e]!;
      if (value > first) {
        second = first;
        first = value;
      } else if (value > second) second = value;
    }
    scratch.scores[g] = groups.score === 'max' ? first : first + second;
  }
  topKOfRow(scratch.scores, 0, groups.count, scratch.kept, 0, scratch.best);
  scratch.stays.fill(0);
  for (const g of scratch.kept) scratch.stays[g] = 1;
  const fill = groups.fill === 'zero' ? 0 : -Infinity;
  for (let e = 0; e < row.length; e += 1) if (scratch.stays[Math.floor(e / size)] === 0) row[e] = fill;
}

/**
 * Weights of the chosen experts on the host, for passes without gradient: the same rules as the device path.
 *
 * @param logits - `[T, E]`, only read
 * @param ids - `[T, K]` from {@link selectExperts}, best first
 * @param tokenOffsets - `[T+1]` of the plan: tokens without entries are skipped
 * @param slot - `[N]` of the plan: pair of each entry
 * @param config - a parsed gate
 * @returns Float32Array `[N]` in plan order, fresh
 */
export function weighSelection(
  logits: ArrayLike<number>,
  ids: Int32Array,
  plan: { readonly tokenOffsets: Int32Array; readonly slot: Int32Array },
  config: GateConfig,
): Float32Array {
  const { experts, topK, scale } = config;
  const { tokenOffsets, slot } = plan;
  const weights = new Float32Array(slot.length);
  const row = new Float64Array(experts);
  const chosen = new Float64Array(topK);
  for (let t = 0; t + 1 < tokenOffsets.length; t += 1) {
    const start = tokenOffsets[t]!;
    if (tokenOffsets[t + 1] === start) continue;
    if (config.scoreAfterTopK && config.score === 'softmax') {
      for (let k = 0; k < topK; k += 1) chosen[k] = logits[t * experts + ids[t * topK + k]!]!;
      softmaxRowInto(chosen, chosen, 0, topK);
    } else {
      scoreRowInto(row, logits, t * experts, config);
      for (let k = 0; k < topK; k += 1) chosen[k] = row[ids[t * topK + k]!]!;
    }
    let factor = scale;
    if (config.renormalise) {
      let sum = config.renormaliseEpsilon;
      for (let k = 0; k < topK; k += 1) sum += chosen[k]!;
      factor = scale / sum;
    }
    for (let k = 0; k < topK; k += 1) weights[slot[start + k]!] = chosen[k]! * factor;
  }
  return weights;
}

/**
 * Marks the chosen experts of every token.
 *
 * @param plan - tokens, experts, source and tokenOffsets of a plan
 * @returns Uint8Array `[T, E]`, 1 where chosen; all 1 for tokens without a pair, so that sums over a row are never empty. Fresh.
 */
export function chosenExperts(plan: {
  readonly tokens: number;
  readonly experts: number;
  readonly source: Int32Array;
  readonly tokenOffsets: Int32Array;
}): Uint8Array {
  const { tokens, experts, source, tokenOffsets } = plan;
  const chosen = new Uint8Array(tokens * experts);
  for (let n = 0; n < source.length; n += 1) chosen[source[n]!] = 1;
  for (let t = 0; t < tokens; t += 1) {
    if (tokenOffsets[t + 1] === tokenOffsets[t]) chosen.fill(1, t * experts, (t + 1) * experts);
  }
  return chosen;
}
