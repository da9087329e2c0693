/**
 * @file A family of gates: plain options, checked for the layer, to stages.
 */
import { parseConfig, z } from '@moebius/core';

import { composeRouter } from './compose-router.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory, RouterPlace } from '../router-factory.ts';
import type { BufferStage, RouterStages } from './stages.ts';

/** A family of gates with options `T`. */
export interface GateFamily<T> {
  /** In kebab-case. */
  readonly name: string;
  /** Schema of the options for a layer; every default makes a valid router where the layer's `topK` is valid. */
  readonly options: (place: RouterPlace) => z.ZodType<T>;
  /** The router. */
  readonly stages: (place: RouterPlace, options: T) => Omit<RouterStages, 'name' | 'experts' | 'trusted'>;
}

/**
 * Makes the factory of a family.
 *
 * @param family - name, options, stages
 */
export function defineGateFamily<T>(family: GateFamily<T>): RouterFactory {
  const { name, options: schema, stages } = family;
  return defineRouterFactory({
    name,
    create: (place, given) => {
      const options = parseConfig(schema(place), given, 'options');
      return composeRouter({ ...stages(place, options), name, experts: place.experts, trusted: true });
    },
  });
}

/** Experts of a token: an option that begins as the layer's `topK`, at most `limit`. */
export function topKOption(place: RouterPlace, limit: number = place.experts): z.ZodType<number> {
  return z.int().min(1).max(limit).prefault(place.topK);
}

/** Of how the scores of the chosen become weights. */
export const weighOptions: { readonly renormalise: z.ZodType<boolean>; readonly scale: z.ZodType<number> } = {
  renormalise: z.boolean().default(true),
  scale: z.number().default(1),
};

/** The largest divisor of `experts` that is at most its square root. */
export function usualGroups(experts: number): number {
  for (let groups = Math.floor(Math.sqrt(experts)); groups > 1; groups -= 1)
    if (experts % groups === 0) return groups;
  return 1;
}

/** A number of equal groups of the layer's experts. */
export function groupsOption(place: RouterPlace, usual: number): z.ZodType<number> {
  return z
    .int()
    .min(1)
    .prefault(usual)
    .superRefine((groups, context) => {
      if (place.experts % groups !== 0)
        context.addIssue({ code: 'custom', message: `must divide experts ${place.experts}` });
    });
}

/** The step that training has come to, as buffer `step` `[1]`: a schedule goes on where a model was saved. */
export function stepBuffer(): BufferStage {
  return { shapes: { step: [1] }, advance: (_, { step }) => ({ step: Float32Array.of(step) }) };
}

/** A number that goes from one value to another. */
export interface Schedule {
  /** At step 0. */
  readonly from: number;
  /** At step `steps` and ever after. */
  readonly to: number;
  /** Length. */
  readonly steps: number;
}

/** The value of a schedule, linear in the step. */
export function scheduled({ from, to, steps }: Schedule, step: number): number {
  return from + (to - from) * Math.min(1, Math.max(0, step / steps));
}
