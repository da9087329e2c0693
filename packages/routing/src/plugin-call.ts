/**
 * @file Calling code that is not ours: what it throws, forgets or returns wrongly becomes an error that names the plug-in,
 * where it was called, what was expected and what it gave.
 */
import { MoebiusError, describeValue, isMoebiusError } from '@moebius/core';
import { Tensor, listTensors, readHostSync, runOp } from '@moebius/tensor';

import { firstNotFinite } from './finite.kernel.ts';

/** Who is called, and how messages begin: `layers[3] router "cosine" forward`. */
export interface PluginCall {
  /** Extension point, as in `router`. */
  readonly kind: string;
  /** Of the plug-in. */
  readonly name: string;
  /** The function of the plug-in. */
  readonly hook: string;
  /** Layer index, or undefined outside a model. */
  readonly layer: number | undefined;
  /** A finer place, as in `expert 5`. */
  readonly place?: string;
}

/** What is wrong with a returned value: *expectation*, *got*. */
export interface PluginFault {
  /** As in `logits`; empty for the whole value. */
  readonly part: string;
  /** *must be …* */
  readonly expectation: string;
  /** What was there. */
  readonly got: string;
}

const kits: { readonly [kind: string]: string } = { router: 'describeRouter', expert: 'describeExpert' };

/**
 * Runs one hook in a scope that keeps only what it returns, and checks that.
 *
 * @param call - for messages
 * @param hook - the call; tensors it makes and does not return are freed, also when it throws
 * @param check - finds what is wrong with the result
 * @returns the result; the caller owns its tensors
 * @throws `plugin`, or the code of the Moebius error that the hook threw, with the plug-in's name before its message
 */
export function callPlugin<R>(call: PluginCall, hook: () => R, check: (result: R) => PluginFault | null): R {
  try {
    return runOp(`${call.kind}.${call.name}`, () => {
      const result = hook();
      // A promise is refused by the scope, which says so better.
      const fault = isObject(result) && 'then' in result ? null : check(result);
      if (fault !== null) throw pluginFault(call, fault);
      return result;
    });
  } catch (cause) {
    if (isMoebiusError(cause) && cause.message.startsWith(subjectOf(call))) throw cause;
    throw hookError(call, cause);
  }
}

/** The error of a wrong value. */
export function pluginFault(call: PluginCall, { part, expectation, got }: PluginFault): MoebiusError {
  const kit = kits[call.kind];
  const remedy = kit === undefined ? '' : ` (run ${kit} of @moebius/routing/testing on it)`;
  return new MoebiusError({
    code: expectation === 'must be finite' ? 'numerics' : 'plugin',
    message: `${subjectOf(call)}: ${part === '' ? '' : `${part} `}${expectation}, got ${got}${remedy}`,
    details: { kind: call.kind, plugin: call.name, hook: call.hook, layer: call.layer ?? -1, part, got },
  });
}

function hookError(call: PluginCall, cause: unknown): MoebiusError {
  const { kind, name, hook, layer = -1 } = call;
  const details = { kind, plugin: name, hook, layer };
  if (isMoebiusError(cause)) {
    const message = `${subjectOf(call)}: ${cause.message}`;
    return new MoebiusError({
      code: cause.code,
      message,
      details: { ...cause.details, ...details },
      cause,
    });
  }
  const got = cause instanceof Error ? `${cause.name}: ${cause.message}` : describeValue(cause);
  return new MoebiusError({
    code: 'plugin',
    message: `${subjectOf(call)}: must not throw, got ${got} (mend the plug-in)`,
    details,
    cause,
  });
}

function subjectOf({ kind, name, hook, layer, place }: PluginCall): string {
  const where = layer === undefined ? '' : `layers[${layer}] `;
  return `${where}${kind} "${name}" ${hook}${place === undefined ? '' : ` of ${place}`}`;
}

/** What a tensor must be. */
export interface TensorForm {
  /** For messages. */
  readonly part: string;
  /** Sizes; null takes any. */
  readonly shape: readonly (number | null)[];
  /** Read it and refuse NaN and infinities. Default false. */
  readonly finite?: boolean;
}

/**
 * What is wrong with a value that should be a float32 tensor.
 *
 * @param value - anything
 * @param form - part, shape, whether it is read
 */
export function tensorFault(value: unknown, form: TensorForm): PluginFault | null {
  const { part, shape } = form;
  const expectation = `must be a float32 tensor [${shape.map((size) => size ?? '*').join(', ')}]`;
  if (!(value instanceof Tensor)) return { part, expectation, got: formOf(value) };
  const fits =
    value.shape.length === shape.length &&
    shape.every((size, axis) => size === null || size === value.shape[axis]);
  if (!fits || value.dtype !== 'float32') return { part, expectation, got: formOf(value) };
  if (value.isDisposed) return { part, expectation: 'must be alive', got: 'a disposed tensor' };
  if (form.finite !== true) return null;
  const values = readHostSync(value);
  const at = firstNotFinite(values);
  if (at < 0) return null;
  return { part, expectation: 'must be finite', got: `${values[at]} at [${placeOf(at, value).join(', ')}]` };
}

function formOf(value: unknown): string {
  if (value instanceof Tensor) return `${value.dtype} [${value.shape.join(', ')}]`;
  if (ArrayBuffer.isView(value)) return value.constructor.name;
  return describeValue(value);
}

function placeOf(index: number, { shape }: Tensor): number[] {
  let rest = index;
  return shape
    .toReversed()
    .map((size) => {
      const place = rest % size;
      rest = Math.floor(rest / size);
      return place;
    })
    .toReversed();
}

/**
 * Whether a result hands an input back as if it were its own: freeing one would free the other.
 *
 * @param result - a tree
 * @param inputs - borrowed tensors `[…]` of the call
 */
export function aliasFault(result: unknown, inputs: readonly Tensor[]): PluginFault | null {
  if (!listTensors(result).some((tensor) => inputs.includes(tensor))) return null;
  return { part: '', expectation: 'must return tensors of its own (cloneTensor)', got: 'one of its inputs' };
}

/** The first fault of a list of checks that run in order. */
export function firstFault(checks: readonly (() => PluginFault | null)[]): PluginFault | null {
  for (const check of checks) {
    const fault = check();
    if (fault !== null) return fault;
  }
  return null;
}

/** Whether a value has members. */
export function isObject(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === 'object' && value !== null;
}
