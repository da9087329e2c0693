/**
 * @file Running a kind of expert in an executor: a trusted one as it is, any other with every output checked.
 *
 * Letters: `R` rows of one expert, `T` tokens, `D` model width, `N` routed pairs, `E` experts.
 */
import { MoebiusError } from '@moebius/core';
import type { Tensor2D } from '@moebius/tensor';

import type {
  ExpertBackward,
  ExpertForward,
  ExpertKind,
  ExpertParameters,
  FusedLayer,
} from './define-expert.ts';
import { aliasFault, callPlugin, firstFault, isObject, tensorFault } from './plugin-call.ts';
import type { PluginCall, PluginFault } from './plugin-call.ts';

/** Which expert is run. */
export interface ExpertPlace {
  /** Layer index. */
  readonly layer: number;
  /** Expert, or null for a whole layer. */
  readonly expert: number | null;
}

/**
 * One expert on its rows `x` `[R, D]`.
 *
 * @returns what the kind returned; the caller owns it
 * @throws `plugin` or `numerics` naming kind, layer and expert, when what it returned cannot be used
 */
export function expertForward(
  kind: ExpertKind,
  work: { readonly x: Tensor2D; readonly parameters: ExpertParameters },
  place: ExpertPlace,
): ExpertForward {
  const { x, parameters } = work;
  if (kind.trusted === true) return kind.forward(x, parameters);
  return callPlugin(
    callOf(kind, 'forward', place),
    () => kind.forward(x, parameters),
    (output) =>
      firstFault([
        () => memberFault(output, 'an object with value and saved'),
        () => tensorFault(output.value, { part: 'value', shape: x.shape, finite: true }),
        () => aliasFault(output, [x, ...Object.values(parameters)]),
      ]),
  );
}

/** What {@link expertBackward} goes back with. */
export interface ExpertBackwardWork {
  /** From `forward`; borrowed. */
  readonly saved: unknown;
  /** float32 `[R, D]`, borrowed. */
  readonly dy: Tensor2D;
  /** Shape of every part. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
}

/**
 * Gradients of one {@link expertForward}.
 *
 * @returns `dx` `[R, D]` and a gradient for every part; the caller owns them
 * @throws as {@link expertForward}
 */
export function expertBackward(
  kind: ExpertKind,
  work: ExpertBackwardWork,
  place: ExpertPlace,
): ExpertBackward {
  const { saved, dy, shapes } = work;
  if (kind.trusted === true) return kind.backward(saved, dy);
  return callPlugin(
    callOf(kind, 'backward', place),
    () => kind.backward(saved, dy),
    (gradients) =>
      firstFault([
        () => memberFault(gradients, 'an object with dx and parameters'),
        () => tensorFault(gradients.dx, { part: 'dx', shape: dy.shape }),
        () => partsFault(gradients.parameters, shapes),
        () => aliasFault(gradients, [dy]),
      ]),
  );
}

/** The fused form of a kind with the same checks as {@link expertForward} and {@link expertBackward}. */
export function guardFused(kind: ExpertKind, at: number): FusedLayer {
  const { fused: layer } = kind;
  if (layer === undefined) {
    throw new MoebiusError({
      code: 'internal',
      message: `internal: expert "${kind.name}" has no fused form`,
    });
  }
  if (kind.trusted === true) return layer;
  const place = { layer: at, expert: null };
  return {
    forward: (x, weights, options) =>
      callPlugin(
        callOf(kind, 'fused forward', place),
        () => layer.forward(x, weights, options),
        (output) =>
          firstFault([
            () => memberFault(output, 'an object with value and saved'),
            () => tensorFault(output.value, { part: 'value', shape: x.shape, finite: true }),
            () => aliasFault(output, [x, weights, ...options.experts.flatMap((own) => Object.values(own))]),
          ]),
      ),
    backward: (saved, dy) =>
      callPlugin(
        callOf(kind, 'fused backward', place),
        () => layer.backward(saved, dy),
        (gradients) =>
          firstFault([
            () => memberFault(gradients, 'an object with dx, dweights and experts'),
            () => tensorFault(gradients.dx, { part: 'dx', shape: dy.shape }),
            () => tensorFault(gradients.dweights, { part: 'dweights', shape: [null] }),
            () => expertsFault(gradients.experts, kind),
            () => aliasFault(gradients, [dy]),
          ]),
      ),
  };
}

/** Shapes of an expert's parts as they are. */
export function shapesOf(parameters: ExpertParameters): { [part: string]: readonly number[] } {
  return Object.fromEntries(Object.entries(parameters).map(([part, tensor]) => [part, tensor.shape]));
}

function callOf({ name }: ExpertKind, hook: string, { layer, expert }: ExpertPlace): PluginCall {
  const call = { kind: 'expert', name, hook, layer };
  return expert === null ? call : { ...call, place: `expert ${expert}` };
}

function memberFault(value: unknown, wanted: string, part: string = ''): PluginFault | null {
  if (isObject(value)) return null;
  return { part, expectation: `must return ${wanted}`, got: value === undefined ? 'nothing' : String(value) };
}

function partsFault(parts: unknown, shapes: ExpertBackwardWork['shapes']): PluginFault | null {
  if (!isObject(parts)) return memberFault(parts, 'gradients by part', 'parameters');
  const extra = Object.keys(parts).find((part) => !Object.hasOwn(shapes, part));
  if (extra !== undefined) {
    const known = Object.keys(shapes).join(', ');
    return {
      part: 'parameters',
      expectation: `must be gradients of ${known || 'nothing'}`,
      got: `"${extra}"`,
    };
  }
  return firstFault(
    Object.entries(shapes).map(
      ([part, shape]) =>
        () =>
          tensorFault(parts[part], { part: `gradient of ${part}`, shape }),
    ),
  );
}

function expertsFault(experts: unknown, kind: ExpertKind): PluginFault | null {
  if (!Array.isArray(experts)) {
    return { part: 'experts', expectation: 'must list gradients by expert', got: typeof experts };
  }
  const parts = Object.entries(kind.parts);
  return firstFault(
    experts.flatMap((own: unknown, expert) =>
      parts.map(
        ([part, axes]) =>
          () =>
            tensorFault(isObject(own) ? own[part] : undefined, {
              part: `experts[${expert}].${part}`,
              shape: axes.map(() => null),
            }),
      ),
    ),
  );
}
