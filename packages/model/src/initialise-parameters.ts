/**
 * @file First values of a model's parameters: normal with `initializer_range`, norms one, as Hugging Face does.
 */
import type { Rng } from '@moebius/core';
import { createParameterStore, type ParameterInit, type ParameterStore } from '@moebius/tensor';

import type { ModelConfig } from './config.ts';
import { describeParameters, type ParameterDescription } from './describe-parameters.ts';

/**
 * Makes random parameters. Each draws from a fork of `rng` named by its id, so a parameter's values do not depend on
 * which others there are.
 *
 * @param config - the model
 * @param rng - forked, not advanced
 * @returns a store with one unit per expert and per rest of a layer; the caller owns it
 */
export function initialiseParameters(config: ModelConfig, rng: Rng): ParameterStore {
  return createParameterStore(initialValues(describeParameters(config), config, rng));
}

/**
 * First values of some parameters; see {@link initialiseParameters}.
 *
 * @param descriptions - which
 * @param config - the model
 * @param rng - forked, not advanced
 */
export function initialValues(
  descriptions: readonly ParameterDescription[],
  config: ModelConfig,
  rng: Rng,
): { [id: string]: ParameterInit } {
  const initial: { [id: string]: ParameterInit } = {};
  for (const { id, shape, role, unit } of descriptions) {
    const data = new Float32Array(shape.reduce((size, axis) => size * axis, 1));
    if (role === 'norm') data.fill(1);
    else rng.fork(id).fillNormal(data, { standardDeviation: config.initializer_range });
    initial[id] = { shape, data, unit };
  }
  return initial;
}
