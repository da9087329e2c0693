/**
 * @file One expert as plain numbers on the host: what surgery cuts and joins. No engine is needed for any of it.
 *
 * Letters: `F` neurons, `D` model width.
 */
import { MoebiusError, type Rng } from '@moebius/core';

import type { ExpertKind, ExpertSize, PartAxis } from '../define-expert.ts';
import {
  type AxisView,
  plusScaled,
  putSlicesInto,
  rootMeanSquare,
  scaled,
  takeSlices,
} from './host-rows.kernel.ts';

/** A tensor on the host. Functions of surgery borrow them and return fresh ones. */
export interface HostTensor {
  /** Shape. */
  readonly shape: readonly number[];
  /** Row-major values. */
  readonly data: Float32Array;
}

/** The parts of one expert by name, as `gate` `[F, D]`. */
export interface HostExpert {
  readonly [part: string]: HostTensor;
}

/** Which neurons each expert gets: every neuron once. Ascending within an expert. */
export type NeuronSplit = readonly Int32Array[];

/** Settings of cutting and joining. */
export interface CutOptions {
  /**
   * Parts that the expert's output is linear in, all of them together: scaling them scales the output, and those without a
   * neuron axis are shared out. Default `down` and `downBias`, as far as the kind has them.
   */
  readonly outputParts?: readonly string[];
}

/**
 * The size of an expert, when its parts are those of the kind.
 *
 * @param kind - of the expert
 * @param expert - borrowed
 * @param subject - how messages call it
 * @throws `shape` when a part is missing, not of the kind, or of another shape than the others
 */
export function sizeOfExpert(kind: ExpertKind, expert: HostExpert, subject = 'expert'): ExpertSize {
  const known = Object.keys(kind.parts);
  const given = Object.keys(expert);
  if (known.toSorted().join() !== given.toSorted().join()) {
    throw wrongShape(
      `${subject} of kind ${kind.name}`,
      `must have the parts ${known.join(', ') || 'none'}`,
      given.join(', ') || 'none',
    );
  }
  const widths: { F?: number; D?: number } = {};
  const lengthOf = (axis: PartAxis): number | undefined => (typeof axis === 'number' ? axis : widths[axis]);
  for (const [part, axes] of Object.entries(kind.parts)) {
    const { shape, data } = tensorOf(expert, part);
    const expected = axes.map((axis, at) => lengthOf(axis) ?? shape[at] ?? -1);
    const isRight = shape.length === axes.length && expected.every((length, at) => length === shape[at]);
    if (!isRight) {
      throw wrongShape(
        `${subject}, part ${part}`,
        `must be [${axes.map((axis) => lengthOf(axis) ?? axis).join(', ')}]`,
        `[${shape.join(', ')}]`,
      );
    }
    for (const [at, axis] of axes.entries()) if (typeof axis !== 'number') widths[axis] = shape[at] ?? 0;
    if (data.length !== sizeOf(shape)) {
      throw wrongShape(
        `${subject}, part ${part}`,
        `must have ${sizeOf(shape)} values for [${shape.join(', ')}]`,
        String(data.length),
      );
    }
  }
  return { modelWidth: widths.D ?? 0, hiddenWidth: widths.F ?? 0 };
}

/**
 * Some neurons of an expert. Parts without a neuron axis are copied.
 *
 * @param kind - has neurons
 * @param expert - borrowed
 * @param neurons - which rows of `[F, D]`, in this order
 * @returns a fresh expert
 * @throws `configuration` when the kind has no neurons, or a neuron is not in the expert
 */
export function takeNeurons(kind: ExpertKind, expert: HostExpert, neurons: ArrayLike<number>): HostExpert {
  const { hiddenWidth } = sizeOfExpert(kind, expert);
  assertNeurons(kind);
  const wrong = Array.from(neurons).find((id) => !Number.isInteger(id) || id < 0 || id >= hiddenWidth);
  if (wrong !== undefined) {
    throw configuration('neuron', `must be an integer below ${hiddenWidth}`, String(wrong));
  }
  return mapParts(expert, (tensor, part) => {
    let { shape, data } = tensor;
    for (const [axis, letter] of (kind.parts[part] ?? []).entries()) {
      if (letter !== 'F') continue;
      data = takeSlices(data, viewOf(shape, axis), neurons);
      shape = shape.with(axis, neurons.length);
    }
    return { shape, data: data === tensor.data ? data.slice() : data };
  });
}

