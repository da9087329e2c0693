/**
 * @file Where experts and tokens live, made concrete for one call.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { configurationError, MoebiusError } from '@moebius/core';

import { capacitySizeFaults } from './capacity-config.ts';
import type { CapacityConfig, PlacementConfig } from './capacity-config.ts';
import { place } from './capacity-problem.ts';
import type { CapacityProblem } from './capacity-problem.ts';

/** Devices, and who lives where. */
export interface Placement {
  /** Number of devices. */
  readonly devices: number;
  /** Int32Array `[E]`: device of each expert. */
  readonly hostOf: Int32Array;
  /** Device that owns a token. */
  readonly deviceOf: (token: number) => number;
}

/**
 * Consecutive experts on consecutive devices, and tokens in equal runs (as equal as T allows), unless configuration and problem say
 * otherwise.
 *
 * @returns null when the method has no placement
 * @throws `configuration` when the placement does not fit the layer, `data` when a token's device does not exist
 */
export function resolvePlacement(config: CapacityConfig, problem: CapacityProblem): Placement | null {
  const { tokens, experts } = problem.primary;
  if (config.placement === null) return null;
  const faults = capacitySizeFaults(config, { experts });
  if (faults.length > 0) throw configurationError(`${place(problem)}capacity`, faults);
  const { devices } = config.placement;
  const { deviceOf } = problem;
  const outside = deviceOf?.findIndex((device) => device < 0 || device >= devices) ?? -1;
  if (deviceOf !== undefined && outside >= 0) {
    throw new MoebiusError({
      code: 'data',
      message: `${place(problem)}capacity deviceOf[${outside}]: must be in 0…${devices - 1}, got ${deviceOf[outside]} (number devices as placement does)`,
      details: { token: outside, device: deviceOf[outside] ?? -1, devices },
    });
  }
  return {
    devices,
    hostOf: hostsOf(config.placement, experts),
    deviceOf:
      deviceOf === undefined
        ? (token) => Math.floor((token * devices) / tokens)
        : (token) => deviceOf[token] ?? 0,
  };
}

/**
 * The device of each expert.
 *
 * @param placement - without faults for this many experts
 * @returns Int32Array `[E]`, fresh
 */
export function hostsOf({ devices, hostOf }: PlacementConfig, experts: number): Int32Array {
  return hostOf === null
    ? Int32Array.from({ length: experts }, (_, expert) => Math.floor((expert * devices) / experts))
    : Int32Array.from(hostOf);
}
