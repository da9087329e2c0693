/**
 * @file How long a layer takes on several devices, from its plan: under expert parallelism a layer ends when its busiest device ends.
 *
 * ```
 * seconds = fixed + permutation + transfer + max over devices of Σ over its experts of expertSeconds(rows)
 * ```
 * Capacity-Aware Inference (2503.05066) §2 for the maximum; the other terms are ours. Every device waits for all others at each exchange
 * of rows, so each term is a maximum by itself.
 *
 * Letters: `T` tokens, `E` experts, `Q` devices.
 */
import { MoebiusError, configurationError, isMoebiusError } from '@moebius/core';
import type { Fault } from '@moebius/core';

import { countTraffic } from './device-traffic.kernel.ts';
import type { DeviceTraffic } from './device-traffic.kernel.ts';
import { expertSeconds, parseExpertTimes } from './expert-times.ts';
import type { ExpertTimes } from './expert-times.ts';
import { placementFaults } from '../capacity/capacity-config.ts';
import type { PlacementConfig } from '../capacity/capacity-config.ts';
import { hostsOf } from '../capacity/placement.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';

/** What a layer's time is made from. Seconds are at least 0. */
export interface LatencyOptions {
  /** `E`. */
  readonly experts: number;
  /** Where experts live. */
  readonly placement: PlacementConfig;
  /** Of every expert, or one table for each `[E]`. */
  readonly times: ExpertTimes | readonly ExpertTimes[];
  /** To put one row into another order, once; a row is moved on both sides, there and back. Default 0. */
  readonly permutationSecondsPerRow?: number;
  /** To send one row between devices, once; a row goes there and back. Default 0. */
  readonly transferSecondsPerRow?: number;
  /** For each other device that rows are exchanged with, there and back. Default 0. */
  readonly transferSecondsPerPeer?: number;
  /** Whatever does not depend on the plan: the gate, kernel launches. Default 0. */
  readonly fixedSeconds?: number;
}

/** One device in one layer. */
export interface DeviceTime {
  /** Pairs its experts compute. */
  readonly rows: number;
  /** Its own pairs that go to other devices. */
  readonly sent: number;
  /** Pairs that come from other devices. */
  readonly received: number;
  /** Seconds of its experts. */
  readonly seconds: number;
}

/** How long a layer took, or will take. A measurement on real ranks has this form too. */
export interface LayerTime {
  /** The sum of the terms. */
  readonly seconds: number;
  /** Whatever does not depend on the plan. */
  readonly fixed: number;
  /** Rows put into order by expert and back, on the busiest device. */
  readonly permutation: number;
  /** Rows sent and sent back, on the busiest device. */
  readonly transfer: number;
  /** Experts of the slowest device. */
  readonly experts: number;
  /** The device that all others wait for. */
  readonly slowest: number;
  /** `[Q]`. */
  readonly devices: readonly DeviceTime[];
}

/** Tells how long a layer with a plan takes: by prediction here, by measurement on ranks. */
export interface LatencyModel {
  /** Number of devices `Q`. */
  readonly devices: number;
  /**
   * Time of a layer.
   *
   * @param plan - borrowed
   * @param deviceOf - Int32Array `[T]`, device of each token; default equal runs of consecutive tokens
   * @throws `shape` when the plan is of another layer, `data` when a token's device does not exist
   */
  layerTime(plan: DispatchPlan, deviceOf?: Int32Array): LayerTime;
}

/**
 * A latency model that computes. Pure: the same plan has the same time.
 *
 * @param options - placement, measured expert times, and the cost of moving a row
 * @throws `configuration` listing every fault at once
 * @example
 * ```ts
 * const model = createLatencyModel({
 *   experts: 4,
 *   placement: { devices: 2, hostOf: null },
 *   times: { rows: [1, 100], seconds: [1e-5, 1e-3] },
 * });
 * const plan = planTopK(Int32Array.of(0, 1, 0, 2), { tokens: 4, experts: 4, topK: 1 });
 * model.layerTime(plan).slowest; // 0: its experts have three of four rows
 * ```
 */
export function createLatencyModel(options: LatencyOptions): LatencyModel {
  const faults = latencyFaults(options);
  if (faults.length > 0) throw configurationError('latency model', faults);
  const { experts, placement, times } = options;
  const tables = (
    Array.isArray(times) ? times : Array.from({ length: experts }, () => times)
  ) as ExpertTimes[];
  const hostOf = hostsOf(placement, experts);
  const { devices } = placement;
  return {
    devices,
    layerTime(plan, deviceOf) {
      assertPlanFits(plan, { experts, devices, deviceOf });
      const owner =
        deviceOf === undefined
          ? (token: number) => Math.floor((token * devices) / plan.tokens)
          : (token: number) => deviceOf[token] ?? 0;
      const traffic = countTraffic(plan, hostOf, devices, owner);
      const seconds = Array.from({ length: devices }, () => 0);
      for (const [e, load] of plan.stats.load.entries()) {
        const host = hostOf[e] ?? 0;
        seconds[host] = (seconds[host] ?? 0) + expertSeconds(tables[e] as ExpertTimes, load);
      }
      return sumTerms(options, traffic, seconds);
    },
  };
}

