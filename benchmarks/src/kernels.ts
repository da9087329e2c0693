/**
 * @file Claim: our packed matrix product is as fast as TensorFlow's `MatMul` (oneDNN) on large square matrices and faster at
 * the sizes of a small model, and no fused operation falls far below the rate of its products.
 *
 * Contestants take turns; medians are compared. Run alone on the machine:
 * `node --import tsx --conditions=@moebius/source benchmarks/src/kernels.ts [--smoke] [--json] [--rounds N]`
 */
import { createRng } from '@moebius/core';
import {
  attentionBackward,
  attentionForward,
  createEngine,
  disposeTree,
  expertFeedForwardBackward,
  expertFeedForwardForward,
  linearBackward,
  linearForward,
  matMul,
  rmsNormBackward,
  rmsNormForward,
  softmaxCrossEntropyForward,
  tensor1d,
  tensor2d,
} from '@moebius/tensor';
import type { ExpertFeedForwardOptions, Tensor1D, Tensor2D, TensorTree } from '@moebius/tensor';

import { benchmarkArguments, milliseconds } from './arguments.ts';
import { interleave, markdownTable, takeBenchmarkLock, writeResult, type Spread } from './measure.ts';

const { smoke, json, rounds } = benchmarkArguments();
const engine = await createEngine({ engine: 'native' });
const release = smoke ? () => undefined : takeBenchmarkLock();

/** One measured piece of work: what it makes is freed; `flops` is its count of multiplications and additions. */
interface Work {
  readonly name: string;
  readonly flops: number;
  run(): unknown;
}

const rng = createRng(0);
const numbers = (count: number): Float32Array =>
  Float32Array.from({ length: count }, () => rng.uniform() - 0.5);
const matrix = (rows: number, columns: number): Tensor2D =>
  tensor2d(numbers(rows * columns), [rows, columns]);
const vector = (count: number): Tensor1D => tensor1d(numbers(count));

/** Rows, inputs and outputs of a product with transposed weights, the shape of every linear layer. */
const shapes: readonly (readonly [number, number, number])[] = smoke
  ? [[32, 16, 16]]
  : [
      [1024, 1024, 1024],
      [2048, 256, 256],
      [512, 256, 256],
      [2048, 256, 4096],
      [1, 256, 256],
      [1, 256, 4096],
    ];

const products = shapes.map(([rows, inputs, outputs]) => {
  const [x, weight] = [matrix(rows, inputs), matrix(outputs, inputs)];
  const flops = 2 * rows * inputs * outputs;
  const name = `[${rows},${inputs}] · [${outputs},${inputs}]ᵀ`;
  return {
    ours: { name, flops, run: () => linearForward(x, weight) },
    tensorflow: { name, flops, run: () => matMul(x, weight, false, true) },
  };
});

const operations = createOperations(smoke ? { T: 32, D: 16, E: 4, k: 2 } : { T: 2048, D: 256, E: 16, k: 4 });

const productRows: (string | number)[][] = [];
const data: Record<string, unknown> = { products: {}, operations: {} };
for (const { ours, tensorflow } of products) {
  const spread = await interleave({ ours: timed(ours), tensorflow: timed(tensorflow) }, { rounds });
  const [own, other] = [spread['ours'] as Spread, spread['tensorflow'] as Spread];
  productRows.push([
    ours.name,
    rate(ours, own),
    rate(tensorflow, other),
    (other.median / own.median).toFixed(2),
  ]);
  (data['products'] as Record<string, unknown>)[ours.name] = spread;
}
const operationRows: (string | number)[][] = [];
for (const work of operations) {
  const spread = await interleave({ work: timed(work) }, { rounds });
  const own = spread['work'] as Spread;
  operationRows.push([work.name, milliseconds(own.median), milliseconds(own.minimum), rate(work, own)]);
  (data['operations'] as Record<string, unknown>)[work.name] = own;
}
release();
report();

function report(): void {
  const body = [
    markdownTable(['product', 'ours, GFLOP/s', 'TensorFlow MatMul, GFLOP/s', 'ratio'], productRows),
    '',
    markdownTable(['operation', 'median ms', 'best ms', 'GFLOP/s'], operationRows),
    '',
    `${engine.threads} threads. Rates count the multiplications and additions of the products alone (causal attention: half of the square).`,
  ].join('\n');
  if (smoke) {
    console.log('kernels: smoke run finished');
    return;
  }
  const claim = 'our packed product is at least as fast as TensorFlow’s MatMul at the sizes of a small model';
  const path = writeResult({ topic: 'kernels', claim, versions: { ...engine.versions }, body, data });
  console.log(json ? JSON.stringify(data) : `${body}\n\nwritten: ${path}`);
}

