/**
 * @file Capacity for a whole model: a policy behind every router, and the model's files as they were.
 */
import { MoebiusError } from '@moebius/core';
import { withCapacity } from '@moebius/routing';
import type { CapacityPolicy } from '@moebius/routing';

import type { AroundRouter, DecoderModel } from './decoder.ts';

/**
 * Puts a capacity policy behind every router of a model. Weights are shared, nothing is copied, and `saveModel` of the result writes the
 * model without the policy.
 *
 * @param model - borrowed, and lives at least as long as the result
 * @param policy - of every sparse layer, or a function of the layer index
 * @returns a model whose `dispose` leaves the weights to `model`
 * @throws `configuration` when a router does not give pairs, or when the policy does not fit a layer, with every fault
 * @example
 * ```ts
 * import { capModel, loadModel } from '@moebius/model';
 * import { capacityPolicy, parseCapacityConfig } from '@moebius/routing';
 *
 * const model = await loadModel('path/to/model');
 * const capped = capModel(model, capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 1.5 })));
 * capped.dispose();
 * model.dispose();
 * ```
 */
export function capModel(
  model: DecoderModel,
  policy: CapacityPolicy | ((layer: number) => CapacityPolicy),
): DecoderModel {
  return model.aroundRouters(capRouters(policy));
}

/**
 * The same for a model that is yet to be made: `createModel({ …, aroundRouter: capRouters(policy) })`.
 *
 * @param policy - of every sparse layer, or a function of the layer index
 * @throws as {@link capModel}, when the model is made
 */
export function capRouters(policy: CapacityPolicy | ((layer: number) => CapacityPolicy)): AroundRouter {
  return (router, layer) => {
    if (router.route !== 'pairs') {
      throw new MoebiusError({
        code: 'configuration',
        message: `layers[${layer}] router "${router.name}": must route pairs to be capped, got ${router.route} (only pairs can be dropped: measure this model without a capacity)`,
        details: { layer, router: router.name, route: router.route },
      });
    }
    return withCapacity(router, typeof policy === 'function' ? policy(layer) : policy);
  };
}
