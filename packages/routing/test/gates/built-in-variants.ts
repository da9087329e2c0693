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
};

/** What `{}` needs to be told, by name. */
const plain: Record<string, Row> = {
  'adaptive-threshold': { kit: { surrogateWeights: true } },
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
