/**
 * @file Moves parameters and optimizer state through core's state ports.
 *
 * A unit's tensors are called by parameter id. State is called `<id>#<rule>.<slot>`, for example `<id>#adamw.first`, and
 * `<id>#<rule>` is how many updates it has seen (I64 `[]`).
 */
import { MoebiusError } from '@moebius/core';
import type { StateReader, StateTensor, StateUnit, StateWriter, Task } from '@moebius/core';
import { tensor as makeTensor } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { disposeTree, readHostSync } from '../ownership.ts';
import type { ParameterId } from './optimizer.ts';
import type { OptimizerState } from './parameter-slot.ts';
import type { ParameterStore } from './parameter-store.ts';
import type { Snapshot } from './snapshot.ts';

/**
 * Writes every unit of a snapshot, optimizer state included where it holds them. The writer has been begun and is not committed.
 *
 * @param snapshot - borrowed
 * @param writer - between `begin` and `commit`
 */
export function* exportParameters(snapshot: Snapshot, writer: StateWriter): Task<void> {
  for (const { unit, version, ids } of snapshot.units) {
    const tensors: { [name: string]: StateTensor } = {};
    for (const id of ids) {
      tensors[id] = toState(snapshot.read(id));
      Object.assign(tensors, optimizerTensors(id, snapshot.moments(id)));
    }
    yield* writer.put({ id: unit, version, tensors });
  }
}

/**
 * Reads units into a store: values, versions, and optimizer state; where none was written, none is left.
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
  const found = findOptimizerState(state, id);
  if (found === undefined) return store.clearOptimizerState([id]);
  const { rule, step, slots } = found;
  const loaded: OptimizerState = {
    rule,
    step,
    slots: Object.fromEntries(slots.map((slot) => [slot, load(`${id}#${rule}.${slot}`)])),
  };
  store.assignOptimizerState({ [id]: loaded });
}

function optimizerTensors(
  id: ParameterId,
  state: OptimizerState | undefined,
): { [name: string]: StateTensor } {
  if (state === undefined) return {};
  const prefix = `${id}#${state.rule}`;
  const slots = Object.entries(state.slots).map(
    ([slot, value]) => [`${prefix}.${slot}`, toState(value)] as const,
  );
  const step = new BigInt64Array([BigInt(state.step)]);
  const count: StateTensor = { dtype: 'I64', shape: [], bytes: new Uint8Array(step.buffer) };
  return { ...Object.fromEntries(slots), [prefix]: count };
}

interface FoundState {
  readonly rule: string;
  readonly step: number;
  readonly slots: readonly string[];
}

/** The rule, step and slots that a unit names for a parameter; undefined when it names none. */
function findOptimizerState({ id: unit, tensors }: StateUnit, id: ParameterId): FoundState | undefined {
  const names = Object.keys(tensors)
    .filter((name) => name.startsWith(`${id}#`))
    .map((name) => name.slice(id.length + 1));
  if (names.length === 0) return undefined;
  const rules = [...new Set(names.map((name) => name.split('.', 1)[0] ?? ''))];
  const [rule = ''] = rules;
  const count = tensors[`${id}#${rule}`];
  const step = count?.dtype === 'I64' && count.bytes.length === 8 ? readCount(count.bytes) : 0;
  if (rules.length !== 1 || step < 1) {
    throw new MoebiusError({
      code: 'checkpoint',
      message: `unit "${unit}", optimizer state of "${id}": must be of one rule with a step count of at least 1, got ${names.join(', ')} at step ${step}`,
      details: { unit, id, names, step },
    });
  }
  return {
    rule,
    step,
    slots: names.filter((name) => name !== rule).map((name) => name.slice(rule.length + 1)),
  };
}

function readCount(bytes: Uint8Array): number {
  return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigInt64(0, true));
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
