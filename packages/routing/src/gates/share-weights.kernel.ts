/**
 * @file Equal weights for the experts of a token.
 *
 * Letters: `N` routed pairs.
 */
import type { DispatchPlan } from '../dispatch-plan.ts';

/** Float32Array `[N]` in plan order: 1 over the number of experts of the pair's token. Fresh. */
export function shareWeights({ token, tokenOffsets }: DispatchPlan): Float32Array {
  const weights = new Float32Array(token.length);
  for (let n = 0; n < token.length; n += 1) {
    const t = token[n]!;
    weights[n] = 1 / (tokenOffsets[t + 1]! - tokenOffsets[t]!);
  }
  return weights;
}
