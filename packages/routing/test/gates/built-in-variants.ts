import type { Router, RouterPlace } from '../../src/index.ts';
import { builtInRouters } from '../../src/gates/index.ts';
import type { DescribeRouterOptions } from '../../src/testing/index.ts';

/** A layer of eight experts, two for a token. */
export const place: RouterPlace = {
  layer: 3,
  place: 0,
  sparseLayers: 1,
  experts: 8,
  topK: 2,
  modelWidth: 5,
};

/** One way to make a built-in router, and what a test must know of it. */
export interface Variant {
  readonly title: string;
  readonly router: Router;
  /** Parameters that weights of routed pairs give no gradient; default none. */
  readonly untrained: readonly string[];
  readonly kit: Partial<DescribeRouterOptions>;
}

interface Row {
  readonly options?: Record<string, unknown>;
  readonly untrained?: readonly string[];
  readonly kit?: Partial<DescribeRouterOptions>;
}

/** Domains of the kit's seven tokens. */
const domain = Int32Array.of(0, 1, 0, 1, 1, 0, 1);

/** Beside `{}`, which every built-in router is tested with. */
const rows: Record<string, readonly Row[]> = {
  'top-k': [
    {
      options: {
        groups: { count: 4, keep: 2, score: 'top2-sum', fill: 'zero' },
        topK: 3,
        renormalise: true,
      },
    },
    { options: { score: 'sqrt-softplus', renormalise: true } },
    { options: { score: 'relu', logitBias: true } },
  ],
  'noisy-top-k': [
    { options: { noise: 'additive', weights: 'renormalised' } },
    { options: { noise: 'jitter', weights: 'scores', topK: 1 } },
    { options: { noise: 'gumbel', scale: 2 } },
  ],
  switch: [{ options: { weight: 'straight-through' }, kit: { surrogateWeights: true } }],
  'top-2': [
    { options: { second: 'always', evaluate: 'always' } },
    { options: { second: 'never', evaluate: 'never' } },
    { options: { second: 'threshold', threshold: 0.4 } },
  ],
  'top-p': [{ options: { p: 0.9, most: 3, least: 2, renormalise: true } }],
  'scheduled-top-k': [{ options: { from: 1, to: 4, steps: 2, renormalise: false } }],
  'dense-to-sparse': [{ options: { gumbel: false, renormalise: true } }],
  cosine: [{ options: { dimension: 3, score: 'sigmoid', temperature: 0.1 } }],
  'normalised-logits': [{ options: { spread: 3, renormalise: false } }],
  'loss-free': [{ options: { score: 'sqrt-softplus', update: 'proportional' } }],
  hierarchical: [{ options: { groups: 4, keep: 2, perGroup: 2, renormalise: false } }],
  prototypes: [{ options: { groups: 4, scale: 0.5 } }],
  'adaptive-threshold': [{ options: { temperature: 0.2 }, kit: { surrogateWeights: true } }],
  'null-experts': [{ options: { nulls: 3, choose: 5, renormalise: false } }],
  base: [{ options: { gain: 1 } }],
  sinkhorn: [{ options: { topK: 1, temperature: 0.5 } }],
  'expert-choice': [
    { options: { capacityFactor: 1.5, scope: 'sequence' }, kit: { tokensInteract: true } },
    { options: { maxPerToken: 1 }, kit: { tokensInteract: true } },
  ],
  'mixture-of-depths': [
    { options: { keep: 0.5, predict: false, score: 'identity' }, kit: { tokensInteract: true } },
  ],
  hash: [
    { options: { table: 'random', hashes: 2 } },
    { options: { table: 'balanced', frequencies: [9, 1, 4, 4, 2, 7, 1, 1, 3, 3, 5] } },
    { options: { table: [5, 4, 3, 2, 1, 0] } },
  ],
  random: [{ options: { scope: 'sequence', topK: 1 } }],
  'frozen-random': [{ options: { topK: 3, steps: 10 } }],
  domain: [
    {
      options: {
        experts: [
          [0, 2],
          [1, 3, 5],
        ],
      },
      kit: { context: { domain } },
    },
    {
      options: {
        inside: 'hash',
        experts: [
          [0, 2, 4],
          [1, 3, 5],
        ],
      },
      kit: { context: { domain } },
    },
    { options: { otherwise: 3 } },
  ],
  'multi-gate': [
    { options: { tasks: 2 }, kit: { context: { domain } } },
    {
      options: {
        tasks: 2,
        topK: 2,
        renormalise: true,
        sees: [
          [0, 1, 2],
          [0, 3, 4, 5],
        ],
      },
      kit: { context: { domain } },
    },
  ],
  sentence: [{ options: { pool: 'prefix' }, kit: { tokensInteract: true } }],
  'soft-moe': [{ options: { slots: 3, normalise: false } }],
  smear: [{ options: { dropout: 0.4, normalise: false } }],
  meo: [{ options: { topK: 3 } }],
  lory: [{ options: { segment: 2 } }],
};

/** What `{}` needs to be told, by name. */
const plain: Record<string, Row> = {
  'adaptive-threshold': { kit: { surrogateWeights: true } },
  sinkhorn: { kit: { tokens: 9 } },
  'expert-choice': { kit: { tokensInteract: true } },
  'mixture-of-depths': { kit: { tokensInteract: true } },
  sentence: { kit: { tokensInteract: true } },
  // A batch that is one segment: no gate reads anything.
  lory: { untrained: ['weight'] },
};

/** Every built-in router with its defaults and in the forms above. */
export function builtInVariants(): Variant[] {
  return builtInRouters().flatMap((factory) =>
    [plain[factory.name] ?? {}, ...(rows[factory.name] ?? [])].map(
      ({ options = {}, untrained = [], kit = {} }) => ({
        title: `${factory.name} ${JSON.stringify(options)}`,
        router: factory.create(place, options),
        untrained,
        kit,
      }),
    ),
  );
}
