/**
 * @file Early stopping as arithmetic: what each evaluation means for the best so far and for patience.
 */
import type { EarlyStopConfig } from './train-config.ts';

/** What early stopping knows; saved with every checkpoint. */
export interface BestSoFar {
  /** The lowest held-out bits per byte. */
  readonly bitsPerByte: number;
  /** The step that reached them. */
  readonly step: number;
  /** What the next gain is counted from: the bits of the last gain larger than `minimumGain`. */
  readonly reference: number;
  /** Evaluations since that gain. */
  readonly waited: number;
}

/** What one evaluation meant. */
export interface Judgement {
  /** Null while no evaluation was finite. */
  readonly best: BestSoFar | null;
  /** Whether these weights are the best. */
  readonly isBest: boolean;
}

/**
 * Judges an evaluation. Small gains add up: they are counted from the last one that was large enough.
 *
 * @param before - null before the first evaluation
 * @param measured - held-out bits per byte and the step
 */
export function judgeEvaluation(
  before: BestSoFar | null,
  measured: { readonly bitsPerByte: number; readonly step: number },
  { minimumGain }: EarlyStopConfig,
): Judgement {
  const { bitsPerByte, step } = measured;
  if (before === null) {
    const isBest = Number.isFinite(bitsPerByte);
    return { best: isBest ? { bitsPerByte, step, reference: bitsPerByte, waited: 0 } : null, isBest };
  }
  const isGain = before.reference - bitsPerByte > minimumGain;
  const isBest = bitsPerByte < before.bitsPerByte;
  return {
    best: {
      bitsPerByte: isBest ? bitsPerByte : before.bitsPerByte,
      step: isBest ? step : before.step,
      reference: isGain ? bitsPerByte : before.reference,
      waited: isGain ? 0 : before.waited + 1,
    },
    isBest,
  };
}

/** Whether patience is at its end. */
export function isOutOfPatience(best: BestSoFar | null, config: EarlyStopConfig | null): boolean {
  return best !== null && config !== null && best.waited >= config.patience;
}
