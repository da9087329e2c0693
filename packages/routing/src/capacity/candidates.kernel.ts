/**
 * @file Candidates: the pairs that compete for places, grouped by token. Primary pairs come first, in the order of the dropless plan.
 *
 * Letters: `T` tokens, `E` experts, `M` candidates.
 */
import type { DispatchPlan } from '../dispatch-plan.ts';
import type { CapacityScratch } from './scratch.kernel.ts';

/** Competing pairs. All arrays are scratch and at least `count` long. */
export interface Candidates {
  /** Number of candidates `M`. */
  readonly count: number;
  /** Number of experts `E`. */
  readonly experts: number;
  /** Int32Array `[T+1]`: token t owns candidates `tokenOffsets[t] … tokenOffsets[t+1]`. */
  readonly tokenOffsets: Int32Array;
  /** Int32Array `[M]`. */
  readonly token: Int32Array;
  /** Int32Array `[M]`: `token·E + expert`. */
  readonly source: Int32Array;
  /** Uint8Array `[M]`: 1 when the pair was not in the original top-k. */
  readonly added: Uint8Array;
}

/** Writes the extra experts of a token into `out`, in any order; may name experts that it already has. */
export type ExpandToken = (token: number, out: Int32Array) => number;

/**
 * Lists the pairs of a plan and, with `expand`, extra experts for every unmasked token.
 *
 * @param primary - the dropless plan
 * @param cellOf - `[T]`, -1 for masked tokens
 * @param options - how to expand, and at most how many experts that adds to a token
 * @param scratch - holds the result until the next call
 */
export function listCandidates(
  primary: DispatchPlan,
  cellOf: Int32Array,
  options: { readonly expand: ExpandToken | null; readonly perToken: number },
  scratch: CapacityScratch,
): Candidates {
  const { tokens, experts, slot, source: primarySource } = primary;
  const { expand, perToken } = options;
  const room = slot.length + (expand === null ? 0 : tokens * perToken);
  const tokenOffsets = scratch.int32('candidateOffsets', tokens + 1);
  const token = scratch.int32('candidateToken', room);
  const source = scratch.int32('candidateSource', room);
  const added = scratch.bytes('candidateAdded', room);
  const seen = scratch.int32('candidateSeen', experts).fill(-1);
  const extra = scratch.int32('candidateExtra', perToken);
  let at = 0;
  tokenOffsets[0] = 0;
  for (let t = 0; t < tokens; t += 1) {
    const cell = cellOf[t]!;
    for (let i = primary.tokenOffsets[t]!; cell >= 0 && i < primary.tokenOffsets[t + 1]!; i += 1) {
      source[at] = primarySource[slot[i]!]!;
      token[at] = t;
      added[at] = 0;
      seen[source[at]! - t * experts] = t;
      at += 1;
    }
    if (expand !== null && cell >= 0) {
      const found = expand(t, extra);
      for (let i = 0; i < found; i += 1) {
        const e = extra[i]!;
        if (seen[e] === t) continue;
        source[at] = t * experts + e;
        token[at] = t;
        added[at] = 1;
        at += 1;
      }
    }
    tokenOffsets[t + 1] = at;
  }
  return { count: at, experts, tokenOffsets, token, source, added };
}

/** Experts of each device as lists `[devices+1]`, `[E]`, ascending. */
export interface HostedExperts {
  /** Device d hosts `experts[offsets[d] … offsets[d+1]]`. */
  readonly offsets: Int32Array;
  /** Expert ids by device. */
  readonly experts: Int32Array;
}

/** Groups experts by device. */
export function groupByDevice(hostOf: Int32Array, devices: number): HostedExperts {
  const offsets = new Int32Array(devices + 1);
  for (let e = 0; e < hostOf.length; e += 1) offsets[hostOf[e]! + 1]! += 1;
  for (let d = 0; d < devices; d += 1) offsets[d + 1]! += offsets[d]!;
  const cursor = offsets.slice(0, devices);
  const experts = new Int32Array(hostOf.length);
  for (let e = 0; e < hostOf.length; e += 1) {
    const device = hostOf[e]!;
    experts[cursor[device]!] = e;
    cursor[device]! += 1;
  }
  return { offsets, experts };
}

/** Every token is offered the experts of its own device, but none whose score is -∞. */
export function expandLocally(
  scores: ArrayLike<number>,
  hosted: HostedExperts,
  deviceOf: (token: number) => number,
  experts: number,
): ExpandToken {
  return (token, out) => {
    const device = deviceOf(token);
    let found = 0;
    for (let i = hosted.offsets[device]!; i < hosted.offsets[device + 1]!; i += 1) {
      const e = hosted.experts[i]!;
      if (scores[token * experts + e] === -Infinity) continue;
      out[found] = e;
      found += 1;
    }
    return found;
  };
}

/** Every token is offered its m best experts by score, ties to the lower expert, but none whose score is -∞. O(E) a token, and more on insertion. */
export function expandToTopM(scores: ArrayLike<number>, m: number, experts: number): ExpandToken {
  const best = new Float64Array(m);
  return (token, out) => {
    const from = token * experts;
    let found = 0;
    for (let e = 0; e < experts; e += 1) {
      const value = scores[from + e]!;
      if (value === -Infinity || (found === m && value <= best[m - 1]!)) continue;
      let place = found < m ? found : m - 1;
      while (place > 0 && value > best[place - 1]!) {
        best[place] = best[place - 1]!;
        out[place] = out[place - 1]!;
        place -= 1;
      }
      best[place] = value;
      out[place] = e;
      if (found < m) found += 1;
    }
    return found;
  };
}