/**
 * Cuts an expert into experts whose outputs add up to its own: the neurons are shared out as `split` says, and what has no
 * neuron axis among the output parts (a bias) in equal shares.
 *
 * @param kind - has neurons
 * @param expert - borrowed
 * @param split - every neuron once
 * @returns one fresh expert for each entry of `split`
 * @throws `configuration` when a neuron is missing or comes twice, or a part can neither be cut nor shared out
 * @example
 * ```ts
 * const expert = { up: { shape: [4, 1], data: new Float32Array(4) }, down: { shape: [4, 1], data: new Float32Array(4) } };
 * const halves = splitExpert(plainExpert(), expert, [Int32Array.of(0, 2), Int32Array.of(1, 3)]);
 * ```
 */
export function splitExpert(
  kind: ExpertKind,
  expert: HostExpert,
  split: NeuronSplit,
  options: CutOptions = {},
): HostExpert[] {
  const { hiddenWidth } = sizeOfExpert(kind, expert);
  assertSplit(split, hiddenWidth);
  const output = outputPartsOf(kind, options);
  for (const [part, axes] of Object.entries(kind.parts)) {
    if (axes.includes('F') || output.includes(part)) continue;
    throw configuration(
      `part ${part} of ${kind.name}`,
      'must have a neuron axis or be an output part to be shared out',
      `[${axes.join(', ')}]`,
      'name it in outputParts if the output is linear in it',
    );
  }
  return split.map((neurons) =>
    mapParts(takeNeurons(kind, expert, neurons), ({ shape, data }, part) =>
      kind.parts[part]?.includes('F') === true
        ? { shape, data }
        : { shape, data: scaled(data, 1 / split.length) },
    ),
  );
}

/**
 * Puts experts side by side as one: its output is the sum of theirs. Undoes {@link splitExpert}, up to the order of neurons.
 *
 * @param kind - has neurons
 * @param experts - at least one, of one width `D`, borrowed
 * @returns a fresh expert with the neurons of all
 */
export function joinExperts(
  kind: ExpertKind,
  experts: readonly HostExpert[],
  options: CutOptions = {},
): HostExpert {
  const [first] = experts;
  if (first === undefined) throw configuration('experts', 'must be at least one', '0');
  assertNeurons(kind);
  const sizes = experts.map((expert, at) => sizeOfExpert(kind, expert, `experts[${at}]`));
  const modelWidth = sizes[0]?.modelWidth ?? 0;
  const other = sizes.findIndex((size) => size.modelWidth !== modelWidth);
  if (other >= 0) {
    throw wrongShape(`experts[${other}]`, `must have width ${modelWidth}`, String(sizes[other]?.modelWidth));
  }
  const hiddenWidth = sizes.reduce((sum, size) => sum + size.hiddenWidth, 0);
  const output = outputPartsOf(kind, options);
  return mapParts(first, ({ shape, data }, part) => {
    const axis = kind.parts[part]?.indexOf('F') ?? -1;
    const all = experts.map((expert) => tensorOf(expert, part));
    if (axis < 0) {
      if (output.includes(part)) return { shape, data: addAll(all) };
      if (all.every((tensor) => tensor.data.every((value, at) => value === data[at])))
        return { shape, data: data.slice() };
      throw configuration(
        `part ${part} of ${kind.name}`,
        'must be the same in all experts to be joined',
        'different values',
        'name it in outputParts if the output is linear in it',
      );
    }
    const whole = shape.with(axis, hiddenWidth);
    const joined = new Float32Array(sizeOf(whole));
    let at = 0;
    for (const [index, tensor] of all.entries()) {
      const count = sizes[index]?.hiddenWidth ?? 0;
      const places = Array.from({ length: count }, (_, neuron) => at + neuron);
      putSlicesInto(joined, viewOf(whole, axis), places, tensor.data);
      at += count;
    }
    return { shape: whole, data: joined };
  });
}

/**
 * An expert whose output is multiplied: exactly, through the parts that the output is linear in; or, as Megatron's upcycling
 * does, evenly through all matrices, each by `factor^(1/m)` of its `m` matrices, which is exact for ReLU only.
 *
 * @param kind - of the expert
 * @param expert - borrowed
 * @param options - the factor, where it goes, and the output parts
 * @returns a fresh expert
 * @throws `configuration` when no output part is known, or a factor that is not positive is to be spread evenly
 */
