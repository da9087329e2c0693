/**
 * @file The published capacity methods as settings without their γ: spread one and add `gamma`.
 */

/** Settings of a method, to be completed and given to `parseCapacityConfig`. */
export type CapacitySettings = Readonly<Record<string, unknown>>;

/** Names of {@link capacityMethods}. */
export type CapacityMethodName =
  | 'token-drop'
  | 'token-drop-order'
  | 'token-drop-reverse'
  | 'token-drop-random'
  | 'expanded-drop'
  | 'expanded-drop-primary-first'
  | 'over-selection'
  | 'device-drop'
  | 'device-drop-bounded'
  | 'expanded-device-drop'
  | 'reroute'
  | 'expert-drop';

/**
 * Capacity-Aware Inference by name. All but `expert-drop` need a `gamma`; those with devices need a `placement`; `over-selection`
 * takes `expand: { kind: 'top-m', m }` for its m.
 *
 * @example
 * ```ts
 * const config = parseCapacityConfig({
 *   ...capacityMethods['expanded-drop'],
 *   gamma: 1.5,
 *   placement: { devices: 8 },
 * });
 * ```
 */
export const capacityMethods: Readonly<Record<CapacityMethodName, CapacitySettings>> = Object.freeze({
  'token-drop': { method: 'drop' },
  'token-drop-order': { method: 'drop', key: 'order' },
  'token-drop-reverse': { method: 'drop', key: 'reverse' },
  'token-drop-random': { method: 'drop', key: 'random' },
  'expanded-drop': { method: 'drop', scope: 'rank', expand: { kind: 'local' } },
  'expanded-drop-primary-first': {
    method: 'drop',
    scope: 'rank',
    expand: { kind: 'local' },
    priority: 'primary-first',
  },
  'over-selection': { method: 'drop', expand: { kind: 'top-m', m: 4 } },
  'device-drop': { method: 'drop', scope: 'rank', granularity: 'device' },
  'device-drop-bounded': { method: 'drop', scope: 'rank', granularity: 'device', expertBound: 1.5 },
  'expanded-device-drop': { method: 'drop', scope: 'rank', granularity: 'device', expand: { kind: 'local' } },
  reroute: { method: 'reroute' },
  'expert-drop': { method: 'expert-drop', fraction: 0.1 },
});
