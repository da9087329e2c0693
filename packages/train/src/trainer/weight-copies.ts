/**
 * @file Copies of a model's weights beside those that are trained: the moving average, and the best so far. Each is a
 * parameter store with the same ids and units, without moments, so that a model can be wired around it.
 */
import type { StateReader, StateWriter, Task } from '@moebius/core';
import { add, createParameterStore, exportParameters, importParameters, mul, runOp } from '@moebius/tensor';
import type { ParameterStore, Snapshot } from '@moebius/tensor';

/**
 * Copies every value of a store.
 *
 * @param source - borrowed
 * @returns a store of its own; the caller owns it
 */
export function copyWeights(source: ParameterStore): ParameterStore {
  const entries = source
    .ids()
    .map((id) => [id, { tensor: source.read(id), unit: source.unitOf(id) }] as const);
  return createParameterStore(Object.fromEntries(entries));
}

/**
 * Replaces every value of a copy by those of its source.
 *
 * @param target - changed
 * @param source - borrowed; the same parameters
 */
export function copyWeightsInto(target: ParameterStore, source: ParameterStore): void {
  for (const id of target.ids()) target.assign(id, source.read(id));
}

/**
 * `target ← decay · target + (1 − decay) · source`, parameter by parameter: one parameter's size of extra memory.
 *
 * @param target - changed
 * @param source - borrowed; the same parameters
 * @param decay - weight of the old average
 */
export function averageWeightsInto(target: ParameterStore, source: ParameterStore, decay: number): void {
  for (const id of target.ids()) {
    runOp('averageWeights', () => {
      target.assign(id, add(mul(target.read(id), decay), mul(source.read(id), 1 - decay)));
    });
  }
}

/**
 * The decay of one update of the average: it rises from 0.18 to `decay`, so that the random weights a run begins with
 * do not stay in the average for `1 / (1 − decay)` steps.
 *
 * @param decay - the configured one
 * @param updates - number of this update, from 1
 */
export function averageDecay(decay: number, updates: number): number {
  return Math.min(decay, (1 + updates) / (10 + updates));
}

/**
 * Writes a copy beside the trained weights, its units called `<name>:<unit>`.
 *
 * @param copy - borrowed
 * @param writer - between `begin` and `commit`
 */
export function* exportCopy(name: string, copy: ParameterStore, writer: StateWriter): Task<void> {
  const snapshot = copy.capture();
  try {
    yield* exportParameters(snapshot, {
      ...writer,
      put: (unit) => writer.put({ ...unit, id: `${name}:${unit.id}` }),
    });
  } finally {
    releaseReads(copy, snapshot);
    snapshot.dispose();
  }
}

/** A store keeps what was read until the value changes: the same values again let go of it, so that saving leaves no trace. */
function releaseReads(copy: ParameterStore, snapshot: Snapshot): void {
  for (const { unit, version, ids } of snapshot.units) {
    for (const id of ids) copy.assign(id, snapshot.read(id));
    copy.setVersion(unit, version);
  }
}

/**
 * Reads what {@link exportCopy} wrote.
 *
 * @param copy - overwritten
 * @throws `checkpoint` when the state has no such copy, or one of other parameters
 */
export function* importCopy(name: string, copy: ParameterStore, reader: StateReader): Task<void> {
  yield* importParameters(copy, { ...reader, read: (id) => reader.read(`${name}:${id}`) });
}
