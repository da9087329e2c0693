/**
 * @file Moves parameters and moments through core's state ports.
 *
 * A unit's tensors are called by parameter id; with moments also `<id>#first`, `<id>#second` and `<id>#step` (I64 `[]`).
 */
import { MoebiusError } from '@moebius/core';
import type { StateReader, StateTensor, StateUnit, StateWriter, Task } from '@moebius/core';
import { tensor as makeTensor } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { disposeTree, readHostSync } from '../ownership.ts';
import type { ParameterId } from './adamw-settings.ts';
import type { Moments } from './parameter-slot.ts';
import type { ParameterStore } from './parameter-store.ts';
import type { Snapshot } from './snapshot.ts';

/**
 * Writes every unit of a snapshot, moments included where it holds them. The writer has been begun and is not committed.
 *
 * @param snapshot - borrowed
 * @param writer - between `begin` and `commit`
 */
export function* exportParameters(snapshot: Snapshot, writer: StateWriter): Task<void> {
  for (const { unit, version, ids } of snapshot.units) {
    const tensors: { [name: string]: StateTensor } = {};
    for (const id of ids) {
      tensors[id] = toState(snapshot.read(id));
      const moments = snapshot.moments(id);
      if (moments === undefined) continue;
      tensors[`${id}#first`] = toState(moments.first);
      tensors[`${id}#second`] = toState(moments.second);
      const step = new BigInt64Array([BigInt(moments.step)]);
      tensors[`${id}#step`] = { dtype: 'I64', shape: [], bytes: new Uint8Array(step.buffer) };
    }
    yield* writer.put({ id: unit, version, tensors });
  }
}

/**
 * Reads units into a store: values, versions, and moments where they were written.
 *
 * @param store - borrowed; units that the reader lacks are an error
 * @param units - which; default every unit of the store
 * @throws `checkpoint` on a parameter that is missing or of another shape or type
 */
export function* importParameters(
  store: ParameterStore,
  reader: StateReader,
  units: readonly string[] = store.units(),
): Task<void> {
  for (const unit of units) {
    const state = yield* reader.read(unit);
    const fresh: Tensor[] = [];
    try {
      for (const id of store.idsOf(unit)) loadParameter(store, state, id, fresh);
    } finally {
      disposeTree(fresh);
    }
    store.setVersion(unit, state.version);
  }
}

function loadParameter(store: ParameterStore, state: StateUnit, id: ParameterId, fresh: Tensor[]): void {
  const load = (name: string): Tensor => {
    const made = fromState(state, name, store.shape(id));
    fresh.push(made);
    return made;
  };
  store.assign(id, load(id));
  if (state.tensors[`${id}#first`] === undefined) return;
  const stepBytes = state.tensors[`${id}#step`]?.bytes ?? new Uint8Array(8);
  const step = Number(new DataView(stepBytes.buffer, stepBytes.byteOffset).getBigInt64(0, true));
  const moments: Moments = { first: load(`${id}#first`), second: load(`${id}#second`), step };
  store.assignOptimizerState({ [id]: moments });
}

function toState(value: Tensor): StateTensor {
  const host = readHostSync(value);
  const copy = Float32Array.from(host);
  return { dtype: 'F32', shape: value.shape, bytes: new Uint8Array(copy.buffer) };
}

function fromState(state: StateUnit, name: string, shape: readonly number[]): Tensor {
  const found = state.tensors[name];
  const form = found === undefined ? 'nothing' : `${found.dtype} [${found.shape.join(', ')}]`;
  if (found === undefined || form !== `F32 [${shape.join(', ')}]`) {
    throw new MoebiusError({
      code: 'checkpoint',
      message: `unit "${state.id}", tensor "${name}": must be F32 [${shape.join(', ')}], got ${form}`,
      details: { unit: state.id, name, shape },
    });
  }
  const aligned = found.bytes.slice();
  return makeTensor(new Float32Array(aligned.buffer), [...shape], 'float32');
}
