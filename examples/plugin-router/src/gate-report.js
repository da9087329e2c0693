/** @file A callback: says how sure the gates are, every few steps and at the end. */
import { defineCallback } from '@moebius/train';

const everySteps = 2;

/** Runs by itself as soon as the package is among a run's `plugins`. */
export const gateReport = defineCallback({
  name: 'gate-report',
  onStep: ({ step, aux }) => {
    if (step % everySteps !== 0 || aux['gate-entropy'] === undefined) return;
    console.log(`step ${step}: gate entropy ${(-aux['gate-entropy']).toFixed(4)}`);
  },
});
