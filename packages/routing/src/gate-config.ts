/**
 * @file The gate as data: one pipeline whose settings cover the published families of routers.
 *
 * ```
 * z = W x (+ b)            logits
 * s = score(z)             softmax over all experts | sigmoid | √softplus | ReLU | identity
 * c = s + selection bias   the bias steers selection only: never in the weights, never a gradient
 * c = keep best groups     optional
 * I = top-k of c           ties: the lowest index
 * w = s[I]  or  score over the k chosen logits
 * w = w / (Σ w + ε)        optional
 * w = w · scale
 * ```
 *
 * Mixtral and Qwen3: softmax, renormalise. OLMoE and Qwen2: softmax, no renormalisation. Granite and gpt-oss: softmax
 * after top-k. DeepSeek-V2: groups by max, fill zero. DeepSeek-V3: sigmoid, selection bias, groups by top-2 sum,
 * renormalise, scale.
 */
import { parseConfig, z } from '@moebius/core';

/** How logits become scores. */
export type GateScore = 'softmax' | 'sigmoid' | 'sqrt-softplus' | 'relu' | 'identity';

/** Every {@link GateScore}. */
export const gateScores: readonly ['softmax', 'sigmoid', 'sqrt-softplus', 'relu', 'identity'] = [
  'softmax',
  'sigmoid',
  'sqrt-softplus',
  'relu',
  'identity',
];

/** Keep the best groups of experts, then choose inside them. */
export interface GateGroups {
  /** Number of groups; divides the number of experts. Group g holds experts `g·E/count … (g+1)·E/count`. */
  readonly count: number;
  /** Groups that stay. */
  readonly keep: number;
  /** Score of a group: its largest selection score, or the sum of its two largest. */
  readonly score: 'max' | 'top2-sum';
  /** Selection score of experts in dropped groups. With `zero` such an expert can still win against a negative score. */
  readonly fill: 'zero' | 'negative-infinity';
}

/** A gate as plain data: what {@link parseGateConfig} returns. */
export interface GateConfig {
  /** Number of experts `E`. */
  readonly experts: number;
  /** Experts of each token `K`. */
  readonly topK: number;
  /** How logits become scores. */
  readonly score: GateScore;
  /** Apply the score to the k chosen logits instead of all (Granite, gpt-oss). */
  readonly scoreAfterTopK: boolean;
  /** Whether a per-expert bias is added to the selection scores (DeepSeek-V3, LongCat). */
  readonly selectionBias: boolean;
  /** Group-limited selection, or null. */
  readonly groups: GateGroups | null;
  /** Divide the chosen weights by their sum. */
  readonly renormalise: boolean;
  /** Added to that sum: 0 or 1e-20 in the published gates. */
  readonly renormaliseEpsilon: number;
  /** Multiplies the weights last. */
  readonly scale: number;
  /** Whether the router has a bias on its logits (gpt-oss). Trained, unlike the selection bias. */
  readonly logitBias: boolean;
}

const groupsSchema = z.strictObject({
  count: z.int().min(1),
  keep: z.int().min(1),
  score: z.enum(['max', 'top2-sum']),
  fill: z.enum(['zero', 'negative-infinity']),
});

/** Schema of {@link GateConfig}, for configurations that contain a gate. */
export const gateConfigSchema: z.ZodType<GateConfig> = z
  .strictObject({
    experts: z.int().min(1),
    topK: z.int().min(1),
    score: z.enum(gateScores).default('softmax'),
    scoreAfterTopK: z.boolean().default(false),
    selectionBias: z.boolean().default(false),
    groups: groupsSchema.nullable().default(null),
    renormalise: z.boolean().default(false),
    renormaliseEpsilon: z.number().min(0).default(0),
    scale: z.number().default(1),
    logitBias: z.boolean().default(false),
  })
  .superRefine((config, context) => {
    for (const { path, message, remedy } of faultsTogether(config)) {
      context.addIssue({ code: 'custom', path, message, params: { remedy } });
    }
  });

/**
 * Validates a gate and fills defaults: softmax, no renormalisation, scale 1, no biases, no groups.
 *
 * @param value - plain object; `experts` and `topK` are required
 * @returns a frozen configuration
 * @throws `configuration` listing every fault at once
 * @example
 * ```ts
 * const mixtral = parseGateConfig({ experts: 8, topK: 2, renormalise: true });
 * ```
 */
export function parseGateConfig(value: unknown): GateConfig {
  return Object.freeze(parseConfig(gateConfigSchema, value, 'gate'));
}

interface GateFault {
  readonly path: string[];
  readonly message: string;
  readonly remedy: string;
}

/** Faults between members: each of them is valid alone. */
function faultsTogether(config: GateConfig): GateFault[] {
  const faults: GateFault[] = [];
  const add = (path: string, message: string, remedy: string): void => {
    faults.push({ path: path.split('.'), message, remedy });
  };
  const { experts, topK, groups } = config;
  if (topK > experts) add('topK', `must be at most experts ${experts}`, 'lower topK or add experts');
  if (config.scoreAfterTopK && config.score === 'identity') {
    add('scoreAfterTopK', "must be false for score 'identity'", 'the two mean the same');
  }
  if (config.renormalise && (config.score === 'identity' || config.score === 'relu')) {
    add('renormalise', `must be false for score '${config.score}'`, 'the sum of scores can be 0');
  }
  if (groups === null) return faults;
  const size = experts / groups.count;
  if (!Number.isInteger(size))
    add('groups.count', `must divide experts ${experts}`, 'change experts or count');
  if (groups.keep > groups.count)
    add('groups.keep', `must be at most groups.count ${groups.count}`, 'keep fewer groups');
  else if (Number.isInteger(size) && groups.keep * size < topK) {
    add(
      'groups.keep',
      `must keep topK ${topK} experts in groups of ${size}`,
      'keep more groups or lower topK',
    );
  }
  if (groups.score === 'top2-sum' && size < 2) {
    add('groups.score', `must be max for groups of ${size} expert`, 'top2-sum needs two experts in a group');
  }
  return faults;
}
