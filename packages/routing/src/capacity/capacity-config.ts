/**
 * @file Capacity as data: three methods whose settings cover the published ways to bound the load of an expert.
 *
 * `drop`: candidates, cap, prune. Token Drop without `expand`, Expanded Drop with it, the device-level cap with
 * `granularity: 'device'`. `reroute`: drop and choose again. `expert-drop`: skip the least loaded experts, a baseline.
 * Capacity-Aware Inference (2503.05066) §3 and appendices; `best-first`, `expertBound` and token classes are ours.
 */
import { parseConfig, z } from '@moebius/core';
import type { Fault } from '@moebius/core';

/** How γ times the mean load becomes an integer. */
export type CapacityRounding = 'ceil' | 'floor' | 'round';

/** Whose tokens share one cap: the batch, the shard of one device, one sequence. */
export type CapacityScope = 'global' | 'rank' | 'sequence';

/**
 * Which of two pairs stays. `score`: the higher score. `order`: the earlier token (the latest are dropped). `reverse`: the later
 * token. `random`: the higher of two numbers drawn by (seed, layer, step, token, expert).
 */
export type CapacityKey = 'score' | 'order' | 'reverse' | 'random';

/** What comes before the key: nothing, pairs of the original top-k before added ones, or a token's best pair before all others. */
export type PairPriority = 'score' | 'primary-first' | 'best-first';

/** Weights of the pairs that stay; `docs/architecture/capacity.md` has the formulas. */
export type CapacityWeightNorm = 'router' | 'none' | 'primary' | 'kept';

/** Extra candidates: the experts on the token's own device, or its m best experts anywhere. */
export type Expansion = { readonly kind: 'local' } | { readonly kind: 'top-m'; readonly m: number };

/** Where experts live. */
export interface PlacementConfig {
  /** Number of devices. */
  readonly devices: number;
  /** `[E]`, device of each expert; null: equal runs of consecutive experts, so that `devices` divides E. */
  readonly hostOf: readonly number[] | null;
}

/** Settings that every method has. */
export interface CapacityCommon {
  /** Passes of inference that it acts on; evaluation is a prefill. */
  readonly applyTo: 'prefill' | 'decode' | 'both';
  /** Whether it acts in training. */
  readonly training: boolean;
  /** Acts only on at least this many unmasked tokens. */
  readonly minTokens: number;
  /** Weights of the pairs that stay. */
  readonly weights: CapacityWeightNorm;
  /** Multiplies the weights of every norm but `router`. */
  readonly scale: number;
  /** Added to divisors, so that scores that underflow give 0 and not NaN. */
  readonly epsilon: number;
  /** Where experts live; needed for scope `rank`, local expansion and device granularity. */
  readonly placement: PlacementConfig | null;
}

/** How large a cap is, and what it ranks by. */
export interface CapacityLimit {
  /** Capacity factor: a cap is this many times the mean load. Infinity drops nothing. A list has one entry for each layer. */
  readonly gamma: number | readonly number[];
  /** Of γ times the mean load. */
  readonly rounding: CapacityRounding;
  /** No cap is lower than this (nor higher than the tokens of its cell). */
  readonly minCapacity: number;
  /** Whose tokens share a cap. */
  readonly scope: CapacityScope;
  /** Which pairs stay. */
  readonly key: CapacityKey;
  /** Of the `random` key. */
  readonly seed: number;
}

/** Token Drop, Expanded Drop and the device-level cap. */
export interface DropConfig extends CapacityCommon, CapacityLimit {
  /** Discriminator. */
  readonly method: 'drop';
  /** What is capped: each expert, or the sum over the experts of a device. */
  readonly granularity: 'expert' | 'device';
  /** With device granularity: each expert is also capped at this many times γ; null does not. */
  readonly expertBound: number | null;
  /** What comes before the key. */
  readonly priority: PairPriority;
  /** Extra candidates, or null. */
  readonly expand: Expansion | null;
  /** After the cap, keep at most this many experts of a token by score; null keeps all. */
  readonly maxPerToken: number | null;
}

/** Drop and choose again among experts not yet tried. */
export interface RerouteConfig extends CapacityCommon, CapacityLimit {
  /** Discriminator. */
  readonly method: 'reroute';
  /** At most this many rounds of choosing and dropping. */
  readonly rounds: number;
}

