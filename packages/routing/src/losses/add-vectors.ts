/** @file Sums of host vectors, over layers. */
import type { HostStatistics } from '../balance-loss.ts';

/** Entry by entry; empty when there is none. */
export function addVectors(vectors: readonly Float64Array[]): Float64Array {
  const total = new Float64Array(vectors[0]?.length ?? 0);
  for (const vector of vectors)
    for (const [at, entry] of vector.entries()) total[at] = (total[at] ?? 0) + entry;
  return total;
}

/** Statistics of several layers as if they were one. */
export function addLayers(layers: readonly HostStatistics[]): HostStatistics {
  return {
    counts: addVectors(layers.map((layer) => layer.counts)),
    sums: addVectors(layers.map((layer) => layer.sums)),
  };
}
