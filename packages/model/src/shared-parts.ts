/**
 * @file The shared expert of a sparse layer, as the `moebius` section of a configuration names it.
 */
import { builtInExperts } from '@moebius/routing';
import type { ExpertKind, ExpertSize } from '@moebius/routing';
import { builtInCombiners } from '@moebius/routing/experts';
import type { SharedCombiner } from '@moebius/routing/experts';

import type { ModelConfig } from './config.ts';

/** What the shared expert of a layer is made of. */
export interface SharedParts {
  /** What it computes. */
  readonly kind: ExpertKind;
  /** Its widths. */
  readonly size: ExpertSize;
  /** How it joins the routed experts. */
  readonly combiner: SharedCombiner;
}

/**
 * The shared expert of a layer.
 *
 * @param config - a parsed configuration: its names are known ones
 * @param layer - layer index
 * @returns null for a layer without one
 */
export function sharedPartsOf(config: ModelConfig, layer: number): SharedParts | null {
  const named = config.moebius?.shared?.find(({ layers }) => layers.includes(layer));
  if (named === undefined) return null;
  const kind = builtInExperts().find(({ name }) => name === named.expert);
  const combiner = builtInCombiners().find(({ name }) => name === named.combiner);
  if (kind === undefined || combiner === undefined) return null;
  return { kind, combiner, size: { modelWidth: config.hidden_size, hiddenWidth: named.width } };
}