/** Skip the experts with the lowest load: a baseline that bounds nothing. */
export interface ExpertDropConfig extends CapacityCommon {
  /** Discriminator. */
  readonly method: 'expert-drop';
  /** Share of the experts to skip, rounded down. */
  readonly fraction: number;
  /** Skip at least this many. */
  readonly minSkipped: number;
}

/** A capacity method as plain data: what {@link parseCapacityConfig} returns. */
export type CapacityConfig = DropConfig | RerouteConfig | ExpertDropConfig;

/** Sizes of the layer that a policy acts on. */
export interface CapacitySizes {
  /** Number of experts `E`. */
  readonly experts: number;
  /** Experts of each token `K`, where that is fixed. */
  readonly topK?: number;
}

const gammaValue: z.ZodType<number> = z.union([
  z.number().min(0),
  z.literal(Infinity),
  z.literal('infinity').transform(() => Infinity),
]) as z.ZodType<number>;

const commonFields = {
  applyTo: z.enum(['prefill', 'decode', 'both']).default('prefill'),
  training: z.boolean().default(true),
  minTokens: z.int().min(0).default(0),
  weights: z.enum(['router', 'none', 'primary', 'kept']).default('router'),
  scale: z.number().default(1),
  epsilon: z.number().min(0).default(1e-20),
  placement: z
    .strictObject({
      devices: z.int().min(1),
      hostOf: z.array(z.int().min(0)).min(1).nullable().default(null),
    })
    .nullable()
    .default(null),
} as const;

const limitFields = {
  gamma: z.union([gammaValue, z.array(gammaValue).min(1)]),
  rounding: z.enum(['ceil', 'floor', 'round']).default('ceil'),
  minCapacity: z.int().min(0).default(0),
  scope: z.enum(['global', 'rank', 'sequence']).default('global'),
  key: z.enum(['score', 'order', 'reverse', 'random']).default('score'),
  seed: z.int().min(0).default(0),
} as const;

const expandSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('local') }),
  z.strictObject({ kind: z.literal('top-m'), m: z.int().min(1) }),
]);

/** Schema of {@link CapacityConfig}, for configurations that contain one. */
export const capacityConfigSchema: z.ZodType<CapacityConfig> = z
  .discriminatedUnion('method', [
    z.strictObject({
      method: z.literal('drop'),
      ...commonFields,
      ...limitFields,
      granularity: z.enum(['expert', 'device']).default('expert'),
      expertBound: z.number().min(1).nullable().default(null),
      priority: z.enum(['score', 'primary-first', 'best-first']).default('score'),
      expand: expandSchema.nullable().default(null),
      maxPerToken: z.int().min(1).nullable().default(null),
    }),
    z.strictObject({
      method: z.literal('reroute'),
      ...commonFields,
      ...limitFields,
      rounds: z.int().min(1).default(3),
    }),
    z.strictObject({
      method: z.literal('expert-drop'),
      ...commonFields,
      fraction: z.number().min(0).max(1),
      minSkipped: z.int().min(0).default(0),
    }),
  ])
  .superRefine((config, context) => {
    for (const { path, expectation, remedy } of faultsTogether(config)) {
      context.addIssue({ code: 'custom', path, message: expectation, params: { remedy } });
    }
  });

/**
 * Validates a capacity method and fills defaults: ceiling, no minimum, the whole batch, by score, prefill and training, the
 * router's own weights.
 *
 * @param value - plain object; `method`, and `gamma` or `fraction`, are required. `gamma` may be `"infinity"`, for JSON
 * @returns a frozen configuration
 * @throws `configuration` listing every fault at once
 * @example
 * ```ts
 * const tokenDrop = parseCapacityConfig({ method: 'drop', gamma: 1.5 });
 * ```
 */
export function parseCapacityConfig(value: unknown): CapacityConfig {
  return Object.freeze(parseConfig(capacityConfigSchema, value, 'capacity'));
}

