/**
 * @file Rows by device, counted from a plan: what each device owns, sends, receives and computes.
 *
 * Letters: `T` tokens, `E` experts, `N` routed pairs, `Q` devices.
 */
import type { DispatchPlan } from '../dispatch-plan.ts';

/** Pairs by device, each Float64Array `[Q]`. */
export interface DeviceTraffic {
  /** Pairs of the tokens that a device owns. */
  readonly own: Float64Array;
  /** Pairs for the experts that a device hosts. */
  readonly arriving: Float64Array;
  /** Of its own pairs, those that go to another device. */
  readonly sent: Float64Array;
  /** Of the arriving pairs, those that come from another device. */
  readonly received: Float64Array;
  /** Other devices that a device exchanges rows with. */
  readonly peers: Float64Array;
}

/**
 * Counts a plan's pairs by device. O(N + Q²).
 *
 * @param plan - borrowed
 * @param hostOf - `[E]`
 * @param devices - Q
 * @param deviceOf - device of a token
 */
export function countTraffic(
  plan: DispatchPlan,
  hostOf: Int32Array,
  devices: number,
  deviceOf: (token: number) => number,
): DeviceTraffic {
  const between = new Float64Array(devices * devices);
  for (let e = 0; e < plan.experts; e += 1) {
    const host = hostOf[e] ?? 0;
    for (let pair = plan.offsets[e] ?? 0; pair < (plan.offsets[e + 1] ?? 0); pair += 1) {
      const at = deviceOf(plan.token[pair] ?? 0) * devices + host;
      between[at] = (between[at] ?? 0) + 1;
    }
  }
  const traffic = {
    own: new Float64Array(devices),
    arriving: new Float64Array(devices),
    sent: new Float64Array(devices),
    received: new Float64Array(devices),
    peers: new Float64Array(devices),
  };
  for (let from = 0; from < devices; from += 1) {
    for (let to = 0; to < devices; to += 1) {
      const pairs = between[from * devices + to] ?? 0;
      traffic.own[from]! += pairs;
      traffic.arriving[to]! += pairs;
      if (from === to) continue;
      traffic.sent[from]! += pairs;
      traffic.received[to]! += pairs;
      if (pairs + (between[to * devices + from] ?? 0) > 0) traffic.peers[from]! += 1;
    }
  }
  return traffic;
}
