/**
 * @file From settings to rates, decays and rules.
 */
import { MoebiusError, createRegistry } from '@moebius/core';
import type { Registry } from '@moebius/core';

import { adamW } from './adamw.ts';
import type { AdamWSettings } from './adamw.ts';
import { muon } from './muon.ts';
import type { MuonSettings } from './muon.ts';
import { outOfRange } from './optimizer.ts';
import type { CommonSettings, OptimizerDefinition, ParameterId, RuleChoice } from './optimizer.ts';
import { patternFaults } from './patterns.ts';
import { sgd } from './sgd.ts';
import type { SgdSettings } from './sgd.ts';

/** Settings of an optimizer of yours, by value. Its definition checks the settings beside these. */
export interface CustomOptimizerSettings extends CommonSettings {
  readonly kind: OptimizerDefinition;
  /** Whatever the definition takes. */
  readonly settings?: { readonly [name: string]: unknown };
}

/** Which optimizer, and its numbers: `kind` names one (default `adamw`) or is one. */
export type OptimizerSettings = AdamWSettings | SgdSettings | MuonSettings | CustomOptimizerSettings;

/** The built-in optimizers, by name. */
export const optimizers: Registry<
  readonly [
    OptimizerDefinition<AdamWSettings>,
    OptimizerDefinition<SgdSettings>,
    OptimizerDefinition<MuonSettings>,
  ]
> = createRegistry([adamW, sgd, muon]);

/** An optimizer with its settings checked. */
export interface ResolvedOptimizer {
  /** Learning rate. */
  readonly lr: number;
  /** The decay of one parameter. */
  readonly decayOf: (id: ParameterId) => number;
  /** The rule of one parameter. */
  readonly ruleOf: RuleChoice;
}

/**
 * Checks settings and fills defaults.
 *
 * @throws `configuration` naming every setting that is out of range
 * @throws `registry` on an unknown kind
 */
export function resolveOptimizer(settings: OptimizerSettings): ResolvedOptimizer {
  const { kind = 'adamw', lr } = settings;
  const definition = (
    typeof kind === 'string' ? optimizers.get(kind as string) : kind
  ) as OptimizerDefinition;
  const { weightDecay = definition.weightDecay } = settings;
  const rules = typeof weightDecay === 'number' ? [{ pattern: '', weightDecay }] : weightDecay;
  const faults = [
    ...outOfRange('lr', lr, Number.isFinite(lr) && lr >= 0, 'at least 0'),
    ...definition.check(settings),
    ...patternFaults(
      'weightDecay pattern',
      rules.map(({ pattern }) => pattern),
    ),
    ...rules.flatMap(({ pattern, weightDecay: decay }) =>
      outOfRange(`weightDecay of /${pattern}/`, decay, Number.isFinite(decay) && decay >= 0, 'at least 0'),
    ),
  ];
  if (faults.length > 0) {
    throw new MoebiusError({
      code: 'configuration',
      message: `${definition.name}: ${faults.join('; ')}`,
      details: { optimizer: definition.name, faults },
    });
  }
  const compiled = rules.map((rule) => ({ test: new RegExp(rule.pattern, 'u'), decay: rule.weightDecay }));
  const decayOf = (id: ParameterId): number => compiled.find(({ test }) => test.test(id))?.decay ?? 0;
  return { lr, decayOf, ruleOf: definition.rules(settings) };
}