export function scaleExpert(
  kind: ExpertKind,
  expert: HostExpert,
  options: CutOptions & { readonly factor: number; readonly placing?: 'output' | 'even' },
): HostExpert {
  const { factor, placing = 'output' } = options;
  sizeOfExpert(kind, expert);
  if (factor === 1) return mapParts(expert, ({ shape, data }) => ({ shape, data: data.slice() }));
  const output = outputPartsOf(kind, options);
  if (output.length === 0) {
    throw configuration(
      `kind ${kind.name}`,
      'must have a part that its output is linear in',
      `parts ${Object.keys(kind.parts).join(', ') || 'none'}`,
      'name them in outputParts',
    );
  }
  if (placing === 'output') {
    return mapParts(expert, ({ shape, data }, part) => ({
      shape,
      data: scaled(data, output.includes(part) ? factor : 1),
    }));
  }
  if (factor <= 0)
    throw configuration('factor', 'must be above 0 to be spread over all matrices', String(factor));
  const matrices = Object.values(kind.parts).filter((axes) => axes.length > 1).length;
  const share = factor ** (1 / Math.max(1, matrices));
  // A bias behind the first matrices is scaled as they are, so that ReLU passes the factor on; an output bias wholly.
  return mapParts(expert, ({ shape, data }, part) => {
    const isOutputBias = output.includes(part) && kind.parts[part]?.includes('F') !== true;
    return { shape, data: scaled(data, isOutputBias ? factor : share) };
  });
}

/**
 * An expert with normal noise: of every part, `relative` times its root mean square.
 *
 * @param expert - borrowed
 * @param relative - 0 copies
 * @param rng - forked by part, not advanced
 * @returns a fresh expert
 */
export function addNoise(expert: HostExpert, relative: number, rng: Rng): HostExpert {
  return mapParts(expert, (tensor, part) => noisy(tensor, relative, rng.fork(part)));
}

/** {@link addNoise} of one tensor; `rng` is advanced. */
export function noisy({ shape, data }: HostTensor, relative: number, rng: Rng): HostTensor {
  if (!Number.isFinite(relative) || relative < 0) {
    throw configuration('noise', 'must be a number of at least 0', String(relative));
  }
  if (relative === 0) return { shape, data: data.slice() };
  const noise = new Float32Array(data.length);
  rng.fillNormal(noise);
  return { shape, data: plusScaled(data, noise, relative * rootMeanSquare(data)) };
}

/** Experts of one shape, as a list of tensors by part. */
export function mapParts(
  expert: HostExpert,
  change: (tensor: HostTensor, part: string) => HostTensor,
): { [part: string]: HostTensor } {
  return Object.fromEntries(Object.entries(expert).map(([part, tensor]) => [part, change(tensor, part)]));
}

/** A part that is known to be there. */
export function tensorOf(expert: HostExpert, part: string): HostTensor {
  const tensor = expert[part];
  if (tensor !== undefined) return tensor;
  throw wrongShape('expert', `must have the part ${part}`, Object.keys(expert).join(', ') || 'none');
}

/** One axis of a shape. */
export function viewOf(shape: readonly number[], axis: number): AxisView {
  return {
    outer: sizeOf(shape.slice(0, axis)),
    length: shape[axis] ?? 1,
    inner: sizeOf(shape.slice(axis + 1)),
  };
}

/** Values of a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** *subject: expectation, got value (remedy)* about what was asked for. */
export function configuration(
  subject: string,
  expectation: string,
  got: string,
  remedy?: string,
): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: `${subject}: ${expectation}, got ${got}${remedy === undefined ? '' : ` (${remedy})`}`,
    details: { subject, got },
  });
}

function wrongShape(subject: string, expectation: string, got: string): MoebiusError {
  return new MoebiusError({
    code: 'shape',
    message: `${subject}: ${expectation}, got ${got}`,
    details: { subject, got },
  });
}

function outputPartsOf(kind: ExpertKind, { outputParts }: CutOptions): readonly string[] {
  const known = Object.keys(kind.parts);
  const unknown = outputParts?.find((part) => !known.includes(part));
  if (unknown !== undefined) {
    throw configuration(
      'outputParts',
      `must name parts of ${kind.name} (${known.join(', ') || 'none'})`,
      `"${unknown}"`,
    );
  }
  return outputParts ?? ['down', 'downBias'].filter((part) => known.includes(part));
}

function assertNeurons({ neuronAxis, name }: ExpertKind): void {
  if (neuronAxis === null)
    throw configuration(`kind ${name}`, 'must have neurons to be cut or joined', 'none');
}

function assertSplit(split: NeuronSplit, neurons: number): void {
  const all = split.flatMap((ids) => Array.from(ids)).toSorted((a, b) => a - b);
  const wrong = all.findIndex((id, at) => id !== at);
  if (split.length > 0 && all.length === neurons && wrong < 0) return;
  const got =
    wrong < 0 ? `${all.length} of ${neurons}` : `${all.length}, with ${all[wrong]} where ${wrong} belongs`;
  throw configuration('split', `must give each of ${neurons} neurons to one expert`, got);
}

function addAll(tensors: readonly HostTensor[]): Float32Array {
  const sum = new Float32Array(tensors[0]?.data.length ?? 0);
  return sum.map((_, at) => tensors.reduce((total, { data }) => total + (data[at] ?? 0), 0));
}
