/**
 * @file From the `optimizer` section of a run to the settings of one step.
 */
import { nearest } from '@moebius/core';
import type { Fault } from '@moebius/core';
import { optimizers } from '@moebius/tensor';
import type { OptimizerDefinition, OptimizerSettings } from '@moebius/tensor';

import { patternSource } from './parameter-patterns.ts';
import type { OptimizerConfig, TrainConfig } from './train-config.ts';

/** Which built-in optimizers a field belongs to; the others would ignore it. */
const owners: { readonly [field in keyof OptimizerConfig]?: readonly string[] } = {
  momentum: ['sgd', 'muon'],
  nesterov: ['sgd', 'muon'],
  decay: ['sgd'],
  scale: ['muon'],
  adamWFor: ['muon'],
  settings: [],
};

/** What a schema cannot say about the section: fields of another kind, a kind that nobody has. */
export function optimizerFaults(config: Pick<TrainConfig, 'optimizer' | 'plugins'>): Fault[] {
  const { optimizer, plugins = [] } = config;
  const { kind } = optimizer;
  const known: readonly string[] = optimizers.names();
  if (!known.includes(kind)) {
    if (plugins.length > 0) return foreignFields(optimizer);
    const close = nearest(kind, known);
    const remedy = close === undefined ? 'or add its module to plugins' : `did you mean "${close}"?`;
    return [
      {
        path: 'optimizer.kind',
        expectation: `must be one of ${known.join(', ')}`,
        got: JSON.stringify(kind),
        remedy,
      },
    ];
  }
  const faults = foreignFields(optimizer);
  const { momentum = 0.9, nesterov = false } = optimizer;
  if (kind === 'sgd' && nesterov && momentum === 0) {
    faults.push({
      path: 'optimizer.nesterov',
      expectation: 'must be left out without momentum',
      got: 'true',
      remedy: 'or give optimizer.momentum',
    });
  }
  return faults;
}

function foreignFields(optimizer: OptimizerConfig): Fault[] {
  const { kind } = optimizer;
  const isBuiltIn = (optimizers.names() as readonly string[]).includes(kind);
  const fields = Object.entries(owners) as [keyof OptimizerConfig, readonly string[]][];
  return fields
    .filter(([field, kinds]) => {
      const fits = field === 'settings' ? !isBuiltIn : kinds.includes(kind);
      return optimizer[field] !== undefined && !fits;
    })
    .map(([field, kinds]) => ({
      path: `optimizer.${field}`,
      expectation: `must be left out with kind ${JSON.stringify(kind)}`,
      got: JSON.stringify(optimizer[field]),
      remedy: kinds.length === 0 ? 'it is for optimizers of plugins' : `it is for ${kinds.join(' and ')}`,
    }));
}

/**
 * Settings of one step.
 *
 * @param optimizer - the section
 * @param lr - learning rate of the step
 * @param plugin - the definition, when `kind` is not built in
 */
export function optimizerSettings(
  optimizer: OptimizerConfig,
  lr: number,
  plugin?: OptimizerDefinition,
): OptimizerSettings {
  const { beta1, beta2, epsilon, momentum, nesterov, weightDecay } = optimizer;
  if (plugin !== undefined) {
    const { settings = {} } = optimizer;
    return { kind: plugin, lr, weightDecay, settings };
  }
  const moments = { betas: [beta1, beta2] as const, epsilon };
  const given = momentum === undefined ? {} : { momentum };
  const look = nesterov === undefined ? {} : { nesterov };
  switch (optimizer.kind) {
    case 'sgd':
      return {
        kind: 'sgd',
        lr,
        weightDecay,
        momentum: 0.9,
        ...given,
        ...look,
        decay: optimizer.decay ?? 'decoupled',
      };
    case 'muon': {
      const { scale = 'match-rms', adamWFor } = optimizer;
      const exempt = adamWFor === undefined ? {} : { adamWFor: adamWFor.map(patternSource) };
      return { kind: 'muon', lr, weightDecay, ...given, ...look, scale, ...exempt, adamW: moments };
    }
    default:
      return { lr, weightDecay, ...moments };
  }
}

/**
 * Bytes of the tensors that a run's optimizer keeps, float32; frozen parameters are counted, too. A plug-in's are taken for two
 * moments.
 */
export function optimizerBytes(
  optimizer: OptimizerConfig,
  parameters: readonly { readonly id: string; readonly shape: readonly number[] }[],
): number {
  const { kind, learningRate } = optimizer;
  const ruleOf = optimizers.has(kind)
    ? (optimizers.get(kind as string) as OptimizerDefinition).rules(
        optimizerSettings(optimizer, learningRate),
      )
    : undefined;
  return parameters.reduce((sum, { id, shape }) => {
    const size = shape.reduce((product, axis) => product * axis, 1);
    return sum + 4 * size * (ruleOf?.(id, shape).slots.length ?? 2);
  }, 0);
}
