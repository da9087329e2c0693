/**
 * @file The one owner of parameters: reads, updates, versions, snapshots.
 *
 * ```
 *   read(id) ──► borrowed until the next change            capture(units) ──► Snapshot: keeps its values
 *   update(gradients, { optimizer, clipNorm })             while training goes on (copy on write)
 * ```
 * On the native engine values and state are resource variables and AdamW works in place; a read that is still held
 * keeps its old value, at the price of one copy of that parameter. Elsewhere, and for other optimizers, the numbers come
 * from TensorFlow.js operations.
 */
import { MoebiusError } from '@moebius/core';
import { Variable, engine, tensor as makeTensor, variable } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { assertShape } from '../ops/assert-shape.ts';
import { globalNorm } from '../ops/global-norm.ts';
import { resolveOptimizer } from './choose-optimizer.ts';
import type { OptimizerSettings } from './choose-optimizer.ts';
import { chooseSlots } from './choose-slots.ts';
import type { ParameterId } from './optimizer.ts';
import type { OptimizerState, ParameterSlot, SlotKind } from './parameter-slot.ts';
import { createSnapshot } from './snapshot.ts';
import type { Snapshot } from './snapshot.ts';
import { planUpdate } from './update-plan.ts';
import type { Treatments } from './update-plan.ts';

/** Identifies a unit: parameters that move and are saved together, for example one expert. */
export type UnitId = string;

/** First value of a parameter. */
export type ParameterInit = (
  | {
      /** Shape. */ readonly shape: readonly number[];
      /** Row-major values; copied. */ readonly data: Float32Array;
    }
  | { /** float32 `[…]`, borrowed. */ readonly tensor: Tensor }
) & {
  /** The unit it belongs to; default: a unit of its own, called like the parameter. */
  readonly unit?: UnitId;
};

/** Gradients by parameter: float32, shape of the parameter. Parameters without one are left alone. */
export type Gradients = { readonly [id: ParameterId]: Tensor };

/** Options of {@link ParameterStore.update}. */
export interface UpdateOptions {
  /** Optimizer of this step and its numbers: AdamW, unless `kind` says otherwise. */
  readonly optimizer: OptimizerSettings;
  /** Parameters that are treated in their own way: rate, decay, or not at all (frozen). */
  readonly treatments?: Treatments;
  /** Scales all gradients down so that their joint norm is at most this; absent: no clipping. */
  readonly clipNorm?: number;
  /** Multiplies every gradient before norm and clipping (1 / micro-batches); default 1. */
  readonly gradientScale?: number;
  /** What to do when a gradient is NaN or infinite; default `throw`. */
  readonly onNonFinite?: 'throw' | 'skip';
}

/** What an update did. */
export interface UpdateReport {
  /** False when it was skipped. */
  readonly applied: boolean;
  /** Joint norm of the gradients after `gradientScale`, before clipping. */
  readonly norm: number;
  /** What clipping multiplied the gradients by. */
  readonly clipScale: number;
  /** Whether every gradient was finite. */
  readonly finite: boolean;
}

/** The one owner of parameters. */
export interface ParameterStore {
  /** Every parameter, in the order given. */
  ids(): readonly ParameterId[];
  /** Every unit, in order of first appearance. */
  units(): readonly UnitId[];
  /** The parameters of a unit. */
  idsOf(unit: UnitId): readonly ParameterId[];
  /** The unit of a parameter. */
  unitOf(id: ParameterId): UnitId;
  /** Shape of a parameter. */
  shape(id: ParameterId): readonly number[];
  /** The value, float32 `[…]`, borrowed until the next change of the parameter. */
  read(id: ParameterId): Tensor;
  /**
   * One optimizer step; gradients are borrowed, those of frozen parameters are not looked at.
   *
   * @throws `shape`; `numerics` on a gradient that is not finite; `configuration` on bad settings, or when a parameter
   *   has another optimizer's state. Nothing is changed then
   */
  update(gradients: Gradients, options: UpdateOptions): UpdateReport;
  /** Replaces a value; the tensor, float32, is borrowed. Optimizer state stays. @throws `shape` */
  assign(id: ParameterId, value: Tensor): void;
  /** The optimizer's state by parameter, owned by the caller; parameters that were never updated are absent. */
  optimizerState(): { readonly [id: ParameterId]: OptimizerState };
  /** Replaces optimizer state; the tensors are borrowed. */
  assignOptimizerState(state: { readonly [id: ParameterId]: OptimizerState }): void;
  /** Forgets the optimizer's state (of all by default): the next update is the first, by any optimizer. */
  clearOptimizerState(ids?: readonly ParameterId[]): void;
  /** TensorFlow.js variables that read and write this store, so that its optimizers work on it; owned by the store. */
  variables(): { readonly [id: ParameterId]: Variable };
  /** Grows with every change of any parameter of the unit. */
  version(unit: UnitId): number;
  /** The values of units (all by default) as they are now; owned by the caller. */
  capture(units?: readonly UnitId[], options?: CaptureOptions): Snapshot;
  /** Sets a unit's version, after its values were loaded. */
  setVersion(unit: UnitId, version: number): void;
  /** Frees everything. */
  dispose(): void;
}

