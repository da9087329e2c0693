/**
 * @file Adding and removing experts: one plan of who is who before and after, and what it does to rows of a router, to
 * parameters by id, and to the optimizer's state.
 *
 * Experts that stay keep their order and their bits; added ones come last, as a copy of another or fresh.
 */
import type { Rng } from '@moebius/core';

import { configuration, type HostTensor, noisy, viewOf } from './host-expert.ts';
import { putSlicesInto, takeSlices } from './host-rows.kernel.ts';

/** An expert to add: a copy of one that was there before the edit, or one that begins anew. */
export type AddedExpert = { readonly copyOf: number } | 'fresh';

/** Who is who before and after; integers only. */
export interface ExpertEdit {
  /** Experts before. */
  readonly before: number;
  /** Experts after. */
  readonly after: number;
  /** Int32Array `[after]`: the expert it was, or is a copy of; -1 for a fresh one. */
  readonly source: Int32Array;
  /** Uint8Array `[after]`: 1 for an expert that was added. */
  readonly added: Uint8Array;
  /** Experts of before that are gone, ascending. */
  readonly removed: readonly number[];
}

/**
 * Plans an edit.
 *
 * @param options - `experts` before; which to `remove`; what to `add` behind those that stay
 * @returns who is who
 * @throws `configuration` when an expert is not there or is named twice, or none would be left
 * @example
 * ```ts
 * planExpertEdit({ experts: 4, remove: [1], add: [{ copyOf: 3 }, 'fresh'] }).source; // 0 2 3 3 -1
 * ```
 */
export function planExpertEdit(options: {
  readonly experts: number;
  readonly remove?: readonly number[];
  readonly add?: readonly AddedExpert[];
}): ExpertEdit {
  const { experts, remove = [], add = [] } = options;
  for (const expert of remove) assertExpert('remove', expert, experts);
  const twice = remove.find((expert, at) => remove.indexOf(expert) !== at);
  if (twice !== undefined) throw configuration('remove', 'must name an expert once', `${twice} twice`);
  for (const entry of add) if (entry !== 'fresh') assertExpert('add', entry.copyOf, experts);
  const kept = Array.from({ length: experts }, (_, expert) => expert).filter(
    (expert) => !remove.includes(expert),
  );
  const after = kept.length + add.length;
  if (after === 0) throw configuration('remove', 'must leave an expert', `all ${experts}`);
  return {
    before: experts,
    after,
    source: Int32Array.from([...kept, ...add.map((entry) => (entry === 'fresh' ? -1 : entry.copyOf))]),
    added: Uint8Array.from({ length: after }, (_, expert) => (expert < kept.length ? 0 : 1)),
    removed: remove.toSorted((a, b) => a - b),
  };
}

function assertExpert(subject: string, expert: number, experts: number): void {
  if (Number.isInteger(expert) && expert >= 0 && expert < experts) return;
  throw configuration(subject, `must name experts from 0 to ${experts - 1}`, String(expert));
}

/** How the rows of added experts begin. */
export interface NewRows {
  /** Rows of fresh experts: normal with this standard deviation; 0 gives zeros. Default 0. */
  readonly standardDeviation?: number;
  /** On rows that are copies, relative to the copied row's root mean square. Default 0: equal scores, ties to the lowest index. */
  readonly noise?: number;
  /** Forked by expert, not advanced. Needed for either. */
  readonly rng?: Rng;
}

/**
 * A tensor with one slice for each expert, after an edit: rows of a router's weight, entries of a bias.
 *
 * @param tensor - `[…, E, …]`, borrowed
 * @param edit - who is who
 * @param options - `axis` of the experts, default 0; how added rows begin
 * @returns a fresh tensor; the slices of experts that stay have the same bits
 * @throws `configuration` when the axis does not have `edit.before` experts
 */
