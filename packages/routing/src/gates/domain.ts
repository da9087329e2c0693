/**
 * @file Routing by domain: DEMix (Gururangan et al. 2021, 2108.05036) has one expert for each domain, language groups have a few, and PanGu-Σ
 * (Ren et al. 2023, 2303.10845) lets the domain pick a group of experts and a hash of the id one of them, so that a domain can be cut out of
 * a model. Nothing is trained in the gate.
 *
 * Weights are `1 / n` over the n experts of a token.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { parseConfig, z } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { composeRouter } from './compose-router.ts';
import { givenDomains, givenIds } from './given-context.ts';
import { constantScorer } from './scorers.ts';
import { chooseEach, mixBits } from './token-hash.kernel.ts';
import { weighScores } from './weighs.ts';

interface DomainSettings {
  readonly experts: readonly (readonly number[])[];
  readonly inside: 'all' | 'hash';
  readonly otherwise: number | null;
  readonly seed: number;
}

/**
 * Domains by name, `domain`. Options: `experts`, a list of experts for each domain (default: domain d has expert d alone); `inside` a domain
 * `all` its experts (default) or one by the `hash` of the token id; `otherwise` the domain of a batch that was given none (default: refuse it);
 * `seed` of the hash (default 0). A batch says the domain of each token in `options.domain`.
 */
export function domainRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'domain',
    create: ({ experts, layer }, options) => {
      const settings = parseConfig(domainSchema(experts), options, 'options');
      const { experts: lists, inside, otherwise, seed } = settings;
      const mean = lists.reduce((sum, { length }) => sum + length, 0) / lists.length;
      return composeRouter({
        name: 'domain',
        experts,
        topK: inside === 'hash' ? 1 : mean,
        trusted: true,
        scorer: constantScorer(experts),
        score: 'softmax',
        choose: ({ tokens, mask, options: context }) => {
          const request = { router: 'domain', tokens };
          const domain = givenDomains(context, { ...request, domains: lists.length, otherwise });
          const ids = inside === 'hash' ? givenIds(context, request) : null;
          const expertsOf = (t: number): readonly number[] => {
            const list = lists[domain[t] ?? 0] ?? [];
            return ids === null ? list : [list[mixBits(seed, layer, ids[t] ?? 0) % list.length] ?? 0];
          };
          return chooseEach({ tokens, expertsOf, ...(mask === undefined ? {} : { mask }) });
        },
        weigh: weighScores({ renormalise: true }),
      });
    },
  });
}

function domainSchema(experts: number): z.ZodType<DomainSettings> {
  const expert = z
    .int()
    .min(0)
    .max(experts - 1);
  const list = z
    .array(expert)
    .min(1)
    .refine((entries) => new Set(entries).size === entries.length, 'must name each expert once');
  return z
    .strictObject({
      experts: z
        .array(list)
        .min(1)
        .default(Array.from({ length: experts }, (_, e) => [e])),
      inside: z.enum(['all', 'hash']).default('all'),
      otherwise: z.int().min(0).nullable().default(null),
      seed: z.int().default(0),
    })
    .superRefine(({ experts: lists, otherwise }, context) => {
      if (otherwise === null || otherwise < lists.length) return;
      context.addIssue({
        code: 'custom',
        path: ['otherwise'],
        message: `must be one of the ${lists.length} domains`,
        params: { remedy: 'domains are counted from 0' },
      });
    });
}
