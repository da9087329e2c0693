/**
 * @file Every balance loss by name, made from plain options: what a run configuration names.
 */
import { configurationError, nearest, parseConfig, z } from '@moebius/core';

import { confidenceLoss, entropyLoss, mutualInformationLoss } from './certainty-losses.ts';
import { communicationLoss, deviceBalanceLoss } from './device-losses.ts';
import { expertCountLoss } from './expert-count-loss.ts';
import { importanceLoss } from './importance-loss.ts';
import { firstChoiceBalanceLoss, loadBalanceLoss } from './load-balance-loss.ts';
import { loadEstimateLoss } from './load-estimate-loss.ts';
import { localizedBalanceLoss } from './localized-balance-loss.ts';
import { nullExpertLoss } from './null-expert-loss.ts';
import { poolingFields } from './pooling.ts';
import { sparsityLoss } from './sparsity-loss.ts';
import { orthogonalityLoss } from './weight-losses.ts';
import { zLoss } from './z-loss.ts';
import type { BalanceLoss } from '../balance-loss.ts';

/** Names of {@link builtInLosses}. */
export type BuiltInLossName =
  | 'load-balance'
  | 'first-choice-balance'
  | 'device-balance'
  | 'communication-balance'
  | 'null-expert-balance'
  | 'localized-balance'
  | 'importance'
  | 'load-estimate'
  | 'mutual-information'
  | 'sparsity'
  | 'z-loss'
  | 'entropy'
  | 'confidence'
  | 'expert-count'
  | 'orthogonality';

/** A loss by name. */
export interface LossEntry {
  /** What it asks for, in a line. */
  readonly summary: string;
  /**
   * Makes it.
   *
   * @param options - plain JSON; all faults are reported at once
   * @param subject - what is configured, for the message
   * @throws `configuration`
   */
  create(options: unknown, subject: string): BalanceLoss;
}

const pooled = z.enum(['pooled', 'per-layer']).optional();
const deviation = z.enum(['population', 'sample']).optional();
const devices = {
  ...poolingFields,
  devices: z.int().min(1),
  hostOf: z.array(z.int().min(0)).optional(),
};

function entry<T>(summary: string, schema: z.ZodType<T>, create: (options: T) => BalanceLoss): LossEntry {
  return Object.freeze({
    summary,
    create: (options: unknown, subject: string) => create(parseConfig(schema, options, subject)),
  });
}

const nothing = z.strictObject({});

/** Every built-in loss by name. */
export const builtInLosses: Readonly<Record<BuiltInLossName, LossEntry>> = Object.freeze({
  'load-balance': entry(
    'E·Σ f·P: shares of pairs times mean probabilities',
    z.strictObject({
      ...poolingFields,
      pooling: z.enum(['pooled', 'per-layer', 'per-sequence']).default('per-layer'),
      divideByTopK: z.boolean().optional(),
    }),
    loadBalanceLoss,
  ),
  'first-choice-balance': entry(
    "GShard's: only each token's best expert is counted",
    z.strictObject(poolingFields),
    firstChoiceBalanceLoss,
  ),
  'device-balance': entry("DeepSeek's, of devices", z.strictObject(devices), deviceBalanceLoss),
  'communication-balance': entry(
    'what devices receive',
    z.strictObject({ ...devices, maximumDevices: z.int().min(1).optional() }),
    communicationLoss,
  ),
  'null-expert-balance': entry(
    "AdaMoE's: null experts as a whole",
    z.strictObject({ ...poolingFields, nulls: z.int().min(1), choices: z.int().min(1) }),
    nullExpertLoss,
  ),
  'localized-balance': entry(
    "LoRAMoE's: groups of experts for groups of samples",
    z.strictObject({
      expertGroups: z.array(z.int()).min(1),
      sequenceTokens: z.int().min(1),
      delta: z.number().min(0).lt(1).optional(),
    }),
    localizedBalanceLoss,
  ),
  importance: entry(
    'CV² of summed probabilities',
    z.strictObject({
      pooling: pooled,
      deviation,
      of: z.enum(['all', 'chosen', 'renormalised']).optional(),
    }),
    importanceLoss,
  ),
  'load-estimate': entry(
    'CV² of a smooth estimate of loads under noise',
    z.strictObject({
      pooling: pooled,
      deviation,
      noise: z.number().gt(0).optional(),
      form: z.enum(['v-moe', 'shazeer']).optional(),
    }),
    loadEstimateLoss,
  ),
  'mutual-information': entry(
    'sure for each token, diverse overall',
    z.strictObject({
      pooling: pooled,
      certainty: z.number().min(0).optional(),
      diversity: z.number().min(0).optional(),
    }),
    mutualInformationLoss,
  ),
  sparsity: entry("ReMoE's L1 on ReLU scores", z.strictObject(poolingFields), sparsityLoss),
  'z-loss': entry('small logits', nothing, zLoss),
  entropy: entry("mean entropy of a token's probabilities", nothing, entropyLoss),
  confidence: entry('what the best probability lacks to 1', nothing, confidenceLoss),
  'expert-count': entry("mean sum of a token's scores", nothing, expertCountLoss),
  orthogonality: entry(
    'orthonormal rows of the router matrix',
    z.strictObject({ parameter: z.string().min(1).optional(), simplicity: z.number().min(0).optional() }),
    orthogonalityLoss,
  ),
});

/**
 * A built-in loss by name.
 *
 * @param name - one of {@link builtInLosses}
 * @param options - its settings, plain JSON
 * @param subject - where it was named, for messages
 * @throws `configuration` for an unknown name (with the nearest known one), or with every fault of the options
 * @example
 * ```ts
 * const loss = createLoss('importance', { deviation: 'sample' });
 * ```
 */
export function createLoss(
  name: string,
  options: unknown = {},
  subject: string = 'balance loss',
): BalanceLoss {
  const known = Object.keys(builtInLosses);
  const found = Object.entries(builtInLosses).find(([own]) => own === name)?.[1];
  if (found === undefined) {
    const close = nearest(name, known);
    throw configurationError(subject, [
      {
        path: 'name',
        expectation: `must be one of ${known.join(', ')}`,
        got: JSON.stringify(name),
        ...(close === undefined ? {} : { remedy: `did you mean "${close}"?` }),
      },
    ]);
  }
  return found.create(options, subject);
}
