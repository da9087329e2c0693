/** @file Routers of this folder, by name, made for a layer of six experts unless they say otherwise. */
import type { Router, RouterFactory, RouterOptions } from '../../src/index.ts';
import {
  baseRouter,
  domainRouter,
  expertChoiceRouter,
  frozenRandomRouter,
  hashRouter,
  loryRouter,
  meoRouter,
  mixtureOfDepthsRouter,
  multiGateRouter,
  randomRouter,
  sentenceRouter,
  sinkhornRouter,
  smearRouter,
  softMoeRouter,
} from '../../src/gates/index.ts';

export const experts = 6;

/** The router of layer 3 of a model with two experts for each token. */
export function make(
  factory: RouterFactory,
  options: object = {},
  { count = experts, modelWidth = 5 }: { readonly count?: number; readonly modelWidth?: number } = {},
): Router {
  const place = { layer: 3, place: 1, sparseLayers: 2, experts: count, topK: Math.min(2, count), modelWidth };
  return factory.create(place, { ...options });
}

/** A router of the kit. */
export interface KitCase {
  readonly router: Router;
  readonly tokensInteract?: boolean;
  readonly context?: Partial<RouterOptions>;
}

const domain = Int32Array.of(0, 1, 0, 1, 1, 0, 1);

/** Every router with several of its options. */
export const kitCases: Readonly<Record<string, KitCase>> = {
  'soft-moe': { router: make(softMoeRouter) },
  'soft-moe, three slots, not normalised': { router: make(softMoeRouter, { slots: 3, normalise: false }) },
  smear: { router: make(smearRouter) },
  'smear with dropout': { router: make(smearRouter, { dropout: 0.4, normalise: false }) },
  meo: { router: make(meoRouter, { topK: 3 }) },
  lory: { router: make(loryRouter, { segment: 2 }) },
  'lory, one segment': { router: make(loryRouter) },
  'expert-choice': { router: make(expertChoiceRouter), tokensInteract: true },
  'expert-choice, capped by token': {
    router: make(expertChoiceRouter, { maxPerToken: 1, scope: 'sequence' }),
    tokensInteract: true,
  },
  'mixture-of-depths': {
    router: make(mixtureOfDepthsRouter, { keep: 0.5 }, { count: 1 }),
    tokensInteract: true,
  },
  'mixture-of-depths without prediction': {
    router: make(mixtureOfDepthsRouter, { predict: false, score: 'identity' }, { count: 1 }),
    tokensInteract: true,
  },
  base: { router: make(baseRouter, { gain: 1 }) },
  sinkhorn: { router: make(sinkhornRouter) },
  'sinkhorn, one expert': { router: make(sinkhornRouter, { topK: 1, temperature: 0.5 }) },
  hash: { router: make(hashRouter) },
  'hash by two random tables': { router: make(hashRouter, { table: 'random', hashes: 2 }) },
  'hash by frequency': {
    router: make(hashRouter, { table: 'balanced', frequencies: [9, 1, 4, 4, 2, 7, 1, 1, 3, 3, 5] }),
  },
  'hash by a list': { router: make(hashRouter, { table: [5, 4, 3, 2, 1, 0] }) },
  random: { router: make(randomRouter) },
  'random by sequence': { router: make(randomRouter, { scope: 'sequence', topK: 1 }) },
  'frozen-random': { router: make(frozenRandomRouter, { topK: 3, steps: 10 }) },
  domain: {
    router: make(domainRouter, {
      experts: [
        [0, 2],
        [1, 3, 5],
      ],
    }),
    context: { domain },
  },
  'domain, hashed inside': {
    router: make(domainRouter, {
      inside: 'hash',
      experts: [
        [0, 2, 4],
        [1, 3, 5],
      ],
    }),
    context: { domain },
  },
  'domain, otherwise': { router: make(domainRouter, { otherwise: 3 }) },
  'multi-gate': { router: make(multiGateRouter, { tasks: 2 }), context: { domain } },
  'multi-gate, shared and own experts': {
    router: make(multiGateRouter, {
      tasks: 2,
      topK: 2,
      renormalise: true,
      sees: [
        [0, 1, 2],
        [0, 3, 4, 5],
      ],
    }),
    context: { domain },
  },
  sentence: { router: make(sentenceRouter), tokensInteract: true },
  'sentence over the prefix': { router: make(sentenceRouter, { pool: 'prefix' }), tokensInteract: true },
};
