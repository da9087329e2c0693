/**
 * @file Settings of AdamW and their checks.
 */
import { MoebiusError } from '@moebius/core';

/** Identifies a parameter, for example `model.layers.3.mlp.experts.17.up_proj.weight`. */
export type ParameterId = string;

/** Weight decay of the parameters whose id matches. */
export interface WeightDecayRule {
  /** Source of a regular expression, tried on the id. */
  readonly pattern: string;
  /** Decoupled weight decay. */
  readonly weightDecay: number;
}

/** AdamW, with PyTorch's meaning and defaults. */
export interface AdamWSettings {
  /** Learning rate. */
  readonly lr: number;
  /** Decays of the moments; default `[0.9, 0.999]`. */
  readonly betas?: readonly [number, number];
  /** Default 1e-8. */
  readonly epsilon?: number;
  /** Decoupled decay: one for all, or rules of which the first match counts (none: 0); default 0.01. */
  readonly weightDecay?: number | readonly WeightDecayRule[];
}

/** Settings with every default filled in. */
export interface ResolvedAdamW {
  /** Learning rate. */
  readonly lr: number;
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Added to the root of the second moment. */
  readonly epsilon: number;
  /** The decay of one parameter. */
  readonly decayOf: (id: ParameterId) => number;
}

/**
 * Checks settings and fills defaults.
 *
 * @throws `configuration` naming every setting that is out of range
 */
export function resolveAdamW(settings: AdamWSettings): ResolvedAdamW {
  const { lr, betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0.01 } = settings;
  const [beta1, beta2] = betas;
  const rules = typeof weightDecay === 'number' ? [{ pattern: '', weightDecay }] : weightDecay;
  const faults = [
    ...range('lr', lr, Number.isFinite(lr) && lr >= 0, 'at least 0'),
    ...range('betas[0]', beta1, beta1 >= 0 && beta1 < 1, 'in [0, 1)'),
    ...range('betas[1]', beta2, beta2 >= 0 && beta2 < 1, 'in [0, 1)'),
    ...range('epsilon', epsilon, Number.isFinite(epsilon) && epsilon > 0, 'above 0'),
    ...rules
      .filter((rule) => !compiles(rule.pattern))
      .map((rule) => `weightDecay pattern must be a regular expression, got ${rule.pattern}`),
    ...rules.flatMap((rule) =>
      range(
        `weightDecay of /${rule.pattern}/`,
        rule.weightDecay,
        Number.isFinite(rule.weightDecay) && rule.weightDecay >= 0,
        'at least 0',
      ),
    ),
  ];
  if (faults.length > 0) {
    throw new MoebiusError({
      code: 'configuration',
      message: `adamW: ${faults.join('; ')}`,
      details: { faults },
    });
  }
  const compiled = rules.map((rule) => ({ test: new RegExp(rule.pattern), decay: rule.weightDecay }));
  const decayOf = (id: ParameterId): number => compiled.find(({ test }) => test.test(id))?.decay ?? 0;
  return { lr, beta1, beta2, epsilon, decayOf };
}

function range(name: string, value: number, good: boolean, expectation: string): string[] {
  return good ? [] : [`${name} must be ${expectation}, got ${value}`];
}

function compiles(pattern: string): boolean {
  try {
    return new RegExp(pattern) instanceof RegExp;
  } catch {
    return false;
  }
}
