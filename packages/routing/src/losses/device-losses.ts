/**
 * @file DeepSeek's losses on devices: experts of one device may be unequal as long as devices are equal.
 *
 * With f_e = E/(k·T)·count_e, P_e the mean probability, E_d the experts of device d, D devices:
 *
 * ```
 * device          Σ_d  mean_{e∈E_d} f_e          · Σ_{e∈E_d} P_e        DeepSeek-V2 (2405.04434), eq. 26-28
 * communication   Σ_d  D/(M·T)·tokens sent to d  · Σ_{e∈E_d} P_e        eq. 29-31; M is the largest number of devices of a token
 * ```
 * Both are worth 1 at balance.
 *
 * Letters: `E` experts, `D` devices.
 */
import { MoebiusError } from '@moebius/core';

import { countPairs, countVisits } from './count-pairs.kernel.ts';
import type { CountPairs } from './count-pairs.kernel.ts';
import type { PoolingOptions } from './pooling.ts';
import { productLoss } from './product-loss.ts';
import type { BalanceLoss } from '../balance-loss.ts';

/** Settings of {@link deviceBalanceLoss}. */
export interface DeviceBalanceOptions extends PoolingOptions {
  /** Number of devices `D`. */
  readonly devices: number;
  /** `[E]`, device of each expert; default equal runs of consecutive experts. */
  readonly hostOf?: readonly number[] | undefined;
}

/** Settings of {@link communicationLoss}. */
export interface CommunicationOptions extends DeviceBalanceOptions {
  /** Devices `M` that a token may be sent to: the groups that the gate keeps. Default the smaller of k and D. */
  readonly maximumDevices?: number | undefined;
}

/**
 * DeepSeek-V2's device-level balance.
 *
 * @param options - devices, and over which tokens
 * @returns a loss named `device-balance`, worth 1 at balance
 * @throws `configuration` on a placement that is none; when it sees a layer, on one that does not fit its experts
 */
export function deviceBalanceLoss(options: DeviceBalanceOptions): BalanceLoss {
  const { devices, hostOf: _hostOf, ...pooling } = options;
  assertHosts('deviceBalanceLoss', options);
  return productLoss({
    ...pooling,
    name: 'device-balance',
    subject: 'deviceBalanceLoss',
    count: countPairs,
    slopes: ({ load, tokens, experts, topK }) => {
      const host_E = hostsOf('deviceBalanceLoss', options, experts);
      const load_D = new Float64Array(devices);
      const size_D = new Float64Array(devices);
      for (const [e, device] of host_E.entries()) {
        load_D[device] = (load_D[device] ?? 0) + (load[e] ?? 0);
        size_D[device] = (size_D[device] ?? 0) + 1;
      }
      return Float64Array.from(
        host_E,
        (device) => ((load_D[device] ?? 0) * experts) / (topK * tokens * (size_D[device] ?? 1)),
      );
    },
  });
}

/**
 * DeepSeek-V2's communication balance: what devices receive.
 *
 * @param options - devices, and over which tokens
 * @returns a loss named `communication-balance`, worth 1 at balance when every token visits M devices
 * @throws as {@link deviceBalanceLoss}
 */
export function communicationLoss(options: CommunicationOptions): BalanceLoss {
  const { devices, hostOf: _hostOf, maximumDevices, ...pooling } = options;
  assertHosts('communicationLoss', options);
  const count: CountPairs = (plan, sequenceTokens) =>
    countVisits(plan, sequenceTokens, {
      devices,
      hostOf: hostsOf('communicationLoss', options, plan.experts),
    });
  return productLoss({
    ...pooling,
    name: 'communication-balance',
    subject: 'communicationLoss',
    count,
    slopes: ({ load, tokens, experts, topK }) => {
      const most = maximumDevices ?? Math.min(topK, devices);
      const host_E = hostsOf('communicationLoss', options, experts);
      return Float64Array.from(host_E, (device) => (devices * (load[device] ?? 0)) / (most * tokens));
    },
  });
}

function assertHosts(subject: string, { devices, hostOf = [] }: DeviceBalanceOptions): void {
  if (!Number.isInteger(devices) || devices < 1)
    throw badHosts(`${subject}.devices`, 'must be an integer of at least 1', devices);
  const wrong = hostOf.find((device) => !Number.isInteger(device) || device < 0 || device >= devices);
  if (wrong !== undefined) throw badHosts(`${subject}.hostOf`, `must hold devices 0…${devices - 1}`, wrong);
}

/** Int32Array `[E]`: device of each expert. */
function hostsOf(subject: string, { devices, hostOf }: DeviceBalanceOptions, experts: number): Int32Array {
  if (hostOf !== undefined && hostOf.length !== experts) {
    throw badHosts(`${subject}.hostOf`, `must have ${experts} entries, one an expert`, hostOf.length);
  }
  if (hostOf === undefined && experts % devices !== 0) {
    throw badHosts(`${subject}.devices`, `must divide experts ${experts}`, devices);
  }
  return Int32Array.from({ length: experts }, (_, e) => hostOf?.[e] ?? Math.floor((e * devices) / experts));
}

function badHosts(subject: string, expectation: string, got: number): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: `${subject}: ${expectation}, got ${got} (say where each expert lives)`,
    details: { subject, got },
  });
}
