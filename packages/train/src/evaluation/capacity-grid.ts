/**
 * @file Capacity settings by the names people use, one for each combination of method, key and capacity factor.
 */
import { configurationError, nearest } from '@moebius/core';
import type { Fault } from '@moebius/core';
import { capacitySizeFaults, needsPlacement, parseCapacityConfig } from '@moebius/routing';
import type { CapacityConfig, CapacityKey, CapacityScope, CapacityWeightNorm } from '@moebius/routing';

import type { CapacitySetting } from './evaluate-capacity.ts';

/** Methods of {@link capacityGrid}. */
export type CapacityGridMethod = 'token' | 'expanded' | 'top-m' | 'device' | 'reroute' | 'expert-drop';

/** Names that `methods` takes. */
export const capacityGridMethods: readonly CapacityGridMethod[] = [
  'token',
  'expanded',
  'top-m',
  'device',
  'reroute',
  'expert-drop',
];

/** Names that `keys` takes. */
export const capacityGridKeys: readonly CapacityKey[] = ['score', 'order', 'reverse', 'random'];

/** What to combine. */
export interface CapacityGridOptions {
  /** Capacity factors γ, at least 0; Infinity drops nothing. */
  readonly gammas: readonly number[];
  /** Which pairs stay. Default `score`. */
  readonly keys?: readonly string[];
  /** Default `token`. `expert-drop` has no γ and no key: it is one setting. */
  readonly methods?: readonly string[];
  /** Devices that share the experts. Default 1. */
  readonly devices?: number;
  /** Whose tokens share a cap. Default `rank`: each device caps its own tokens, as the paper does. */
  readonly scope?: CapacityScope;
  /** `E` of the model's sparse layers. */
  readonly experts: number;
  /** Experts of a token; `top-m` offers twice as many. */
  readonly topK: number;
}

/**
 * One setting for each method, key and γ.
 *
 * @param options - what to combine, and the sizes of the model
 * @returns settings with names such as `token score 1.5`
 * @throws `configuration` listing every fault at once: a negative γ or NaN, an unknown name, devices that do not divide the experts
 * @example
 * ```ts
 * const settings = capacityGrid({ gammas: [2, 1], keys: ['score', 'order'], experts: 16, topK: 2 });
 * settings.map(({ name }) => name); // token score 2, token score 1, token order 2, token order 1
 * ```
 */
export function capacityGrid(options: CapacityGridOptions): CapacitySetting[] {
  const { gammas, keys = ['score'], methods = ['token'], devices = 1, experts } = options;
  const faults = gridFaults({ gammas, keys, methods, devices, experts });
  if (faults.length > 0) throw configurationError('capacity', faults);
  return (methods as CapacityGridMethod[]).flatMap((method) =>
    method === 'expert-drop'
      ? [{ name: 'expert-drop', capacity: expertDrop }]
      : (keys as CapacityKey[]).flatMap((key) =>
          gammas.map((gamma) => ({
            name: `${method} ${key} ${gamma}`,
            capacity: nameCapacity(method, { ...options, devices, key, gamma }),
          })),
        ),
  );
}

/** A tenth of the experts, at least one: the baseline of Capacity-Aware Inference. */
const expertDrop: CapacityConfig = parseCapacityConfig({
  method: 'expert-drop',
  fraction: 0.1,
  minSkipped: 1,
});

/** One method with one key and one factor. */
export interface CapacityCombination {
  /** γ, at least 0. */
  readonly gamma: number;
  /** Which pairs stay. */
  readonly key: CapacityKey;
  /** Whose tokens share a cap. Default `rank`. */
  readonly scope?: CapacityScope;
  /** Devices that share the experts. */
  readonly devices: number;
  /** `E`. */
  readonly experts: number;
  /** Experts of a token. */
  readonly topK: number;
  /** Weights of the pairs that stay. Default the router's. */
  readonly weights?: CapacityWeightNorm;
}

/**
 * The configuration of a method by its name here.
 *
 * @throws `configuration` listing every fault
 */
export function nameCapacity(method: CapacityGridMethod, combination: CapacityCombination): CapacityConfig {
  const { key, gamma, devices, scope = 'rank', experts, topK, weights = 'router' } = combination;
  const placement = { devices };
  const shared = { method: 'drop', gamma, key, scope, placement, weights };
  const byMethod: { readonly [name in CapacityGridMethod]: object } = {
    token: shared,
    expanded: { ...shared, expand: { kind: 'local' } },
    'top-m': { ...shared, expand: { kind: 'top-m', m: Math.min(2 * topK, experts) } },
    device: { ...shared, granularity: 'device' },
    reroute: { ...shared, method: 'reroute' },
    'expert-drop': expertDrop,
  };
  const config = parseCapacityConfig(byMethod[method]);
  return needsPlacement(config) ? config : parseCapacityConfig({ ...byMethod[method], placement: null });
}

type Given = Required<Pick<CapacityGridOptions, 'gammas' | 'keys' | 'methods' | 'devices' | 'experts'>>;

function gridFaults({ gammas, keys, methods, devices, experts }: Given): Fault[] {
  const faults: Fault[] = [];
  for (const [at, gamma] of gammas.entries()) {
    if (gamma >= 0) continue;
    const remedy = 'a capacity is a multiple of the mean load: 1.5';
    faults.push({ path: `gammas[${at}]`, expectation: 'must be at least 0', got: String(gamma), remedy });
  }
  faults.push(
    ...namesOf('keys', keys, capacityGridKeys),
    ...namesOf('methods', methods, capacityGridMethods),
  );
  if (gammas.length === 0 && methods.some((method) => method !== 'expert-drop')) {
    const remedy = 'for example 2, 1.5, 1';
    faults.push({ path: 'gammas', expectation: 'must name a capacity factor', got: 'none', remedy });
  }
  const placed = { ...expertDrop, placement: { devices, hostOf: null } };
  const whole = Number.isInteger(devices) && devices >= 1;
  if (whole) {
    for (const fault of capacitySizeFaults(placed, { experts })) {
      if (fault.path === 'placement.devices') {
        faults.push({ ...fault, path: 'devices', remedy: `choose a divisor of ${experts}` });
      }
    }
  } else {
    const expectation = 'must be an integer of at least 1';
    faults.push({ path: 'devices', expectation, got: String(devices), remedy: 'count the devices' });
  }
  return faults;
}

function namesOf(path: string, given: readonly string[], known: readonly string[]): Fault[] {
  return given.flatMap((name, at) => {
    if (known.includes(name)) return [];
    const close = nearest(name, known);
    const remedy = close === undefined ? 'name one of them' : `did you mean "${close}"?`;
    const expectation = `must be one of ${known.join(', ')}`;
    return [{ path: `${path}[${at}]`, expectation, got: JSON.stringify(name), remedy }];
  });
}
