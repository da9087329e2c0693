/**
 * @file AdamW, Muon and SGD on one small model over the same tokens in the same order: what each reaches, how many
 * steps it needs for what the best AdamW reaches, and what a step costs in counted arithmetic. No seconds: the table does
 * not depend on what else the machine does.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/optimizers.ts` (goes on where it was stopped)
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';

import { describeParameters, parseModelConfig } from '@moebius/model';
import { notForMuon, orthogonalizeFlops } from '@moebius/tensor';
import { createTrainer } from '@moebius/train';
import type { TrainConfigInput } from '@moebius/train';

import { benchmarkArguments } from './arguments.ts';
import { markdownTable, writeResult } from './measure.ts';

type Kind = 'adamw' | 'muon' | 'sgd';

interface Variant {
  readonly kind: Kind;
  readonly learningRate: number;
}

interface Measured extends Variant {
  /** Held-out bits per byte at the end. */
  readonly bits: number;
  /** Training loss of every step, nats. */
  readonly losses: readonly number[];
  readonly flopsPerStep: number;
}

const { smoke } = benchmarkArguments();
const steps = smoke ? 3 : 300;
const smoothing = 20;
const folder = 'runs/optimizers';
const sizes = smoke ? { layers: 1, width: 32, experts: 4 } : { layers: 4, width: 128, experts: 8 };
const model = {
  model_type: 'qwen3_moe',
  hidden_size: sizes.width,
  num_hidden_layers: sizes.layers,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: sizes.width / 4,
  num_experts: sizes.experts,
  num_experts_per_tok: 2,
  moe_intermediate_size: (sizes.width * 3) / 2,
  norm_topk_prob: true,
  tie_word_embeddings: true,
};
const rates: { readonly [kind in Kind]: readonly number[] } = {
  adamw: [1.5e-3, 3e-3, 6e-3],
  muon: [1.5e-3, 3e-3, 6e-3],
  sgd: [0.1, 0.3, 1],
};
const all = (Object.keys(rates) as Kind[]).flatMap((kind) =>
  rates[kind].map((learningRate): Variant => ({ kind, learningRate })),
);
const variants = smoke ? all.filter(({ learningRate }, i) => i % 3 === 0 && learningRate > 0) : all;
const results: Measured[] = [];
for (const variant of variants) results.push(await measure(variant));
if (smoke) console.log('optimizers: smoke run finished');
else report(results);

function configOf({ kind, learningRate }: Variant): TrainConfigInput {
  return {
    name: `${kind}-${learningRate}`,
    model,
    data: { training: { corpus: smoke ? 'moby-dick' : 'sotu' }, heldOutFraction: 0.03 },
    tokenizer: { vocabularySize: smoke ? 1024 : 2048 },
    batch: smoke ? { sequences: 2, length: 32 } : { sequences: 8, length: 128 },
    duration: { steps },
    // Decay by a rate of 1 would shrink every weight by a tenth in each step.
    optimizer: { kind, learningRate, weightDecay: kind === 'sgd' ? 0 : 0.1 },
    schedule: { warmupFraction: 0.05, floor: 0.05 },
    evaluation: { everySteps: null, finalTokens: smoke ? 512 : 32_768 },
  };
}

async function measure(variant: Variant): Promise<Measured> {
  const file = `${folder}/${variant.kind}-${variant.learningRate}.json`;
  if (!smoke && existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Measured;
  const trainer = createTrainer(configOf(variant), { clock: { nowMs: () => performance.now() } });
  const losses: number[] = [];
  let bits = Number.NaN;
  let flopsPerStep = 0;
  for await (const event of trainer.run()) {
    if (event.kind === 'start') flopsPerStep = event.flopsPerStep;
    if (event.kind === 'step') losses.push(event.loss);
    if (event.kind === 'evaluate') bits = event.bitsPerByte;
  }
  if (variant.kind === 'muon') flopsPerStep += muonFlops(trainer.dataset.tokenizer.vocabularySize);
  trainer.dispose();
  const measured = { ...variant, bits, losses, flopsPerStep };
  console.log(`${variant.kind} ${variant.learningRate}: ${bits.toFixed(4)} bits per byte`);
  if (!smoke) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(file, JSON.stringify(measured));
  }
  return measured;
}

/** Products of Newton-Schulz in one step. */
function muonFlops(vocabulary: number): number {
  const exempt = notForMuon.map((pattern) => new RegExp(pattern, 'u'));
  return describeParameters(parseModelConfig({ ...model, vocab_size: vocabulary }))
    .filter(({ id, shape }) => shape.length === 2 && !exempt.some((pattern) => pattern.test(id)))
    .reduce((sum, { shape: [rows = 0, columns = 0] }) => sum + orthogonalizeFlops(rows, columns, 5), 0);
}

/** Mean of the last losses up to each step. */
function smoothed(losses: readonly number[]): number[] {
  return losses.map((_, at) => {
    const window = losses.slice(Math.max(0, at + 1 - smoothing), at + 1);
    return window.reduce((sum, loss) => sum + loss, 0) / window.length;
  });
}

function report(measured: readonly Measured[]): void {
  const curves = measured.map((one) => ({ ...one, curve: smoothed(one.losses) }));
  const final = (one: (typeof curves)[number]): number => one.curve.at(-1) ?? Number.NaN;
  const target = Math.min(...curves.filter(({ kind }) => kind === 'adamw').map(final));
  const rows = curves.map((one) => {
    const reached = one.curve.findIndex((loss, at) => at + 1 >= smoothing && loss <= target) + 1;
    const cost = reached === 0 ? undefined : (reached * one.flopsPerStep) / 1e9;
    return { ...one, finalLoss: final(one), reached, cost };
  });
  const table = markdownTable(
    [
      'optimizer',
      'peak rate',
      'held-out bits per byte',
      'training loss, last 20',
      'steps to the target',
      'GFLOP a step',
      'GFLOP to the target',
    ],
    rows.map((row) => [
      row.kind,
      row.learningRate,
      row.bits.toFixed(3),
      row.finalLoss.toFixed(3),
      row.reached === 0 ? 'not reached' : row.reached,
      (row.flopsPerStep / 1e9).toFixed(2),
      row.cost === undefined ? '–' : row.cost.toFixed(0),
    ]),
  );
  const body = [
    `4 layers, D=128, 8 experts of 192, 2 chosen, tied embedding, V=2048; 8×128 tokens a step, ${steps} steps, cosine to 5 %, clipping at 1, seed 0, one run each. ` +
      `The target is the lowest training loss (mean of ${smoothing} steps) that an AdamW run ends with: ${target.toFixed(3)} nats. GFLOP are products counted from shapes: forward, backward, and ` +
      `Newton-Schulz; element-wise work is left out. Weight decay 0.1, for SGD 0.`,
    '',
    table,
  ].join('\n');
  writeResult({
    topic: 'optimizers',
    claim: `what AdamW, Muon and SGD reach over the same ${(steps * 1024).toLocaleString('en')} tokens, in steps and counted arithmetic`,
    versions: {},
    body,
    data: rows.map(({ kind, learningRate, bits, finalLoss, reached, flopsPerStep, curve }) => ({
      kind,
      learningRate,
      bits,
      finalLoss,
      stepsToTarget: reached === 0 ? null : reached,
      flopsPerStep,
      curve: curve.filter((_, at) => (at + 1) % 10 === 0).map((loss) => Math.round(loss * 1e3) / 1e3),
    })),
  });
  console.log(table);
}