/** Whether a method needs to know where experts and tokens live. */
export function needsPlacement(config: CapacityConfig): boolean {
  if (config.method === 'expert-drop') return false;
  if (config.scope === 'rank') return true;
  return config.method === 'drop' && (config.granularity === 'device' || config.expand?.kind === 'local');
}

interface JointFault {
  readonly path: (string | number)[];
  readonly expectation: string;
  readonly remedy: string;
}

/** Faults between members: each of them is valid alone. */
function faultsTogether(config: CapacityConfig): JointFault[] {
  const faults: JointFault[] = [];
  const { placement } = config;
  if (placement === null && needsPlacement(config)) {
    const expectation = `must be given for ${placementUse(config)}`;
    faults.push({ path: ['placement'], expectation, remedy: 'name the devices: { devices: 8 }' });
  }
  const outside = placement?.hostOf?.findIndex((device) => device >= placement.devices) ?? -1;
  if (placement !== null && outside >= 0) {
    const expectation = `must be below devices ${placement.devices}`;
    faults.push({ path: ['placement', 'hostOf', outside], expectation, remedy: 'number devices from 0' });
  }
  if (config.method !== 'drop') return faults;
  if (config.expertBound !== null && config.granularity === 'expert') {
    const remedy = "use granularity 'device', or a larger gamma";
    faults.push({ path: ['expertBound'], expectation: "must be null for granularity 'expert'", remedy });
  }
  return faults;
}

function placementUse(config: CapacityConfig): string {
  if (config.method !== 'expert-drop' && config.scope === 'rank') return "scope 'rank'";
  return config.method === 'drop' && config.granularity === 'device'
    ? "granularity 'device'"
    : "expand 'local'";
}

/**
 * Faults of a placement against the experts of a layer.
 *
 * @param placement - where experts live
 * @param experts - `E`
 * @returns every fault, with paths under `placement`
 */
export function placementFaults(placement: PlacementConfig, experts: number): Fault[] {
  const { devices, hostOf } = placement;
  const faults: Fault[] = [];
  const add = (path: string, expectation: string, got: string, remedy: string): void => {
    faults.push({ path: `placement.${path}`, expectation, got, remedy });
  };
  if (!Number.isInteger(devices) || devices < 1) {
    add('devices', 'must be an integer of at least 1', String(devices), 'count the devices');
    return faults;
  }
  if (hostOf === null) {
    if (experts % devices !== 0)
      add('devices', `must divide experts ${experts}`, String(devices), 'give hostOf');
    return faults;
  }
  if (hostOf.length !== experts) {
    add('hostOf', `must cover experts ${experts}`, `${hostOf.length} entries`, 'list a device for each');
  }
  for (const [expert, device] of hostOf.entries()) {
    if (Number.isInteger(device) && device >= 0 && device < devices) continue;
    add(`hostOf[${expert}]`, `must be in 0…${devices - 1}`, String(device), 'number devices from 0');
  }
  return faults;
}

/**
 * Faults of a method against the layer it acts on, which the configuration alone cannot know.
 *
 * @param config - a parsed method
 * @param sizes - of the layer
 * @returns every fault; empty when it fits
 */
export function capacitySizeFaults(config: CapacityConfig, sizes: CapacitySizes): Fault[] {
  const { experts, topK } = sizes;
  const faults: Fault[] = [];
  const add = (path: string, expectation: string, got: number | string, remedy: string): void => {
    faults.push({ path, expectation, got: String(got), remedy });
  };
  if (config.placement !== null) faults.push(...placementFaults(config.placement, experts));
  if (config.method === 'expert-drop') {
    if (config.minSkipped >= experts)
      add('minSkipped', `must be below experts ${experts}`, config.minSkipped, 'skip fewer experts');
    return faults;
  }
  if (config.method !== 'drop') return faults;
  if (config.expand?.kind === 'top-m') {
    const { m } = config.expand;
    if (m > experts) add('expand.m', `must be at most experts ${experts}`, m, 'lower m');
    if (topK !== undefined && m < topK)
      add('expand.m', `must be at least topK ${topK}`, m, 'raise m or drop expand');
  }
  if (config.maxPerToken !== null && config.maxPerToken > experts) {
    add('maxPerToken', `must be at most experts ${experts}`, config.maxPerToken, 'lower it');
  }
  return faults;
}
