/** @file How evenly the experts of a layer are used, from the pairs routed to each. */
import type { LayerLoad } from './events.ts';

/**
 * Measures of balance.
 *
 * @param layer - index of the layer
 * @param load - pairs of each expert, `[E]`
 */
export function describeLoad(layer: number, load: readonly number[]): LayerLoad {
  const pairs = load.reduce((sum, count) => sum + count, 0);
  const shares = load.filter((count) => count > 0).map((count) => count / pairs);
  const entropy = shares.reduce((sum, share) => sum - share * Math.log(share), 0);
  return {
    layer,
    load,
    imbalance: pairs === 0 ? 0 : (Math.max(...load) * load.length) / pairs,
    entropy: load.length < 2 ? 1 : entropy / Math.log(load.length),
    idle: load.length - shares.length,
  };
}