function rate(work: Work, spread: Spread): string {
  return work.flops === 0 ? '–' : (work.flops / spread.median / 1e9).toFixed(0);
}

/** Seconds of one call, averaged over enough calls to last about 20 ms. */
function timed(work: Work): () => number {
  const once = (): number => {
    const began = performance.now();
    disposeTree(work.run() as TensorTree);
    return (performance.now() - began) / 1000;
  };
  const calls = smoke ? 1 : Math.max(1, Math.min(500, Math.round(0.02 / Math.max(once(), 1e-6))));
  return () => {
    let seconds = 0;
    for (let call = 0; call < calls; call++) seconds += once();
    return seconds / calls;
  };
}

/** Every token takes k experts, evenly: token t takes experts t·k … t·k + k − 1, modulo E. */
function evenPlan(T: number, E: number, k: number): ExpertFeedForwardOptions['plan'] {
  const pairs = Array.from({ length: T * k }, (_, i) => ({
    t: Math.floor(i / k),
    e: (Math.floor(i / k) * k + (i % k)) % E,
  }));
  const order = pairs.map((_, i) => i).sort((a, b) => (pairs[a]?.e ?? 0) - (pairs[b]?.e ?? 0) || a - b);
  const offsets = new Int32Array(E + 1);
  for (const { e } of pairs) offsets[e + 1] = (offsets[e + 1] ?? 0) + 1;
  for (let e = 0; e < E; e++) offsets[e + 1] = (offsets[e + 1] ?? 0) + (offsets[e] ?? 0);
  const slot = new Int32Array(T * k);
  for (const [n, i] of order.entries()) slot[i] = n;
  return {
    tokens: T,
    experts: E,
    offsets,
    token: Int32Array.from(order, (i) => pairs[i]?.t ?? 0),
    source: Int32Array.from(order, (i) => (pairs[i]?.t ?? 0) * E + (pairs[i]?.e ?? 0)),
    tokenOffsets: Int32Array.from({ length: T + 1 }, (_, t) => t * k),
    slot,
  };
}

function createOperations({ T, D, E, k }: { T: number; D: number; E: number; k: number }): Work[] {
  const [x, dy, norm] = [matrix(T, D), matrix(T, D), vector(D)];
  const experts = Array.from({ length: E }, () => ({
    gate: matrix(D, D),
    up: matrix(D, D),
    down: matrix(D, D),
  }));
  const weights = vector(T * k);
  const input = { plan: evenPlan(T, E, k), activation: 'silu' as const, experts };
  const routed = expertFeedForwardForward(x, weights, input).saved;
  const sizes = { batch: 8, heads: 8, kvHeads: 8 };
  const attended = attentionForward(x, x, x, sizes).saved;
  const normed = rmsNormForward(x, norm).saved;
  const weight = matrix(D, D);
  const mixed = linearForward(x, weight).saved;
  const logits = matrix(T, smoke ? 32 : 4096);
  const targets = Int32Array.from({ length: T }, (_, t) => t % logits.shape[1]);
  const expertFlops = 6 * T * k * D * D;
  const attentionFlops = (2 * T * T * D) / sizes.batch;
  return [
    { name: 'experts', flops: expertFlops, run: () => expertFeedForwardForward(x, weights, input) },
    { name: 'experts backward', flops: 2 * expertFlops, run: () => expertFeedForwardBackward(routed, dy) },
    { name: 'attention', flops: attentionFlops, run: () => attentionForward(x, x, x, sizes) },
    { name: 'attention backward', flops: 2.5 * attentionFlops, run: () => attentionBackward(attended, dy) },
    { name: 'linear backward', flops: 4 * T * D * D, run: () => linearBackward(mixed, dy) },
    { name: 'RMS norm', flops: 0, run: () => rmsNormForward(x, norm) },
    { name: 'RMS norm backward', flops: 0, run: () => rmsNormBackward(normed, dy) },
    {
      name: `cross-entropy over ${logits.shape[1]}`,
      flops: 0,
      run: () => softmaxCrossEntropyForward(logits, targets),
    },
  ];
}
