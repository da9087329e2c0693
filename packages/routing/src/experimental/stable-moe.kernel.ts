/**
 * @file The light router of StableMoE on the host: one row of a table against every centroid.
 */

/** Tensors of the light router, and their sizes. */
export interface LightTables {
  /** `[V, L]` */
  readonly lightEmbedding: Float32Array;
  /** `[E, L]` */
  readonly lightCentroids: Float32Array;
  /** `L` */
  readonly width: number;
  /** `E` */
  readonly experts: number;
}

/** The expert of a token id: the largest product, ties to the lowest expert. */
export function lightArgMax(id: number, tables: LightTables): number {
  const { lightEmbedding, lightCentroids, width, experts } = tables;
  let best = 0;
  let top = -Infinity;
  for (let e = 0; e < experts; e += 1) {
    let total = 0;
    for (let i = 0; i < width; i += 1)
      total += lightEmbedding[id * width + i]! * lightCentroids[e * width + i]!;
    if (total > top) {
      top = total;
      best = e;
    }
  }
  return best;
}
