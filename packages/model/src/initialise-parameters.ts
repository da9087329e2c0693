/**
 * @file First values of a model's parameters: normal with `initializer_range`, norms one, as Hugging Face does.
 */
import { MoebiusError, type Rng } from '@moebius/core';
import { createParameterStore, type ParameterInit, type ParameterStore } from '@moebius/tensor';

import type { ModelConfig } from './config.ts';
import { describeParameters, type ParameterDescription } from './describe-parameters.ts';
import type { PartsSource } from './model-parts.ts';

/**
 * Makes random parameters. Each draws from a fork of `rng` named by its id, so a parameter's values do not depend on
 * which others there are.
 *
 * @param config - the model
 * @param rng - forked, not advanced
 * @param choice - routers and kinds of experts, when they are not the family's own
 * @returns a store with one unit per expert and per rest of a layer; the caller owns it
 */
export function initialiseParameters(
  config: ModelConfig,
  rng: Rng,
  choice: PartsSource = {},
): ParameterStore {
  return createParameterStore(initialValues(describeParameters(config, choice), config, rng));
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
  for (const description of descriptions) {
    const { id, shape, unit } = description;
    initial[id] = { shape, data: initialData(description, config, rng), unit };
  }
  return initial;
}

/** First values of one parameter; see {@link initialiseParameters}. */
export function initialData(description: ParameterDescription, config: ModelConfig, rng: Rng): Float32Array {
  const { id, shape, initialise } = description;
  const standardDeviation = config.initializer_range;
  return initialise === undefined
    ? usualValues(description, rng, standardDeviation)
    : ownValues(description, initialise({ shape, rng: rng.fork(id), standardDeviation }));
}

function usualValues(
  { id, shape, role }: ParameterDescription,
  rng: Rng,
  standardDeviation: number,
): Float32Array {
  const data = new Float32Array(sizeOf(shape));
  if (role === 'norm') data.fill(1);
  else if (role === 'matrix' || role === 'embedding') rng.fork(id).fillNormal(data, { standardDeviation });
  return data;
}

/** What a plug-in said, checked. */
function ownValues({ id, shape }: ParameterDescription, values: unknown): Float32Array {
  const size = sizeOf(shape);
  const isRight =
    values instanceof Float32Array &&
    values.length === size &&
    values.every((value) => Number.isFinite(value));
  if (isRight) return values;
  const got = values instanceof Float32Array ? `one of ${values.length}, or with NaN` : typeof values;
  throw new MoebiusError({
    code: 'plugin',
    message: `${id}: initialise must return a Float32Array of ${size} finite numbers, got ${got} (mend the plug-in)`,
    details: { id, size, got },
  });
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, axis) => size * axis, 1);
}