/** Options of {@link ParameterStore.capture}. */
export interface CaptureOptions {
  /** Whether to hold the optimizer's state (moments, momentum) too; default false. */
  readonly moments?: boolean;
}

/**
 * Creates a store. Values are copied or cloned: the caller keeps what it gave.
 *
 * @param initial - first values by parameter id
 * @example
 * ```ts
 * const store = createParameterStore({ 'up.weight': { shape: [2, 3], data: new Float32Array(6), unit: 'expert.0' } });
 * store.update({ 'up.weight': gradient_FD }, { optimizer: { lr: 1e-3 }, clipNorm: 1 });
 * ```
 * @throws `shape` when data and shape differ
 */
export function createParameterStore(initial: { readonly [id: ParameterId]: ParameterInit }): ParameterStore {
  return new EngineParameterStore(initial);
}

interface Entry {
  readonly slot: ParameterSlot;
  readonly unit: UnitId;
}

class EngineParameterStore implements ParameterStore {
  readonly #kind: SlotKind = chooseSlots();
  readonly #entries = new Map<ParameterId, Entry>();
  readonly #idsOfUnit = new Map<UnitId, ParameterId[]>();
  readonly #versions = new Map<UnitId, number>();
  readonly #variables: { [id: ParameterId]: Variable } = {};

  constructor(initial: { readonly [id: ParameterId]: ParameterInit }) {
    for (const [id, init] of Object.entries(initial)) {
      const unit = init.unit ?? id;
      this.#entries.set(id, { slot: createSlot(this.#kind, id, init), unit });
      this.#idsOfUnit.set(unit, [...(this.#idsOfUnit.get(unit) ?? []), id]);
      this.#versions.set(unit, 0);
    }
  }

