/**
 * @file What is special about each parameter of a run, from patterns: a table, made once, before any tensor.
 *
 *   rate    layerDecay^(layers above) · learningRateScale of the first group that matches
 *   decay   that group's, else 0 for noDecay, else the optimizer's
 *   frozen  by `freeze` or by that group
 */
import { configurationError } from '@moebius/core';
import type { Fault } from '@moebius/core';
import type { ParameterTreatment, Treatments } from '@moebius/tensor';

import { compilePattern, nearestIds } from './parameter-patterns.ts';
import type { OptimizerConfig } from './train-config.ts';

/**
 * Plans how each parameter is treated.
 *
 * @param optimizer - the section of a run
 * @param ids - every parameter of the model
 * @throws `configuration` naming every pattern that matches nothing, with the nearest names, or that nothing is left to train
 */
export function planTreatments(optimizer: OptimizerConfig, ids: readonly string[]): Treatments {
  const { groups, layerDecay } = optimizer;
  const faults = unmatched(optimizer, ids);
  const compiled = groups.map((group) => ({ ...group, matches: compilePattern(group.pattern) }));
  const spares = optimizer.noDecay.map(compilePattern);
  const freezes = optimizer.freeze.map(compilePattern);
  const layers = layersOf(ids);
  const treat = (id: string): ParameterTreatment => {
    const group = compiled.find(({ matches }) => matches(id));
    if (group?.frozen === true || freezes.some((matches) => matches(id))) return { frozen: true };
    const spared = spares.some((matches) => matches(id)) ? 0 : optimizer.weightDecay;
    return {
      learningRateScale: layerDecay ** layers.above(id) * (group?.learningRateScale ?? 1),
      weightDecay: group?.weightDecay ?? spared,
    };
  };
  const treatments = Object.fromEntries(ids.map((id) => [id, treat(id)]));
  if (faults.length === 0 && ids.length > 0 && ids.every((id) => treatments[id]?.frozen === true)) {
    faults.push({
      path: 'optimizer.freeze',
      expectation: 'must leave a parameter to train',
      got: `all ${ids.length} frozen`,
    });
  }
  if (faults.length > 0) throw configurationError('run configuration', faults);
  return treatments;
}

function unmatched({ freeze, groups }: OptimizerConfig, ids: readonly string[]): Fault[] {
  const patterns = [
    ...groups.map(({ pattern }, i) => ({ pattern, path: `optimizer.groups[${i}].pattern` })),
    ...freeze.map((pattern, i) => ({ pattern, path: `optimizer.freeze[${i}]` })),
  ];
  return patterns
    .filter(({ pattern }) => !ids.some(compilePattern(pattern)))
    .map(({ pattern, path }) => ({
      path,
      expectation: 'must match a parameter',
      got: JSON.stringify(pattern),
      remedy: `nearest: ${nearestIds(pattern, ids).join(', ')}`,
    }));
}

/** How many layers lie above a parameter: 0 for the top layer, the last norm and the head; all of them for the embedding. */
function layersOf(ids: readonly string[]): { above(id: string): number } {
  const layerOf = (id: string): number | undefined => {
    const found = /(?:^|\.)layers\.(\d+)\./u.exec(id)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const count = Math.max(0, ...ids.map((id) => (layerOf(id) ?? -1) + 1));
  const isEmbedding = /embed/u;
  return { above: (id) => (isEmbedding.test(id) ? count : count - 1 - (layerOf(id) ?? count - 1)) };
}
