/**
 * @file Quantile balancing: a selection bias that would have given every expert its share of a batch, from the batch's own scores and without a loss.
 *
 * Each expert's threshold is the score that its share k/E of tokens reaches; moving every threshold to one level moves every load to one level
 * where tokens choose alone. With top-k they compete, so loads come near to equal, not equal.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k.
 */

/** What {@link quantileBias} is told. */
export interface QuantileBiasOptions {
  /** `E`. */
  readonly experts: number;
  /** `K`. */
  readonly topK: number;
  /** Uint8Array `[T]`, 0 leaves a token out. */
  readonly mask?: Uint8Array | undefined;
}

/**
 * The selection bias of a batch: minus the (1 - k/E)-quantile of each expert's scores, with mean 0.
 *
 * @param scores - Float32Array `[T, E]`, what the gate selects by; only read
 * @param options - sizes and mask
 * @returns fresh Float32Array `[E]` for the buffer `selectionBias`; zeros without tokens
 */
export function quantileBias(scores: ArrayLike<number>, options: QuantileBiasOptions): Float32Array {
  const { experts, topK, mask } = options;
  const tokens = scores.length / experts;
  const bias = new Float32Array(experts);
  const column = new Float64Array(tokens);
  let total = 0;
  for (let e = 0; e < experts; e += 1) {
    let counted = 0;
    for (let t = 0; t < tokens; t += 1) {
      if (mask !== undefined && mask[t] === 0) continue;
      column[counted] = scores[t * experts + e]!;
      counted += 1;
    }
    if (counted === 0) return bias;
    const sorted = column.subarray(0, counted).sort();
    const rank = Math.min(counted - 1, Math.max(0, Math.round(counted * (1 - topK / experts))));
    bias[e] = -sorted[rank]!;
    total += bias[e]!;
  }
  for (let e = 0; e < experts; e += 1) bias[e] = bias[e]! - total / experts;
  return bias;
}
