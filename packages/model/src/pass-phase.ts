/** @file What a pass over a model is for, where its caller does not say. */
import type { RouterPhase } from '@moebius/routing';
import type { KvCache } from '@moebius/tensor';

/**
 * The phase of a pass over `tokens` ids: training, whole sequences, a prompt, or one token of each sequence.
 *
 * @param tokens - ids of all sequences
 * @param pass - whether it trains, its cache, its sequences
 */
export function phaseOf(
  tokens: number,
  pass: { readonly training: boolean; readonly cache: KvCache | null; readonly batch: number },
): RouterPhase {
  if (pass.training) return 'train';
  if (pass.cache === null) return 'evaluate';
  return tokens > pass.batch ? 'prefill' : 'decode';
}
