/**
 * @file Where a number stopped being finite: which layer, which tensor.
 */
import { MoebiusError } from '@moebius/core';
import type { DecoderModel, LossOutput } from '@moebius/model';
import { globalNorm } from '@moebius/tensor';

/**
 * A loss that is not finite.
 *
 * @param output - of the forward pass
 */
export function lossNotFinite({ crossEntropy, aux, total }: LossOutput): MoebiusError {
  const broken = Object.entries(aux).find(([, { value }]) => !Number.isFinite(value))?.[0];
  const subject = Number.isFinite(crossEntropy) ? (broken ?? 'total loss') : 'cross-entropy';
  return new MoebiusError({
    code: 'numerics',
    message: `${subject}: must be finite, got ${total}`,
    details: { subject },
  });
}

/**
 * Adds step, layer and parameter to a numerical failure of a step.
 *
 * @param error - what the step threw
 * @param model - borrowed; its parameters are looked through
 */
export function explainFailure(error: MoebiusError, step: number, model: DecoderModel): MoebiusError {
  const { parameters, layer: gateLayer } = error.details as {
    readonly parameters?: readonly string[];
    readonly layer?: number;
  };
  const broken = model.parameters.ids().find((id) => !globalNorm([model.parameters.read(id)]).finite);
  const parameter = broken ?? parameters?.[0] ?? null;
  const layer = layerOf(parameter) ?? gateLayer ?? null;
  const state = broken === undefined ? 'every parameter is finite' : `parameter ${broken} is not finite`;
  const place = layer === null ? '' : `, layer ${layer}`;
  const others = (parameters?.length ?? 1) - 1;
  // Backward goes from the last layer to the first: the first of the list is where it began.
  const what =
    parameters === undefined
      ? error.message
      : `gradient of ${parameters[0] ?? 'a parameter'}${others > 0 ? ` and ${others} that follow from it` : ''}: must be finite, got NaN or infinity`;
  return new MoebiusError({
    code: 'numerics',
    message: `step ${step}${place}: ${what}; ${state} (lower optimizer.learningRate, clip harder, or leave such steps out with numerics.onNonFinite "skip")`,
    details: { ...error.details, step, layer, parameter },
    cause: error,
  });
}

/** The layer in a parameter's name. */
function layerOf(id: string | null): number | undefined {
  const digits = /(?:^|\.)layers\.(\d+)\./u.exec(id ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
}
