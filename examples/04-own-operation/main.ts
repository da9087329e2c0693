/**
 * An operation of your own in plain TensorFlow.js terms, as a pair with an explicit backward pass, checked against
 * central differences.
 *
 * Run: node --import tsx --conditions=@moebius/source 04-own-operation/main.ts
 */
import { createRng } from '@moebius/core';
import {
  createEngine,
  disposeTree,
  fromTfjs,
  memory,
  mul,
  ones,
  readHostSync,
  sigmoid,
  tensor2d,
} from '@moebius/tensor';

await createEngine({ engine: 'auto' });

// x ⊙ σ(s ⊙ x): a swish whose slope is learned.
const learnedSwish = fromTfjs((x, slope) => mul(x, sigmoid(mul(slope, x))), 'learnedSwish');

const rng = createRng(3);
const draw = (): Float32Array => {
  const values = new Float32Array(6);
  rng.fillNormal(values);
  return values;
};
const [xValues, slopeValues] = [draw(), draw()];
const live = memory().numTensors;
const x = tensor2d(xValues, [2, 3]);
const slope = tensor2d(slopeValues, [2, 3]);

const { value, saved } = learnedSwish.forward(x, slope);
const dy = ones([2, 3]);
const [dx, dslope] = learnedSwish.backward(saved, dy);
if (dx === undefined || dslope === undefined) throw new Error('backward must give one gradient per input');

const swish = (at: number, s: number): number => at / (1 + Math.exp(-s * at));
const step = 1e-4;
console.log('gradient of the slope: explicit, central differences');
const explicit = readHostSync(dslope);
for (const [at, s] of slopeValues.entries()) {
  const point = xValues[at] ?? 0;
  const difference = (swish(point, s + step) - swish(point, s - step)) / (2 * step);
  console.log(`  ${(explicit[at] ?? Number.NaN).toFixed(5)}  ${difference.toFixed(5)}`);
  if (Math.abs((explicit[at] ?? Number.NaN) - difference) > 1e-3) throw new Error('the gradient must match');
}
disposeTree({ x, slope, value, saved, dy, dx, dslope });
console.log(`tensors left over: ${memory().numTensors - live}`);
