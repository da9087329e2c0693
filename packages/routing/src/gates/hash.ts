/**
 * @file Hash layers (Roller et al. 2021, 2106.04426): the experts of a token are a fixed function of its id. Nothing is trained in the gate,
 * and weights are 1.
 *
 * | `table` | expert of id v |
 * |---|---|
 * | `modulo` | v mod E |
 * | `random` | bits mixed from (seed, layer, v), mod E |
 * | `balanced` | by frequency: the most frequent id first, to the expert with the least so far |
 * | a list | what it says; ids beyond it by `random` |
 *
 * With `hashes` K above 1 a token goes to K experts, by K functions (multi-hash); the outputs are added.
 *
 * Letters: `T` tokens, `E` experts, `V` ids, `K` hashes.
 */
import { parseConfig, z } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { composeRouter } from './compose-router.ts';
import { givenIds } from './given-context.ts';
import { constantScorer } from './scorers.ts';
import { balancedTable, chooseEach, distinctExperts, mixBits } from './token-hash.kernel.ts';
import { weighOnes } from './weighs.ts';

/**
 * Hash layers by name, `hash`. Options: `table` `modulo` (default), `random`, `balanced`, or a list with the expert of each id;
 * `frequencies` `[V]`, the count of each id, for `balanced`; `hashes` (default 1); `seed` (default 0). A model must tell the ids of its tokens.
 */
export function hashRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'hash',
    create: ({ experts, layer }, options) => {
      const settings = parseConfig(hashSchema(experts), options, 'options');
      const { hashes, seed } = settings;
      const first = firstExpert(settings, { experts, layer });
      const expertsOf = (id: number): readonly number[] =>
        distinctExperts(
          Array.from({ length: hashes }, (_, hash) =>
            hash === 0 ? first(id) : mixBits(seed, layer, id, hash),
          ),
          experts,
        );
      return composeRouter({
        name: 'hash',
        experts,
        topK: hashes,
        trusted: true,
        scorer: constantScorer(experts),
        score: 'softmax',
        choose: ({ tokens, mask, options: context }) => {
          const ids = givenIds(context, { router: 'hash', tokens });
          return chooseEach({
            tokens,
            expertsOf: (t) => expertsOf(ids[t] ?? 0),
            ...(mask === undefined ? {} : { mask }),
          });
        },
        weigh: weighOnes(),
      });
    },
  });
}

interface HashSettings {
  readonly table: 'modulo' | 'random' | 'balanced' | readonly number[];
  readonly frequencies?: readonly number[] | undefined;
  readonly hashes: number;
  readonly seed: number;
}

function hashSchema(experts: number): z.ZodType<HashSettings> {
  return z
    .strictObject({
      table: z
        .union([
          z.enum(['modulo', 'random', 'balanced']),
          z.array(
            z
              .int()
              .min(0)
              .max(experts - 1),
          ),
        ])
        .default('modulo'),
      frequencies: z.array(z.number().min(0)).optional(),
      hashes: z.int().min(1).max(experts).default(1),
      seed: z.int().default(0),
    })
    .superRefine(({ table, frequencies }, context) => {
      if ((table === 'balanced') === (frequencies !== undefined)) return;
      context.addIssue({
        code: 'custom',
        path: ['frequencies'],
        message: `must be ${table === 'balanced' ? 'given' : 'absent'} for this table`,
        params: { remedy: 'frequencies are counts of ids for table "balanced"' },
      });
    });
}

function firstExpert(
  { table, frequencies = [], seed }: HashSettings,
  { experts, layer }: { readonly experts: number; readonly layer: number },
): (id: number) => number {
  if (table === 'modulo') return (id) => id % experts;
  const random = (id: number): number => mixBits(seed, layer, id) % experts;
  if (table === 'random') return random;
  const list = table === 'balanced' ? balancedTable(frequencies, experts) : table;
  return (id) => list[id] ?? random(id);
}
