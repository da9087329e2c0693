/**
 * @file The model a run begins with: random weights, or those of a model folder.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';

import { MoebiusError, createRng } from '@moebius/core';
import {
  createModel,
  describeParameters,
  initialiseParameters,
  loadModel,
  readModelConfig,
} from '@moebius/model';
import type { DecoderModel, ModelConfig, ModelOptions, PartsChoice } from '@moebius/model';

import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { readTokenizer } from '../tokenizer/tokenizer-folder.ts';
import type { TrainConfig } from './train-config.ts';

/** How a model is wired beside its configuration and weights. */
export type ModelWiring = Omit<ModelOptions, 'config' | 'parameters'>;

/**
 * Makes the model.
 *
 * @param config - the run: `seed` decides random weights, `initFrom` names others
 * @param modelConfig - the run's model; its parameters must be those of `initFrom`
 * @param wiring - who runs the experts
 * @returns a model; the caller disposes it
 * @throws `configuration` when `initFrom` is another model, `checkpoint`, `format`, `limit` or `io` when it is damaged
 */
export async function createInitialModel(
  { initFrom, seed }: TrainConfig,
  modelConfig: ModelConfig,
  wiring: ModelWiring,
): Promise<DecoderModel> {
  if (initFrom === null) {
    const parameters = initialiseParameters(modelConfig, createRng([seed]).fork('parameters'), wiring);
    return createModel({ ...wiring, config: modelConfig, parameters });
  }
  const { router, experts, plugins } = wiring;
  const parts: PartsChoice = { router, experts, plugins };
  assertSameParameters(initFrom, modelConfig, parts);
  // The loaded model is only a holder of its weights: it has made nothing else until it runs.
  const { parameters, generation, routerState } = await loadModel(initFrom, parts);
  return createModel({ generation, ...wiring, config: modelConfig, parameters, routerState });
}

/**
 * Checks what can be checked before text is read: the folder holds the configuration of a model.
 *
 * @throws `io` when there is none, `format` when it is not JSON, `configuration` when it is of another kind
 */
export function assertInitialFolder({ initFrom }: TrainConfig): void {
  if (initFrom === null) return;
  try {
    readModelConfig(initFrom);
  } catch (cause) {
    if (!(cause instanceof MoebiusError)) throw cause;
    throw new MoebiusError({
      code: cause.code,
      message: `initFrom: ${cause.message}`,
      details: { ...cause.details, initFrom },
      cause,
    });
  }
}

/**
 * A model knows the words of one tokenizer only: with another one, its ids mean other pieces of text.
 *
 * @throws `configuration` when the folder has a tokenizer, and it is not this one
 */
export async function assertInitialTokenizer({ initFrom }: TrainConfig, tokenizer: Tokenizer): Promise<void> {
  if (initFrom === null) return;
  const hasOne = await stat(join(initFrom, 'tokenizer.json')).then(
    () => true,
    () => false,
  );
  if (!hasOne) return;
  const own = await readTokenizer(initFrom);
  if (own.hash === tokenizer.hash) return;
  const describe = ({ vocabularySize, hash }: Tokenizer): string =>
    `${vocabularySize} tokens, hash ${hash.slice(0, 8)}`;
  throw new MoebiusError({
    code: 'configuration',
    message: `tokenizer: must be the one that the model in ${initFrom} was trained with (${describe(own)}), got another (${describe(tokenizer)}) (leave tokenizer out, then it is that one)`,
    details: { initFrom, expected: own.hash, got: tokenizer.hash },
  });
}

function assertSameParameters(initFrom: string, wanted: ModelConfig, parts: PartsChoice): void {
  const found = readModelConfig(initFrom);
  const shapes = (config: ModelConfig): string =>
    JSON.stringify(describeParameters(config, parts).map(({ id, shape }) => [id, shape]));
  if (shapes(found) === shapes(wanted)) return;
  const fields = Object.keys(wanted) as (keyof ModelConfig)[];
  const differing = fields
    .filter((key) => JSON.stringify(wanted[key]) !== JSON.stringify(found[key]))
    .map((key) => `${key} is ${JSON.stringify(found[key])} there and ${JSON.stringify(wanted[key])} here`);
  throw new MoebiusError({
    code: 'configuration',
    message: `model: must have the parameters of ${initFrom}, got another configuration: ${differing.join('; ')} (leave model out, then it is that one)`,
    details: { initFrom, differing },
  });
}