function sumTerms(options: LatencyOptions, traffic: DeviceTraffic, seconds: readonly number[]): LayerTime {
  const { own, arriving, sent, received, peers } = traffic;
  const { fixedSeconds: fixed = 0, permutationSecondsPerRow: perRow = 0 } = options;
  const { transferSecondsPerRow = 0, transferSecondsPerPeer = 0 } = options;
  const devices = seconds.map((value, device) => ({
    rows: arriving[device] ?? 0,
    sent: sent[device] ?? 0,
    received: received[device] ?? 0,
    seconds: value,
  }));
  const permutation = 2 * perRow * (Math.max(...own) + Math.max(...arriving));
  const exchange = devices.map(
    (device, q) =>
      Math.max(device.sent, device.received) * transferSecondsPerRow +
      (peers[q] ?? 0) * transferSecondsPerPeer,
  );
  const transfer = 2 * Math.max(...exchange);
  const experts = Math.max(...seconds);
  return {
    seconds: fixed + permutation + transfer + experts,
    fixed,
    permutation,
    transfer,
    experts,
    slowest: seconds.indexOf(experts),
    devices,
  };
}

const costs = [
  'permutationSecondsPerRow',
  'transferSecondsPerRow',
  'transferSecondsPerPeer',
  'fixedSeconds',
] as const;

function latencyFaults(options: LatencyOptions): Fault[] {
  const { experts, placement, times } = options;
  const faults: Fault[] = [];
  if (!Number.isInteger(experts) || experts < 1) {
    const remedy = 'count the experts of the layer';
    faults.push({
      path: 'experts',
      expectation: 'must be an integer of at least 1',
      got: String(experts),
      remedy,
    });
    return faults;
  }
  faults.push(...placementFaults(placement, experts));
  for (const name of costs) {
    const value = options[name] ?? 0;
    if (Number.isFinite(value) && value >= 0) continue;
    const remedy = 'measure it, or leave it out';
    faults.push({ path: name, expectation: 'must be finite and at least 0', got: String(value), remedy });
  }
  const tables: readonly unknown[] = Array.isArray(times) ? times : [times];
  if (Array.isArray(times) && times.length !== experts) {
    const expectation = `must cover experts ${experts}`;
    faults.push({
      path: 'times',
      expectation,
      got: `${times.length} tables`,
      remedy: 'give one, or one for each',
    });
  }
  for (const [at, table] of tables.entries()) {
    faults.push(...tableFaults(table, Array.isArray(times) ? `times[${at}]` : 'times'));
  }
  return faults;
}

function tableFaults(table: unknown, path: string): Fault[] {
  try {
    parseExpertTimes(table);
    return [];
  } catch (error) {
    if (!isMoebiusError(error, 'configuration')) throw error;
    const { faults } = error.details as { readonly faults?: readonly Fault[] };
    if (faults === undefined) throw error;
    return faults.map((fault) => ({ ...fault, path: fault.path === '' ? path : `${path}.${fault.path}` }));
  }
}

interface Fit {
  readonly experts: number;
  readonly devices: number;
  readonly deviceOf: Int32Array | undefined;
}

function assertPlanFits(plan: DispatchPlan, { experts, devices, deviceOf }: Fit): void {
  if (plan.experts !== experts) {
    throw new MoebiusError({
      code: 'shape',
      message: `layer time: plan must have ${experts} experts, got ${plan.experts} (make a latency model for each size of layer)`,
      details: { experts, got: plan.experts },
    });
  }
  if (deviceOf === undefined) return;
  if (deviceOf.length !== plan.tokens) {
    throw new MoebiusError({
      code: 'shape',
      message: `layer time: deviceOf must have an entry for each of ${plan.tokens} tokens, got ${deviceOf.length} (pass [T])`,
      details: { tokens: plan.tokens, got: deviceOf.length },
    });
  }
  const outside = deviceOf.findIndex((device) => device < 0 || device >= devices);
  if (outside < 0) return;
  throw new MoebiusError({
    code: 'data',
    message: `layer time: deviceOf[${outside}] must be in 0…${devices - 1}, got ${deviceOf[outside]} (number devices as placement does)`,
    details: { token: outside, device: deviceOf[outside] ?? -1, devices },
  });
}
