/**
 * @file Counts and times the TensorFlow operators of the native engine: where a step's time goes, and how many
 * operators a decoded token costs.
 */
import { nativeBackend } from './raw-op.ts';
import type { RawBackend, RawBinding } from './raw-op.ts';

/** What one operator cost. */
export interface OperationCost {
  /** Operator name, for example `MatMul` or `MoebiusLinear`. */
  readonly name: string;
  /** Calls. */
  readonly calls: number;
  /** Milliseconds in all calls together. Operators run to their end before they return. */
  readonly milliseconds: number;
}

/**
 * Runs a function and reports every operator it called on the native engine.
 *
 * @param run - synchronous or not; what else runs in the meantime is counted too
 * @param nowMs - a monotonic clock
 * @returns the costs, most expensive first
 * @throws `engine` on another engine; whatever `run` throws
 * @example
 * ```ts
 * declare const step: () => Promise<void>;
 * const square = (): void => disposeTree(linearForward(x_TI, x_TI));
 * const costs = await profileOperations(square, () => performance.now());
 * for (const { name, calls, milliseconds } of costs) console.log(name, calls, milliseconds);
 * ```
 */
export async function profileOperations(
  run: () => unknown,
  nowMs: () => number,
): Promise<readonly OperationCost[]> {
  const backend = nativeBackend() as { -readonly [key in keyof RawBackend]: RawBackend[key] };
  const { binding } = backend;
  const costs = new Map<string, { calls: number; milliseconds: number }>();
  const executeOp: RawBinding['executeOp'] = (name, attributes, inputs, outputs) => {
    const began = nowMs();
    try {
      return binding.executeOp(name, attributes, inputs, outputs);
    } finally {
      const cost = costs.get(name) ?? { calls: 0, milliseconds: 0 };
      costs.set(name, { calls: cost.calls + 1, milliseconds: cost.milliseconds + nowMs() - began });
    }
  };
  backend.binding = Object.create(binding, { executeOp: { value: executeOp } }) as RawBinding;
  try {
    await run();
  } finally {
    backend.binding = binding;
  }
  return [...costs]
    .map(([name, cost]) => ({ name, ...cost }))
    .toSorted((left, right) => right.milliseconds - left.milliseconds);
}
