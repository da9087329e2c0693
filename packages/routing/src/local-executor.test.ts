import { runAsync, runSync } from '@moebius/core';
import type { Task } from '@moebius/core';
import { createEngine, disposeTree, matMul, readHostSync, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { defineExpert } from './define-expert.ts';
import type { ExpertKind, ExpertParameters } from './define-expert.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import { listGradients } from './expert-executor.ts';
import type { ExpertSource, Lease } from './expert-executor.ts';
import { gatedExpert, identityExpert } from './expert-kinds.ts';
import { createResidentSource } from './expert-source.ts';
import { createLocalExecutor } from './local-executor.ts';
import { planTopK } from './plan-top-k.ts';
import { checkClose, samplePlans } from './testing/index.ts';
import { kitRng, randomTensor } from './testing/checks.ts';
import { checkLeaks } from '../test/leak-check.ts';

beforeAll(async () => {
  await createEngine();
});

checkLeaks();

const width = 6;
const hiddenWidth = 5;
const experts = 4;
const kind = gatedExpert();

function createWeights(count = experts): ExpertParameters[] {
  const rng = kitRng('local executor');
  return Array.from({ length: count }, (_, e) => ({
    gate: randomTensor(rng.fork(`gate ${e}`), [hiddenWidth, width]),
    up: randomTensor(rng.fork(`up ${e}`), [hiddenWidth, width]),
    down: randomTensor(rng.fork(`down ${e}`), [hiddenWidth, width]),
  }));
}

interface Case {
  readonly plan: DispatchPlan;
  readonly x: Tensor2D;
  readonly weights: Tensor1D;
  readonly dy: Tensor2D;
  readonly parameters: ExpertParameters[];
}

function createCase(plan: DispatchPlan): Case {
  const rng = kitRng('case');
  return {
    plan,
    x: randomTensor(rng.fork('x'), [plan.tokens, width]),
    weights: randomTensor(rng.fork('weights'), [plan.token.length]),
    dy: randomTensor(rng.fork('dy'), [plan.tokens, width]),
    parameters: createWeights(),
  };
}

interface Passes {
  readonly y: Float32Array;
  readonly gradients: Float32Array[];
}

/** y, then the gradients of x, of the weights, and of each part of each expert. */
function runLocal(given: Case, path: 'auto' | 'general'): Passes {
  const executor = createLocalExecutor({ path });
  const source = createResidentSource({
    kinds: given.parameters.map(() => kind),
    read: (_, e) => given.parameters[e]!,
  });
  const route = { kind: 'pairs' as const, plan: given.plan, weights: given.weights };
  const { y, saved } = runSync(executor.forward({ layer: 0, hidden: given.x, route, experts: source }));
  const gradients = listGradients(runSync(executor.backward(saved, given.dy)));
  const result = { y: values(y), gradients: gradients.map(values) };
  disposeTree([y, saved, gradients]);
  return result;
}

const values = (tensor: Tensor): Float32Array => Float32Array.from(readHostSync(tensor));

/**
 * Dispatch and combine as matrices, the einsum form of GShard: rows = select_NT x, y = (select_NT ⊙ weights)ᵀ outputs, and every
 * gradient from the transposed products. `rows` pairs may be padding: their row of `select` is zero.
 */
function runMatrices(
  given: Case,
  pairOfRow: readonly number[],
  rowsOfExpert: readonly [number, number][],
): Passes {
  const { plan, x, weights, dy, parameters } = given;
  const weightValues = readHostSync(weights);
  const rows = pairOfRow.length;
  const select = new Float32Array(rows * plan.tokens);
  const combine = new Float32Array(rows * plan.tokens);
  for (const [row, pair] of pairOfRow.entries()) {
    if (pair < 0) continue;
    select[row * plan.tokens + plan.token[pair]!] = 1;
    combine[row * plan.tokens + plan.token[pair]!] = weightValues[pair]!;
  }
  const select_RT = tensor2d(select, [rows, plan.tokens]);
  const combine_RT = tensor2d(combine, [rows, plan.tokens]);
  const x_RD = matMul(select_RT, x) as Tensor2D;
  const dout_RD = matMul(combine_RT, dy) as Tensor2D;
  const dyOfRow = matMul(select_RT, dy) as Tensor2D;
  const [xs, douts, dys] = [x_RD, dout_RD, dyOfRow].map(values);
  const out = new Float32Array(rows * width);
  const dxs = new Float32Array(rows * width);
  const expertGradients = parameters.map((parts, e) => {
    const [from, to] = rowsOfExpert[e]!;
    if (from === to) return Object.values(parts).map((part) => new Float32Array(part.size));
    const rowsIn = tensor2d(xs!.slice(from * width, to * width), [to - from, width]);
    const dout = tensor2d(douts!.slice(from * width, to * width), [to - from, width]);
    const { value, saved } = kind.forward(rowsIn, parts);
    const { dx, parameters: gradient } = kind.backward(saved, dout);
    out.set(values(value), from * width);
    dxs.set(values(dx), from * width);
    const result = Object.values(gradient).map(values);
    disposeTree([rowsIn, dout, value, saved, dx, gradient]);
    return result;
  });
  const outTensor = tensor2d(out, [rows, width]);
  const dxTensor = tensor2d(dxs, [rows, width]);
  const y = matMul(combine_RT, outTensor, true, false);
  const dx = matMul(select_RT, dxTensor, true, false);
  const dweights = new Float32Array(plan.token.length);
  for (const [row, pair] of pairOfRow.entries()) {
    if (pair < 0) continue;
    for (let d = 0; d < width; d += 1) dweights[pair]! += out[row * width + d]! * dys![row * width + d]!;
  }
  const result = { y: values(y), gradients: [values(dx), dweights, ...expertGradients.flat()] };
  disposeTree([select_RT, combine_RT, x_RD, dout_RD, dyOfRow, outTensor, dxTensor, y, dx]);
  return result;
}

/** One-hot form: no padding, rows are the pairs. */
function runOneHot(given: Case): Passes {
  const pairs = [...given.plan.token.keys()];
  const rows = Array.from({ length: experts }, (_, e): [number, number] => [
    given.plan.offsets[e]!,
    given.plan.offsets[e + 1]!,
  ]);
  return runMatrices(given, pairs, rows);
}

/** Padded form: every expert gets as many rows as the busiest one. */
function runPadded(given: Case): Passes {
  const { plan } = given;
  const capacity = plan.stats.maxLoad;
  const pairOfRow = Array.from({ length: experts * capacity }, (_, row) => {
    const pair = plan.offsets[Math.floor(row / capacity)]! + (row % capacity);
    return pair < plan.offsets[Math.floor(row / capacity) + 1]! ? pair : -1;
  });
  return runMatrices(
    given,
    pairOfRow,
    Array.from({ length: experts }, (_, e): [number, number] => [e * capacity, (e + 1) * capacity]),
  );
}

function compare(got: Passes, expected: Passes): void {
  const tolerance = { relative: 1e-4, absolute: 1e-4 };
  checkClose(got.y, expected.y, 'y', tolerance);
  expect(got.gradients.length).toBe(expected.gradients.length);
  for (const [i, gradient] of got.gradients.entries())
    checkClose(gradient, expected.gradients[i]!, `gradient ${i}`, tolerance);
}

describe('local executor', () => {
  for (const { title, plan } of samplePlans(experts).filter((entry) => entry.plan.token.length > 0)) {
    it(`agrees with the one-hot form, the padded form, and itself on the general path: ${title}`, () => {
      const given = createCase(plan);
      const fused = runLocal(given, 'auto');
      compare(fused, runOneHot(given));
      compare(fused, runPadded(given));
      compare(runLocal(given, 'general'), fused);
      disposeTree([given.x, given.weights, given.dy, given.parameters]);
    });
  }

  it('fuses only experts of one kind and one shape', () => {
    const calls: string[] = [];
    const spied = defineExpert({
      ...kind,
      forward: (x, parameters) => {
        calls.push('general');
        return kind.forward(x, parameters);
      },
      fused: {
        forward: (x, weights, options) => {
          calls.push('fused');
          return kind.fused!.forward(x, weights, options);
        },
        backward: (saved, dy) => kind.fused!.backward(saved, dy),
      },
    });
    const plan = planTopK(Int32Array.of(0, 1), { tokens: 2, experts: 2, topK: 1 });
    const parameters = createWeights(2);
    const narrow = Object.fromEntries(
      ['gate', 'up', 'down'].map((part) => [part, randomTensor(kitRng(part), [3, width])]),
    );
    const x = randomTensor<Tensor2D>(kitRng('x'), [2, width]);
    const weights = tensor1d([1, 1]);
    const pathOf = (
      kinds: readonly ExpertKind[],
      list: readonly ExpertParameters[],
      path: 'auto' | 'general' = 'auto',
    ): string => {
      calls.length = 0;
      const source = createResidentSource({ kinds, read: (_, e) => list[e]! });
      const input = {
        layer: 0,
        hidden: x,
        route: { kind: 'pairs' as const, plan, weights },
        experts: source,
      };
      disposeTree(runSync(createLocalExecutor({ path }).forward(input)));
      return calls[0]!;
    };
    expect(pathOf([spied, spied], parameters)).toBe('fused');
    expect(pathOf([spied, spied], parameters, 'general')).toBe('general');
    expect(pathOf([spied, identityExpert()], parameters)).toBe('general');
    expect(pathOf([spied, spied], [parameters[0]!, narrow])).toBe('general');
    disposeTree([parameters, narrow, x, weights]);
  });

  it('asks a source that is not resident for busy experts only, gives the lease back, and leaves idle gradients out', async () => {
    const plan = planTopK(Int32Array.of(3, 1, 3), { tokens: 3, experts, topK: 1 });
    const given = createCase(plan);
    const log: string[] = [];
    let loaded = false;
    const source: ExpertSource = {
      experts,
      resident: false,
      kind: () => kind,
      *acquire(layer, ids): Task<Lease> {
        log.push(`acquire layer ${layer}: ${[...ids].join(', ')}`);
        yield {
          reason: 'disk',
          ready: () => loaded,
          promise: async () => {
            loaded = true;
          },
        };
        return { parameters: (e) => given.parameters[e]!, release: () => log.push('release') };
      },
    };
    const executor = createLocalExecutor();
    const route = { kind: 'pairs' as const, plan, weights: given.weights };
    const { y, saved } = await runAsync(
      executor.forward({ layer: 2, hidden: given.x, route, experts: source }),
    );
    expect(log).toEqual(['acquire layer 2: 1, 3', 'release']);
    const gradients = runSync(executor.backward(saved, given.dy));
    expect(gradients.experts.map((parts) => Object.keys(parts).length)).toEqual([0, 3, 0, 3]);
    disposeTree([y, saved, listGradients(gradients), given.x, given.weights, given.dy, given.parameters]);
  });

  it('gives the lease back when an expert throws, and leaks nothing', () => {
    const plan = planTopK(Int32Array.of(0), { tokens: 1, experts: 1, topK: 1 });
    const broken = defineExpert({
      ...kind,
      name: 'broken',
      forward: () => {
        throw new Error('no');
      },
    });
    let released = 0;
    const source: ExpertSource = {
      ...createResidentSource({ kinds: [broken], read: () => ({}) }),
      // eslint-disable-next-line require-yield -- never waits
      *acquire(): Task<Lease> {
        return { parameters: () => ({}), release: () => (released += 1) };
      },
    };
    const x = tensor2d([[1, 2]]);
    const weights = tensor1d([1]);
    const route = { kind: 'pairs' as const, plan, weights };
    expect(() =>
      runSync(
        createLocalExecutor({ path: 'general' }).forward({ layer: 0, hidden: x, route, experts: source }),
      ),
    ).toThrow('no');
    expect(released).toBe(1);
    disposeTree([x, weights]);
  });

  it('says what does not fit', () => {
    const { plan } = samplePlans(experts)[0]!;
    const given = createCase(plan);
    const source = createResidentSource({
      kinds: [kind, kind, kind, kind],
      read: (_, e) => given.parameters[e]!,
    });
    const run = (change: {
      plan?: DispatchPlan;
      experts?: ExpertSource;
      weights?: Tensor1D;
    }): (() => unknown) => {
      const route = {
        kind: 'pairs' as const,
        plan: change.plan ?? plan,
        weights: change.weights ?? given.weights,
      };
      return () =>
        runSync(
          createLocalExecutor().forward({
            layer: 1,
            hidden: given.x,
            route,
            experts: change.experts ?? source,
          }),
        );
    };
    expect(run({ plan: { ...plan, prefix: new Uint8Array(plan.token.length) } })).toThrow(
      'layers[1] executor local: plan must not have neuron prefixes',
    );
    expect(
      run({ experts: createResidentSource({ kinds: [kind], read: (_, e) => given.parameters[e]! }) }),
    ).toThrow('layers[1] experts of the source');
    const short = tensor1d([1]);
    expect(run({ weights: short })).toThrow('layers[1] route weights');
    expect(() => createResidentSource({ kinds: [], read: () => ({}) })).toThrow(
      'must list a kind for each expert',
    );
    expect(() => source.kind(9)).toThrow('expert: must be in 0…3, got 9');
    disposeTree([short, given.x, given.weights, given.dy, given.parameters]);
  });
});
