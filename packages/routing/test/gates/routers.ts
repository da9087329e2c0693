/** @file Routers made for a layer of six experts, unless it is said otherwise. */
import type { Router, RouterFactory } from '../../src/index.ts';

export const experts = 6;

/** The router of layer 3 of a model with two experts for each token. */
export function make(
  factory: () => RouterFactory,
  options: object = {},
  { count = experts, modelWidth = 5 }: { readonly count?: number; readonly modelWidth?: number } = {},
): Router {
  const place = { layer: 3, place: 1, sparseLayers: 2, experts: count, topK: Math.min(2, count), modelWidth };
  return factory().create(place, { ...options });
}