export function editExpertRows(
  tensor: HostTensor,
  edit: ExpertEdit,
  options: NewRows & { readonly axis?: number } = {},
): HostTensor {
  const { axis = 0, standardDeviation = 0, noise = 0, rng } = options;
  const { shape } = tensor;
  if (shape[axis] !== edit.before) {
    throw configuration(
      'router tensor',
      `must have ${edit.before} experts along axis ${axis}`,
      `[${shape.join(', ')}]`,
    );
  }
  if (rng === undefined && (standardDeviation > 0 || noise > 0)) {
    throw configuration('rng', 'must be given for fresh rows or noise', 'none');
  }
  const after = shape.with(axis, edit.after);
  const data = takeSlices(tensor.data, viewOf(shape, axis), edit.source);
  const view = viewOf(after, axis);
  for (const [expert, isAdded] of edit.added.entries()) {
    if (isAdded === 0 || rng === undefined) continue;
    const own = rng.fork(expert);
    const row = new Float32Array(view.outer * view.inner);
    if (edit.source[expert] === -1) {
      if (standardDeviation === 0) continue;
      own.fillNormal(row, { standardDeviation });
      putSlicesInto(data, view, [expert], row);
    } else if (noise > 0) {
      const copied = takeSlices(data, view, [expert]);
      putSlicesInto(data, view, [expert], noisy({ shape: [row.length], data: copied }, noise, own).data);
    }
  }
  return { shape: after, data };
}

/** How ids of parameters say which expert they belong to. */
export interface ExpertIds {
  /** The expert of an id, by this layer's numbering before the edit; null for parameters that are nobody's. */
  expertOf(id: string): number | null;
  /** The id of the same part of another expert. */
  withExpert(id: string, expert: number): string;
  /** The axis of the experts in a tensor that has a slice for each (a router's weight: 0); null for all others. */
  expertAxis(id: string): number | null;
}

/** What an optimizer keeps for one parameter, on the host. */
export interface HostOptimizerState {
  /** The rule that keeps it, for example `adamw`. */
  readonly rule: string;
  /** Updates so far. */
  readonly step: number;
  /** Of the parameter's shape, by slot: for AdamW `first` and `second`. */
  readonly slots: { readonly [slot: string]: HostTensor };
}

/**
 * The optimizer's state after an edit. What belongs to experts that stay is the same arrays under their new ids; what belonged
 * to removed ones is gone; added ones have none, so that their next update is their first. In a router's tensors the rows of
 * added experts have moments of 0.
 *
 * @param state - by parameter id, of one layer; borrowed, and shared with the result
 * @param edit - who is who
 * @param ids - how ids are read
 * @returns state by the ids of after
 */
export function editOptimizerState(
  state: { readonly [id: string]: HostOptimizerState },
  edit: ExpertEdit,
  ids: ExpertIds,
): { readonly [id: string]: HostOptimizerState } {
  const result: { [id: string]: HostOptimizerState } = {};
  const place = placesOf(edit);
  for (const [id, held] of Object.entries(state)) {
    const expert = ids.expertOf(id);
    const axis = ids.expertAxis(id);
    if (expert !== null) {
      const to = place[expert];
      if (to !== undefined) result[ids.withExpert(id, to)] = held;
    } else if (axis === null) result[id] = held;
    else result[id] = { ...held, slots: editSlots(held.slots, edit, axis) };
  }
  return result;
}

/** The new number of every expert that stays, by its old one. */
export function placesOf(edit: ExpertEdit): readonly (number | undefined)[] {
  const places = Array.from<number | undefined>({ length: edit.before });
  for (const [to, from] of edit.source.entries()) if (edit.added[to] === 0) places[from] = to;
  return places;
}

function editSlots(
  slots: HostOptimizerState['slots'],
  edit: ExpertEdit,
  axis: number,
): HostOptimizerState['slots'] {
  // Nobody has seen a gradient of an added row yet, whatever it is a copy of.
  const source = edit.source.map((from, to) => (edit.added[to] === 1 ? -1 : from));
  return Object.fromEntries(
    Object.entries(slots).map(([slot, tensor]) => [
      slot,
      editExpertRows(tensor, { ...edit, source }, { axis }),
    ]),
  );
}
