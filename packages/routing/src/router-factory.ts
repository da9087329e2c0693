/**
 * @file Routers by name: what makes a router for a layer from plain options, as they stand in a configuration or a
 * model folder.
 */
import { MoebiusError, definePlugin, isMoebiusError, isPlugin } from '@moebius/core';
import type { Plugin } from '@moebius/core';

import { assertNoFaults, missingFunctions } from './definition-faults.ts';
import type { Router, RouterSettings } from './define-router.ts';

/** The layer that a router is made for. */
export interface RouterPlace {
  /** Layer index in the model. */
  readonly layer: number;
  /** Place among the sparse layers, from 0. */
  readonly place: number;
  /** Sparse layers of the model. */
  readonly sparseLayers: number;
  /** Experts `E` of the layer. */
  readonly experts: number;
  /** Experts of a token `K` that the model's configuration names. */
  readonly topK: number;
  /** `D`. */
  readonly modelWidth: number;
}

/** Makes routers of one name, by value. */
export interface RouterFactory extends Plugin {
  /** Extension point. */
  readonly kind: 'router-factory';
  /** Of the factory and of every router it makes. */
  readonly name: string;
  /**
   * The router of one layer.
   *
   * @param place - the layer
   * @param options - plain JSON; refuse what is wrong in it, all faults at once
   */
  create(place: RouterPlace, options: RouterSettings): Router;
}

/**
 * Checks and freezes a factory. The routers it makes carry its options, so that a model folder can name them.
 *
 * @param definition - name, and how a router is made
 * @throws `plugin` naming every fault
 * @example
 * ```ts
 * const sharp = defineRouterFactory({
 *   name: 'top-k-scaled',
 *   create: ({ experts, topK }, { scale = 1 }) =>
 *     defineRouter({ ...topKRouter(parseGateConfig({ experts, topK, scale })), name: 'top-k-scaled' }),
 * });
 * ```
 */
export function defineRouterFactory(definition: Omit<RouterFactory, 'kind'>): RouterFactory {
  const faults = missingFunctions(definition, ['create']);
  assertNoFaults(`router factory "${String(definition.name)}"`, faults);
  const { name } = definition;
  return definePlugin({
    ...definition,
    kind: 'router-factory',
    create: (place: RouterPlace, options: RouterSettings) =>
      named(callCreate(definition, place, options), { name, options, layer: place.layer }),
  });
}

function callCreate(
  definition: Omit<RouterFactory, 'kind'>,
  place: RouterPlace,
  options: RouterSettings,
): unknown {
  try {
    return definition.create(place, structuredClone(options));
  } catch (cause) {
    const known = isMoebiusError(cause);
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new MoebiusError({
      code: known ? cause.code : 'plugin',
      message: `layers[${place.layer}] router "${definition.name}" create: ${known ? why : `must not throw, got ${why} (mend the plug-in, or its options)`}`,
      details: { router: definition.name, layer: place.layer },
      cause,
    });
  }
}

interface Made {
  readonly name: string;
  readonly options: RouterSettings;
  readonly layer: number;
}

function named(router: unknown, { name, options, layer }: Made): Router {
  const kind = isPlugin(router) ? router.kind : typeof router;
  if (!isPlugin(router, 'router') || router.name !== name) {
    const got = isPlugin(router) ? `${kind} "${router.name}"` : kind;
    throw new MoebiusError({
      code: 'plugin',
      message: `layers[${layer}] router "${name}" create: must return a router of this name made by defineRouter, got ${got}`,
      details: { router: name, layer, got },
    });
  }
  return definePlugin({ ...(router as Router), options });
}