  ids(): readonly ParameterId[] {
    return [...this.#entries.keys()];
  }

  units(): readonly UnitId[] {
    return [...this.#idsOfUnit.keys()];
  }

  idsOf(unit: UnitId): readonly ParameterId[] {
    return this.#idsOfUnit.get(unit) ?? unknown('unit', unit);
  }

  unitOf(id: ParameterId): UnitId {
    return this.#entry(id).unit;
  }

  shape(id: ParameterId): readonly number[] {
    return this.#entry(id).slot.shape;
  }

  read(id: ParameterId): Tensor {
    return this.#entry(id).slot.read();
  }

  update(gradients: Gradients, options: UpdateOptions): UpdateReport {
    const { clipNorm, gradientScale = 1, onNonFinite = 'throw', treatments = {} } = options;
    const optimizer = resolveOptimizer(options.optimizer);
    for (const id of Object.keys(treatments)) this.#entry(id);
    const named = Object.entries(gradients)
      .map(([id, gradient]) => ({ id, gradient, slot: this.#entry(id).slot }))
      .filter(({ id }) => treatments[id]?.frozen !== true);
    for (const { id, gradient, slot } of named) {
      assertShape(gradient, slot.shape.join(' '), {}, `gradient of ${id}`);
    }
    const calls = planUpdate(named, optimizer, treatments);
    const measured = globalNorm(named.map(({ gradient }) => gradient));
    const norm = measured.norm * gradientScale;
    const finite = measured.finite && Number.isFinite(norm);
    const clipScale = clipNorm === undefined ? 1 : Math.min(1, clipNorm / (norm + 1e-6));
    if (!finite) {
      if (onNonFinite === 'skip') return { applied: false, norm, clipScale: 1, finite };
      throw notFinite(named.map(({ id, gradient }) => ({ id, finite: globalNorm([gradient]).finite })));
    }
    for (const { rule, step, parts } of calls) {
      this.#kind.update(rule, parts, { step, gradientScale: gradientScale * clipScale });
    }
    this.#changed(named.map(({ id }) => id));
    return { applied: true, norm, clipScale, finite };
  }

  assign(id: ParameterId, value: Tensor): void {
    const { slot } = this.#entry(id);
    assertShape(value, slot.shape.join(' '), {}, `value of ${id}`);
    if (value.dtype !== 'float32') {
      throw new MoebiusError({
        code: 'shape',
        message: `value of ${id}: must be float32, got ${value.dtype}`,
        details: { id, dtype: value.dtype },
      });
    }
    slot.assign(value);
    this.#changed([id]);
  }

  optimizerState(): { readonly [id: ParameterId]: OptimizerState } {
    const state: { [id: ParameterId]: OptimizerState } = {};
    for (const [id, { slot }] of this.#entries) {
      const held = slot.holdState();
      if (held !== undefined) state[id] = held;
    }
    return state;
  }

  assignOptimizerState(state: { readonly [id: ParameterId]: OptimizerState }): void {
    for (const [id, { slots }] of Object.entries(state)) {
      const pattern = this.shape(id).join(' ');
      for (const [slot, value] of Object.entries(slots))
        assertShape(value, pattern, {}, `"${slot}" of ${id}`);
    }
    for (const [id, held] of Object.entries(state)) this.#entry(id).slot.assignState(held);
  }

  clearOptimizerState(ids: readonly ParameterId[] = this.ids()): void {
    for (const id of ids) this.#entry(id).slot.clearState();
  }

  variables(): { readonly [id: ParameterId]: Variable } {
    for (const id of this.#entries.keys()) this.#variables[id] ??= this.#createVariable(id);
    return { ...this.#variables };
  }

  version(unit: UnitId): number {
    return this.#versions.get(unit) ?? unknown('unit', unit);
  }

  setVersion(unit: UnitId, version: number): void {
    this.version(unit);
    this.#versions.set(unit, version);
  }

  capture(units: readonly UnitId[] = this.units(), options: CaptureOptions = {}): Snapshot {
    const { moments = false } = options;
    return createSnapshot(
      units.map((unit) => ({
        unit,
        version: this.version(unit),
        parameters: this.idsOf(unit).map((id) => ({ id, slot: this.#entry(id).slot })),
      })),
      moments,
    );
  }

  dispose(): void {
    for (const held of Object.values(this.#variables)) held.dispose();
    for (const { slot } of this.#entries.values()) slot.dispose();
    this.#entries.clear();
    for (const id of Object.keys(this.#variables)) delete this.#variables[id];
  }

  #entry(id: ParameterId): Entry {
    return this.#entries.get(id) ?? unknown('parameter', id);
  }

  #changed(ids: readonly ParameterId[]): void {
    for (const unit of new Set(ids.map((id) => this.unitOf(id)))) {
      this.#versions.set(unit, this.version(unit) + 1);
    }
    for (const id of ids) {
      const held = this.#variables[id];
      if (held !== undefined) Variable.prototype.assign.call(held, this.read(id));
    }
  }

  #createVariable(id: ParameterId): Variable {
    const taken = engine().state.registeredVariables[id] !== undefined;
    const held = variable(this.read(id), true, taken ? undefined : id);
    held.assign = (value) => this.assign(id, value);
    return held;
  }
}

function createSlot(kind: SlotKind, id: ParameterId, init: ParameterInit): ParameterSlot {
  if ('tensor' in init) return kind.create(init.tensor);
  const expected = init.shape.reduce((size, axis) => size * axis, 1);
  if (init.data.length !== expected) {
    throw new MoebiusError({
      code: 'shape',
      message: `parameter ${id}: must have ${expected} values for [${init.shape.join(', ')}], got ${init.data.length}`,
      details: { id, shape: init.shape, expected, got: init.data.length },
    });
  }
  const value = makeTensor(init.data.slice(), [...init.shape], 'float32');
  const slot = kind.create(value);
  value.dispose();
  return slot;
}

function unknown(what: string, name: string): never {
  throw new MoebiusError({
    code: 'registry',
    message: `${what}: must be in the store, got ${JSON.stringify(name)} (unknown, or the store was disposed)`,
    details: { what, name },
  });
}

function notFinite(gradients: readonly { id: ParameterId; finite: boolean }[]): MoebiusError {
  const bad = gradients.filter(({ finite }) => !finite).map(({ id }) => id);
  return new MoebiusError({
    code: 'numerics',
    message: `gradients: must be finite, got NaN or infinity in ${bad.slice(0, 5).join(', ')}${bad.length > 5 ? ` and ${bad.length - 5} more` : ''} (lower the learning rate, or onNonFinite: 'skip')`,
    details: { parameters: bad },
  });
}
