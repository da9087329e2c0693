import { isMoebiusError, runSync } from '@moebius/core';
import { countTensors, createEngine, disposeTree, ones, tensor1d, tensor2d, zeros } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { defineExpert } from './define-expert.ts';
import type { ExpertKind, FusedLayer } from './define-expert.ts';
import { builtInExperts, gatedExpert, plainExpert } from './expert-kinds.ts';
import { createResidentSource } from './expert-source.ts';
import { createLocalExecutor } from './local-executor.ts';
import { planTopK } from './plan-top-k.ts';

beforeAll(async () => {
  await createEngine({ engine: 'cpu' });
});

const sound = plainExpert({ activation: 'relu' });
const kit = ' (run describeExpert of @moebius/routing/testing on it)';
const at = 'layers[3] expert "odd" forward of expert 1:';

const changed = (change: Partial<ExpertKind>): ExpertKind =>
  defineExpert({ ...sound, trusted: false, name: 'odd', ...change });

/** Two tokens, one for each of two experts; expert 1 is of the odd kind. */
function runLayer(kinds: readonly ExpertKind[]): string {
  const before = countTensors();
  const hidden = tensor2d([1, 2, 3, 4], [2, 2]);
  const weights = tensor1d([0.5, 0.25]);
  const plan = planTopK(Int32Array.of(0, 1), { tokens: 2, experts: 2, topK: 1 });
  const units = kinds.map((kind) =>
    Object.fromEntries(Object.keys(kind.parts).map((part) => [part, ones([3, 2])])),
  );
  const experts = createResidentSource({ kinds, read: (_, e) => units[e] ?? {} });
  const executor = createLocalExecutor();
  const held: unknown[] = [hidden, weights, units];
  try {
    const route = { kind: 'pairs' as const, plan, weights };
    const output = runSync(executor.forward({ layer: 3, hidden, route, experts }));
    held.push(output);
    const dy = ones([2, 2]) as Tensor2D;
    held.push(dy);
    held.push(runSync(executor.backward(output.saved, dy)));
    return 'nothing was thrown';
  } catch (error) {
    if (!isMoebiusError(error)) throw error;
    return `${error.code}: ${error.message}`;
  } finally {
    disposeTree(held);
    expect(countTensors()).toBe(before);
  }
}

describe('an expert kind of a plug-in', () => {
  const cases: { readonly [title: string]: readonly [Partial<ExpertKind>, string] } = {
    'is right': [{}, 'nothing was thrown'],
    'throws forward': [
      {
        forward: () => {
          throw new Error('boom');
        },
      },
      `plugin: ${at} must not throw, got Error: boom (mend the plug-in)`,
    ],
    'returns nothing': [
      { forward: () => undefined as never },
      `plugin: ${at} must return an object with value and saved, got nothing${kit}`,
    ],
    'returns other rows': [
      { forward: () => ({ value: zeros([2, 2]) as Tensor2D, saved: null }) },
      `plugin: ${at} value must be a float32 tensor [1, 2], got float32 [2, 2]${kit}`,
    ],
    'returns NaN': [
      { forward: () => ({ value: tensor2d([[1, NaN]]), saved: null }) },
      `numerics: ${at} value must be finite, got NaN at [0, 1]${kit}`,
    ],
    'returns its input': [
      { forward: (x) => ({ value: x, saved: null }) },
      `plugin: ${at} must return tensors of its own (cloneTensor), got one of its inputs${kit}`,
    ],
    'goes back to another shape': [
      { backward: (saved, dy) => ({ ...sound.backward(saved, dy), dx: zeros([2, 1]) as Tensor2D }) },
      `plugin: layers[3] expert "odd" backward of expert 1: dx must be a float32 tensor [1, 2], got float32 [2, 1]${kit}`,
    ],
    'forgets a gradient': [
      { backward: (saved, dy) => ({ dx: sound.backward(saved, dy).dx, parameters: { up: zeros([3, 2]) } }) },
      `plugin: layers[3] expert "odd" backward of expert 1: gradient of down must be a float32 tensor [3, 2], got nothing${kit}`,
    ],
    'has a gradient too many': [
      {
        backward: (saved, dy) => {
          const { dx, parameters } = sound.backward(saved, dy);
          return { dx, parameters: { ...parameters, bias: zeros([3]) } };
        },
      },
      `plugin: layers[3] expert "odd" backward of expert 1: parameters must be gradients of up, down, got "bias"${kit}`,
    ],
  };
  for (const [title, [change, message]] of Object.entries(cases)) {
    it(`that ${title}: ${message.startsWith('nothing') ? 'runs' : 'is refused by name, and leaves no tensor behind'}`, () => {
      expect(runLayer([sound, changed(change)])).toBe(message);
    });
  }

  it('is checked in its fused form too', () => {
    const { fused: right, ...rest } = gatedExpert();
    const fused = (change: Partial<FusedLayer>): string => {
      const kind = defineExpert({
        ...rest,
        trusted: false,
        name: 'odd',
        fused: { ...(right as FusedLayer), ...change },
      });
      return runLayer([kind, kind]);
    };
    expect(fused({})).toBe('nothing was thrown');
    expect(fused({ forward: () => ({ value: zeros([1, 2]) as Tensor2D, saved: null }) })).toBe(
      `plugin: layers[3] expert "odd" fused forward: value must be a float32 tensor [2, 2], got float32 [1, 2]${kit}`,
    );
    expect(
      fused({ backward: (saved, dy) => ({ ...(right as FusedLayer).backward(saved, dy), experts: [{}] }) }),
    ).toBe(
      `plugin: layers[3] expert "odd" fused backward: experts[0].gate must be a float32 tensor [*, *], got nothing${kit}`,
    );
  });
});

describe('builtInExperts', () => {
  it('lists every kind once, by a name that a file can hold', () => {
    const names = builtInExperts().map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain('gated-gelu-tanh');
    expect(names).toContain('plain-relu-bias');
    expect(names).toContain('null');
    expect(builtInExperts().every(({ trusted }) => trusted)).toBe(true);
  });
});
