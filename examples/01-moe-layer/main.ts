/**
 * One MoE layer, trained by hand: a gate and four experts learn a function that is different in each quarter of the
 * plane, so that experts specialise. Shows the plan, the explicit backward pass, and the balance loss.
 *
 * Run: node --import tsx --conditions=@moebius/source 01-moe-layer/main.ts
 */
import { createRng, runSync } from '@moebius/core';
import {
  createLocalExecutor,
  createResidentSource,
  gateBackward,
  gateForward,
  gatedExpert,
  loadBalanceLoss,
  parseGateConfig,
  readStatistics,
} from '@moebius/routing';
import {
  createEngine,
  createParameterStore,
  disposeTree,
  readHostSync,
  tensor2d,
  type ParameterInit,
  type Tensor2D,
} from '@moebius/tensor';

const [experts, width, hidden, tokens, topK] = [4, 8, 16, 256, 1];
const engine = await createEngine({ engine: 'auto' });
console.log(engine.description);

// Parameters: one router, three matrices per expert, each expert a unit of its own.
const rng = createRng(7);
const matrix = (rows: number, unit: string): ParameterInit => {
  const data = new Float32Array(rows * width);
  rng.fork(unit).fillNormal(data, { standardDeviation: 0.3 });
  return { shape: [rows, width], data, unit };
};
const parts = ['gate', 'up', 'down'] as const;
const initial: { [id: string]: ParameterInit } = { router: matrix(experts, 'router') };
for (let e = 0; e < experts; e++)
  for (const part of parts) initial[`${e}.${part}`] = matrix(hidden, `expert ${e}.${part}`);
const store = createParameterStore(initial);
const read = (id: string): Tensor2D => store.read(id) as Tensor2D;

const kind = gatedExpert();
const source = createResidentSource({
  kinds: Array.from({ length: experts }, () => kind),
  read: (_, e) => ({ gate: read(`${e}.gate`), up: read(`${e}.up`), down: read(`${e}.down`) }),
});
const config = parseGateConfig({ experts, topK, score: 'softmax', renormalise: false });
const executor = createLocalExecutor();
const balance = loadBalanceLoss({ pooling: 'per-layer' });

for (let step = 0; step <= 300; step++) {
  const { x, target } = sample();
  const gate = gateForward(x, { weight: read('router') }, { config });
  const { y, saved } = runSync(executor.forward({ layer: 0, hidden: x, route: gate.route, experts: source }));

  const { loss, dy } = squaredError(y, target);
  const executed = runSync(executor.backward(saved, dy));
  const observation = { config, plan: gate.route.plan, logits: gate.logits, scores: gate.scores };
  const statistics = balance.statistics(observation);
  const { counts } = statistics;
  const lossGradient = balance.gradient(observation, { counts: [counts], layer: 0, scale: 0.01 });
  const dweights = executed.route.kind === 'pairs' ? { dweights: executed.route.weights } : {};
  const back = gateBackward(gate.saved, { ...dweights, ...lossGradient });

  const gradients: { [id: string]: Tensor2D } = { router: back.dweight };
  for (const [e, own] of executed.experts.entries()) {
    for (const part of parts) if (own[part] !== undefined) gradients[`${e}.${part}`] = own[part] as Tensor2D;
  }
  store.update(gradients, { optimizer: { lr: 0.01, weightDecay: 0 }, clipNorm: 1 });
  if (step % 50 === 0) {
    const imbalance = balance.value(readStatistics([statistics]));
    const line = `loss ${loss.toFixed(4)}  balance ${imbalance.toFixed(3)}  tokens per expert ${[...gate.route.plan.stats.load].join(' ')}`;
    console.log(`step ${String(step).padStart(3)}  ${line}`);
  }
  disposeTree({ x, target, gate, y, saved, dy, executed, back, sums: statistics.sums, lossGradient });
}
store.dispose();

/** Points with a different sine in each quarter of the plane of their first two coordinates. */
function sample(): { x: Tensor2D; target: Tensor2D } {
  const points = new Float32Array(tokens * width);
  rng.fillNormal(points);
  const wanted = points.map((value, at) => {
    const row = at - (at % width);
    const quarter = ((points[row] ?? 0) > 0 ? 1 : 0) + ((points[row + 1] ?? 0) > 0 ? 2 : 0);
    return Math.sin(value * (1 + quarter)) + quarter - 1.5;
  });
  return { x: tensor2d(points, [tokens, width]), target: tensor2d(wanted, [tokens, width]) };
}

/** Mean squared error and its gradient. */
function squaredError(y_TD: Tensor2D, target_TD: Tensor2D): { loss: number; dy: Tensor2D } {
  const [y, target] = [readHostSync(y_TD), readHostSync(target_TD)];
  const difference = Float32Array.from(y, (value, at) => value - (target[at] ?? 0));
  const loss = difference.reduce((sum, value) => sum + value * value, 0) / difference.length;
  return {
    loss,
    dy: tensor2d(
      difference.map((value) => (2 * value) / difference.length),
      [tokens, width],
    ),
  };
}
