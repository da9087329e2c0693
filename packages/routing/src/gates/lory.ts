/**
 * @file Lory (Zhong et al. 2024, 2405.03133): causal merging. A sequence is cut into segments; the experts of segment n are merged by a
 * gate on the mean row of segment n - 1, so no token's expert depends on what comes after it.
 *
 * `mix_n = softmax(W mean_{t in segment n-1} x_t)`. The first segment has none before it: its experts are merged evenly (`uniform`), or by
 * its own mean row with the gradient of that mix stopped (`self`, as the paper trains), which lets it see ahead by less than a segment.
 *
 * Letters: `T` tokens, `G` segments, `E` experts.
 */
import { parseConfig, z } from '@moebius/core';

import type { RouterOptions } from '../define-router.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { mergeRouter } from './merge-router.ts';
import type { MergeGroups } from './merge-router.ts';
import { segmentGroups } from './token-groups.ts';

const schema = z.strictObject({
  segment: z.int().min(1).default(256),
  first: z.enum(['uniform', 'self']).default('uniform'),
});

/**
 * Lory by name, `lory`. Options: `segment` tokens (default 256), `first` segment: `uniform` (default) or `self`. Trained: `weight`
 * `[E, D]`. Decoding with a cache sees one token at a time and no segment before it: there the gate reads the tokens at hand, which is
 * causal but not what was trained.
 */
export function loryRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'lory',
    create: ({ experts }, options) => {
      const { segment, first } = parseConfig(schema, options, 'options');
      return mergeRouter({
        name: 'lory',
        experts,
        topK: experts,
        causal: first === 'uniform',
        normalise: false,
        groups: (tokens, context) => causalSegments(tokens, context, { segment, first }),
      });
    },
  });
}

function causalSegments(
  tokens: number,
  options: RouterOptions,
  { segment, first }: z.infer<typeof schema>,
): MergeGroups {
  const { group, groups } = segmentGroups(tokens, options, segment);
  const { sequences = 1, phase } = options;
  if (phase === 'decode') return { group, groups };
  const each = groups / sequences;
  const readBy = [group.map((g) => (g < 0 || (g + 1) % each === 0 ? -1 : g + 1))];
  if (first === 'uniform') return { group, groups, readBy };
  const gradient = Float32Array.from({ length: groups }, (_, g) => (g % each === 0 ? 0 : 1));
  return { group, groups, gradient, readBy: [...readBy, group.map((g) => (g % each === 0 ? g : -1))] };
}
