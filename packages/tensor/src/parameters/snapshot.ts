/**
 * @file A consistent picture of parameters that training does not change any more: handles, not copies.
 */
import { MoebiusError } from '@moebius/core';
import { keep } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { cloneTensor, disposeTree } from '../ownership.ts';
import type { ParameterId } from './optimizer.ts';
import type { OptimizerState, ParameterSlot } from './parameter-slot.ts';

/** One unit as it was. */
export interface SnapshotUnit {
  /** Its id. */
  readonly unit: string;
  /** Its version. */
  readonly version: number;
  /** Its parameters. */
  readonly ids: readonly ParameterId[];
}

/** Parameters as they were. Owns its handles; `dispose` frees them. */
export interface Snapshot {
  /** The captured units. */
  readonly units: readonly SnapshotUnit[];
  /** A value, float32 `[…]`, borrowed until dispose. */
  read(id: ParameterId): Tensor;
  /** The optimizer's state (moments, momentum), borrowed until dispose; undefined when not captured or never updated. */
  moments(id: ParameterId): OptimizerState | undefined;
  /** Frees the handles. */
  dispose(): void;
}

/** What a snapshot is taken of. */
export interface CapturedUnit {
  /** Its id. */
  readonly unit: string;
  /** Its version. */
  readonly version: number;
  /** Its parameters and where they lie. */
  readonly parameters: readonly { readonly id: ParameterId; readonly slot: ParameterSlot }[];
}

/**
 * Takes handles on every value (and moment) of the units.
 *
 * @returns a snapshot, owned by the caller
 */
export function createSnapshot(captured: readonly CapturedUnit[], withMoments: boolean): Snapshot {
  const held: { [id: ParameterId]: { value: Tensor; moments: OptimizerState | undefined } } = {};
  for (const { id, slot } of captured.flatMap((unit) => unit.parameters)) {
    held[id] = {
      value: keep(cloneTensor(slot.read())),
      moments: withMoments ? slot.holdState() : undefined,
    };
  }
  const find = (id: ParameterId): { value: Tensor; moments: OptimizerState | undefined } => {
    const found = held[id];
    if (found !== undefined && !found.value.isDisposed) return found;
    throw new MoebiusError({
      code: 'ownership',
      message: `snapshot: must hold the parameter and not be disposed, got ${JSON.stringify(id)}`,
      details: { id },
    });
  };
  return {
    units: captured.map(({ unit, version, parameters }) => ({
      unit,
      version,
      ids: parameters.map(({ id }) => id),
    })),
    read: (id) => find(id).value,
    moments: (id) => find(id).moments,
    dispose: () => disposeTree(held),
  };
}
